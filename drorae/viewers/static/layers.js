// Layers: what becomes of the photo without a layer, with one alone, at another strength; everywhere, or where it is painted.

const { html, panel, svg, term } = parts;
const { clamp, number, signedNumber, tokensBetween, writeNumbers } = lib;
const { state } = store;
const find = (name) => element.querySelector(`[data-part="${name}"]`);
const WORTH = { top: 6.7, bottom: -1.5 }; // dB at the ends of a layer's bar, at least: the same for every photo
const CURVE = { top: 2, bottom: -12 }; // dB against the photo as trained, at the ends of the curve
const PAUSE = 200; // ms without a change until the server is asked
const KEPT = 12; // answers of the server for each photo
const BRUSHES = { 1: "Small", 3: "Medium", 7: "Large" }; // tokens across

// What is chosen, and what is known of it.

const best = (routes) => ["drorae", "phase2", "rae"].find((name) => routes.pictures[name]);
const trainedStrength = () => store.data("frames")?.beta ?? store.data("routes")?.beta ?? null;
const same = (one, other) => Math.abs(one - other) < 1e-6;
const asTrained = () => state.beta === null || same(state.beta, trainedStrength());
const strength = () => (asTrained() ? trainedStrength() : state.beta);
const wish = () => `${state.off}|${asTrained() ? "" : state.beta}|${writeNumbers(state.region)}`;
const SUBTITLE = find("subtitle").textContent;
const AS_TRAINED = { off: [], beta: null, region: [] };

// The frames painted so far, with a sprite that is decoded: the one before is good until the next is.
let latest = null;
function known() {
  const [routes, frames] = [store.data("routes"), store.data("frames")];
  if (!frames?.betas) return null;
  const sprite = frames.sprite ? parts.image(frames.sprite) : null;
  if (sprite || latest?.routes !== routes) latest = { routes, frames, sprite };
  return latest;
}

// Where the frame of what is chosen is, or will be, among those of the photo; null if it has to be asked for.
function place({ betas, layers }) {
  const { off, region } = state;
  if (region.length) return null;
  if (!off.length) {
    const index = betas ? betas.findIndex((beta) => same(beta, strength())) : 0;
    return index < 0 ? null : ["strengths", index];
  }
  if (!asTrained()) return null;
  if (off.length === 1) return ["removed", off[0]];
  if (off.length === layers - 1) return ["alone", [...Array(layers).keys()].find((layer) => !off.includes(layer))];
  return null;
}

const answers = new WeakMap(); // of the server: routes of a photo to its frames by wish
function answered(routes) {
  if (!answers.has(routes)) answers.set(routes, new Map());
  const all = answers.get(routes);
  const value = store.data("intervene");
  if (value && !all.has(value.id)) {
    all.set(value.id, value);
    if (all.size > KEPT) all.delete(all.keys().next().value);
  }
  return all;
}

// What is chosen: its `frame` of numbers, and how to `paint` it; or `waits`, and for whom.
function chosen() {
  const routes = store.data("routes");
  if (!routes) return { waits: "routes" };
  const all = known();
  const usual = all?.frames.strengths[all.frames.betas.findIndex((beta) => same(beta, all.frames.beta))];
  if (asTrained() && !state.off.length) {
    const picture = parts.route(best(routes));
    const frame = { ...usual, ...routes.metrics[best(routes)] };
    return picture ? { frame, usual: true, paint: (context, w, h) => context.drawImage(picture, 0, 0, w, h) } : {};
  }
  const at = place({ betas: store.data("frames")?.betas, layers: routes.layers });
  if (at) {
    const frame = all?.sprite ? all.frames[at[0]][at[1]] : null;
    if (!frame) return { waits: "frames" };
    return { frame, paint: (context) => parts.paintFrame(context, all.sprite, frame.index, all.frames) };
  }
  const frame = answered(routes).get(wish());
  if (!frame) return { waits: "intervene" };
  const picture = parts.image(frame.picture);
  return picture ? { frame, paint: (context, w, h) => context.drawImage(picture, 0, 0, w, h) } : {};
}

