// Intervene viewer: strengths, single removals and single layers are all here already; any other wish is one request.

const { comesFromLink, find, htmlNode, hush, link, outlineTokens, paintPixels, say, setShape, tokenUnder } = shared;
const { clamp, decibel, decodeBase64, number, percent, readNumbers, signedNumber, tokensBetween } = lib;

const state = {
  value: null,
  beta: 0,
  on: [],
  region: new Set(),
  painting: false,
  token: 0,
  wish: 0,
  answer: null,
  waiting: false,
};
element.__intervene = state;

const brush = find("brush");
const BRUSH = 512; // canvas pixels; the style scales it to the column
let hover = null; // the token under the cursor
let stroke = null; // true while painting, false while clearing

const usual = () => state.value.strengths[state.value.betas.indexOf(state.value.beta)];
const removedLayers = () => state.on.flatMap((kept, layer) => (kept ? [] : [layer]));

// The frame of the present wish; null while it has to be asked for.
function local() {
  const { value } = state;
  const trained = state.beta === value.betas.indexOf(value.beta);
  const out = removedLayers();
  if (trained && !out.length) return usual();
  if (state.region.size) return null;
  if (!out.length) return value.strengths[state.beta];
  if (!trained) return null;
  if (out.length === 1) return value.removed[out[0]];
  if (out.length === value.layers - 1) return value.alone[state.on.indexOf(true)];
  return null;
}

function show(frame) {
  state.frame = frame;
  find("picture").src = frame.picture;
  find("picture").alt = "The picture as the decoder paints it";
  find("save").href = frame.picture;
  const difference = (key, digits, unit) => {
    const [now, before] = [frame[key], usual()[key]];
    return now === null || before === null || now === before ? "" : ` (${signedNumber(now - before, digits)}${unit})`;
  };
  find("metrics").textContent =
    `${decibel(frame.psnr)}${difference("psnr", 2, " dB")}, SSIM ${number(frame.ssim, 3)}${difference("ssim", 3, "")}` +
    (frame === usual() ? ": as trained." : " against the picture as trained, in brackets.");
  drawMeter(frame);
  say(`${find("metrics").textContent} ${find("verdict").textContent}`);
}

// What went wrong stands where the numbers were.
function complain(text) {
  find("metrics").textContent = text;
  say(text);
}

function drawMeter(frame) {
  const known = frame.beyond !== null;
  const share = known
    ? `${percent(frame.beyond, frame.beyond < 0.1 ? 1 : 0)} of its tokens lie farther out than 99 % of those of held-out photos.`
    : "";
  const sentence = {
    inside: `Yes, as far as this meter sees: its tokens lie no farther out than those of held-out photos. ${share}`,
    edge: `Partly: it is at the edge of what the decoder was trained on. ${share}`,
    outside: `No: it has left what the decoder was trained on, so the picture shows its guessing, too. ${share}`,
    unknown: "Not measured for this model; run python -m train.latent_distance on it.",
  }[frame.verdict];
  const layers = removedLayers().length
    ? " No layer was ever missing in training: what you see is the missing layer and a decoder that does not expect it."
    : "";
  find("verdict").textContent = sentence + layers;
  find("meter").dataset.verdict = frame.verdict;
  find("needle").style.left = known ? `${100 * Math.sqrt(Math.min(1, frame.beyond))}%` : "0%";
  const facts = [`cosine with the last layer ${signedNumber(frame.cosine, 3)}`];
  if (frame.mean !== null) {
    facts.push(
      `normalised latent: mean ${signedNumber(frame.mean, 3)} (photos: 0), variance ${number(frame.variance, 3)} (photos: 1)`,
    );
  }
  find("facts").textContent = `${facts.join("; ")}.`;
}

function update() {
  const { value } = state;
  find("strength").value = state.beta;
  const beta = value.betas[state.beta];
  const words = `${number(beta, 2)}${beta === value.beta ? ", as trained" : ""}`;
  find("beta").textContent = words;
  find("strength").setAttribute("aria-valuetext", words);
  const only = removedLayers().length === value.layers - 1 ? state.on.indexOf(true) : null;
  state.rows.forEach((row, layer) => {
    row.keep.setAttribute("aria-pressed", state.on[layer]);
    row.only.setAttribute("aria-pressed", layer === only);
  });
  find("paint").setAttribute("aria-pressed", state.painting);
  find("clear").hidden = !state.region.size;
  find("count").textContent = state.region.size
    ? `${state.region.size} of ${value.rows * value.columns} tokens`
    : "the whole picture";
  drawBrush();
  const frame = local();
  state.wish += 1;
  state.waiting = frame === null;
  if (frame) {
    show(frame);
    return;
  }
  find("metrics").textContent = "Painting ...";
  const asked = {
    id: state.wish,
    layers: removedLayers().length ? state.on.flatMap((kept, layer) => (kept ? [layer + 1] : [])) : null,
    beta: value.betas[state.beta],
    tokens: state.region.size ? [...state.region].sort((a, b) => a - b) : null,
  };
  trigger("intervene", asked);
}

