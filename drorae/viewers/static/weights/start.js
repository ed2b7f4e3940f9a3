// What calls for drawing.

find("more").addEventListener("toggle", draw);
parts.whenDrawn(draw);
store.on(["data"], keepAnswer); // before the panels are drawn
store.on(["token", "pinned", "area", "against"], () => {
  if (!parts.visible(root) || !routes()) return;
  const old = subject;
  look();
  if (state.like !== null) {
    if (old !== subject || state.pinned) parts.redraw();
    parts.drawBars(bars);
    return;
  }
  drawColumn();
  drawEquation();
  aim();
});
store.on(["layer"], () => {
  if (state.like !== null && /^\d+$/.test(state.like) && Number(state.like) !== state.layer + 1)
    store.set({ like: String(state.layer + 1) });
});
store.on(["photo"], () => {
  subject = state.token;
});
store.on(["hot"], () => {
  drawHot();
  if (state.like !== null && routes() && parts.visible(root)) drawCounts();
});
store.on(["like"], parts.redraw);
draw();