// Ask the server once nothing has changed for a while; an answer that came too late is kept, and the next one asked for.
let timer = 0;
let scheduled = null;
let asked = null;
function ask() {
  const id = `${state.photo} ${wish()}`;
  if (scheduled === id || store.waits("intervene") || asked === id) return;
  scheduled = id;
  clearTimeout(timer);
  timer = setTimeout(() => {
    scheduled = null;
    if (id !== `${state.photo} ${wish()}` || stroke !== null || store.waits("intervene")) return;
    asked = id;
    const { layers } = store.data("routes");
    const kept = [...Array(layers).keys()].filter((layer) => !state.off.includes(layer)).map((layer) => layer + 1);
    store.need("intervene", {
      id: wish(),
      layers: state.off.length ? kept : null,
      beta: strength(),
      tokens: state.region.length ? state.region : null,
    });
  }, PAUSE);
}

// The panels.

let peeks = false; // the picture as trained, in the panel of the changed one
const put = (context, width, height) => {
  const routes = store.data("routes");
  const picture = routes && parts.route(best(routes));
  if (!picture) return false;
  context.drawImage(picture, 0, 0, width, height);
  return true;
};
const trained = panel({ label: "As trained", full: "drorae", paint: put });
let shown = null; // photo whose changed picture is on the panel
const changed = panel({
  label: "With your changes",
  paint(context, width, height) {
    if (peeks) return put(context, width, height);
    const now = chosen();
    if (!now.paint) return false;
    now.paint(context, width, height);
    shown = state.photo;
    return true;
  },
});
trained.name = "as-trained";
changed.name = "changed";
store.changedPicture = () => (shown === state.photo ? changed.canvas : null);

const scores = { trained: html("span", { className: "score" }), changed: html("span", { className: "score" }) };
const about = html("div", { className: "note" });
const paintButton = html("button", { type: "button", className: "btn small", textContent: "Paint where it applies" });
const saveButton = html("button", { type: "button", className: "btn small", textContent: "Save picture" });
const clearButton = html("button", { type: "button", className: "btn small", textContent: "Clear" });
const again = html("button", { type: "button", className: "btn small", textContent: "Try again", hidden: true });
const sizes = html(
  "span",
  { className: "seg mini", role: "group", "aria-label": "Size of the brush" },
  Object.entries(BRUSHES).map(([value, textContent]) => html("button", { type: "button", value, textContent })),
);
const reset = html("button", { type: "button", className: "btn small near", textContent: "Reset" });
const painted = html("p", { className: "painted num" });
const halves = html("div", { className: "seg half", role: "group", "aria-label": "What is shown" }, [
  html("button", { type: "button", value: "trained", textContent: "As trained" }),
  html("button", { type: "button", value: "changed", textContent: "With your changes" }),
]);
find("trained").append(html("figcaption", {}, ["As trained", scores.trained]), trained.node, about);
find("changed").append(
  html("figcaption", {}, ["With your changes", scores.changed]),
  changed.node,
  html("div", { className: "note tools" }, [
    halves,
    reset,
    paintButton,
    sizes,
    clearButton,
    saveButton,
    again,
    painted,
  ]),
);

// The brush. It lies over the panel's picture, so that it zooms with it.

const brush = html("canvas", {
  className: "brush",
  role: "application",
  "aria-label":
    "Where the changes apply. Arrow keys move the brush, Space paints or clears under it, Shift and arrow keys paint along, Escape clears everything.",
});
changed.pane.append(brush);
let painting = false;
let size = 3;
let at = null; // token under the brush
let stroke = null; // while a hand paints: whether it paints or clears, and what is painted so far

const region = () => stroke?.tokens ?? new Set(state.region);

function reach(token) {
  const { rows, columns } = parts.shape();
  const half = (size - 1) / 2;
  const [row, column] = [Math.floor(token / columns), token % columns];
  const range = (middle, end) => [clamp(middle - half, 0, end - 1), clamp(middle + half, 0, end - 1)];
  return { rows: range(row, rows), columns: range(column, columns) };
}

function dab(tokens, token, paints) {
  const { columns } = parts.shape();
  const under = reach(token);
  for (let row = under.rows[0]; row <= under.rows[1]; row += 1)
    for (let column = under.columns[0]; column <= under.columns[1]; column += 1)
      if (paints) tokens.add(row * columns + column);
      else tokens.delete(row * columns + column);
}

const keep = (tokens) => store.set({ region: [...tokens].sort((a, b) => a - b) });

