// Picture: the photo, what the last layer keeps, and what all layers keep. Below: where fusion helped and where it harmed.

const { LEVELS, drawOnce, html, panel, term } = parts;
const { clamp, gainMap, gradient, number, percent, divergingPixels } = lib;
const { state } = store;
const find = (name) => element.querySelector(`[data-part="${name}"]`);

const best = parts.lastRoute;
const third = () => {
  const routes = store.data("routes");
  return routes && (routes.pictures[state.decoder] ? state.decoder : best(routes));
};
const put = (name) => (context, width, height) => {
  const picture = name() && parts.route(name());
  if (!picture) return false;
  context.drawImage(picture, 0, 0, width, height);
  return true;
};

const photo = panel({ label: "Your photo", full: "original", paint: put(() => "original") });
const last = panel({ label: "Last layer only", full: "rae", paint: put(() => "rae") });
const all = panel({ label: "All layers", full: "drorae", paint: put(third), over: put(() => "rae") });
photo.name = "photo";
last.name = "last-layer";
all.name = "all-layers";

const handle = html("div", {
  className: "handle",
  role: "slider",
  tabIndex: 0,
  "aria-label": "Pull the last layer over it",
  "aria-valuemin": 0,
  "aria-valuemax": 100,
});
all.node.append(handle);
const split = (value) => {
  store.set({ split: clamp(value, 0, 100) });
  if (state.split > 30 && state.step === 1) store.set({ step: 2 });
};
handle.addEventListener("pointerdown", (event) => {
  handle.setPointerCapture(event.pointerId);
  handle.held = true;
  parts.release();
});
handle.addEventListener("pointermove", (event) => {
  if (!handle.held) return;
  const box = all.node.getBoundingClientRect();
  split((100 * (event.clientX - box.left)) / box.width);
});
for (const kind of ["pointerup", "pointercancel"])
  handle.addEventListener(kind, () => {
    handle.held = false;
  });
handle.addEventListener("keydown", (event) => {
  const move = { ArrowLeft: -5, ArrowRight: 5, Home: -100, End: 100 }[event.key];
  if (!move) return;
  event.preventDefault();
  split(state.split + move);
});

// Which part of the photo is shown: on the photo, and on a phone, where that is small, under the result.
const crops = [0, 1].map(() => ({
  move: html("button", { type: "button", className: "quiet", textContent: "move the crop" }),
  turn: html("button", { type: "button", className: "quiet" }),
}));
const decoders = html("span", { className: "seg mini", role: "group", "aria-label": "Decoder" }, [
  html("button", {
    type: "button",
    value: "phase2",
    textContent: "same decoder",
    title: "The decoder that never saw this mix",
  }),
  html("button", {
    type: "button",
    value: "drorae",
    textContent: "retrained",
    title: "The decoder trained on this mix",
  }),
]);
const halves = html("div", { className: "seg half", role: "group", "aria-label": "What is shown" }, [
  html("button", { type: "button", value: "100", textContent: "Last layer" }),
  html("button", { type: "button", value: "50", textContent: "Half and half" }),
  html("button", { type: "button", value: "0", textContent: "All layers" }),
]);
const narrow = window.matchMedia("(max-width: 760px)");
if (narrow.matches) store.set({ split: 50 }); // there the third panel is the only one: half and half tells the story
const scores = { rae: html("span", { className: "score" }), all: html("span", { className: "score" }) };
const names = { all: html("span"), last: html("span", { className: "lastname" }) };
const notes = {
  photo: html("div", { className: "note" }),
  rae: html("div", { className: "note" }),
  all: html("div", { className: "note" }, html("div", { className: "sure" })),
};
const bars = html("aside", { className: "insp", "aria-label": "Weights" });
const upright = html("div", { className: "upright", "aria-hidden": "true" });

find("stage").append(
  html("figure", { className: "fig" }, [
    html("figcaption", {}, ["Your photo", html("span", { className: "right" }, Object.values(crops[0]))]),
    photo.node,
    notes.photo,
  ]),
  html("figure", { className: "fig" }, [html("figcaption", {}, ["Last layer only", scores.rae]), last.node, notes.rae]),
  html("figure", { className: "fig third" }, [
    html("figcaption", {}, [names.last, names.all, html("span", { className: "right" }, [decoders, scores.all])]),
    all.node,
    halves,
    html("div", { className: "parts" }, Object.values(crops[1])),
    notes.all,
    upright,
  ]),
  bars,
);
notes.rae.append("What a ", term("RAE"), " keeps. The colours and edges are faint in there; the decoder has to guess.");

