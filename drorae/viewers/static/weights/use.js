// How a layer is used: the map, the column beside it, and the equation of one place.

// Means over tokens that are looked at, or over the photo.
function meanOver(name) {
  const values = parts.numbers(name);
  const tokens = parts.selection();
  return values && mean(tokens ? tokens.map((token) => values[token]) : values);
}

// Root of the summed squares of the router's weights, by which they are divided.
function divisor() {
  const weights = parts.numbers("weights");
  const { layers } = routes();
  const tokens = parts.selection() ?? [...Array(count()).keys()];
  return mean(tokens.map((token) => Math.hypot(...weights.subarray(token * layers, (token + 1) * layers))));
}

function drawEquation() {
  const tokens = parts.selection();
  const values = parts.shares(tokens);
  if (!values || state.like !== null) return;
  const { beta, divided } = routes();
  place.textContent = tokens ? parts.place(tokens) : "mean of the photo";
  const focused = equation.contains(document.activeElement) ? document.activeElement.dataset.layer : null;
  const terms = values.map((value, layer) => {
    const properties = {
      type: "button",
      className: value < 0 ? "tm neg" : "tm",
      "data-layer": layer,
      "aria-pressed": layer === state.layer,
      "aria-label": `${layerName(layer)}, weight ${signedNumber(value, 2)}`,
      onclick: () => store.set({ layer }),
      onpointerenter: () => store.set({ hot: layer }),
      onpointerleave: () => store.set({ hot: null }),
    };
    return html("button", properties, [`${signedNumber(value, 2) || "0"} h`, html("sub", { textContent: layer + 1 })]);
  });
  const step = beta === null ? "mix" : `norm( last + ${number(beta, 2)} \u00d7 ( mix \u2212 last ) )`;
  equation.replaceChildren(
    "mix = norm(",
    ...terms,
    ")",
    html("span", { className: "last", textContent: `latent = ${step}` }),
  );
  if (focused !== null) equation.querySelector(`[data-layer="${focused}"]`)?.focus({ preventScroll: true });
  const cosine = meanOver("cosines");
  const how = divided
    ? `The router\u2019s weights are divided by ${number(divisor(), 2)}, so that their squares add up to 1.`
    : "The weights of a place add up to 1.";
  remark.textContent = `h: what a layer\u2019s expert makes of it. ${how}${cosine === null ? "" : ` Cosine of mix and last: ${signedNumber(cosine, 2)}.`}`;
}

function drawColumn() {
  compare.hidden = state.like !== null || !(state.against || (state.pinned && state.token !== null));
  parts.drawBars(bars);
  compare.textContent = state.against ? "stop comparing" : "compare with another place";
}
compare.addEventListener("click", () => {
  // the place becomes A, and pointing goes on
  if (state.against) store.set({ against: null });
  else store.set({ against: parts.selection(), pinned: false });
  large.node.focus({ preventScroll: true });
});

function drawUse() {
  const { layers, correlation, rows, columns } = routes();
  const average = parts.shares();
  const layer = Math.min(state.layer, layers - 1);
  find("headline").textContent = words.layerUse(layer, average[layer], correlation?.[layer] ?? null);
  find("subtitle").textContent =
    "One signed weight per layer and place. Orange is added; blue, with a minus, is held back.";
  caption.replaceChildren(
    html("span", { textContent: `${layerName(layer)} over the photo` }),
    soft(`mean ${signedNumber(average[layer], 2)}`),
  );
  ramp.replaceChildren(`held back ${number(-REACH, 1)}`, html("span", { className: "ramp" }), `+${REACH} added`);
  ramp.querySelector(".ramp").style.background = gradient("routing", parts.dark());
  cap.replaceChildren(
    html("span", { textContent: `All ${words.inWords(layers)}` }),
    soft("click one to lay it over the photo"),
  );
  grid.style.setProperty("--across", Math.max(6, Math.ceil(layers / 2)));
  grid.classList.toggle("dense", layers > 12);
  const maps = mapsOf(layers);
  maps.forEach((map, k) => {
    const value = signedNumber(average[k], 2);
    map.label(String(k + 1), value, `${layerName(k)}, mean weight ${value}`);
    const values = layerShares(k);
    map.paint(columns, rows, (i) => colour(values[i]));
    map.node.dataset.layer = k;
    map.node.setAttribute("aria-pressed", k === layer);
  });
  putMaps(maps);
  drawEquation();
}

function putMaps(maps) {
  if (grid.childElementCount !== maps.length) grid.replaceChildren(...maps.map(({ node }) => node));
}
