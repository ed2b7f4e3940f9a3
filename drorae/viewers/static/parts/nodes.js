// What the views are made of, in the one name `parts`: nodes, and how they look. The files after it add the rest.

// biome-ignore lint/correctness/noUnusedVariables: the scripts after it use it
const parts = (() => {
  // An HTML node. Names with a hyphen are attributes ("aria-pressed", "data-layer"), the others properties.
  function html(tag, properties = {}, children = []) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(properties)) {
      if (key.includes("-") || key === "role") node.setAttribute(key, value);
      else node[key] = value;
    }
    node.append(...[children].flat());
    return node;
  }

  function svg(name, attributes = {}, children = []) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...[children].flat());
    return node;
  }

  const dark = () => document.body.classList.contains("dark") || document.documentElement.classList.contains("dark");
  const css = (name) =>
    getComputedStyle(document.querySelector(".drorae") ?? document.body)
      .getPropertyValue(name)
      .trim();
  const calm = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

  const visible = (node) => node.checkVisibility(); // unlike its place, this needs no layout

  // New contents for a node where `key` says that they differ: who has the focus in them keeps it otherwise.
  function drawOnce(node, key, make) {
    if (node.dataset.drawn === key) return;
    node.dataset.drawn = key;
    node.replaceChildren(...make());
  }

  // A group of buttons of which one is pressed.
  function segments(node, current, choose) {
    for (const button of node.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", button.value === String(current));
      button.onclick = () => choose(button.value);
    }
  }

  // Tell it to screen readers once the hand rests: what follows every key would never end.
  let resting = 0;
  function say(text) {
    clearTimeout(resting);
    resting = setTimeout(() => {
      const said = document.getElementById("said");
      if (said) said.textContent = text;
    }, 400);
  }

  function save(name, blob) {
    const href = URL.createObjectURL(blob);
    html("a", { href, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000); // a busy browser reads it later
  }

  return { calm, css, dark, drawOnce, html, save, say, segments, svg, visible };
})();
