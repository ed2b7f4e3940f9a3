// Words of the field that explain themselves on hover and focus.

(() => {
  const { html } = parts;
  const { clamp } = lib;

  // A word that explains itself on hover and focus.
  const TERMS = {
    dB: "How close to the photo. 6 dB more is half the error.",
    RAE: "An encoder that understands, and a decoder that paints from its last layer.",
    latent: () => {
      const routes = store.data("routes");
      if (!routes) return "What is kept of the photo: some numbers for each place.";
      const places = words.groupDigits(routes.rows * routes.columns);
      return `What is kept: ${places} places with ${store.config.channels} numbers each.`;
    },
    tokenizer: "Turns a picture into few numbers, and the numbers back into a picture.",
    token: "One place of the photo, as the encoder sees it: a small square of pixels.",
    route: "One way through the machine: which layers are kept, and which decoder paints.",
    PSNR: "How close to the photo, in decibels. 6 dB more is half the error.",
    worth:
      "How much closer the picture comes with this layer than without it. A layer with a large weight can be worth little: the others make up for it.",
    SSIM: "How alike the structures are: 1 is the same picture.",
  };
  const term = (name, text = name) =>
    explainable(text, () => (typeof TERMS[name] === "function" ? TERMS[name]() : TERMS[name]));

  // Any text that does; `tip()` is the explanation.
  let shownTerm = null;
  function explainable(text, tip) {
    const node = html(
      "span",
      { className: "term", tabIndex: 0, role: "button", "aria-label": `${text}: ${tip()}` },
      text,
    );
    const show = () => {
      hide();
      const box = node.getBoundingClientRect();
      shownTerm = html("div", { className: "drorae tip", textContent: tip(), "aria-hidden": "true" });
      document.body.append(shownTerm);
      const left = clamp(
        box.left + box.width / 2 - shownTerm.offsetWidth / 2,
        8,
        window.innerWidth - shownTerm.offsetWidth - 8,
      );
      const above = box.top - shownTerm.offsetHeight - 8;
      shownTerm.style.left = `${left + window.scrollX}px`;
      shownTerm.style.top = `${(above > 4 ? above : box.bottom + 8) + window.scrollY}px`;
    };
    const hide = () => {
      shownTerm?.remove();
      shownTerm = null;
    };
    for (const kind of ["pointerenter", "focus"]) node.addEventListener(kind, show);
    for (const kind of ["pointerleave", "blur"]) node.addEventListener(kind, hide);
    node.addEventListener("keydown", (event) => event.key === "Escape" && hide());
    return node;
  }

  Object.assign(parts, { TERMS, explainable, term });
})();
