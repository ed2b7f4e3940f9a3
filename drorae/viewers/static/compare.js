// Compare viewer: all routes of one picture. Every view switches locally; the value came in one piece.

const state = { value: null, left: "rae", right: "drorae", position: 50, gain: "drorae", limit: 1, harmedOnly: false, mark: null, pixel: null };
element.__compare = state;

const titleOf = (name) => (name === "original" ? "Original" : state.value.routes.find((r) => r.name === name).title);
const pictureOf = (name) =>
  name === "original" ? state.value.original : state.value.routes.find((r) => r.name === name).picture;
const decibel = (value) => (value === null ? "identical" : value.toFixed(2));

function drawHeadline() {
  const [base, ...others] = state.value.routes;
  const change = (route) => {
    const strong = document.createElement("strong");
    const known = route.metrics.psnr !== null && base.metrics.psnr !== null;
    strong.textContent = known ? `${signed(route.metrics.psnr - base.metrics.psnr, 1)} dB` : "an exact copy";
    return strong;
  };
  const start = base.metrics.psnr === null ? "exactly" : `at ${base.metrics.psnr.toFixed(1)} dB`;
  const parts = [`The encoder's last layer alone rebuilds this picture ${start}.`];
  const [phase2, finetuned] = ["phase2", "drorae"].map((name) => others.find((route) => route.name === name));
  if (phase2) parts.push(` Reading all ${state.value.layers} layers: `, change(phase2), " with the very same decoder");
  if (finetuned) parts.push(", ", change(finetuned), " once the decoder is finetuned");
  if (phase2) parts.push(".");
  find("headline").replaceChildren(...parts);
}

function drawPanels() {
  const panels = [{ name: "original", title: "Original", explanation: "what the encoder was shown" }, ...state.value.routes];
  find("panels").replaceChildren(
    ...panels.map((panel) => {
      const figure = document.createElement("figure");
      figure.dataset.route = panel.name;
      const frame = document.createElement("div");
      frame.className = "frame";
      const picture = document.createElement("img");
      picture.className = "pixels";
      picture.src = pictureOf(panel.name);
      picture.alt = panel.title;
      const marker = document.createElement("div");
      marker.className = "marker";
      frame.append(picture, marker);
      const caption = document.createElement("figcaption");
      const title = document.createElement("b");
      title.textContent = panel.title;
      const numbers = document.createElement("span");
      numbers.className = "numbers";
      if (panel.metrics) numbers.textContent = `${decibel(panel.metrics.psnr)} dB · SSIM ${panel.metrics.ssim.toFixed(3)}`;
      const small = document.createElement("span");
      small.className = "small";
      small.textContent = panel.explanation;
      caption.append(title, numbers, small);
      figure.append(frame, caption);
      return figure;
    }),
  );
}

// The same square is marked on every panel, so that one detail can be followed through the routes.
function mark(place) {
  state.mark = place;
  find("panels").querySelectorAll(".marker").forEach((marker) => putMarker(marker, place));
}

// Put a marker at a place, in percent of the picture; without one it is not shown.
function putMarker(marker, place) {
  marker.style.display = place ? "block" : "none";
  if (place) [marker.style.left, marker.style.top] = place.map((percent) => `${percent}%`);
}

function pointAt(event) {
  const frame = event.target.closest(".frame");
  if (!frame || event.type === "pointerleave") {
    mark(null);
    return;
  }
  const box = frame.getBoundingClientRect();
  mark([((event.clientX - box.left) / box.width) * 100, ((event.clientY - box.top) / box.height) * 100]);
}

// The place that an arrow key leads to, from 0 to `end` on both axes; null for other keys.
function stepped(event, [x, y], by, end) {
  const move = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] }[event.key];
  if (!move || event.ctrlKey || event.metaKey || event.altKey) return null;
  event.preventDefault();
  return [x + move[0], y + move[1]].map((at, axis) => Math.max(0, Math.min(end[axis], at)));
}

function pressPanels(event) {
  if (event.key === "Escape") mark(null);
  const place = stepped(event, state.mark || [50, 50], 5, [100, 100]);
  if (place) mark(place);
}

function drawSlider() {
  const names = ["original", ...state.value.routes.map((r) => r.name)];
  if (!names.includes(state.left)) state.left = names[0];
  if (!names.includes(state.right)) {
    state.right = names[names.length - 1];
    if (state.left === state.right) state.left = names[0];
  }
  for (const side of ["left", "right"]) {
    find(side).replaceChildren(
      ...names.map((name) => new Option(titleOf(name), name, name === state[side], name === state[side])),
    );
    find(side).value = state[side];
  }
  find("before").src = pictureOf(state.left);
  find("after").src = pictureOf(state.right);
  find("before").alt = `left of the line: ${titleOf(state.left)}`;
  find("after").alt = `right of the line: ${titleOf(state.right)}`;
  moveLine();
}

function moveLine() {
  find("position").value = state.position;
  const words = [`${state.position} % ${titleOf(state.left)}`, `${100 - state.position} % ${titleOf(state.right)}`];
  find("position").setAttribute("aria-valuetext", words.join(", "));
  find("line").style.left = `${state.position}%`;
  find("before").style.clipPath = `inset(0 ${100 - state.position}% 0 0)`;
}