// The maps of gain, computed from the pictures that are shown.
let gains = null;
function gainsNow() {
  const name = third();
  const [original, rae, shown] = [parts.route("original"), parts.route("rae"), name && parts.route(name)];
  if (!original || !rae || !shown || name === "rae") return null;
  if (gains?.original !== original || gains.shown !== shown) {
    const photo = parts.pixels(original);
    const map = gainMap(photo, parts.pixels(rae), parts.pixels(shown));
    const [closer, farther] = [map.filter((value) => value > 0), map.filter((value) => value < 0)];
    const mean = (values) =>
      values.length ? values.reduce((sum, value) => sum + Math.abs(value), 0) / values.length : null;
    gains = {
      ...{ original, shown, map, photo },
      ...{ helped: closer.length / map.length, harmed: farther.length / map.length },
      ...{ better: mean(closer), worse: mean(farther) },
    };
  }
  return gains;
}
const helpedMap = panel({
  label: "Where it helped and where it harmed",
  paint(context, width, height) {
    const now = gainsNow();
    if (!now) return false;
    const dark = parts.dark();
    context.putImageData(new ImageData(divergingPixels("gain", now.map, LEVELS, dark), width, height), 0, 0);
    return true;
  },
});
const harmedMap = panel({
  label: "Harmed pixels only",
  paint(context, width, height) {
    const now = gainsNow();
    if (!now) return false;
    const dark = parts.dark();
    const [strong, most] = [dark ? [235, 120, 255] : [140, 0, 175], 20];
    const data = context.createImageData(width, height);
    now.map.forEach((value, i) => {
      const light = (now.photo[4 * i] + now.photo[4 * i + 1] + now.photo[4 * i + 2]) / 3;
      const grey = dark ? 40 + light * 0.32 : 150 + light * 0.36;
      const share = value < 0 ? Math.min(1, 0.55 - value / most) : 0;
      data.data.set([...strong.map((channel) => grey + share * (channel - grey)), 255], 4 * i);
    });
    context.putImageData(data, 0, 0);
    return true;
  },
});
helpedMap.name = "gain";
harmedMap.name = "harmed";
const ramp = html("span", { className: "ramp" });
const share = { helped: html("span", { className: "score" }), harmed: html("span", { className: "score" }) };
const pixel = html("div", { className: "note" });
const bands = html("div", { className: "bands num" });
find("maps").append(
  html("figure", { className: "fig" }, [
    html("figcaption", {}, ["Helped or harmed", share.helped]),
    helpedMap.node,
    html("div", { className: "rampkey" }, [
      `\u2212${LEVELS}`,
      ramp,
      `+${LEVELS} of 255 levels, the same for every photo`,
    ]),
  ]),
  html("figure", { className: "fig" }, [
    html("figcaption", {}, ["Harmed pixels only", share.harmed]),
    harmedMap.node,
    pixel,
  ]),
  html("figure", { className: "fig" }, [
    html("figcaption", {}, "What came back, by size of detail"),
    bands,
    html("div", {
      className: "note",
      textContent:
        "Share of the last layer's error that is gone, by size of detail in pixels. Line: with the same decoder.",
    }),
  ]),
);

// The photo itself, until it is there as the encoder is shown it.
const ahead = html("img", { className: "ahead", alt: "", hidden: true });
photo.node.append(ahead);

const decibels = (psnr) => (psnr === null ? "identical" : `${number(psnr, 1)} dB`);

function aboutPhoto({ width, height, notes: done }) {
  const parts_ = [];
  const size = `${width} \u00d7 ${height}`;
  if (!done) return `The photo, at the ${size} pixels the encoder is shown.`;
  if (done.crop && done.width !== done.height) {
    const kept = Math.round((100 * Math.min(done.width, done.height)) / Math.max(done.width, done.height));
    parts_.push(`${kept} % of the photo, at the ${size} pixels the encoder is shown.`);
  } else if (done.width !== done.height) parts_.push(`All of the photo, at the ${size} pixels the encoder is shown.`);
  else parts_.push(`The photo, at the ${size} pixels the encoder is shown.`);
  if (done.enlarged) parts_.push(`It was enlarged ${number(done.enlarged, 1)} times.`);
  if (done.flattened) parts_.push("What was transparent is white.");
  if (store.config.precision === "bf16")
    parts_.push("Computed in bf16: the numbers differ a little from those in fp32.");
  return parts_.join(" ");
}

