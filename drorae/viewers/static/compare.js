// Compare viewer: all routes of one picture. Every view switches locally; the value came in one piece.

const { cellUnder, find, htmlNode, paintMap, replace, say, setShape } = shared;
const { clamp, decibel, decodeBase64, gradient, number, percent, robustLimit, signedNumber } = lib;

const state = {
  value: null,
  left: "rae",
  right: "drorae",
  position: 50,
  gain: "drorae",
  limit: 1,
  harmedOnly: false,
  mark: null,
  pixel: null,
};
element.__compare = state;

const titleOf = (name) => (name === "original" ? "Original" : state.value.routes.find((r) => r.name === name).title);
const pictureOf = (name) =>
  name === "original" ? state.value.original : state.value.routes.find((r) => r.name === name).picture;
const small = (text) => htmlNode("span", { className: "small", textContent: text });

function drawHeadline() {
  const [base, ...others] = state.value.routes;
  const change = (route) => {
    const known = route.metrics.psnr !== null && base.metrics.psnr !== null;
    const text = known ? `${signedNumber(route.metrics.psnr - base.metrics.psnr, 1)} dB` : "an exact copy";
    return htmlNode("strong", { textContent: text });
  };
  const start = base.metrics.psnr === null ? "exactly" : `at ${number(base.metrics.psnr, 1)} dB`;
  const parts = [`The encoder's last layer alone rebuilds this picture ${start}.`];
  const [phase2, finetuned] = ["phase2", "drorae"].map((name) => others.find((route) => route.name === name));
  if (phase2) parts.push(` Reading all ${state.value.layers} layers: `, change(phase2), " with the very same decoder");
  if (finetuned) parts.push(", ", change(finetuned), " once the decoder is finetuned");
  if (phase2) parts.push(".");
  find("headline").replaceChildren(...parts);
}

function drawPanels() {
  const original = { name: "original", title: "Original", explanation: "what the encoder was shown" };
  find("panels").replaceChildren(
    ...[original, ...state.value.routes].map(({ name, title, explanation, metrics }) => {
      const numbers = metrics ? `${decibel(metrics.psnr)} · SSIM ${number(metrics.ssim, 3)}` : "";
      return htmlNode("figure", { "data-route": name }, [
        htmlNode("div", { className: "frame" }, [
          htmlNode("img", { className: "pixels", src: pictureOf(name), alt: title }),
          htmlNode("div", { className: "marker" }),
        ]),
        htmlNode("figcaption", {}, [
          htmlNode("b", { textContent: title }),
          htmlNode("span", { className: "numbers", textContent: numbers }),
          small(explanation),
        ]),
      ]);
    }),
  );
}

// The same square is marked on every panel, so that one detail can be followed through the routes.
function mark(place) {
  state.mark = place;
  for (const marker of find("panels").querySelectorAll(".marker")) putMarker(marker, place);
}

// Put a marker at a place, in percent of the picture; without one it is not shown.
function putMarker(marker, place) {
  marker.style.display = place ? "block" : "none";
  if (place) [marker.style.left, marker.style.top] = place.map((at) => `${at}%`);
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
function stepFrom([x, y], event, by, end) {
  const move = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] }[event.key];
  if (!move || event.ctrlKey || event.metaKey || event.altKey) return null;
  event.preventDefault();
  return [x + move[0], y + move[1]].map((at, axis) => clamp(at, 0, end[axis]));
}

function pressPanels(event) {
  if (event.key === "Escape") mark(null);
  const place = stepFrom(state.mark || [50, 50], event, 5, [100, 100]);
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
  const visible = (v) => (state.harmedOnly ? Math.min(0, v) : v) / state.limit;
  paintMap(find("gain"), maps[at].map(visible), width, height, "gain");
  state.map = maps[at];
  find("harmed-only").setAttribute("aria-pressed", state.harmedOnly);

  const { gain, title } = routes[at];
  const summary = `${title}: ${percent(gain.improved)} of the pixels improved, ${percent(gain.harmed)} harmed`;
  find("gain").setAttribute("aria-label", `Gain map. ${summary}. Arrow keys read single pixels.`);
  find("gain-low").textContent = `harmed ${number(-state.limit, 0)}`;
  find("gain-high").textContent = `${signedNumber(state.limit, 0)} improved`;
  find("gain-ramp").style.background = gradient("gain");
  state.summary = `${summary}; on average ${signedNumber(gain.mean, 1)} of 255 levels.`;
  readPixel(null);
  replace(
    find("gain-choices"),
    routes.map((route) =>
      htmlNode("button", {
        type: "button",
        textContent: route.title,
        "aria-pressed": route.name === state.gain,
        onclick: () => {
          state.gain = route.name;
          drawGain();
          say(state.summary);
        },
      }),
    ),
  );
}

function pointGain(event) {
  if (!state.map) return;
  const { width, height } = state.value;
  const away = event.type === "pointerleave";
  readPixel(away ? null : cellUnder(find("gain"), event, { rows: height, columns: width }));
}

function pressGain(event) {
  if (!state.map) return;
  const { width, height } = state.value;
  const middle = [Math.floor(width / 2), Math.floor(height / 2)];
  const pixel = stepFrom(state.pixel || middle, event, event.shiftKey ? 8 : 1, [width - 1, height - 1]);
  if (event.key === "Escape") readPixel(null);
  if (!pixel) return;
  readPixel(pixel);
  const place = pixel.map((at, axis) => ((at + 0.5) / [width, height][axis]) * 100);
  putMarker(find("pixel"), place); // the mouse has its own
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
  const change =
    gain === 0
      ? "as far from the original as before"
      : `${number(Math.abs(gain), 1)} of 255 levels ${gain > 0 ? "closer to" : "farther from"} the original`;
  find("gain-shares").textContent = `Pixel ${x}, ${y}: ${change}`;
}

function drawTable() {
  const base = state.value.routes[0].metrics;
  const cell = (value, digits, reference) => {
    const known = reference !== undefined && value !== null && reference !== null;
    const delta = () => htmlNode("span", { className: "delta", textContent: signedNumber(value - reference, digits) });
    return htmlNode("td", {}, [value === null ? "identical" : number(value, digits), ...(known ? [delta()] : [])]);
  };
  find("rows").replaceChildren(
    ...state.value.routes.map(({ name, title, explanation, metrics }, i) =>
      htmlNode("tr", { "data-route": name }, [
        htmlNode("th", { scope: "row" }, [title, small(explanation)]),
        cell(metrics.psnr, 2, i ? base.psnr : undefined),
        cell(metrics.ssim, 3, i ? base.ssim : undefined),
        cell(metrics.mae, 2, i ? base.mae : undefined),
      ]),
    ),
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
find("gain").addEventListener("blur", () => {
  if (state.map) readPixel(null);
});
find("harmed-only").addEventListener("click", () => {
  state.harmedOnly = !state.harmedOnly;
  drawGain();
});
find("position").addEventListener("input", (event) => {
  state.position = Number(event.target.value);
  moveLine();
});
for (const side of ["left", "right"]) {
  find(side).addEventListener("change", (event) => {
    state[side] = event.target.value;
    drawSlider();
  });
}
watch("value", load);
load();
