// By size of detail: how much there is, what came back, and which layer brought it.

const { html, svg } = parts;
const { divergingColour, inkOn, number, percent } = lib;
const { state } = store;
const find = (name) => element.querySelector(`[data-part="${name}"]`);
const root = find("root");
const REACH = 0.5; // share of the last layer's error at the ends of the matrix's scale: the same for every photo
const NAMES = { original: "Photo", rae: "Last layer", all: "All layers" };
const MARGIN = { left: 40, right: 72, top: 8, bottom: 38 };
const TALL = 15; // pixels between two labels
let at = [0, 0]; // layer and band that are pointed at

// Curves, labelled where they lie apart.
function drawCurves(routes) {
  const { spectra, edges } = routes;
  const name = parts.lastRoute(routes);
  const plot = find("plot");
  const [width, height] = [plot.clientWidth, plot.clientHeight];
  if (!width) return;
  const curves = { original: spectra.original, rae: spectra.rae, ...(name ? { all: spectra[name] } : {}) };
  const levels = Object.values(curves)
    .flat()
    .map((value) => Math.log10(Math.max(value, 1e-3)));
  const [low, high] = [Math.floor(Math.min(...levels)), Math.ceil(Math.max(...levels))];
  const bands = edges.length - 1;
  const x = (place) => MARGIN.left + (place / bands) * (width - MARGIN.left - MARGIN.right);
  const y = (value) =>
    MARGIN.top + ((high - Math.log10(Math.max(value, 1e-3))) / (high - low)) * (height - MARGIN.top - MARGIN.bottom);
  const text = (properties, content) => {
    const node = svg("text", properties);
    node.textContent = content;
    return node;
  };
  const nodes = [];
  for (let power = low; power <= high; power += 1) {
    const level = y(10 ** power);
    nodes.push(
      svg("line", { class: "tick", x1: MARGIN.left, x2: width - MARGIN.right, y1: level, y2: level }),
      text(
        { x: MARGIN.left - 6, y: level + 4, "text-anchor": "end" },
        power < 0 ? (10 ** power).toFixed(-power) : words.groupDigits(10 ** power),
      ),
    );
  }
  for (let edge = 1; edge < bands; edge += 1) {
    const size = 1 / edges[edge];
    if (width < 300 && edge % 2 === 0) continue; // no room for all
    nodes.push(
      text({ x: x(edge), y: height - 20, "text-anchor": "middle" }, number(size, size < 10 && size % 1 ? 1 : 0)),
    );
  }
  nodes.push(
    text({ x: MARGIN.left, y: height - 4 }, "coarse"),
    text(
      { x: (MARGIN.left + width - MARGIN.right) / 2, y: height - 4, "text-anchor": "middle" },
      width < 300 ? "pixels" : "pixels per wave",
    ),
    text({ x: width - MARGIN.right, y: height - 4, "text-anchor": "end" }, "fine"),
  );
  const points = (values) => values.map((value, band) => [x(band + 0.5), y(value)]);
  const list = (pairs) => pairs.map((pair) => pair.join(",")).join(" ");
  if (curves.all)
    nodes.push(
      svg("polygon", { class: "back", points: list([...points(curves.rae), ...points(curves.all).reverse()]) }),
    );
  for (const [key, values] of Object.entries(curves))
    nodes.push(svg("polyline", { class: key, "data-route": key, points: list(points(values)) }));
  // a label stands at its curve's right end, one below the other in the order of the curves
  const ends = Object.entries(curves)
    .map(([key, values]) => ({ key, level: y(values[bands - 1]) }))
    .sort((a, b) => a.level - b.level);
  ends.forEach((end, i) => {
    end.at = end.level + 4;
    if (i && end.at < ends[i - 1].at + TALL) end.at = ends[i - 1].at + TALL;
  });
  const under = Math.max(0, (ends.at(-1)?.at ?? 0) - (height - MARGIN.bottom - 4));
  for (const { key, at: level } of ends)
    nodes.push(text({ class: `name ${key}`, x: x(bands - 0.5) + 8, y: Math.max(14, level - under) }, NAMES[key]));
  const curve = find("curves");
  curve.setAttribute("viewBox", `0 0 ${width} ${height}`);
  curve.replaceChildren(...nodes);
  const finest = (values) => number(values[bands - 1], 1);
  curve.setAttribute(
    "aria-label",
    `Strength of the finest detail: ${Object.entries(curves)
      .map(([key, values]) => `${NAMES[key]} ${finest(values)}`)
      .join(", ")}`,
  );
}

function drawBack(routes) {
  const name = parts.lastRoute(routes);
  find("back").hidden = !name;
  if (!name) return;
  const shares = parts.recovery(routes, name);
  parts.drawBands(find("bands"), routes);
  const text = shares.map((share, band) =>
    share === null ? "" : `${percent(share)} at ${parts.bandName(routes.edges, band)} pixels`,
  );
  find("bands").setAttribute("aria-label", `What came back: ${text.filter(Boolean).join(", ")}`);
  const line = name === "drorae" && routes.energies.phase2 ? " Line: with the same decoder." : "";
  find("backnote").textContent = `Share of the last layer\u2019s error that is gone, by size of detail.${line}`;
}

function drawHead(routes) {
  const name = parts.lastRoute(routes);
  const headline = find("headline");
  if (!name) {
    headline.textContent = "This model reads its last layer alone: nothing can come back.";
    find("subtitle").textContent = "Below: how much detail the photo has, and how much the last layer keeps.";
    return;
  }
  const shares = parts.recovery(routes, name);
  const known = [...shares.keys()].filter((band) => shares[band] !== null);
  const [coarse, fine] = [known[0], known[known.length - 1]];
  headline.textContent = words.bySize(shares[coarse] ?? null, shares[fine] ?? null);
  find("subtitle").textContent = known.length
    ? `Of the last layer\u2019s error, ${percent(shares[coarse])} is gone in shapes ${parts.bandName(routes.edges, coarse)} pixels, ${percent(shares[fine])} in detail ${parts.bandName(routes.edges, fine)}.`
    : "";
}

