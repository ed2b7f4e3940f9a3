// Everything is drawn in one animation frame after any change.

(() => {
  const { visible } = parts;

  const panels = [];
  let asked = false;
  function redraw() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      for (const each of panels) each.draw();
      const shown = panels.filter(({ node }) => visible(node));
      if (shown.length && shown.every(({ painted }) => painted)) document.documentElement.dataset.painted = "1";
      for (const call of painters) call();
    });
  }
  const painters = [];
  // Call a function whenever something that is drawn may have changed.
  const whenDrawn = (call) => painters.push(call);

  store.on(
    ["photo", "data", "decoder", "split", "layer", "off", "beta", "region", "helped", "view", "config", "second"],
    redraw,
  );
  store.on(["token", "pixel", "zoom", "pinned", "area", "against"], () => {
    for (const each of panels) if (visible(each.node)) each.aim();
  });
  store.on(["zoom"], redraw);
  window.addEventListener("resize", redraw);

  Object.assign(parts, { panels, redraw, whenDrawn });
})();
