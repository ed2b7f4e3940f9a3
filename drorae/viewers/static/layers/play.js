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
  const { frames } = latestFrames();
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
  const frames = latestFrames()?.frames;
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
  const frames = latestFrames()?.frames;
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
