// The whole view is drawn after any change.

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
    again.hidden = Boolean(store.config.report);
    return;
  }
  const now = choice();
  if (now.waits === "intervene") ask();
  else if (!now.waits) asked = null;
  const failed = now.waits === "intervene" && asked && !store.waits("intervene") ? store.problem("intervene") : null;
  drawPanels(routes, now, failed);
  drawHeadline(routes, now, psnr);
  drawStrength({ psnr });
  drawChannels({ layers: routes.layers, psnr });
  drawPlays();
  drawProgress();
  const known = now.frame && (now.frame.verdict || frames?.done >= frames?.total); // until then nobody knows
  if (known) drawMeter(now.frame);
  find("meter").classList.toggle("waits", !known);
  drawBrush();
}

function score(node, psnr, change = null) {
  const known = psnr !== null && psnr !== undefined;
  const more = change && Math.abs(change) >= 0.05 ? ` ${signedNumber(change, 1)}` : "";
  parts.drawOnce(node, `${psnr}${more}`, () => [
    html("b", { textContent: known ? number(psnr, 1) : "identical" }),
    ...(known ? [" ", term("dB")] : []),
    more,
  ]);
}

function drawPanels(routes, now, failed) {
  const count = words.capital(words.inWords(routes.layers));
  about.textContent = `All ${count.toLowerCase()} layers, strength ${number(trainedStrength(), 2)}.`;
  changed.say(now.paint || peeks ? null : (failed ?? "Rebuilding ..."));
  changed.node.classList.toggle("failed", Boolean(failed));
  find("changed").querySelector(".tools").append(again, painted);
  again.hidden = !failed || Boolean(store.config.report); // there nobody answers
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
  const id = `${store.mark()} ${wish()}`;
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
  if (busy) parts.drawOnce(find("legend"), words.oneByOne(frames), () => [words.oneByOne(frames)]);
  else {
    const box = photos ? ` Box: 8 in 10 of ${words.groupDigits(photos)} photos.` : "";
    parts.drawOnce(find("legend"), box, () => ["What each layer is ", term("worth"), ` here, in dB.${box}`]);
  }
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
