// The guide: four steps that drive the page itself. It stands under the stage of the view that is open.

// biome-ignore lint/correctness/noUnusedVariables: the views use it
const guide = (() => {
  const { html } = parts;
  const { state } = store;
  const STEPS = [
    ["Slide", "Pull the white handle over the photo"],
    ["Point at the eye", "Point at the picture"],
    ["Take layer 1 away", "Switch layer 1 off"],
    ["Your photo", "Drop a photo anywhere"],
  ];
  const END = STEPS.length + 1;
  const box = html("div", { className: "guide", role: "group", "aria-label": "Try it" });
  const pulse = html("div", { className: "pulse", hidden: true });
  if (localStorage.getItem("drorae-guided")) store.set({ step: END });

  function end() {
    localStorage.setItem("drorae-guided", "1");
    store.set({ step: END });
  }

  function go(step) {
    store.set({ step });
    if (step === 3) store.go("layers");
    else if (step < 3 && state.view !== "picture") store.go("picture");
    if (step === 4) store.set({ choose: Date.now() });
  }

  function draw() {
    const place = [...document.querySelectorAll('[data-part="guide"]')].find((each) => parts.visible(each));
    if (state.step >= END) {
      if (state.step === END && !localStorage.getItem("drorae-guided")) end();
      box.remove();
      pulse.remove();
      return;
    }
    if (!place) return;
    if (box.parentElement !== place) place.append(box);
    const texts = STEPS.map(([name, what]) => [name, what]);
    if (store.photo()?.example === "cat") {
      texts[0][1] = "Pull the white handle over the cat";
      texts[1][1] = "Point at the eye";
    } else texts[1][0] = "Point at the picture";
    // what is not in this view is only named; a click goes there
    if (state.view !== "picture") for (const text of texts.slice(0, 2)) text[1] = text[0];
    if (state.view !== "layers") texts[2][1] = "Take layer 1 away";
    box.replaceChildren(
      html("span", { className: "try", textContent: "Try it" }),
      ...texts.map(([name, what], i) => {
        const [number, now] = [i + 1, i + 1 === state.step];
        const done = number < state.step;
        const button = html(
          "button",
          { type: "button", className: `step${done ? " done" : ""}`, onclick: () => go(number) },
          [html("i", { textContent: done ? "\u2713" : number, "aria-hidden": "true" }), now ? what : name],
        );
        if (now) button.setAttribute("aria-current", "step");
        return button;
      }),
      html("button", { type: "button", className: "skip", textContent: "Skip", onclick: end }),
    );
    const target = { 2: '[data-part="stage"] .shot', 3: '.chan[data-layer="0"], [data-first-switch]' }[state.step];
    const shot = target && [...document.querySelectorAll(target)].find((each) => parts.visible(each));
    pulse.hidden = !shot || state.token !== null;
    if (shot && pulse.parentElement !== shot) shot.append(pulse);
    pulse.className = state.step === 2 ? "pulse eye" : "pulse";
  }

  let pointed = 0;
  store.on(["token"], () => {
    pulse.hidden = pulse.hidden || state.token !== null;
    clearTimeout(pointed);
    if (state.step === 2 && state.token !== null)
      pointed = setTimeout(() => {
        if (state.step === 2) store.set({ step: 3 });
      }, 900);
  });
  store.on(["off"], () => {
    if (state.step === 3 && state.off.length) store.set({ step: 4 });
  });
  store.on(["step", "view", "photo"], () => parts.redraw());
  parts.whenDrawn(draw);
  return { draw };
})();