function drawBrush() {
  const known = parts.shape();
  if (!known) return;
  const { rows, columns } = known;
  const cell = Math.max(4, Math.round(768 / Math.max(rows, columns)));
  brush.classList.toggle("active", painting);
  brush.tabIndex = painting ? 0 : -1;
  if (brush.width !== columns * cell) brush.width = columns * cell;
  if (brush.height !== rows * cell) brush.height = rows * cell;
  const context = brush.getContext("2d");
  context.clearRect(0, 0, brush.width, brush.height);
  const tokens = region();
  const outline = new Path2D();
  for (const token of tokens) {
    const [row, column] = [Math.floor(token / columns), token % columns];
    const [x, y] = [column * cell, row * cell];
    const sides = [
      [row === 0 || !tokens.has(token - columns), x, y, x + cell, y],
      [row === rows - 1 || !tokens.has(token + columns), x, y + cell, x + cell, y + cell],
      [column === 0 || !tokens.has(token - 1), x, y, x, y + cell],
      [column === columns - 1 || !tokens.has(token + 1), x + cell, y, x + cell, y + cell],
    ];
    for (const [edge, x1, y1, x2, y2] of sides) {
      if (!edge) continue;
      outline.moveTo(x1, y1);
      outline.lineTo(x2, y2);
    }
  }
  if (painting && at !== null) {
    const under = reach(at);
    const [width, height] = [under.columns, under.rows].map(([low, high]) => (high - low + 1) * cell);
    outline.rect(under.columns[0] * cell, under.rows[0] * cell, width, height);
  }
  context.lineCap = "square";
  for (const [width, colour] of [
    [7, "#000"],
    [3, "#fff"],
  ]) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.stroke(outline);
  }
}

function tokenUnder(event) {
  const { rows, columns } = parts.shape();
  const box = brush.getBoundingClientRect();
  const column = clamp(Math.floor(((event.clientX - box.left) / box.width) * columns), 0, columns - 1);
  const row = clamp(Math.floor(((event.clientY - box.top) / box.height) * rows), 0, rows - 1);
  return row * columns + column;
}

function paint(on, byKey) {
  painting = on;
  if (on) {
    parts.release();
    const { rows, columns } = parts.shape();
    at = byKey ? Math.floor(rows / 2) * columns + Math.floor(columns / 2) : null;
  }
  draw();
  if (on && byKey) brush.focus(); // pressed by a key: there it goes on
}

brush.addEventListener("pointerdown", (event) => {
  event.stopPropagation();
  if (event.button) return;
  event.preventDefault();
  brush.focus({ preventScroll: true });
  brush.setPointerCapture(event.pointerId);
  at = tokenUnder(event);
  const tokens = new Set(state.region);
  stroke = { paints: !tokens.has(at), tokens };
  dab(tokens, at, stroke.paints);
  drawBrush();
});
brush.addEventListener("pointermove", (event) => {
  event.stopPropagation();
  const [before, token] = [at, tokenUnder(event)];
  at = token;
  if (stroke)
    for (const each of tokensBetween(before ?? token, token, parts.shape().columns))
      dab(stroke.tokens, each, stroke.paints);
  drawBrush();
});
brush.addEventListener("pointerleave", () => {
  at = null;
  drawBrush();
});
for (const kind of ["pointerup", "pointercancel"])
  brush.addEventListener(kind, (event) => {
    event.stopPropagation();
    if (!stroke) return;
    const { tokens } = stroke;
    stroke = null;
    keep(tokens);
  });
