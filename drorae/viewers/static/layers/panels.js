// The panels: the photo as trained, and as changed.

let peeks = false; // the picture as trained, in the panel of the changed one
const put = (context, width, height) => {
  const routes = store.data("routes");
  const picture = routes && parts.route(best(routes));
  if (!picture) return false;
  context.drawImage(picture, 0, 0, width, height);
  return true;
};
const trained = panel({ label: "As trained", full: "drorae", paint: put });
let shown = null; // the photo, or part of it, whose changed picture is on the panel
const changed = panel({
  label: "With your changes",
  paint(context, width, height) {
    if (peeks) return put(context, width, height);
    const now = choice();
    if (!now.paint) return false;
    now.paint(context, width, height);
    shown = store.mark();
    return true;
  },
});
trained.name = "as-trained";
changed.name = "changed";
store.changedPicture = () => (shown === store.mark() ? changed.canvas : null);

const scores = { trained: html("span", { className: "score" }), changed: html("span", { className: "score" }) };
const about = html("div", { className: "note" });
const paintButton = html("button", { type: "button", className: "btn small", textContent: "Paint where it applies" });
const saveButton = html("button", { type: "button", className: "btn small", textContent: "Save picture" });
const clearButton = html("button", { type: "button", className: "btn small", textContent: "Clear" });
const again = html("button", { type: "button", className: "btn small", textContent: "Try again", hidden: true });
const sizes = html(
  "span",
  { className: "seg mini", role: "group", "aria-label": "Size of the brush" },
  Object.entries(BRUSHES).map(([value, textContent]) => html("button", { type: "button", value, textContent })),
);
const reset = html("button", { type: "button", className: "btn small near", textContent: "Reset" });
const painted = html("p", { className: "painted num" });
const halves = html("div", { className: "seg half", role: "group", "aria-label": "What is shown" }, [
  html("button", { type: "button", value: "trained", textContent: "As trained" }),
  html("button", { type: "button", value: "changed", textContent: "With your changes" }),
]);
find("trained").append(html("figcaption", {}, ["As trained", scores.trained]), trained.node, about);
find("changed").append(
  html("figcaption", {}, ["With your changes", scores.changed]),
  changed.node,
  html("div", { className: "note tools" }, [
    halves,
    reset,
    paintButton,
    sizes,
    clearButton,
    saveButton,
    again,
    painted,
  ]),
);