function draw() {
  if (!parts.visible(find("root"))) return;
  const routes = store.data("routes");
  const waits = store.waits("routes") || (store.photo() && !routes);
  find("root").classList.toggle("stale", Boolean(waits));
  ahead.hidden = !waits || Boolean(routes) || !store.photo().thumbnail;
  if (!ahead.hidden) ahead.src = store.photo().thumbnail; // of an own photo all of it
  const problem = store.problem("routes");
  for (const each of [last, all]) each.say(waits ? "Rebuilding ..." : (problem ?? null));
  if (!routes) return;
  const { layers, metrics } = routes;
  const name = third();
  find("headline").textContent = words.headline(parts.gain(undefined, name), layers);
  const count = words.inWords(layers);
  drawOnce(find("subtitle"), String(layers), () => [
    `A frozen vision encoder sees your photo in ${layers || store.config.layers} layers. Most `,
    term("tokenizer", "tokenizers"),
    " keep only the last. DRoRAE weighs all of them, place by place.",
  ]);
  names.last.replaceChildren(
    "Last layer ",
    html("span", { className: "score", textContent: decibels(metrics.rae.psnr) }),
  );
  names.all.textContent = layers ? `All ${count} layers` : "All layers";
  const score = (node, psnr) =>
    drawOnce(node, String(psnr), () => [
      html("b", { textContent: psnr === null ? "identical" : number(psnr, 1) }),
      ...(psnr === null ? [] : [" ", term("dB")]),
    ]);
  score(scores.rae, metrics.rae.psnr);
  find("stage").querySelector(".third").hidden = !name;
  if (name) score(scores.all, metrics[name].psnr);
  decoders.hidden = !(routes.pictures.phase2 && routes.pictures.drorae);
  parts.segments(decoders, name, (value) => store.set({ decoder: value }));
  parts.segments(halves, Math.round(state.split / 50) * 50, (value) => store.set({ split: Number(value) }));
  notes.photo.textContent = aboutPhoto(routes);
  drawCrops(routes.notes);
  parts.drawStanding(notes.all.querySelector(".sure"), name);
  drawBars();
  handle.style.setProperty("--at", `${state.split}%`);
  handle.setAttribute("aria-valuenow", Math.round(state.split));
  const original = parts.route("original");
  if (original) {
    const small = find("small");
    small.width = 168;
    small.height = 168;
    const side = Math.min(routes.width, routes.height);
    const [left, top] = [(routes.width - side) / 2, (routes.height - side) / 2];
    small.getContext("2d").drawImage(original, left, top, side, side, 0, 0, 168, 168);
  }
  const now = gainsNow();
  find("helped").closest(".below").hidden = !now;
  if (now) {
    ramp.style.background = gradient("gain", parts.dark());
    share.helped.replaceChildren(html("b", { textContent: percent(now.helped) }), " closer");
    share.harmed.replaceChildren(html("b", { textContent: percent(now.harmed) }), " harmed");
    parts.drawBands(bands, routes);
    drawPixel();
  }
  drawSecond();
  for (const name of ["how", "how-below"]) parts.ways(find(name));
  if (original && parts.route("rae") && !swept) {
    swept = true;
    whenIdle(sweep);
  }
}

// A photo that is not square has a part that is left out, and where the model can, it is shown whole.
function drawCrops(notes) {
  const long = Boolean(notes) && notes.width !== notes.height;
  for (const { move, turn } of crops) {
    move.hidden = !long || !notes.crop;
    turn.hidden = !long || !store.config.whole;
    turn.textContent = notes?.crop ? "whole photo" : "a square of it";
    turn.title = notes?.crop ? "Show the encoder all of the photo" : "Show the encoder a square of the photo";
  }
}

function drawBars() {
  parts.drawBars(bars);
  if (narrow.matches) parts.drawUpright(upright);
}

