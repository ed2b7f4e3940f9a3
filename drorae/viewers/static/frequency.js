// Frequency viewer: spectra, the share of the lost energy that came back, and which layer brought it.

const { find, htmlNode, svgNode } = shared;
const { divergingColour, inkOn, percent, robustLimit } = lib;

const state = { value: null };
element.__frequency = state;

const PLOT = { left: 52, right: 8, top: 10, bottom: 34, width: 480, height: 260 };
const COLOURS = {
  original: "var(--body-text-color)",
  rae: "var(--rae)",
  phase2: "var(--phase2)",
  drorae: "var(--drorae)",
};
const DASHES = { original: "2 3", rae: "7 4", phase2: "10 3 2 3", drorae: "" };

const bands = () => state.value.edges.length - 1;
const across = (place) => PLOT.left + (place / bands()) * (PLOT.width - PLOT.left - PLOT.right);
const pixels = (edge) => (1 / edge).toFixed(1 / edge < 10 && (1 / edge) % 1 ? 1 : 0);

// Size of the detail of a band, in pixels per wave.
function sizeOf(band) {
  const [low, high] = [state.value.edges[band], state.value.edges[band + 1]];
  if (band === bands() - 1) return `under ${pixels(low)}`; // with the corners of the spectrum, finer than 2
  return low === 0 ? `over ${pixels(high)}` : `${pixels(low)}\u2013${pixels(high)}`;
}

function axes(height, ticks) {
  const nodes = ticks.flatMap(({ value, text }) => [
    svgNode("line", {
      x1: PLOT.left,
      x2: PLOT.width - PLOT.right,
      y1: height(value),
      y2: height(value),
      class: value === 0 ? "zero" : "grid",
    }),
    svgNode("text", { x: PLOT.left - 6, y: height(value) + 4, "text-anchor": "end" }, text),
  ]);
  for (let edge = 1; edge < bands(); edge += 1) {
    nodes.push(
      svgNode(
        "text",
        { x: across(edge), y: PLOT.height - 18, "text-anchor": "middle" },
        pixels(state.value.edges[edge]),
      ),
    );
  }
  nodes.push(
    svgNode("text", { x: across(bands() / 2), y: PLOT.height - 3, "text-anchor": "middle" }, "pixels per wave"),
  );
  return nodes;
}

function key(part, names, mark) {
  find(part).replaceChildren(
    ...names.map((name) => {
      const swatch = svgNode("svg", { viewBox: "0 0 26 10", width: 26, height: 10 });
      swatch.append(mark(name));
      return htmlNode("span", {}, [swatch, state.value.titles[name]]);
    }),
  );
}

function drawSpectrum() {
  const { spectra } = state.value;
  const values = Object.values(spectra)
    .flat()
    .map((v) => Math.log10(Math.max(v, 1e-3)));
  const [low, high] = [Math.floor(Math.min(...values)), Math.ceil(Math.max(...values))];
  const height = (v) => PLOT.top + ((high - v) / (high - low)) * (PLOT.height - PLOT.top - PLOT.bottom);
  const ticks = [];
  for (let exponent = low; exponent <= high; exponent += 1) {
    ticks.push({
      value: exponent,
      text: exponent >= 0 ? (10 ** exponent).toLocaleString("en") : (10 ** exponent).toFixed(-exponent),
    });
  }
  const lines = Object.entries(spectra).map(([name, energies]) => {
    const points = energies.map((v, band) => `${across(band + 0.5)},${height(Math.log10(Math.max(v, 1e-3)))}`);
    const style = { style: `stroke: ${COLOURS[name]}`, "stroke-width": 2.5, "stroke-dasharray": DASHES[name] };
    return svgNode("polyline", { points: points.join(" "), fill: "none", "data-route": name, ...style });
  });
  find("spectrum").replaceChildren(...axes(height, ticks), ...lines);
  find("spectrum").setAttribute("aria-label", "Energy by size of the detail, one line per picture");
  key("key", Object.keys(spectra), (name) =>
    svgNode("line", {
      x1: 1,
      x2: 25,
      y1: 5,
      y2: 5,
      style: `stroke: ${COLOURS[name]}`,
      "stroke-width": 3,
      "stroke-dasharray": DASHES[name],
    }),
  );
}