function drawGain() {
  const routes = state.value.routes.filter((r) => r.gain);
  find("gain-card").style.display = routes.length ? "" : "none";
  if (!routes.length) return;
  if (!routes.some((r) => r.name === state.gain)) state.gain = routes[routes.length - 1].name;
  // one scale for both maps, so that switching compares them
  const maps = routes.map((r) => Float32Array.from(new Int16Array(decodeBase64(r.gain.map)), (sum) => sum / 3));
  state.limit = Math.max(...maps.map((map) => robustLimit(map, 0.01)));
  const at = routes.findIndex((r) => r.name === state.gain);
  const { width, height } = state.value;
  const shown = (v) => (state.harmedOnly ? Math.min(0, v) : v) / state.limit;
  paintMap(find("gain"), maps[at].map(shown), width, height, "gain");
  state.map = maps[at];
  find("harmed-only").setAttribute("aria-pressed", state.harmedOnly);

  const { gain, title } = routes[at];
  const percent = (share) => `${(100 * share).toFixed(0)} %`;
  const summary = `${title}: ${percent(gain.improved)} of the pixels improved, ${percent(gain.harmed)} harmed`;
  find("gain").setAttribute("aria-label", `Gain map. ${summary}. Arrow keys read single pixels.`);
  find("gain-low").textContent = `harmed \u2212${state.limit.toFixed(0)}`;
  find("gain-high").textContent = `+${state.limit.toFixed(0)} improved`;
  find("gain-ramp").style.background = gradient("gain");
  state.summary = `${summary}; on average ${signed(gain.mean, 1)} of 255 levels.`;
  readPixel(null);
  replace(
    find("gain-choices"),
    routes.map((route) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = route.title;
      button.setAttribute("aria-pressed", route.name === state.gain);
      button.onclick = () => { state.gain = route.name; drawGain(); say(state.summary); };
      return button;
    }),
  );
}

function pointGain(event) {
  if (!state.map) return;
  if (event.type === "pointerleave") {
    readPixel(null);
    return;
  }
  const box = find("gain").getBoundingClientRect();
  const { width, height } = state.value;
  const at = (offset, length, count) => Math.max(0, Math.min(count - 1, Math.floor((offset / length) * count)));
  readPixel([at(event.clientX - box.left, box.width, width), at(event.clientY - box.top, box.height, height)]);
}

function pressGain(event) {
  if (!state.map) return;
  const { width, height } = state.value;
  const middle = [Math.floor(width / 2), Math.floor(height / 2)];
  const pixel = stepped(event, state.pixel || middle, event.shiftKey ? 8 : 1, [width - 1, height - 1]);
  if (event.key === "Escape") readPixel(null);
  if (!pixel) return;
  readPixel(pixel);
  putMarker(find("pixel"), pixel.map((at, axis) => ((at + 0.5) / [width, height][axis]) * 100)); // the mouse has its own
  say(find("gain-shares").textContent);
}

// Say what became of a pixel; without one, of all.
function readPixel(pixel) {
  state.pixel = pixel;
  putMarker(find("pixel"), null);
  if (!pixel) {
    find("gain-shares").textContent = state.summary;
    return;
  }
  const [x, y] = pixel;
  const gain = state.map[y * state.value.width + x];
  const change = gain === 0 ? "as far from the original as before" : `${Math.abs(gain).toFixed(1)} of 255 levels ${gain > 0 ? "closer to" : "farther from"} the original`;
  find("gain-shares").textContent = `Pixel ${x}, ${y}: ${change}`;
}

function drawTable() {
  const base = state.value.routes[0].metrics;
  const cell = (value, digits, reference) => {
    const td = document.createElement("td");
    td.append(value === null ? "identical" : value.toFixed(digits));
    if (reference !== undefined && value !== null && reference !== null) {
      const delta = document.createElement("span");
      delta.className = "delta";
      delta.textContent = signed(value - reference, digits);
      td.append(delta);
    }
    return td;
  };
  find("rows").replaceChildren(
    ...state.value.routes.map((route, i) => {
      const row = document.createElement("tr");
      row.dataset.route = route.name;
      const head = document.createElement("th");
      head.scope = "row";
      const small = document.createElement("span");
      small.className = "small";
      small.textContent = route.explanation;
      head.append(route.title, small);
      const m = route.metrics;
      row.append(
        head,
        cell(m.psnr, 2, i ? base.psnr : undefined),
        cell(m.ssim, 3, i ? base.ssim : undefined),
        cell(m.mae, 2, i ? base.mae : undefined),
      );
      return row;
    }),
  );
}

function load() {
  state.value = props.value;
  find("root").hidden = !state.value;
  if (!state.value) return;
  setShape(state.value.width, state.value.height);
  drawHeadline();
  drawPanels();
  drawSlider();
  drawGain();
  drawTable();
}

for (const kind of ["pointerdown", "pointermove", "pointerleave"]) {
  find("panels").addEventListener(kind, pointAt);
  find("gain").addEventListener(kind, pointGain);
}
find("panels").addEventListener("keydown", pressPanels);
find("panels").addEventListener("blur", () => mark(null));
find("gain").addEventListener("keydown", pressGain);
find("gain").addEventListener("blur", () => { if (state.map) readPixel(null); });
find("harmed-only").addEventListener("click", () => { state.harmedOnly = !state.harmedOnly; drawGain(); });
find("position").addEventListener("input", (event) => { state.position = Number(event.target.value); moveLine(); });
for (const side of ["left", "right"]) {
  find(side).addEventListener("change", (event) => { state[side] = event.target.value; drawSlider(); });
}
watch("value", load);
load();
