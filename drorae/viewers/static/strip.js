// The strip: the machine, drawn from the photo's own numbers. Every layer sends a band to the latent, as thick as its weight;
// pointing at a picture bends the bands to that place. The labels open the views.

const { html, svg } = parts;
const { number, signedNumber } = lib;
const { state } = store;
const strip = element.querySelector('[data-part="strip"]');
const GLYPHS = { enc: "M2 3L42 18v24L2 57z", dec: "M2 18L42 3v54L2 42z" };
let built = "";
let nodes = {};

const label = (view, text) => {
  const button = html("button", { type: "button", className: "lab", textContent: text, "data-view": view });
  button.addEventListener("click", () => store.go(view));
  return button;
};
const glyph = (name) => {
  const shape = svg(
    "svg",
    { class: "glyph", viewBox: "0 0 44 60", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { d: GLYPHS[name] }),
  );
  const text = name === "enc" ? "Encoder" : "Decoder";
  return html("div", { className: `cell mid ${name}` }, [html("span", { className: "lab", textContent: text }), shape]);
};
const node = (name, act, title) => {
  const canvas = html("canvas", { "aria-hidden": "true" });
  const mark = html("i", { hidden: true });
  const box = html("button", { type: "button", className: "node", title, "aria-label": title, onclick: act }, [
    canvas,
    mark,
  ]);
  nodes[name] = { box, canvas, mark };
  return box;
};

function build() {
  const layers = store.data("routes")?.layers || store.config.layers;
  const asks = state.view === "generate" && (store.film?.pictures.length ?? 0) > 0;
  const wanted = `${layers} ${asks ? `film ${store.film.pictures.length} ${store.film.steps}` : ""}`;
  if (wanted === built) return;
  built = wanted;
  nodes = { tiles: [] };
  const flow = svg("svg", { class: "flow", "aria-hidden": "true" });
  nodes.flow = flow;
  const tail = [
    html("div", { className: "cell mid" }, [
      label("generate", "Latent"),
      node("latent", () => store.go("generate"), "The latent: what is kept of the photo. Make one from noise"),
    ]),
    glyph("dec"),
    html("div", { className: "cell mid" }, [
      label("picture", "Picture"),
      node("picture", () => store.go("picture"), "The picture that the decoder paints"),
    ]),
  ];
  strip.classList.toggle("asks", asks);
  if (asks) {
    const tiles = store.film.pictures.map((_, i) => {
      const canvas = html("canvas", { "aria-hidden": "true" });
      const tile = html("div", { className: "tile film" }, [canvas, html("span", { className: "noise num" })]);
      nodes.tiles[i] = { tile, canvas };
      return tile;
    });
    nodes.words = html("div", { className: "words" });
    const row = html("div", { className: "tiles" }, tiles);
    row.style.setProperty("--count", tiles.length);
    strip.replaceChildren(
      flow,
      html("div", { className: "cell" }, [
        html("span", { className: "lab", textContent: "What you ask for" }),
        nodes.words,
      ]),
      html("div", { className: "cell" }, [
        html("span", { className: "lab", textContent: `Denoiser, ${store.film.steps} steps: from noise to a latent` }),
        row,
      ]),
      html("div", { className: "cell" }),
      ...tail,
    );
    return;
  }
  const tiles = Array.from({ length: layers }, (_, k) => {
    const canvas = html("canvas", { "aria-hidden": "true" });
    const foot = html("b", { textContent: k + 1 });
    const mark = html("i", { hidden: true });
    const tile = html("button", { type: "button", className: "tile", "data-layer": k }, [canvas, foot, mark]);
    tile.addEventListener("pointerenter", () => store.set({ hot: k }));
    tile.addEventListener("pointerleave", () => store.set({ hot: null }));
    tile.addEventListener("click", () => {
      if (state.view === "layers") {
        store.toggle?.(k);
        return;
      }
      store.set({ layer: k });
      store.go("weights");
    });
    nodes.tiles[k] = { tile, canvas, foot, mark };
    return tile;
  });
  const row = html("div", { className: "tiles" }, tiles);
  row.style.setProperty("--count", layers);
  const name = layers ? `${layers} layers` : "Layers";
  strip.replaceChildren(
    flow,
    html("div", { className: "cell mid" }, [
      html("button", {
        type: "button",
        className: "lab",
        textContent: "Photo",
        onclick: () => store.set({ choose: Date.now() }),
      }),
      node("photo", () => store.set({ choose: Date.now() }), "The photo. Choose another"),
    ]),
    glyph("enc"),
    html("div", { className: "cell" }, [
      html("span", { className: "line" }, [
        label("layers", name),
        html("span", {
          className: "lab say",
          textContent: "shallow to deep; each tile is what that layer alone paints",
        }),
      ]),
      row,
    ]),
    html("div", { className: "cell" }, label("weights", "Weights")),
    ...tail,
  );
}

function fit(
  canvas,
  picture,
  width = picture.naturalWidth ?? picture.width,
  height = picture.naturalHeight ?? picture.height,
) {
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").drawImage(picture, 0, 0, width, height);
}