// The matrix: layer by band, from leaving every layer out once. Cells are made once, and filled as the answers come.

let cells = [];
let heads = [];
const frame = html("i", { className: "frame" }); // around the layer that is chosen everywhere
function build(layers, edges) {
  const bands = edges.length - 1;
  if (cells.length === layers && cells[0]?.length === bands) return;
  at = [Math.min(at[0], layers - 1), Math.min(at[1], bands - 1)];
  const matrix = find("matrix");
  matrix.style.setProperty("--bands", bands);
  const sizes = Array.from({ length: bands }, (_, band) => {
    const name = parts.bandName(edges, band).replace("over ", ">").replace("under ", "<");
    return html("span", { className: "size", textContent: name });
  });
  heads = [];
  cells = Array.from({ length: layers }, (_, layer) => {
    heads[layer] = html("span", { className: "layer", textContent: layer + 1 });
    return Array.from({ length: bands }, (_unused, band) =>
      html("button", {
        type: "button",
        tabIndex: -1,
        onclick: () => store.set({ layer }),
        onpointerenter: () => pointTo(layer, band),
        onpointerleave: () => store.set({ hot: null }),
        onfocus: () => pointTo(layer, band),
        onblur: () => store.set({ hot: null }),
      }),
    );
  });
  for (const [layer, row] of cells.entries())
    for (const [column, node] of [heads[layer], ...row].entries()) {
      node.style.gridRow = layer + 2; // the frame lies over them
      node.style.gridColumn = column + 1;
    }
  matrix.replaceChildren(html("span"), ...sizes, ...cells.flatMap((row, layer) => [heads[layer], ...row]), frame);
}

function pointTo(layer, band) {
  at = [layer, band];
  store.set({ hot: layer });
  drawCell();
}

find("matrix").addEventListener("keydown", (event) => {
  const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
  const next = cells[at[0] + move[0]]?.[at[1] + move[1]];
  event.preventDefault();
  event.stopPropagation();
  next?.focus();
});

// What a cell says: null where the last layer had nothing to lose.
const about = (share, layer, size) =>
  share === null
    ? `The last layer lost nothing ${size} pixels.`
    : share < 0
      ? `Without layer ${layer + 1}, ${percent(-share)} of the last layer\u2019s error more goes away, ${size} pixels.`
      : `Without layer ${layer + 1}, ${percent(share)} of the last layer\u2019s error returns, ${size} pixels.`;

function drawCell() {
  const routes = store.data("routes");
  const known = store.data("frames")?.layers;
  const [layer, band] = at;
  const row = known?.[layer];
  for (const [k, each] of cells.entries())
    for (const [b, cell] of each.entries()) cell.tabIndex = k === layer && b === band ? 0 : -1;
  find("cell").textContent =
    row && state.hot === layer
      ? about(row[band], layer, parts.bandName(routes.edges, band))
      : "Each layer is left out once. Green: error that returns without it, in % of the last layer\u2019s. Purple: error that goes away.";
}

function drawMatrix(routes) {
  const frames = store.data("frames");
  const fused = Boolean(routes.shares);
  find("which").hidden = !fused;
  if (!fused) return;
  build(routes.layers, routes.edges);
  const dark = parts.dark();
  cells.forEach((row, layer) => {
    row.forEach((cell, band) => {
      const share = frames?.layers?.[layer]?.[band] ?? null;
      const known = frames?.layers?.[layer] !== undefined && share !== null;
      const shade = known ? divergingColour("gain", share / REACH, dark) : null;
      cell.style.background = shade ? `rgb(${shade.join(",")})` : "";
      cell.style.color = shade ? inkOn(shade) : "";
      cell.textContent = known ? number(100 * share, 0) : "";
      cell.setAttribute(
        "aria-label",
        known ? about(share, layer, parts.bandName(routes.edges, band)) : `Layer ${layer + 1}: not known yet`,
      );
    });
  });
  frame.style.gridRow = `${Math.min(state.layer, routes.layers - 1) + 2}`;
  const have = frames?.layers?.length ?? 0;
  const problem = store.problem("frames");
  find("progress").textContent =
    problem && have < routes.layers
      ? problem
      : have < routes.layers
        ? `layers one by one: ${have} of ${routes.layers}`
        : "% of the error";
  drawCell();
}

function drawHot() {
  for (const [layer, head] of heads.entries()) head.toggleAttribute("data-hot", layer === state.hot);
  drawCell();
}

function draw() {
  if (!parts.visible(root)) return;
  parts.ways(find("how"));
  const routes = store.data("routes");
  root.classList.toggle("stale", Boolean(store.waits("routes") || (store.photo() && !routes)));
  if (!routes) return;
  if (!routes.edges) {
    find("headline").textContent = "The sizes of detail are not known for this photo.";
    return;
  }
  if (routes.shares && !store.data("frames") && !store.problem("frames")) store.need("frames");
  drawHead(routes);
  drawCurves(routes);
  drawBack(routes);
  drawMatrix(routes);
  parts.drawBars(find("bars"));
  document.documentElement.dataset.painted = "1"; // it has no pictures to wait for
}
parts.whenDrawn(draw);
store.on(["token", "pinned", "area", "against"], () => {
  if (parts.visible(root)) parts.drawBars(find("bars"));
});
store.on(["hot"], () => {
  if (parts.visible(root)) drawHot();
});
draw();
