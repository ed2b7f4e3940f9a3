// How to look at what came back: views of Picture, and the two beside it.

(() => {
  const { calm, html, segments } = parts;
  const { state } = store;

  const WAYS = {
    pictures: "Pictures",
    helped: "Where it helped",
    frequency: "By size of detail",
    tokenizers: "Other tokenizers",
  };
  function ways(node) {
    if (!node.childElementCount)
      node.append(
        ...Object.entries(WAYS).map(([value, textContent]) => html("button", { type: "button", value, textContent })),
      );
    segments(node, state.view === "picture" ? (state.helped ? "helped" : "pictures") : state.view, (value) => {
      if (value in { frequency: 1, tokenizers: 1 }) {
        store.go(value);
        return;
      }
      store.go("picture");
      store.set({ helped: value === "helped" });
      requestAnimationFrame(() => {
        const target = document.querySelector(`.picture [data-part="${value === "helped" ? "helped" : "root"}"]`);
        (target ?? document.querySelector(".picture"))?.scrollIntoView({
          behavior: calm() ? "auto" : "smooth",
          block: "start",
        });
      });
    });
  }

  Object.assign(parts, { ways });
})();