function drawPictures() {
  const routes = store.data("routes");
  if (strip.classList.contains("asks")) {
    nodes.words.textContent = store.film.label;
    store.film.pictures.forEach((source, i) => {
      const picture = parts.image(source);
      if (picture) fit(nodes.tiles[i].canvas, picture);
      nodes.tiles[i].tile.querySelector(".noise").textContent = words.noise(store.film.times[i]);
    });
    const { latent, side } = store.film; // one number per place
    if (latent) drawGrey(latent, side, side);
    const last = parts.image(store.film.pictures[store.film.pictures.length - 1]);
    if (last) fit(nodes.picture.canvas, last);
    return;
  }
  if (!routes) return;
  const original = parts.route("original");
  if (original) fit(nodes.photo.canvas, original, 96, Math.round((96 * routes.height) / routes.width));
  const changed = state.view === "layers" ? store.changedPicture?.() : null;
  const painted =
    changed ?? parts.route(routes.pictures[state.decoder] ? state.decoder : routes.pictures.phase2 ? "phase2" : "rae");
  if (painted) fit(nodes.picture.canvas, painted, routes.width, routes.height);
  drawLatent(routes);
  const tiles = store.data("tiles");
  const sprite = tiles && parts.image(tiles.sprite);
  nodes.tiles.forEach(({ canvas, tile }, k) => {
    tile.classList.toggle("components", !sprite);
    if (sprite) {
      const [width, height] = [sprite.naturalWidth / tiles.psnr.length, sprite.naturalHeight];
      canvas.width = width;
      canvas.height = height;
      canvas.getContext("2d").drawImage(sprite, k * width, 0, width, height, 0, 0, width, height);
      tile.title = `Layer ${k + 1} alone paints this: ${number(tiles.psnr[k], 1)} dB`;
    } else {
      const map = parts.components(k);
      if (map) fit(canvas, map);
      tile.title = `Layer ${k + 1}, as the encoder sees the photo`;
    }
    tile.setAttribute("aria-label", tile.title);
  });
}

// The latent, as far as it can be looked at: how much every place of it follows the last layer.
function drawLatent({ rows, columns }) {
  const cosines = parts.numbers("cosines");
  if (cosines) drawGrey(cosines, columns, rows);
}

function drawGrey(values, columns, rows) {
  const { canvas } = nodes.latent;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  parts.paintPixels(canvas, columns, rows, (i) => {
    const grey = 60 + (150 * (values[i] - low)) / Math.max(high - low, 1e-6);
    return [grey * 0.86, grey * 0.93, grey];
  });
  canvas.style.imageRendering = "pixelated";
}

function drawState() {
  for (const button of strip.querySelectorAll(".lab[data-view]")) {
    const here =
      button.dataset.view === state.view ||
      (button.dataset.view === "picture" && ["frequency", "tokenizers"].includes(state.view));
    button.toggleAttribute("aria-current", here);
  }
  if (strip.classList.contains("asks")) return;
  const chosen = parts.selection();
  const here = chosen && parts.shares(chosen);
  const known = parts.shape();
  nodes.tiles.forEach(({ tile, foot }, k) => {
    tile.classList.toggle("off", state.off.includes(k));
    if (state.view === "layers") tile.setAttribute("aria-pressed", !state.off.includes(k));
    else tile.removeAttribute("aria-pressed");
    tile.toggleAttribute("aria-current", state.view === "weights" && state.layer === k);
    tile.classList.toggle("val", here !== null);
    const value =
      here &&
      html("em", { className: here[k] < 0 ? "neg" : "", textContent: signedNumber(here[k], 2).replace("0.", ".") });
    foot.replaceChildren(String(k + 1), ...(value ? [value] : []));
  });
  const marks = [...nodes.tiles.map(({ mark }) => mark), nodes.photo.mark, nodes.latent.mark];
  for (const mark of marks) {
    mark.hidden = state.token === null || !known;
    if (mark.hidden) continue;
    const [row, column] = [Math.floor(state.token / known.columns), state.token % known.columns];
    // the picture lies in the middle of its square
    const longer = Math.max(known.rows, known.columns);
    mark.style.left = `${50 + (100 * (column + 0.5 - known.columns / 2)) / longer}%`;
    mark.style.top = `${50 + (100 * (row + 0.5 - known.rows / 2)) / longer}%`;
  }
}

