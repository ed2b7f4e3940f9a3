// Keeps what is seen: a report, which is asked for and saved when it arrives, and a link to the view.

const { find, htmlNode } = shared;
const { writeNumbers } = lib;

const state = { value: null };
element.__report = state;

const note = find("note");
const usual = note.textContent;
find("make").addEventListener("click", () => {
  if (find("make").getAttribute("aria-disabled") === "true") return;
  find("make").setAttribute("aria-disabled", true); // unlike "disabled" it leaves the focus here
  note.textContent = "Writing ...";
  trigger("make");
});
watch("value", () => {
  find("make").setAttribute("aria-disabled", false);
  const { value } = props;
  note.textContent = value?.error ? value.error : usual;
  if (!value?.text) return;
  const href = URL.createObjectURL(new Blob([value.text], { type: "text/html" }));
  htmlNode("a", { href, download: value.name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000); // a busy browser reads it later
});

// What another viewer of the page has chosen.
function stateOf(name) {
  const node = [...document.querySelectorAll(`#${name}, #${name} *`)].find((each) => each[`__${name}`]);
  return node?.[`__${name}`].value ? node[`__${name}`] : null;
}

function address() {
  const chosen = new URLSearchParams();
  const [compare, routing, intervene] = ["compare", "routing", "intervene"].map(stateOf);
  if (compare?.value.example) chosen.set("example", compare.value.example);
  const tab = document.querySelector('[role="tab"][aria-selected="true"]');
  if (tab) chosen.set("tab", tab.dataset.tabId);
  if (intervene) {
    const { betas, beta } = intervene.value;
    if (betas[intervene.beta] !== beta) chosen.set("beta", String(betas[intervene.beta]));
    const off = intervene.on.flatMap((kept, layer) => (kept ? [] : [layer + 1]));
    if (off.length) chosen.set("off", writeNumbers(off));
    if (intervene.region.size) chosen.set("region", writeNumbers(intervene.region));
  }
  if (routing) {
    for (const pin of routing.pins) chosen.append("token", writeNumbers(Array.isArray(pin) ? pin : [pin]));
    if (routing.layer !== null) chosen.set("layer", String(routing.layer + 1));
  }
  return `${window.location.origin}${window.location.pathname}?${chosen}`;
}

find("copy").addEventListener("click", async () => {
  const text = address();
  state.address = text;
  const compare = stateOf("compare");
  const upload =
    compare && !compare.value.example ? " It holds your settings, not your picture: for that, save the report." : "";
  try {
    await navigator.clipboard.writeText(text);
    note.textContent = `Copied.${upload}`;
  } catch {
    note.textContent = `${text}${upload}`; // no clipboard here
  }
});

// Gradio gives the buttons of the examples no name; their files have one.
function nameExamples() {
  const pictures = document.querySelectorAll("#examples img");
  for (const picture of pictures) picture.alt = picture.src.split("/").pop().split(".")[0];
  if (!pictures.length) setTimeout(nameExamples, 100); // they are not there yet
}
nameExamples();
