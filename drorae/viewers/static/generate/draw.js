// The whole view is drawn after any change.

const NAMES = { cfg: "classifier-free guidance", autoguidance: "AutoGuidance" };

function drawLine() {
  const { kind, note, chosen } = generator();
  const now = settings();
  const kinds = new Set(generators.map((each) => each.kind));
  find("kind").hidden = kinds.size < 2;
  segments(find("kind"), kind, (value) => {
    if (value !== kind) choose(generators.findIndex((each) => each.kind === value));
  });
  if (input.value !== view.texts[view.generator]) input.value = view.texts[view.generator];
  input.placeholder = kind === "text" ? "two dogs run on the grass" : "golden retriever";
  input.setAttribute("aria-label", kind === "text" ? "Words: what to make" : "Class: what to make");
  const run = find("run");
  run.textContent = view.run ? "Stop" : "Make pictures";
  run.classList.toggle("main", true);
  const how = { ...now, guidance: now.guidance === "none" ? null : NAMES[now.guidance] };
  const isChosen = view.pick === "chosen" && chosenSeeds();
  find("summary").textContent = words.settings({ ...how, seed: now.seed, count: isChosen ? null : now.count });
  find("says").className = view.says?.error ? "says error" : "says";
  find("says").textContent = view.says?.text ?? note;
  find("pick").hidden = !chosen || !chosenSeeds();
  segments(find("pick"), view.pick, pick);
}

function draw() {
  if (!generators.length) return;
  drawLine();
  for (let at = 0; at < SHOWN; at += 1) drawPicture(at);
  drawSeeds();
  drawFilm();
  for (const each of below) each.draw();
}