// The answer to a request; one that a newer wish has overtaken is dropped.
function receive() {
  const { answer } = props;
  if (!answer || !state.value || answer.id !== state.wish) return;
  state.waiting = false;
  if (answer.error) {
    complain(answer.error);
    return;
  }
  show(answer.frame);
}

function toggle(layer) {
  const on = state.on.map((kept, i) => (i === layer ? !kept : kept));
  if (!on.some(Boolean)) {
    complain("Keep at least one layer; a strength of 0 shows the last layer alone.");
    return;
  }
  state.on = on;
  update();
}

function only(layer) {
  const alone = removedLayers().length === state.value.layers - 1 && state.on[layer];
  state.on = state.on.map((_, i) => alone || i === layer);
  update();
}

function reset() {
  state.beta = state.value.betas.indexOf(state.value.beta);
  state.on = Array(state.value.layers).fill(true);
  state.region.clear();
  state.painting = false;
  update();
}

function buildSwitches() {
  state.rows = state.value.removed.map((frame, layer) => {
    const name = layer + 1;
    const keep = htmlNode("button", {
      type: "button",
      textContent: `${name}`,
      "data-layer": name,
      "aria-label": `layer ${name} in the sum`,
      onclick: () => toggle(layer),
    });
    const known = frame.psnr !== null && usual().psnr !== null;
    const change = htmlNode("span", {
      textContent: known ? signedNumber(frame.psnr - usual().psnr, 1) : "",
      title: `without layer ${name}: ${decibel(frame.psnr)}`,
    });
    const alone = htmlNode("button", {
      type: "button",
      className: "only",
      textContent: "only",
      "aria-label": `only layer ${name}`,
      onclick: () => only(layer),
    });
    return { row: htmlNode("div", {}, [keep, change, alone]), keep, only: alone };
  });
  find("switches").replaceChildren(...state.rows.map(({ row }) => row));
}

function buildStrip() {
  const { value } = state;
  const colours = new Uint8Array(decodeBase64(value.components));
  find("strip").replaceChildren(
    ...value.experts.map((frame, layer) => {
      const map = document.createElement("canvas");
      const first = layer * value.rows * value.columns;
      paintPixels(map, value.columns, value.rows, (token) =>
        colours.subarray(3 * (first + token), 3 * (first + token + 1)),
      );
      const name = `layer ${layer + 1}`;
      return htmlNode("figure", { "data-layer": layer + 1 }, [
        map,
        htmlNode("img", { className: "pixels", src: frame.picture, alt: `painted from ${name}` }),
        htmlNode("figcaption", {}, [htmlNode("b", { textContent: name }), decibel(frame.psnr)]),
      ]);
    }),
  );
}

function drawBrush() {
  const { rows, columns } = state.value;
  const cell = BRUSH / Math.max(rows, columns);
  brush.width = Math.round(columns * cell);
  brush.height = Math.round(rows * cell);
  const context = brush.getContext("2d");
  brush.classList.toggle("active", state.painting);
  outlineTokens(context, state.region, state.value, cell, [
    [5, "#000"],
    [2, "#ffd54a"],
  ]);
  if (!state.painting) return;
  const at = hover === null ? state.token : hover;
  for (const [width, colour] of [
    [5, "#000"],
    [2, "#fff"],
  ]) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    const [low, high] = reach(at);
    context.strokeRect(
      low.column * cell,
      low.row * cell,
      (high.column - low.column + 1) * cell,
      (high.row - low.row + 1) * cell,
    );
  }
}

// First and last row and column under the brush at a token.
function reach(token) {
  const { rows, columns } = state.value;
  const half = (Number(find("size").value) - 1) / 2;
  const [row, column] = [Math.floor(token / columns), token % columns];
  const corner = (by) => ({ row: clamp(row + by, 0, rows - 1), column: clamp(column + by, 0, columns - 1) });
  return [corner(-half), corner(half)];
}

function dab(token, paint) {
  const [low, high] = reach(token);
  for (let row = low.row; row <= high.row; row += 1) {
    for (let column = low.column; column <= high.column; column += 1) {
      if (paint) state.region.add(row * state.value.columns + column);
      else state.region.delete(row * state.value.columns + column);
    }
  }
  drawBrush();
}