function aboutHarm({ better, worse }) {
  const levels = (value) => `${number(value, 1)} of 255 levels`;
  const how = [
    ...(worse === null ? [] : [`Where it harmed, by ${levels(worse)} on average`]),
    ...(better === null ? [] : [`where it helped, by ${worse === null ? levels(better) : number(better, 1)}`]),
  ].join("; ");
  const touch = window.matchMedia("(hover: none)").matches;
  return `${how && `${words.capital(how)}. `}${touch ? "Tap" : "Point at"} a pixel to read it.`;
}

function drawPixel() {
  const now = gainsNow();
  const known = parts.shape();
  if (!now || !known) return;
  if (!state.pixel) {
    // a finger that is lifted points no more; what it read stays as long as its place is pinned
    if (!(state.pinned && pixel.dataset.token === String(state.token))) pixel.textContent = aboutHarm(now);
    return;
  }
  pixel.dataset.token = state.token;
  const [x, y] = state.pixel.map(Math.floor);
  const value = now.map[y * known.width + x];
  const change =
    value === 0
      ? "as far from the photo as before"
      : `${number(Math.abs(value), 1)} of 255 levels ${value > 0 ? "closer" : "farther"}`;
  pixel.textContent = `Pixel ${x}, ${y}: ${change}.`;
}

// A second photo of the tray beside the first.
const others = ["original", "rae", "drorae"].map((name) =>
  html("canvas", { className: "px", role: "img", "aria-label": `The second photo, ${name}` }),
);
function drawSecond() {
  const routes = state.second && store.data("routes", state.second);
  find("second").hidden = !state.second;
  if (!state.second) return;
  const about = store.photo(state.second);
  const value = parts.gain(state.second);
  const figures = ["original", "rae", routes ? best(routes) : "drorae"].map((name, i) => {
    const picture = routes && parts.route(name, state.second);
    if (picture) {
      others[i].width = routes.width;
      others[i].height = routes.height;
      others[i].getContext("2d").drawImage(picture, 0, 0);
    }
    others[i].style.cssText =
      "width:100%;aspect-ratio:1;object-fit:contain;border-radius:var(--r);background:var(--fill)";
    const score = routes?.metrics[name] ? `${number(routes.metrics[name].psnr, 1)} dB` : "";
    return html("figure", { className: "fig" }, [
      html("figcaption", {}, [
        [about?.name, "Last layer only", "All layers"][i] ?? "",
        html("span", { className: "score", textContent: score }),
      ]),
      others[i],
    ]);
  });
  const [strong, rest] = value === null ? ["", ""] : words.certainty(value);
  find("second").replaceChildren(
    html("h2", {}, [
      `Beside it: ${about?.name ?? ""}. `,
      html("span", { className: "soft", textContent: strong + rest }),
    ]),
    html("div", { className: "pair" }, figures),
  );
}

// On the first visit the handle moves once, so that one sees that it does. It waits for the page to be at rest.
let swept = false;
const whenIdle = (call) =>
  window.requestIdleCallback ? requestIdleCallback(call, { timeout: 3000 }) : setTimeout(call, 500); // Safari has none
function sweep() {
  if (parts.calm() || localStorage.getItem("drorae-seen") || store.framed) return;
  localStorage.setItem("drorae-seen", "1");
  const [started, before] = [performance.now(), state.split];
  const reach = before > 35 ? -35 : 35;
  const step = (now) => {
    const t = (now - started) / 1200;
    if (handle.held || t >= 1) {
      if (!handle.held) store.set({ split: before });
      return;
    }
    store.set({ split: before + reach * Math.sin(Math.PI * t) });
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

for (const { move, turn } of crops) {
  move.addEventListener("click", () => store.set({ cropping: state.photo }));
  turn.addEventListener("click", () => store.crop(state.photo, { whole: !store.photo().whole }));
}
find("thumb").addEventListener("click", () => store.set({ choose: Date.now() }));
parts.whenDrawn(draw);
store.on(["token", "pinned", "hot", "area", "against"], drawBars);
store.on(["pixel", "pinned"], drawPixel);
store.on(["photo", "data"], () => {
  if (store.data("routes")?.shares && !store.problem("standing")) store.need("standing");
});
draw();