function drawShares() {
  const { shares } = state.value;
  const names = Object.keys(shares);
  find("share-card").style.display = names.length ? "" : "none";
  if (!names.length) return;
  const known = Object.values(shares)
    .flat()
    .filter((v) => v !== null);
  const low = Math.max(-1, Math.min(0, Math.floor(4 * Math.min(0, ...known)) / 4));
  const height = (v) => PLOT.top + ((1 - Math.max(low, v)) / (1 - low)) * (PLOT.height - PLOT.top - PLOT.bottom);
  const ticks = [];
  for (let v = 1; v >= low; v -= low < -0.5 ? 0.5 : 0.25) ticks.push({ value: v, text: percent(v) });
  const width = (across(1) - across(0)) * (0.8 / names.length);
  const bars = names.flatMap((name, i) =>
    shares[name].flatMap((share, band) => {
      if (share === null) return [];
      const [top, bottom] = [height(Math.max(0, share)), height(Math.min(0, share))];
      const x = across(band + 0.1) + i * width;
      const bar = svgNode("rect", {
        x,
        y: top,
        width: width - 2,
        height: Math.max(1, bottom - top),
        style: `color: ${COLOURS[name]}`,
        class: name,
        "data-route": name,
      });
      bar.append(
        svgNode("title", {}, `${state.value.titles[name]}, ${sizeOf(band)} pixels per wave: ${percent(share)}`),
      );
      return [bar];
    }),
  );
  find("shares").replaceChildren(...axes(height, ticks), ...bars);
  find("shares").setAttribute("aria-label", `Share of the lost energy brought back. ${words()}`);
  key("share-key", names, (name) =>
    svgNode("rect", { x: 1, y: 1, width: 24, height: 8, style: `color: ${COLOURS[name]}`, class: name }),
  );
}

function words() {
  return Object.entries(state.value.shares)
    .map(([name, shares]) => {
      const known = shares.map((share, band) =>
        share === null ? null : `${percent(share)} at ${sizeOf(band)} pixels per wave`,
      );
      return `${state.value.titles[name]}: ${known.filter(Boolean).join(", ")}`;
    })
    .join(". ");
}

function drawHeadline() {
  const names = Object.keys(state.value.shares);
  const best = names.length ? state.value.shares[names[names.length - 1]] : [];
  const known = best.flatMap((share, band) => (share === null ? [] : [band]));
  if (!known.length) {
    find("headline").textContent = names.length
      ? "The last layer lost nothing of this picture, so there was nothing to bring back."
      : "This model reads the last layer only: there is no fusion to bring anything back.";
    return;
  }
  const [coarse, fine] = [known[0], known[known.length - 1]];
  const harmed = known.filter((band) => best[band] < 0).map((band) => sizeOf(band));
  const harm = harmed.length ? ` More is wrong than before at ${harmed.join(", ")} pixels per wave.` : "";
  find("headline").textContent =
    `Of what the last layer gets wrong, ${state.value.titles[names[names.length - 1]]} mends ${percent(best[coarse])} in coarse shapes ` +
    `(${sizeOf(coarse)} pixels per wave) and ${percent(best[fine])} in the finest detail (${sizeOf(fine)}).${harm}`;
}

function drawMatrix() {
  const { layers } = state.value;
  find("matrix-card").style.display = layers ? "" : "none";
  if (!layers) return;
  const cells = layers.flat().filter((v) => v !== null);
  const limit = Math.min(1, robustLimit(Float32Array.from(cells), 0.03));
  const heads = ["without", ...Array.from({ length: bands() }, (_, band) => sizeOf(band))];
  const cellOf = (share) => {
    const cell = htmlNode("td", { textContent: percent(share) });
    if (share !== null) {
      const colour = divergingColour("gain", share / limit);
      cell.style.background = `rgb(${colour.join(",")})`;
      cell.style.color = inkOn(colour);
    }
    return cell;
  };
  const rows = layers.map((shares, layer) =>
    htmlNode("tr", {}, [htmlNode("th", { scope: "row", textContent: `layer ${layer + 1}` }), ...shares.map(cellOf)]),
  );
  find("matrix").replaceChildren(
    htmlNode("thead", {}, [
      htmlNode(
        "tr",
        {},
        heads.map((text) => htmlNode("th", { scope: "col", textContent: text })),
      ),
    ]),
    htmlNode("tbody", {}, rows),
  );
}

function load() {
  state.value = props.value;
  find("root").hidden = !state.value;
  if (!state.value) return;
  drawHeadline();
  drawSpectrum();
  drawShares();
  drawMatrix();
}

watch("value", load);
load();