for (const kind of ["click", "dblclick"]) brush.addEventListener(kind, (event) => event.stopPropagation());
brush.addEventListener("keydown", (event) => {
  if (!painting || event.ctrlKey || event.metaKey || event.altKey) return;
  const { rows, columns } = parts.shape();
  at ??= Math.floor(rows / 2) * columns + Math.floor(columns / 2);
  const [row, column] = [Math.floor(at / columns), at % columns];
  const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  const tokens = new Set(state.region);
  if (move) {
    const from = at;
    at = clamp(row + move[0], 0, rows - 1) * columns + clamp(column + move[1], 0, columns - 1);
    if (event.shiftKey) for (const token of [from, at]) dab(tokens, token, true);
  } else if (event.key === " ") dab(tokens, at, !tokens.has(at));
  else if (event.key === "Escape") tokens.clear();
  else return;
  event.preventDefault();
  event.stopPropagation();
  if (tokens.size !== state.region.length || event.key === " ") keep(tokens);
  drawBrush();
  const [r, c] = parts.rowAndColumn(at);
  parts.say(
    `Row ${r}, column ${c}, ${tokens.has(at) ? "painted" : "not painted"}. ${words.paintedPlaces(tokens.size, rows * columns)}`,
  );
});
paintButton.addEventListener("click", (event) => paint(!painting, event.detail === 0));
clearButton.addEventListener("click", () => {
  store.set({ region: [] });
  paintButton.focus();
});
saveButton.addEventListener("click", () => {
  const name = [
    "drorae",
    state.photo,
    ...(state.off.length ? ["without", writeNumbers(state.off.map((layer) => layer + 1))] : []),
    ...(asTrained() ? [] : ["strength", number(strength(), 2)]),
  ].join("-");
  changed.canvas.toBlob((blob) => parts.save(`${name}.png`, blob), "image/png");
});
again.addEventListener("click", () => {
  asked = null;
  store.need(
    place({ betas: store.data("frames")?.betas, layers: store.data("routes").layers }) ? "frames" : "intervene",
  );
  draw();
});

// Switches: one for every layer.

let hint = "";
let channels = [];
function build(layers) {
  if (channels.length === layers) return;
  channels = Array.from({ length: layers }, (_, k) => {
    const range = html("span", { className: "range", hidden: true });
    const bar = html("span", { className: "bar" });
    const worth = html("em");
    const toggle = html("button", { type: "button", className: "toggle" }, [
      html("strong", { textContent: k + 1 }),
      html("span", { className: "well" }, [range, bar]),
      worth,
      html("span", { className: "switch" }),
    ]);
    const only = html("button", {
      type: "button",
      className: "only",
      textContent: "only",
      "aria-label": `Only layer ${k + 1}`,
    });
    const node = html("div", { className: "chan", "data-layer": k }, [toggle, only]);
    toggle.addEventListener("click", (event) => (event.shiftKey ? alone(k) : store.toggle(k)));
    only.addEventListener("click", () => alone(k));
    node.addEventListener("pointerenter", () => store.set({ hot: k }));
    node.addEventListener("pointerleave", () => store.set({ hot: null }));
    return { node, range, bar, worth, toggle, only };
  });
  find("channels").replaceChildren(...channels.map(({ node }) => node));
}

const others = (layer) => [...Array(channels.length).keys()].filter((each) => each !== layer);
const isAlone = (layer) => state.off.length === channels.length - 1 && !state.off.includes(layer);

store.toggle = (layer) => {
  const off = state.off.includes(layer) ? state.off.filter((each) => each !== layer) : [...state.off, layer];
  if (off.length >= channels.length) {
    hint = "Keep at least one layer. Strength 0 shows the last one alone.";
    draw();
    parts.say(hint);
    return;
  }
  store.set({ off: off.sort((a, b) => a - b) });
};
const alone = (layer) => store.set({ off: isAlone(layer) ? [] : others(layer) });

// Quantiles of what a layer is worth over the validation photos, dB: what its removal takes away.
function rangeOf(layer) {
  const change = store.config.usage?.removed?.[layer]?.change;
  return change ? [-change.q90, -change.q10] : null;
}

function drawChannels({ layers, psnr }) {
  build(layers);
  const removed = known()?.frames.removed ?? [];
  const ranges = channels.map((_, k) => rangeOf(k));
  const top = Math.max(WORTH.top, ...ranges.map((range) => range?.[1] ?? 0));
  const bottom = Math.min(WORTH.bottom, ...ranges.map((range) => range?.[0] ?? 0));
  const y = (value) => (100 * (top - clamp(value, bottom, top))) / (top - bottom);
  find("channels").style.setProperty("--zero", `${y(0)}%`);
  channels.forEach(({ node, range, bar, worth, toggle, only }, k) => {
    const frame = removed[k];
    const value = frame && frame.psnr !== null && psnr !== null ? psnr - frame.psnr : null;
    bar.hidden = value === null;
    if (value !== null) {
      bar.className = value < 0 ? "bar harms" : "bar";
      bar.style.top = `${y(Math.max(value, 0))}%`;
      bar.style.height = `${Math.max(1.5, Math.abs(y(value) - y(0)))}%`;
    }
    range.hidden = !ranges[k];
    if (ranges[k]) {
      range.style.top = `${y(ranges[k][1])}%`;
      range.style.height = `${Math.max(2, y(ranges[k][0]) - y(ranges[k][1]))}%`;
    }
    worth.textContent = value === null ? "\u00a0" : signedNumber(value, 1);
    toggle.setAttribute("aria-pressed", !state.off.includes(k));
    const means = value === null ? "" : `, worth ${signedNumber(value, 1)} dB here`;
    toggle.setAttribute("aria-label", `Layer ${k + 1}${means}`);
    only.setAttribute("aria-pressed", isAlone(k));
    node.toggleAttribute("data-hot", state.hot === k);
  });
}

