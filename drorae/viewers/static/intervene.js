// Intervene viewer: strengths, single removals and single layers are all here already; any other wish is one request.

const state = { value: null, beta: 0, on: [], region: new Set(), painting: false, token: 0, wish: 0, answer: null, waiting: false };
element.__intervene = state;

const brush = find("brush");
const BRUSH = 512; // canvas pixels; the style scales it to the column
let hover = null; // the token under the cursor
let stroke = null; // true while painting, false while clearing

const usual = () => state.value.strengths[state.value.betas.indexOf(state.value.beta)];
const removed = () => state.on.flatMap((kept, layer) => (kept ? [] : [layer]));
const decibel = (value) => (value === null ? "identical" : `${value.toFixed(2)} dB`);

// The frame of the present wish; null while it has to be asked for.
function local() {
  const { value } = state;
  const trained = state.beta === value.betas.indexOf(value.beta);
  const out = removed();
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
    return now === null || before === null || now === before ? "" : ` (${signed(now - before, digits)}${unit})`;
  };
  find("metrics").textContent =
    `${decibel(frame.psnr)}${difference("psnr", 2, " dB")}, SSIM ${frame.ssim.toFixed(3)}${difference("ssim", 3, "")}` +
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
  const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
  const share = known ? `${percent(frame.beyond)} of its tokens lie farther out than 99 % of those of held-out photos.` : "";
  const sentence = {
    inside: `Yes, as far as this meter sees: its tokens lie no farther out than those of held-out photos. ${share}`,
    edge: `Partly: it is at the edge of what the decoder was trained on. ${share}`,
    outside: `No: it has left what the decoder was trained on, so the picture shows its guessing, too. ${share}`,
    unknown: "Not measured for this model; run python -m train.latent_distance on it.",
  }[frame.verdict];
  const layers = removed().length
    ? " No layer was ever missing in training: what you see is the missing layer and a decoder that does not expect it."
    : "";
  find("verdict").textContent = sentence + layers;
  find("meter").dataset.verdict = frame.verdict;
  find("needle").style.left = known ? `${100 * Math.sqrt(Math.min(1, frame.beyond))}%` : "0%";
  const facts = [`cosine with the last layer ${signed(frame.cosine, 3)}`];
  if (frame.mean !== null) {
    facts.push(`normalised latent: mean ${signed(frame.mean, 3)} (photos: 0), variance ${frame.variance.toFixed(3)} (photos: 1)`);
  }
  find("facts").textContent = `${facts.join("; ")}.`;
}

function update() {
  const { value } = state;
  find("strength").value = state.beta;
  const beta = value.betas[state.beta];
  const words = `${beta.toFixed(2)}${beta === value.beta ? ", as trained" : ""}`;
  find("beta").textContent = words;
  find("strength").setAttribute("aria-valuetext", words);
  state.rows.forEach((row, layer) => row.keep.setAttribute("aria-pressed", state.on[layer]));
  const only = removed().length === value.layers - 1 ? state.on.indexOf(true) : null;
  state.rows.forEach((row, layer) => row.only.setAttribute("aria-pressed", layer === only));
  find("paint").setAttribute("aria-pressed", state.painting);
  find("clear").hidden = !state.region.size;
  find("count").textContent = state.region.size ? `${state.region.size} of ${value.rows * value.columns} tokens` : "the whole picture";
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
    layers: removed().length ? state.on.flatMap((kept, layer) => (kept ? [layer + 1] : [])) : null,
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
  const alone = removed().length === state.value.layers - 1 && state.on[layer];
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
    const row = document.createElement("div");
    const keep = document.createElement("button");
    keep.type = "button";
    keep.textContent = `${layer + 1}`;
    keep.dataset.layer = layer + 1;
    keep.setAttribute("aria-label", `layer ${layer + 1} in the sum`);
    keep.onclick = () => toggle(layer);
    const change = document.createElement("span");
    const known = frame.psnr !== null && usual().psnr !== null;
    change.textContent = known ? signed(frame.psnr - usual().psnr, 1) : "";
    change.title = `without layer ${layer + 1}: ${decibel(frame.psnr)}`;
    const alone = document.createElement("button");
    alone.type = "button";
    alone.className = "only";
    alone.textContent = "only";
    alone.setAttribute("aria-label", `only layer ${layer + 1}`);
    alone.onclick = () => only(layer);
    row.append(keep, change, alone);
    return { row, keep, only: alone };
  });
  find("switches").replaceChildren(...state.rows.map(({ row }) => row));
}

