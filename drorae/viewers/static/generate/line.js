// The line: Class or Words, and a list that opens under it.

const input = find("ask");
const list = find("list");
let offered = [];
let active = -1;

function offer(all = false) {
  const { kind, names, suggestions } = generator();
  const typed = all ? "" : input.value.trim().toLowerCase();
  const choices = kind === "text" ? suggestions.map((name) => [name, null]) : names.map((name, i) => [name, i]);
  offered = choices.filter(([name]) => name.toLowerCase().includes(typed)).slice(0, 60);
  active = offered.findIndex(([name]) => name === input.value);
  const open = offered.length > 0 && !(offered.length === 1 && active === 0 && !all);
  list.hidden = !open;
  input.setAttribute("aria-expanded", open);
  list.replaceChildren(
    ...offered.map(([name], i) =>
      html("span", { role: "option", id: `generate-option-${i}`, "aria-selected": i === active, textContent: name }),
    ),
  );
  pointAt(active);
}
function close() {
  list.hidden = true;
  input.setAttribute("aria-expanded", "false");
  input.removeAttribute("aria-activedescendant");
}
function pointAt(at) {
  active = at;
  [...list.children].forEach((option, i) => {
    option.setAttribute("aria-selected", i === at);
  });
  if (at >= 0) {
    input.setAttribute("aria-activedescendant", `generate-option-${at}`);
    list.children[at].scrollIntoView({ block: "nearest" });
  } else input.removeAttribute("aria-activedescendant");
}
function take(at) {
  const [name, number] = offered[at];
  input.value = name;
  view.number = number;
  noteInput();
  close();
}
function noteInput() {
  view.texts[view.generator] = input.value;
  if (view.says?.error) tell(null);
  view.pick = chosenSeeds() ? view.pick : "first";
  if (chosenSeeds() && !view.unpicked) view.pick = "chosen";
  draw();
}
input.addEventListener("input", () => {
  view.number = null;
  noteInput();
  offer();
});
input.addEventListener("click", () => (list.hidden ? offer(true) : close()));
input.addEventListener("blur", close);
input.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    if (list.hidden) offer(true);
    else if (offered.length) pointAt((active + (event.key === "ArrowDown" ? 1 : -1) + offered.length) % offered.length);
  } else if (event.key === "Enter" && !list.hidden && active >= 0 && offered[active][0] !== input.value) {
    event.preventDefault();
    take(active);
  } else if (event.key === "Escape" && !list.hidden) {
    close();
    event.stopPropagation();
  }
});
list.addEventListener("pointerdown", (event) => {
  event.preventDefault(); // the field keeps the focus
  const at = [...list.children].indexOf(event.target.closest('[role="option"]'));
  if (at >= 0) take(at);
});

find("form").addEventListener("submit", (event) => {
  event.preventDefault();
  close();
  if (view.run) halt(view.run);
  else make(wanted());
});

function choose(at) {
  view.generator = at;
  view.number = null;
  view.pick = chosenSeeds() && !view.unpicked ? "chosen" : "first";
  tell(null);
  fillSettings();
  draw();
}