// Strength: the curve over the slider shows what will come.

function drawStrength({ psnr }) {
  const beta = strength();
  const slider = find("strength");
  slider.value = beta;
  const text = `${number(beta, 2)}${asTrained() ? ", as trained" : ""}`;
  slider.setAttribute("aria-valuetext", text);
  find("strength-value").replaceChildren(
    html("b", { textContent: number(beta, 2) }),
    ...(asTrained() ? [" as trained"] : []),
  );
  const all = known();
  const y = (change) => (100 * (CURVE.top - clamp(change, CURVE.bottom, CURVE.top))) / (CURVE.top - CURVE.bottom);
  const points = (all?.frames.strengths ?? [])
    .map((frame, i) => [100 * all.frames.betas[i], frame.psnr === null ? null : y(frame.psnr - psnr)])
    .filter(([, at]) => at !== null);
  const line = points.map((point) => point.join(",")).join(" ");
  const shapes = [];
  if (points.length > 1) {
    const [first, last] = [points[0][0], points[points.length - 1][0]];
    shapes.push(svg("polygon", { class: "hill", points: `${first},100 ${line} ${last},100` }));
  }
  const usage = store.config.usage;
  if (usage?.strengths?.length) {
    const rows = usage.betas.map((each, i) => [each, usage.strengths[i].change]);
    rows.push([trainedStrength(), { q10: 0, q90: 0 }]);
    rows.sort((a, b) => a[0] - b[0]);
    const side = (name) => rows.map(([each, change]) => `${100 * each},${y(change[name])}`);
    shapes.push(svg("polygon", { class: "usual", points: [...side("q90"), ...side("q10").reverse()].join(" ") }));
  }
  if (points.length > 1)
    shapes.push(svg("polyline", { class: "line", points: line, "vector-effect": "non-scaling-stroke" }));
  const here = points.find(([x]) => same(x, 100 * beta));
  if (here) {
    const [x, top] = here;
    shapes.push(svg("line", { class: "here", x1: x, x2: x, y1: top, y2: 110, "vector-effect": "non-scaling-stroke" }));
  }
  find("curve").replaceChildren(...shapes);
}

const nearest = (beta) => {
  const betas = store.data("frames")?.betas;
  if (!betas) return Math.round(20 * beta) / 20;
  return betas.reduce((a, b) => (Math.abs(b - beta) < Math.abs(a - beta) ? b : a));
};
const choose = (beta) => store.set({ beta: same(beta, trainedStrength()) ? null : beta });
find("strength").addEventListener("input", (event) => choose(nearest(Number(event.target.value))));
find("strength").addEventListener("keydown", (event) => {
  const betas = store.data("frames")?.betas;
  if (!betas) return;
  const index = betas.findIndex((beta) => same(beta, nearest(strength())));
  const next = {
    ArrowLeft: index - 1,
    ArrowDown: index - 1,
    ArrowRight: index + 1,
    ArrowUp: index + 1,
    Home: 0,
    End: betas.length - 1,
  }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  choose(betas[clamp(next, 0, betas.length - 1)]);
});

// Playing: all strengths, or the layers one by one; then everything is as trained again. Who wants no motion takes steps.

