// Settings, folded into their own summary.

const { guidance: GUIDANCES, needs } = props.config;

find("fold").addEventListener("click", () => {
  find("settings").hidden = !find("settings").hidden;
  find("fold").setAttribute("aria-expanded", !find("settings").hidden);
});

const field = (name, control, note = "", kind = "") =>
  html("label", { className: `set ${kind}` }, [name, control, ...(note ? [html("small", { textContent: note })] : [])]);
const numberInput = (value, low, high, step, change) => {
  const node = html("input", { type: "number", min: low, max: high, step, value, inputMode: "decimal" });
  node.addEventListener("input", () => change(node.value === "" ? null : Number(node.value)));
  return node;
};
const textInput = (value, change) => {
  const node = html("input", { type: "text", value, autocomplete: "off" });
  node.addEventListener("input", () => change(node.value));
  return node;
};
const select = (choices, value, change) => {
  const options = choices.map(([name, title]) => html("option", { value: name, textContent: title }));
  const node = html("select", {}, options);
  node.value = String(value);
  node.addEventListener("change", () => change(node.value));
  return node;
};

function fillSettings() {
  const { kind, guidance } = generator();
  const now = settings();
  const set = (name) => (value) => {
    now[name] = value;
    if (name !== "seed" && name !== "count") view.pick = chosenSeeds() && !view.unpicked ? "chosen" : "first";
    else view.pick = "first";
    if (name === "guidance") fillSettings();
    draw();
  };
  const models = generators.map((each, at) => [at, each.title, each.kind]).filter((each) => each[2] === kind);
  const named = guidance.map((name) => [name, GUIDANCES[name]]);
  find("settings").replaceChildren(
    field(
      "Model",
      select(models, view.generator, (at) => choose(Number(at))),
    ),
    field("Guidance", select(named, now.guidance, set("guidance"))),
    field("Scale", numberInput(now.scale, 1, 10, 0.1, set("scale")), "1 means no guidance."),
    field("Steps", numberInput(now.steps, 1, 100, 1, set("steps")), "Up to 100."),
    field("First seed", numberInput(now.seed, 0, 2 ** 32 - 1, 1, set("seed")), "The others count up."),
    field("Pictures", numberInput(now.count, 1, 8, 1, set("count")), "Up to 8 at once."),
    ...(kind === "text"
      ? [
          field(
            "Negative prompt",
            textInput(now.negative, set("negative")),
            now.guidance === "cfg" ? "A text to avoid." : "Only with classifier-free guidance.",
          ),
          field("Another text", textInput(now.other, set("other")), "The same seeds, to compare."),
        ]
      : []),
    ...(needs && kind === "class" ? [html("p", { className: "needs", textContent: needs })] : []),
  );
}

segments(find("pick"), view.pick, pick);
function pick(value) {
  view.pick = value;
  view.unpicked = value === "first";
  if (view.run) halt(view.run);
  if (view.set) make(wanted());
  draw();
}
