// Weights: how every layer is used, place by place; and what resembles a place, layer by layer.

const { html, panel } = parts;
const { clamp, divergingColour, gradient, mean, number, percent, signedNumber, unpack } = lib;
const { state } = store;
const find = (name) => element.querySelector(`[data-part="${name}"]`);
const REACH = 0.7; // share at the ends of the scale: the same for every photo and layer
const HELD = -0.02; // share from which a cell counts as held back, for eyes that take the two colours for one
const ALIKE = 0.5; // cosine similarity from which a place counts as resembling another
const REST = 300; // ms a pointer rests before what resembles the place is asked for
const RAE = "This model reads its last layer alone, so there is nothing to weigh.";

const root = find("root");
const bold = (textContent) => html("b", { textContent });
const soft = (textContent) => html("span", { className: "score", textContent });
const layerName = (layer) => `Layer ${layer + 1}`;
const routes = () => store.data("routes");
const count = () => routes().rows * routes().columns;
const layerShares = (layer) => {
  const all = parts.numbers("shares");
  return Float32Array.from({ length: count() }, (_, token) => all[token * routes().layers + layer]);
};
const textures = (canvas) => canvas.getContext("2d");

// Colour of a share on the page; of a share that lies over the photo, which is multiplied by it in the light.
const colour = (share) => divergingColour("routing", share / REACH, parts.dark());

// A panel's picture at the screen's own pixels, so that signs in the cells stay sharp.
const screen = (node, shape) => () => {
  const known = shape();
  if (!known) return null;
  const scale = (node().clientWidth * (window.devicePixelRatio || 1)) / Math.max(known.width, known.height) || 1;
  return { ...known, width: Math.round(known.width * scale), height: Math.round(known.height * scale) };
};

function drawPhoto(context, picture, width, height) {
  context.imageSmoothingEnabled = width % picture.naturalWidth > 0;
  context.globalCompositeOperation = "source-over";
  context.drawImage(picture, 0, 0, width, height);
}

// One colour per token over what is painted already.
function lay(context, width, height, columns, rows, colourOf) {
  const cells = document.createElement("canvas");
  parts.paintPixels(cells, columns, rows, colourOf);
  context.imageSmoothingEnabled = false;
  context.drawImage(cells, 0, 0, width, height);
}

// The photo in grey, one layer's weights over it in colour, and a minus where it is held back.
function paintUse(context, width, height) {
  const picture = parts.route("original");
  const values = parts.numbers("shares") && layerShares(state.layer);
  if (!picture || !values) return false;
  const { rows, columns } = routes();
  const dark = parts.dark();
  drawPhoto(context, picture, width, height);
  context.globalCompositeOperation = "saturation";
  context.fillStyle = "#808080";
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = "source-over";
  context.fillStyle = dark ? "rgb(14 15 17 / 0.45)" : "rgb(255 255 255 / 0.4)";
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = dark ? "screen" : "multiply";
  lay(context, width, height, columns, rows, (i) => colour(values[i]));
  context.globalCompositeOperation = "source-over";
  const [wide, high] = [width / columns, height / rows];
  context.fillStyle = dark ? "#cfe3ff" : "#0c2f6b";
  values.forEach((value, token) => {
    if (value > HELD) return;
    const [x, y] = [(token % columns) * wide, Math.floor(token / columns) * high];
    context.fillRect(x + wide * 0.3, y + high * 0.46, wide * 0.4, Math.max(1, high * 0.09));
  });
  return true;
}

// Small maps.

// A map under the shared pointer; a click chooses it.
function mapButton(choose) {
  const canvas = html("canvas", { "aria-hidden": "true" });
  const [first, mark] = [
    html("div", { className: "mark", hidden: true }),
    html("div", { className: "mark", hidden: true }),
  ];
  const pane = html("div", { className: "pane" }, [canvas, first, mark]);
  const line = html("div", { className: "line num" });
  const node = html("button", { type: "button", className: "map", onclick: choose }, [
    html("div", { className: "face" }, pane),
    line,
  ]);
  parts.follow(node, pane);
  node.addEventListener("keydown", stepKeys);
  return {
    node,
    label(name, value, title) {
      line.replaceChildren(bold(name), soft(value));
      node.setAttribute("aria-label", title);
    },
    paint(columns, rows, colourOf) {
      pane.style.setProperty("--wide", columns / Math.max(columns, rows));
      pane.style.setProperty("--high", rows / Math.max(columns, rows));
      parts.paintPixels(canvas, columns, rows, colourOf);
    },
    aim(tokens) {
      parts.outline(mark, tokens);
    },
  };
}

