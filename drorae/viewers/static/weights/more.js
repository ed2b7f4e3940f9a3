// More about these weights: texture, the paper's layers, the spread over the photo.

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