const tokenAt = (event) => tokenUnder(brush, event, state.value);

function press(event) {
  if (!state.value || event.ctrlKey || event.metaKey || event.altKey) return;
  if (!state.painting) {
    if (event.key !== " ") return;
    event.preventDefault();
    state.painting = true;
    update();
    say("Painting. Arrow keys move the brush.");
    return;
  }
  const { rows, columns } = state.value;
  const [row, column] = [Math.floor(state.token / columns), state.token % columns];
  const go = (r, c) => {
    hover = null;
    const from = state.token;
    state.token = clamp(r, 0, rows - 1) * columns + clamp(c, 0, columns - 1);
    if (!event.shiftKey) return drawBrush();
    for (const token of [from, state.token]) dab(token, true);
    update();
  };
  const actions = {
    ArrowUp: () => go(row - 1, column),
    ArrowDown: () => go(row + 1, column),
    ArrowLeft: () => go(row, column - 1),
    ArrowRight: () => go(row, column + 1),
    " ": () => {
      dab(state.token, !state.region.has(state.token));
      update();
    },
    Escape: () => {
      state.region.clear();
      update();
    },
  };
  if (actions[event.key]) {
    event.preventDefault();
    actions[event.key]();
    const [row, column] = [Math.floor(state.token / columns), state.token % columns];
    const painted = state.region.has(state.token) ? "painted" : "not painted";
    say(`Row ${row + 1}, column ${column + 1}, ${painted}. Region: ${find("count").textContent}.`);
  }
}

function load() {
  const { value } = props;
  find("root").hidden = !value;
  state.value = value;
  if (!value) return;
  setShape(value.columns, value.rows);
  find("strength").max = value.betas.length - 1;
  state.token = Math.floor(value.rows / 2) * value.columns + Math.floor(value.columns / 2);
  buildSwitches();
  buildStrip();
  if (comesFromLink(value)) restore();
  else reset();
  hush(); // nobody asked yet
}

// What the link chose.
function restore() {
  const { betas, beta, layers, rows, columns } = state.value;
  const wanted = betas.findIndex((value) => Math.abs(value - Number(link.get("beta") || NaN)) < 0.005);
  state.beta = wanted >= 0 ? wanted : betas.indexOf(beta);
  const off = readNumbers(link.get("off"), layers + 1);
  state.on = Array.from({ length: layers }, (_, layer) => !off.includes(layer + 1));
  if (!state.on.some(Boolean)) state.on.fill(true);
  state.region = new Set(readNumbers(link.get("region"), rows * columns));
  update();
}

find("strength").addEventListener("input", (event) => {
  state.beta = Number(event.target.value);
  update();
});
find("reset").addEventListener("click", reset);
find("paint").addEventListener("click", (event) => {
  state.painting = !state.painting;
  update();
  if (state.painting && event.detail === 0) brush.focus(); // pressed by a key: there it goes on
});
find("clear").addEventListener("click", () => {
  state.region.clear();
  update();
  find("paint").focus();
});
find("size").addEventListener("change", () => drawBrush());
const hold = find("hold");
const peek = (held) => {
  if (!state.value) return;
  hold.setAttribute("aria-pressed", held);
  find("picture").src = (held || !state.frame ? usual() : state.frame).picture;
};
for (const kind of ["pointerdown", "keydown"]) {
  hold.addEventListener(kind, (event) => {
    if (kind === "pointerdown" || [" ", "Enter"].includes(event.key)) peek(true);
  });
}
for (const kind of ["pointerup", "pointerleave", "pointercancel", "keyup", "blur"])
  hold.addEventListener(kind, () => peek(false));
brush.addEventListener("pointerdown", (event) => {
  if (!state.value || !state.painting) return;
  event.preventDefault();
  brush.focus({ preventScroll: true });
  brush.setPointerCapture(event.pointerId);
  state.token = tokenAt(event);
  hover = state.token;
  stroke = !state.region.has(state.token);
  dab(state.token, stroke);
});
brush.addEventListener("pointermove", (event) => {
  if (!state.value || !state.painting) return;
  const [before, token] = [hover, tokenAt(event)];
  hover = token;
  if (stroke === null) drawBrush();
  else for (const each of tokensBetween(before ?? token, token, state.value.columns)) dab(each, stroke);
});
brush.addEventListener("pointerleave", () => {
  hover = null;
  if (state.value) drawBrush();
});
for (const kind of ["pointerup", "pointercancel"]) {
  brush.addEventListener(kind, () => {
    if (stroke === null) return;
    stroke = null;
    update();
  });
}
brush.addEventListener("keydown", press);
watch("value", load);
watch("answer", receive);
load();