const PLAYS = {
  strength: {
    name: "Play",
    pause: 420,
    total: ({ betas }) => betas.length,
    painted: ({ strengths }) => strengths.length,
    show: (i, { betas, beta }) => ({ ...AS_TRAINED, beta: same(betas[i], beta) ? null : betas[i] }),
  },
  layers: {
    name: "One by one",
    pause: 700,
    total: () => channels.length,
    painted: ({ removed }) => removed.length,
    show: (layer) => ({ ...AS_TRAINED, off: [layer] }),
  },
};
const buttons = Object.fromEntries(
  Object.keys(PLAYS).map((kind) => [kind, element.querySelector(`[data-play="${kind}"]`)]),
);
let play = null;
let moving = false; // it is the play that changes what is chosen
const steps = { strength: 0, layers: 0 };

function move(changes) {
  const news = Object.entries(changes).filter(([name, value]) => String(state[name]) !== String(value));
  moving = true;
  store.set(Object.fromEntries(news));
  moving = false;
}

function step(kind) {
  const { frames } = known();
  const { total, show } = PLAYS[kind];
  if (steps[kind] >= total(frames)) {
    steps[kind] = 0;
    move(AS_TRAINED);
    return false;
  }
  move(show(steps[kind], frames));
  steps[kind] += 1;
  return true;
}

function start(kind) {
  stop();
  const frames = known()?.frames;
  const ready = frames && PLAYS[kind].painted(frames) === PLAYS[kind].total(frames);
  if (!ready || parts.calm()) {
    if (ready) step(kind);
    store.set({ playing: false });
    return;
  }
  steps[kind] = 0;
  const next = () => {
    if (!step(kind)) {
      stop();
      return;
    }
    play.timer = setTimeout(next, PLAYS[kind].pause);
  };
  play = { kind };
  if (kind === "strength") store.set({ playing: true });
  next();
  draw();
}

function stop() {
  if (!play) return;
  clearTimeout(play.timer);
  play = null;
  store.set({ playing: false });
  draw();
}

for (const [kind, button] of Object.entries(buttons))
  button.addEventListener("click", () => (play?.kind === kind ? stop() : start(kind)));
store.on(["playing"], () => {
  if (!parts.visible(find("root"))) return;
  if (state.playing && play?.kind !== "strength") start("strength");
  else if (!state.playing && play?.kind === "strength") stop();
});
store.on(["off", "beta", "region", "photo", "view"], () => {
  hint = "";
  if (moving) return;
  steps.strength = 0;
  steps.layers = 0;
  stop();
});
document.addEventListener("pointerdown", (event) => {
  if (play && !event.target.closest("[data-play]")) stop();
});

const ICONS = { play: "M4 2.5v11l9-5.5z", stop: "M3.5 3.5h9v9h-9z" };
function drawPlays() {
  const frames = known()?.frames;
  for (const [kind, button] of Object.entries(buttons)) {
    const { name, painted, total } = PLAYS[kind];
    const runs = play?.kind === kind;
    button.disabled = !frames || painted(frames) < total(frames);
    const text = runs ? "Stop" : name;
    if (button.textContent === text) continue;
    const icon = svg("path", { d: ICONS[runs ? "stop" : "play"], fill: "currentColor" });
    button.replaceChildren(svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, icon), text);
  }
}

// The meter.

function drawMeter(frame) {
  const { question, near, far, answer, more, place } = words.meter(frame ?? {});
  find("question").textContent = question;
  find("near").textContent = near;
  find("far").textContent = far;
  find("verdict").replaceChildren(html("b", { textContent: answer }), more);
  find("meter").classList.toggle("unknown", place === null);
  if (place !== null) find("needle").style.left = `${clamp(place, 1, 99)}%`;
}

// Everything.

let said = null;
function draw() {
  if (!parts.visible(find("root"))) return;
  const routes = store.data("routes");
  const waits = store.waits("routes") || (store.photo() && !routes);
  find("root").classList.toggle("stale", Boolean(waits));
  if (!routes) {
    for (const each of [trained, changed]) each.say(waits ? "Rebuilding ..." : (store.problem("routes") ?? null));
    return;
  }
  trained.say(null);
  find("subtitle").textContent = SUBTITLE;
  const problem = store.problem("frames");
  const none = !routes.layers || (problem && !store.data("frames")?.betas);
  const frames = store.data("frames");
  if (routes.layers && !problem && !(frames?.done >= frames?.total)) store.need("frames");
  find("changed").hidden = none;
  find("desk").hidden = none;
  find("reset").hidden = none;
  const psnr = routes.metrics[best(routes)].psnr;
  score(scores.trained, psnr);
  if (none) {
    find("headline").textContent = "There is nothing to switch here.";
    find("subtitle").textContent = problem ?? "This model reads its last layer alone.";
    about.replaceChildren(...(problem ? [again] : []));
    again.hidden = false;
    return;
  }
  const now = chosen();
  if (now.waits === "intervene") ask();
  else if (!now.waits) asked = null;
  const failed = now.waits === "intervene" && asked && !store.waits("intervene") ? store.problem("intervene") : null;
  drawPanels(routes, now, failed);
  drawHeadline(routes, now, psnr);
  drawStrength({ psnr });
  drawChannels({ layers: routes.layers, psnr });
  drawPlays();
  drawProgress();
  if (now.frame) drawMeter(now.frame);
  find("meter").classList.toggle("waits", !now.frame);
  drawBrush();
}