// The bands. Their lanes lie below the tiles, the deepest layer on top, and gather at the latent.
function drawFlow() {
  const { flow } = nodes;
  const box = flow.getBoundingClientRect();
  if (!box.width) return;
  const place = (each) => {
    const r = each.getBoundingClientRect();
    return {
      l: r.left - box.left,
      r: r.right - box.left,
      t: r.top - box.top,
      b: r.bottom - box.top,
      y: (r.top + r.bottom) / 2 - box.top,
      there: r.width > 0,
    };
  };
  flow.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
  const line = (x1, x2, y) => svg("path", { class: "ln", d: `M${x1} ${y}H${x2}` });
  const lines = [];
  const [latent, picture] = [place(nodes.latent.box), place(nodes.picture.box)];
  const between = (from, name, to) => {
    const shape = strip.querySelector(`.${name} svg`);
    const middle = shape ? place(shape) : { there: false };
    if (middle.there) lines.push(line(from.r + 3, middle.l + 1, from.y), line(middle.r - 1, to.l - 3, from.y));
    else lines.push(line(from.r + 3, to.l - 3, from.y));
  };
  between(latent, "dec", picture);
  const tiles = nodes.tiles.map(({ tile }) => place(tile));
  if (strip.classList.contains("asks")) {
    lines.push(...tiles.slice(1).map((each, i) => line(tiles[i].r + 2, each.l - 2, each.y)));
    lines.push(
      line(tiles[tiles.length - 1].r + 2, latent.l - 3, latent.y),
      line(place(nodes.words).r + 2, tiles[0].l - 2, tiles[0].y),
    );
    flow.replaceChildren(...lines);
    return;
  }
  if (!tiles.length) {
    flow.replaceChildren(...lines);
    return;
  }
  between(place(nodes.photo.box), "enc", tiles[0]);
  lines.push(...tiles.slice(1).map((each, i) => line(tiles[i].r + 1, each.l - 1, each.y)));
  const end = tiles[tiles.length - 1];
  lines.push(svg("path", { class: "ln dash", d: `M${end.r + 2} ${latent.t + 8}H${latent.l - 3}` }));
  const old = svg("text", { x: end.r + 5, y: latent.t + (latent.b - latent.t) * 0.46 });
  old.textContent = "RAE: only this";
  lines.push(old);
  const shares = parts.shares(parts.selection());
  if (shares) {
    const beta = state.beta ?? store.data("routes").beta;
    const weights = shares.map((value, k) =>
      state.off.includes(k) || (state.view === "layers" && beta === 0 && k < shares.length - 1) ? 0 : value,
    );
    const pattern = svg(
      "pattern",
      { id: "held", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      [
        svg("rect", { width: 5, height: 5, style: "fill:var(--sup)" }),
        svg("rect", { width: 2, height: 5, style: "fill:var(--surface)", opacity: 0.55 }),
      ],
    );
    lines.push(svg("defs", {}, pattern));
    const count = weights.length;
    const top = tiles[0].b + 4;
    const height = box.height - top - 10;
    const sum = weights.reduce((total, value) => total + Math.abs(value), 0);
    const space = height < 44 ? 0.7 : 1.6;
    const scale = (height - (count - 1) * space) / Math.max(sum, 2.5);
    const thick = weights.map((value) => (value ? Math.max(1, Math.abs(value) * scale) : 0));
    const [lane, entry] = [[], []];
    let y = top + 3;
    for (let k = count - 1; k >= 0; k -= 1) {
      lane[k] = y + thick[k] / 2;
      y += thick[k] + space;
    }
    const room = latent.b - latent.t - 22;
    const total = thick.reduce((a, b) => a + b) + (count - 1) * 0.5;
    const shrink = Math.min(1, room / total);
    let at = latent.t + 18 + (room - total * shrink) / 2;
    for (let k = count - 1; k >= 0; k -= 1) {
      entry[k] = at + (thick[k] * shrink) / 2;
      at += thick[k] * shrink + 0.5;
    }
    const [x1, x2] = [end.r + 6, latent.l - 3];
    for (let k = 0; k < count; k += 1) {
      if (!thick[k]) continue;
      const x = (tiles[k].l + tiles[k].r) / 2;
      const radius = Math.min(10, lane[k] - tiles[k].b);
      const middle = (x1 + x2) / 2;
      const d = `M${x} ${tiles[k].b + 1}V${lane[k] - radius}Q${x} ${lane[k]} ${x + radius} ${lane[k]}H${Math.max(x1, x + radius)}C${middle + 8} ${lane[k]} ${middle - 8} ${entry[k]} ${x2} ${entry[k]}`;
      const path = svg("path", { class: "lane", "data-layer": k, d });
      path.style.stroke = weights[k] < 0 ? "url(#held)" : "var(--add)";
      path.style.strokeWidth = thick[k];
      lines.push(path);
    }
  }
  flow.replaceChildren(...lines);
  drawHot();
}

function drawHot() {
  for (const path of nodes.flow.querySelectorAll(".lane")) {
    path.style.opacity = state.hot === null || Number(path.dataset.layer) === state.hot ? 1 : 0.16;
  }
  for (const row of document.querySelectorAll(".bars .row"))
    row.toggleAttribute("data-hot", Number(row.dataset.layer) === state.hot);
}

const BARE = ["photos", "study", "about"]; // pages that are about no photo
function draw() {
  element.querySelector(".stripbox").hidden = BARE.includes(state.view);
  build();
  drawPictures();
  drawState();
  drawFlow();
}
parts.whenDrawn(draw);
store.on(["token", "pinned", "area"], () => {
  drawState();
  drawFlow();
});
store.on(["hot"], drawHot);
store.on(["photo", "data"], () => {
  if (store.data("routes")?.shares && !store.problem("tiles")) store.need("tiles");
});
store.on(["film"], draw);
build();
drawPictures();
drawState();
new ResizeObserver(() => drawFlow()).observe(strip); // at once, too, when all of the page has its place
