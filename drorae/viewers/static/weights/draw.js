// The whole view is drawn after any change.

function look() {
  // what "this" is, once nothing is pointed at: the place that was looked at last, at first the middle
  if (state.token !== null) subject = state.token;
  if (!routes()) return;
  const { rows, columns } = routes();
  if (subject !== null && subject >= rows * columns) subject = null;
}

function setMode(value) {
  if (value === "used") {
    store.set({ like: null });
    return;
  }
  if (state.token === null && routes()) {
    const { rows, columns } = routes();
    store.set({ token: Math.floor(rows / 2) * columns + Math.floor(columns / 2), pinned: true });
  }
  chooseLike(String(state.layer + 1));
}

function aim() {
  const tokens = state.like === null ? parts.selection() : subject === null ? null : [subject];
  for (const map of made) if (map.node.isConnected) map.aim(tokens);
}

function drawHot() {
  for (const [k, { node }] of made.entries()) node.toggleAttribute("data-hot", k === state.hot);
}

let before = "";
function draw() {
  if (!parts.visible(root)) return;
  parts.segments(find("mode"), state.like === null ? "used" : "like", setMode);
  const about = routes();
  const waits = store.waits("routes") || (store.photo() && !about);
  const fused = Boolean(about?.shares);
  root.classList.toggle("stale", Boolean(waits));
  large.say(waits ? "Rebuilding ..." : (store.problem("routes") ?? null));
  const used = state.like === null;
  find("stage").hidden = Boolean(about) && !fused && used;
  find("below").hidden = !used || !fused;
  cardName.textContent = used ? "In numbers, at this place" : `Alike: a cosine of ${ALIKE} or more`;
  card.classList.toggle("alike", !used);
  equation.hidden = !used;
  remark.hidden = !used;
  counts.hidden = used;
  figureBeside.hidden = used || !state.second;
  root.toggleAttribute("data-second", !used && Boolean(state.second));
  if (!about) return;
  look();
  if (!used && !mapNames().includes(state.like)) {
    store.set({ like: mapNames()[0] });
    return;
  }
  if (used !== before) cap.replaceChildren();
  before = used;
  if (!used) {
    if (state.second && !store.problem("routes", state.second)) store.need("routes", {}, state.second);
    drawLike();
    ask();
  } else if (fused) {
    drawUse();
    if (find("more").open) drawMore();
  } else {
    find("headline").textContent = RAE;
    find("subtitle").textContent = "What resembles a place can be asked of any encoder.";
  }
  drawColumn();
  aim();
  drawHot();
}