function buildStrip() {
  const { value } = state;
  const colours = new Uint8Array(decodeBase64(value.components));
  find("strip").replaceChildren(
    ...value.experts.map((frame, layer) => {
      const figure = document.createElement("figure");
      figure.dataset.layer = layer + 1;
      const map = document.createElement("canvas");
      map.width = value.columns;
      map.height = value.rows;
      const context = map.getContext("2d");
      const pixels = context.createImageData(value.columns, value.rows);
      const count = value.rows * value.columns;
      for (let token = 0; token < count; token += 1) {
        const at = 3 * (layer * count + token);
        pixels.data.set([colours[at], colours[at + 1], colours[at + 2], 255], 4 * token);
      }
      context.putImageData(pixels, 0, 0);
      const picture = document.createElement("img");
      picture.className = "pixels";
      picture.src = frame.picture;
      picture.alt = `painted from layer ${layer + 1}`;
      const caption = document.createElement("figcaption");
      const name = document.createElement("b");
      name.textContent = `layer ${layer + 1}`;
      caption.append(name, decibel(frame.psnr));
      figure.append(map, picture, caption);
      return figure;
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
  outlineTokens(context, state.region, state.value, cell, [[5, "#000"], [2, "#ffd54a"]]);
  if (!state.painting) return;
  const at = hover === null ? state.token : hover;
  for (const [width, colour] of [[5, "#000"], [2, "#fff"]]) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    const [low, high] = reach(at);
    context.strokeRect(low.column * cell, low.row * cell, (high.column - low.column + 1) * cell, (high.row - low.row + 1) * cell);
  }
}

// First and last row and column under the brush at a token.
function reach(token) {
  const { rows, columns } = state.value;
  const half = (Number(find("size").value) - 1) / 2;
  const [row, column] = [Math.floor(token / columns), token % columns];
  const clip = (place, count) => Math.max(0, Math.min(count - 1, place));
  const corner = (by) => ({ row: clip(row + by, rows), column: clip(column + by, columns) });
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
    state.token = Math.max(0, Math.min(rows - 1, r)) * columns + Math.max(0, Math.min(columns - 1, c));
    if (!event.shiftKey) return drawBrush();
    [from, state.token].forEach((token) => dab(token, true));
    update();
  };
  const actions = {
    ArrowUp: () => go(row - 1, column),
    ArrowDown: () => go(row + 1, column),
    ArrowLeft: () => go(row, column - 1),
    ArrowRight: () => go(row, column + 1),
    " ": () => { dab(state.token, !state.region.has(state.token)); update(); },
    Escape: () => { state.region.clear(); update(); },
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
  clearTimeout(saying); // nobody asked yet
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

find("strength").addEventListener("input", (event) => { state.beta = Number(event.target.value); update(); });
find("reset").addEventListener("click", reset);
find("paint").addEventListener("click", (event) => {
  state.painting = !state.painting;
  update();
  if (state.painting && event.detail === 0) brush.focus(); // pressed by a key: there it goes on
});
find("clear").addEventListener("click", () => { state.region.clear(); update(); find("paint").focus(); });
find("size").addEventListener("change", () => drawBrush());
const hold = find("hold");
const peek = (held) => {
  if (!state.value) return;
  hold.setAttribute("aria-pressed", held);
  find("picture").src = (held || !state.frame ? usual() : state.frame).picture;
};
for (const kind of ["pointerdown", "keydown"]) {
  hold.addEventListener(kind, (event) => { if (kind === "pointerdown" || [" ", "Enter"].includes(event.key)) peek(true); });
}
for (const kind of ["pointerup", "pointerleave", "pointercancel", "keyup", "blur"]) hold.addEventListener(kind, () => peek(false));
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
  if (stroke !== null) tokensBetween(before ?? token, token, state.value.columns).forEach((each) => dab(each, stroke));
  else drawBrush();
});
brush.addEventListener("pointerleave", () => { hover = null; if (state.value) drawBrush(); });
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