function score(node, psnr, change = null) {
  const known = psnr !== null && psnr !== undefined;
  node.replaceChildren(
    html("b", { textContent: known ? number(psnr, 1) : "identical" }),
    ...(known ? [" ", term("dB")] : []),
    ...(change && Math.abs(change) >= 0.05 ? [` ${signedNumber(change, 1)}`] : []),
  );
}

function drawPanels(routes, now, failed) {
  const count = words.capital(words.inWords(routes.layers));
  about.textContent = `All ${count.toLowerCase()} layers, strength ${number(trainedStrength(), 2)}.`;
  changed.say(now.paint || peeks ? null : (failed ?? "Rebuilding ..."));
  changed.node.classList.toggle("failed", Boolean(failed));
  find("changed").querySelector(".tools").append(again, painted);
  again.hidden = !failed;
  paintButton.textContent = painting ? "Done" : "Paint where it applies";
  paintButton.setAttribute("aria-pressed", painting);
  sizes.hidden = !painting;
  clearButton.hidden = !state.region.length;
  saveButton.hidden = painting;
  saveButton.disabled = !now.paint;
  parts.segments(sizes, size, (value) => {
    size = Number(value);
    draw();
  });
  parts.segments(halves, peeks ? "trained" : "changed", (value) => {
    peeks = value === "trained";
    parts.redraw();
  });
  const places = routes.rows * routes.columns;
  const untouched = state.region.length && asTrained() && !state.off.length;
  painted.hidden = !state.region.length;
  painted.textContent = words.paintedPlaces(state.region.length, places) + (untouched ? " Now change something." : "");
}

function drawHeadline(routes, now, psnr) {
  const headline = find("headline");
  headline.classList.toggle("waits", !now.frame);
  if (!now.frame) return;
  score(scores.changed, now.frame.psnr, now.usual ? null : now.frame.psnr - psnr);
  const change = now.usual || now.frame.psnr === null || psnr === null ? 0 : now.frame.psnr - psnr;
  headline.textContent = words.whatIf(change, {
    off: state.off,
    beta: strength(),
    trained: trainedStrength(),
    layers: routes.layers,
    place: state.region.length ? " where you painted" : "",
  });
  const id = `${state.photo} ${wish()}`;
  if (said !== null && said !== id && !play) {
    const { question, answer } = words.meter(now.frame);
    parts.say(`${headline.textContent} ${question} ${answer}`);
  }
  said = id;
}

function drawProgress() {
  const frames = store.data("frames");
  const busy = !frames || frames.done < frames.total;
  find("progress").hidden = !busy;
  find("progress").firstElementChild.style.width = `${frames ? (100 * frames.done) / frames.total : 0}%`;
  const photos = store.config.usage?.photos;
  const legend = photos
    ? `What each layer is worth here, in dB. Box: 8 in 10 of ${words.grouped(photos)} photos.`
    : "What each layer is worth here, in dB.";
  find("legend").textContent = busy ? words.oneByOne(frames) : legend;
  find("hint").hidden = !hint;
  find("hint").textContent = hint;
}

for (const button of [find("reset"), reset])
  button.addEventListener("click", () => {
    painting = false;
    stop();
    store.set({ off: [], beta: null, region: [] });
    draw();
  });
parts.whenDrawn(draw);
store.on(["hot"], () => {
  for (const [k, { node }] of channels.entries()) node.toggleAttribute("data-hot", state.hot === k);
});
store.on(["photo"], () => {
  painting = false;
  peeks = false;
  said = null;
});
draw();