// Keys of the maps and of the large one: [ and ] step through the layers.
function stepKeys(event) {
  const step = { "[": -1, "]": 1 }[event.key]; // many keyboards need AltGr or Option for them
  if (!step || !routes()) return;
  event.preventDefault();
  const names = state.like === null ? [...Array(routes().layers).keys()].map(String) : mapNames();
  const at = state.like === null ? state.layer : names.indexOf(state.like);
  const next = (at + step + names.length) % names.length;
  if (state.like === null) store.set({ layer: next });
  else chooseLike(names[next]);
  parts.say(find("headline").textContent);
}

// As many maps as are asked for, made once.
const made = [];
function mapsOf(number) {
  while (made.length < number) {
    const at = made.length;
    made.push(mapButton(() => (state.like === null ? store.set({ layer: at }) : chooseLike(mapNames()[at]))));
  }
  return made.slice(0, number);
}

// The stage: the large map, the second photo's where there is one, the small ones with what belongs to them, the column.

const large = panel({
  label: "The photo with a map over it",
  paint,
  drags: true,
  size: screen(() => large.node, parts.shape),
});
large.name = "map";
large.node.addEventListener("keydown", stepKeys);
const beside = panel({
  label: "The second photo with the same map over it",
  paint: paintBeside,
  points: false,
  loupe: false,
  size: screen(
    () => beside.node,
    () => store.data("routes", state.second),
  ),
});
beside.name = "map-of-second";
const caption = html("figcaption");
const captionBeside = html("figcaption");
const ramp = html("div", { className: "rampkey" });
const noteBeside = html("div", { className: "rampkey" });
const cap = html("div", { className: "cap" });
const grid = html("div", { className: "grid", role: "group", "aria-label": "Maps" });
const equation = html("div", { className: "eq num" });
const remark = html("p", { className: "remark num" });
const place = html("span", { className: "score" });
const cardName = html("span");
const counts = html("div", { className: "counts num", "aria-hidden": "true" }); // the maps' names say the same
const card = html("div", { className: "card" }, [html("h2", {}, [cardName, place]), equation, remark, counts]);
const column = html("aside", { className: "insp", "aria-label": "Here" });
const bars = html("div");
const compare = html("button", { type: "button", className: "quiet compare" });
column.append(bars, compare);
const figureBeside = html("figure", { className: "fig" }, [captionBeside, beside.node, noteBeside]);
find("stage").append(
  html("figure", { className: "fig" }, [caption, large.node, ramp]),
  figureBeside,
  html("div", { className: "maps" }, [cap, grid, card]),
  column,
);

function paint(context, width, height) {
  return state.like === null ? paintUse(context, width, height) : paintLike(context, width, height, state.photo);
}

// How it is used.

// Means over tokens that are looked at, or over the photo.
function meanOver(name) {
  const values = parts.numbers(name);
  const tokens = parts.chosen();
  return values && mean(tokens ? tokens.map((token) => values[token]) : values);
}

// Root of the summed squares of the router's weights, by which they are divided.
function divisor() {
  const weights = parts.numbers("weights");
  const { layers } = routes();
  const tokens = parts.chosen() ?? [...Array(count()).keys()];
  return mean(tokens.map((token) => Math.hypot(...weights.subarray(token * layers, (token + 1) * layers))));
}

