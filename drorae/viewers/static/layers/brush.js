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
