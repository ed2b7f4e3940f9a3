// The stage: the large map, the second photo's where there is one, the small ones with what belongs to them, the column.

const large = panel({
  label: "The photo with a map over it",
  paint,
  drags: true,
  size: screen(() => large.node, parts.shape),
});
large.name = "map";
large.node.addEventListener("keydown", stepKeys);
const beside = panel({
  label: "The second photo with the same map over it",
  paint: paintBeside,
  points: false,
  loupe: false,
  size: screen(
    () => beside.node,
    () => store.data("routes", state.second),
  ),
});
beside.name = "map-of-second";
const caption = html("figcaption");
const captionBeside = html("figcaption");
const ramp = html("div", { className: "rampkey" });
const noteBeside = html("div", { className: "rampkey" });
const cap = html("div", { className: "cap" });
const grid = html("div", { className: "grid", role: "group", "aria-label": "Maps" });
const equation = html("div", { className: "eq num" });
const remark = html("p", { className: "remark num" });
const place = html("span", { className: "score" });
const cardName = html("span");
const counts = html("div", { className: "counts num", "aria-hidden": "true" }); // the maps' names say the same
const card = html("div", { className: "card" }, [html("h2", {}, [cardName, place]), equation, remark, counts]);
const column = html("aside", { className: "insp", "aria-label": "Here" });
const bars = html("div");
const compare = html("button", { type: "button", className: "quiet compare" });
column.append(bars, compare);
const figureBeside = html("figure", { className: "fig" }, [captionBeside, beside.node, noteBeside]);
find("stage").append(
  html("figure", { className: "fig" }, [caption, large.node, ramp]),
  figureBeside,
  html("div", { className: "maps" }, [cap, grid, card]),
  column,
);

function paint(context, width, height) {
  return state.like === null ? paintUse(context, width, height) : paintLike(context, width, height, state.photo);
}