function drawEquation() {
  const tokens = parts.chosen();
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
  else store.set({ against: parts.chosen(), pinned: false });
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

// What resembles this.

const answers = new Map(); // what was answered, by photo, token and second photo
const KEPT = 80;
let kept = null; // of the last one
let subject = null; // the token that was looked at last
const question = (token = subject) => `${state.photo} ${token} ${secondWish()?.key ?? ""}`;
const similar = () => answers.get(question()) ?? null;

function secondWish() {
  const other = state.second && store.photo(state.second);
  return other && !other.pending ? { key: other.key, example: other.example, file: other.file } : null;
}

function keepAnswer() {
  const value = store.data("similar");
  if (!value || kept === value.photos) return;
  kept = value.photos;
  const photos = kept.map((each) => ({ ...each, values: unpack(each.values) }));
  answers.set(`${kept[0].key} ${value.token} ${kept[1]?.key ?? ""}`, { maps: value.maps, photos });
  if (answers.size > KEPT) answers.delete(answers.keys().next().value);
}

let resting = 0;
let asked = null; // what failed is not asked for again
function ask(now = state.pinned) {
  if (state.like === null || subject === null || !parts.visible(root)) return;
  clearTimeout(resting);
  if (similar()) return;
  const wish = () => {
    if (state.like === null || similar() || store.waits("similar")) return; // the answer asks again
    if (store.problem("similar") && asked === question()) return;
    asked = question();
    const second = secondWish();
    store.need("similar", { token: subject, ...(second ? { second } : {}) });
  };
  if (now) wish();
  else resting = setTimeout(wish, REST);
}

const shownMaps = () => similar() ?? [...answers.values()].reverse().find((each) => each.photos[0].key === state.photo);
function mapNames() {
  const known = shownMaps();
  const layers = Array.from({ length: routes().layers || store.config.layers }, (_, k) => String(k + 1));
  return known?.maps ?? [...layers, "z_base", ...(routes().shares ? ["z_fuse", "z_final"] : [])];
}
const NAMES = { z_base: "last", z_fuse: "mix", z_final: "latent" };
const SAID = { z_base: "the last layer", z_fuse: "the mix of all layers", z_final: "the latent" };
const shortName = (name) => NAMES[name] ?? name;
const saidName = (name) => SAID[name] ?? `layer ${name}`;

function chooseLike(name) {
  const layer = Number(name) - 1;
  store.set({ like: name, ...(layer >= 0 ? { layer } : {}) });
}

const valuesOf = (known, key, name) => {
  const about = known?.photos.find((each) => each.key === key);
  const at = known?.maps.indexOf(name) ?? -1;
  if (!about || at < 0) return null;
  const size = about.rows * about.columns;
  return about.values.subarray(at * size, (at + 1) * size);
};
// Places in a hundred that resemble it; itself does not count on its own photo.
const placesAlike = (values, own) =>
  (100 * (values.filter((value) => value >= ALIKE).length - own)) / Math.max(1, values.length - own);

// The photo is seen where it resembles the place, and the page where it does not.
function paintLike(context, width, height, key) {
  const known = similar();
  const about = store.data("routes", key);
  const picture = parts.route("original", key);
  const values = valuesOf(known ?? shownMaps(), key, state.like);
  if (!picture || !about) return false;
  drawPhoto(context, picture, width, height);
  if (!values) return subject === null;
  const cover = document.createElement("canvas");
  const [r, g, b] = parts.dark() ? [14, 15, 17] : [250, 249, 247];
  cover.width = about.columns;
  cover.height = about.rows;
  const cells = cover.getContext("2d");
  const data = cells.createImageData(about.columns, about.rows);
  for (const [i, value] of values.entries()) data.data.set([r, g, b, 255 * 0.96 * (1 - clamp(value, 0, 1))], 4 * i);
  cells.putImageData(data, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(cover, 0, 0, width, height);
  return known !== null;
}
function paintBeside(context, width, height) {
  return paintLike(context, width, height, state.second);
}

// Ink on paper, from 0 to 1.
function inkColour(value) {
  const [paper, ink] = parts.dark()
    ? [
        [29, 32, 36],
        [243, 244, 245],
      ]
    : [
        [240, 238, 234],
        [21, 23, 26],
      ];
  const share = clamp(value, 0, 1);
  return paper.map((channel, i) => Math.round(channel + share * (ink[i] - channel)));
}

// How many places are alike, map by map.
function drawCounts() {
  const known = shownMaps();
  counts.hidden = !known;
  if (!known) return;
  const shares = known.maps.map((name) => placesAlike(valuesOf(known, state.photo, name), 1));
  counts.replaceChildren(
    ...known.maps.map((name, i) => {
      const bar = html("u");
      bar.style.height = `${shares[i]}%`;
      const one = html("div", { className: "one" }, [
        html("span", { textContent: Math.round(shares[i]) }),
        html("span", { className: "well" }, bar),
        html("b", { textContent: shortName(name) }),
      ]);
      one.toggleAttribute("data-hot", name === state.like || i === state.hot);
      return one;
    }),
  );
}

function drawLike() {
  const known = similar();
  const shown = shownMaps();
  const { rows, columns } = routes();
  const names = mapNames();
  const waits = subject !== null && !known;
  const problem = store.problem("similar");
  root.classList.toggle("stale", waits);
  large.say(subject === null ? "Point at a place." : waits && !shown ? (problem ?? "Comparing ...") : null);
  const values = valuesOf(known, state.photo, state.like);
  const last = valuesOf(known, state.photo, "z_base");
  const latent = valuesOf(known, state.photo, "z_final");
  const share = (each) => each && placesAlike(each, 1);
  find("headline").textContent = problem
    ? problem
    : values
      ? words.resembles(state.like, share(values), share(last), share(latent))
      : subject === null
        ? "Point at a place. What resembles it?"
        : "Comparing this place with all others ...";
  const other = valuesOf(known, state.second, state.like);
  find("subtitle").textContent = other
    ? `On the second photo, ${Math.round(placesAlike(other, 0))} of 100. A photo stays where it is like the marked place.`
    : "The photo stays where it is like the marked place, and fades where it is not.";
  caption.replaceChildren(
    html("span", { textContent: `Like this place in ${saidName(state.like)}` }),
    soft(subject === null ? "" : parts.place([subject])),
  );
  ramp.replaceChildren("unlike 0", html("span", { className: "ramp" }), "1 alike");
  ramp.querySelector(".ramp").style.background =
    `linear-gradient(to right, ${[0, 1].map((value) => `rgb(${inkColour(value).join(",")})`).join(",")})`;
  const second = state.second && store.photo(state.second);
  root.toggleAttribute("data-second", Boolean(second));
  if (second) {
    captionBeside.replaceChildren(
      html("span", { textContent: second.name }),
      soft(other ? `most alike ${number(Math.max(...other), 2)}` : ""),
    );
    noteBeside.textContent = "Where the second photo is like the place in the first.";
    beside.say(store.data("routes", state.second) ? null : (store.problem("routes", state.second) ?? "Reading ..."));
  }
  drawChoice();
  place.textContent = "of 100 places";
  drawCounts();
  grid.style.setProperty("--across", second ? 4 : Math.max(6, Math.ceil(names.length / 2)));
  grid.classList.add("dense");
  const maps = mapsOf(names.length);
  maps.forEach((map, i) => {
    const each = valuesOf(shown, state.photo, names[i]);
    const alike = each ? String(Math.round(placesAlike(each, 1))) : "";
    map.label(shortName(names[i]), alike, `${words.capital(saidName(names[i]))}: ${alike} of 100 places are alike`);
    map.paint(columns, rows, (k) => inkColour(each ? each[k] : 0));
    map.node.dataset.layer = i;
    map.node.setAttribute("aria-pressed", names[i] === state.like);
  });
  putMaps(maps);
}

// The second photo is one of the tray.
const choice = html("select", { "aria-label": "Also on a second photo" });
choice.addEventListener("change", () => store.set({ second: choice.value || null }));
let choices = "";
function drawChoice() {
  const others = [...store.photos.values()].filter((each) => each.key !== state.photo);
  const wanted = others.map(({ key, name }) => `${key} ${name}`).join("\n");
  if (choices !== wanted) {
    choices = wanted;
    choice.replaceChildren(
      html("option", { value: "", textContent: "one photo" }),
      ...others.map(({ key, name }) => html("option", { value: key, textContent: `and ${name}` })),
    );
  }
  choice.value = state.second ?? "";
  if (!cap.contains(choice))
    cap.replaceChildren(html("span", { textContent: "Layer by layer" }), html("label", { className: "field" }, choice));
}

// Both.

function look() {
  // what "this" is, once nothing is pointed at: the place that was looked at last, at first the middle
  if (state.token !== null) subject = state.token;
  if (!routes()) return;
  const { rows, columns } = routes();
  if (subject !== null && subject >= rows * columns) subject = null;
}

function setMode(value) {
  if (value === "used") {
    store.set({ like: null });
    return;
  }
  if (state.token === null && routes()) {
    const { rows, columns } = routes();
    store.set({ token: Math.floor(rows / 2) * columns + Math.floor(columns / 2), pinned: true });
  }
  chooseLike(String(state.layer + 1));
}

function aim() {
  const tokens = state.like === null ? parts.chosen() : subject === null ? null : [subject];
  for (const map of made) if (map.node.isConnected) map.aim(tokens);
}

function drawHot() {
  for (const [k, { node }] of made.entries()) node.toggleAttribute("data-hot", k === state.hot);
}

let before = "";
function draw() {
  if (!parts.visible(root)) return;
  parts.segments(find("mode"), state.like === null ? "used" : "like", setMode);
  const about = routes();
  const waits = store.waits("routes") || (store.photo() && !about);
  const fused = Boolean(about?.shares);
  root.classList.toggle("stale", Boolean(waits));
  large.say(waits ? "Rebuilding ..." : (store.problem("routes") ?? null));
  const used = state.like === null;
  find("stage").hidden = Boolean(about) && !fused && used;
  find("below").hidden = !used || !fused;
  cardName.textContent = used ? "In numbers, at this place" : `Alike: a cosine of ${ALIKE} or more`;
  card.classList.toggle("alike", !used);
  equation.hidden = !used;
  remark.hidden = !used;
  counts.hidden = used;
  figureBeside.hidden = used || !state.second;
  root.toggleAttribute("data-second", !used && Boolean(state.second));
  if (!about) return;
  look();
  if (!used && !mapNames().includes(state.like)) {
    store.set({ like: mapNames()[0] });
    return;
  }
  if (used !== before) cap.replaceChildren();
  before = used;
  if (!used) {
    if (state.second && !store.problem("routes", state.second)) store.need("routes", {}, state.second);
    drawLike();
    ask();
  } else if (fused) {
    drawUse();
    if (find("more").open) drawMore();
  } else {
    find("headline").textContent = RAE;
    find("subtitle").textContent = "What resembles a place can be asked of any encoder.";
  }
  drawColumn();
  aim();
  drawHot();
}

// More about these weights.

function drawMore() {
  drawScatter();
  drawFingerprint();
  drawSpread();
}

// What a coefficient of the signed share means; a layer that is held back and whose share falls is held back more.
function drawScatter() {
  const { correlation, layers } = routes();
  const texture = parts.numbers("texture");
  find("texture").hidden = !correlation || !texture;
  if (!correlation || !texture) return;
  const layer = Math.min(state.layer, layers - 1);
  const values = layerShares(layer);
  const canvas = find("scatter");
  const ratio = window.devicePixelRatio || 1;
  const [width, height, edge] = [canvas.clientWidth, canvas.clientHeight, 6];
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = textures(canvas);
  context.scale(ratio, ratio);
  const most = texture.reduce((a, b) => Math.max(a, b), 1e-6);
  const tallest = values.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-6);
  const y = (value) => height / 2 - (value / tallest) * (height / 2 - edge);
  context.strokeStyle = parts.css("--line2");
  context.beginPath();
  context.moveTo(0, y(0));
  context.lineTo(width, y(0));
  context.stroke();
  const [added, held] = [parts.css("--add"), parts.css("--sup")];
  context.globalAlpha = 0.6;
  values.forEach((value, token) => {
    const x = edge + (texture[token] / most) * (width - 2 * edge);
    context.fillStyle = value < 0 ? held : added;
    if (value < 0) context.fillRect(x - 2, y(value) - 2, 4, 4);
    else {
      context.beginPath();
      context.arc(x, y(value), 2.4, 0, 2 * Math.PI);
      context.fill();
    }
  });
  const rising = values.filter((value) => value > 0).length / values.length;
  find("trend").textContent = words.texture(layer, correlation[layer], rising);
  canvas.setAttribute("aria-label", `Weight against texture, one dot per place. ${find("trend").textContent}`);
  const box = find("coefficients");
  if (box.childElementCount !== layers)
    box.replaceChildren(
      ...correlation.map((_, k) => html("button", { type: "button", onclick: () => store.set({ layer: k }) })),
    );
  correlation.forEach((value, k) => {
    const text = value === null ? "\u2013" : signedNumber(value, 2);
    box.children[k].replaceChildren(bold(String(k + 1)), text);
    box.children[k].setAttribute("aria-pressed", k === layer);
    box.children[k].setAttribute("aria-label", `${layerName(k)}, coefficient ${value === null ? "none" : text}`);
  });
}

// The layers as the paper describes them, next to the same part of this depth: mean share, and its spread over the photo.
function drawFingerprint() {
  const { layers, cosine } = routes();
  const { paper } = store.config;
  find("fingerprint").closest(".card").hidden = !paper;
  if (!paper) return;
  const rows = paper.layers.map(({ first, last, text }) => {
    const from = Math.round(((first - 1) * layers) / paper.depth);
    const end = Math.max(from + 1, Math.round((last * layers) / paper.depth));
    const all = Array.from({ length: end - from }, (_, i) => layerShares(from + i));
    const spread = mean(
      all.map((values) => {
        const middle = mean(values);
        return Math.sqrt(mean(values.map((value) => (value - middle) ** 2)));
      }),
    );
    const values = all.flatMap((each) => [...each]);
    const negative = values.filter((value) => value < 0).length / values.length;
    const name = end - from > 1 ? `${from + 1}\u2013${end}` : `${from + 1}`;
    return [
      name,
      text,
      `${signedNumber(mean(values), 2)} \u00b1 ${number(spread, 2)}, held back at ${percent(negative)}`,
    ];
  });
  const [low, high] = [Math.min(...paper.cosines), Math.max(...paper.cosines)].map((value) => signedNumber(value, 2));
  rows.push(["cosine", `mix and last: ${high} to ${low} on four photos`, signedNumber(cosine, 2)]);
  find("fingerprint").replaceChildren(
    ...rows.map(([name, ...cells]) =>
      html("tr", {}, [
        html("th", { scope: "row", textContent: name }),
        ...cells.map((textContent) => html("td", { textContent })),
      ]),
    ),
  );
}

function drawSpread() {
  const { layers } = routes();
  const at = (value) => `${clamp(40 + (60 * value) / 0.9, 0, 100)}%`;
  find("spread").replaceChildren(
    ...Array.from({ length: layers }, (_, k) => {
      const values = layerShares(k).sort();
      const [low, high] = [0.1, 0.9].map((share) => {
        const at = share * (values.length - 1);
        const below = values[Math.floor(at)];
        return below + (at % 1) * (values[Math.ceil(at)] - below);
      });
      const average = mean(values);
      const [line, dot] = [html("i"), html("u", { className: average < 0 ? "neg" : "" })];
      line.style.cssText = `left:${at(low)};width:calc(${at(high)} - ${at(low)})`;
      dot.style.left = at(average);
      return html(
        "div",
        {
          className: "row",
          "aria-label": `${layerName(k)}: mean ${signedNumber(average, 2)}, from ${signedNumber(low, 2)} to ${signedNumber(high, 2)}`,
          role: "img",
        },
        [
          html("span", { textContent: k + 1 }),
          html("span", { className: "track" }, [line, dot]),
          html("span", { textContent: signedNumber(average, 2) }),
        ],
      );
    }),
  );
}

find("more").addEventListener("toggle", draw);
parts.whenDrawn(draw);
store.on(["data"], keepAnswer); // before the panels are drawn
store.on(["token", "pinned", "area", "against"], () => {
  if (!parts.visible(root) || !routes()) return;
  const old = subject;
  look();
  if (state.like !== null) {
    if (old !== subject || state.pinned) parts.redraw();
    parts.drawBars(bars);
    return;
  }
  drawColumn();
  drawEquation();
  aim();
});
store.on(["layer"], () => {
  if (state.like !== null && /^\d+$/.test(state.like) && Number(state.like) !== state.layer + 1)
    store.set({ like: String(state.layer + 1) });
});
store.on(["photo"], () => {
  subject = state.token;
});
store.on(["hot"], () => {
  drawHot();
  if (state.like !== null && routes() && parts.visible(root)) drawCounts();
});
store.on(["like"], parts.redraw);
draw();
