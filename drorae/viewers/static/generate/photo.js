// From a photo of the tray: its latent with noise, denoised again.

// The photos, to choose from.
function photoSelect(change) {
  const node = html("select");
  node.addEventListener("change", () => change(node.value));
  const fill = (value) => {
    const known = [...store.photos.values()].filter((each) => each.example || each.file);
    const id = known.map(({ key }) => key).join();
    if (node.dataset.of !== id) {
      node.dataset.of = id;
      node.replaceChildren(...known.map(({ key, name }) => html("option", { value: key, textContent: name })));
    }
    if (node.value !== value) node.value = value ?? "";
  };
  return { node, fill };
}
const photoWish = (key) => {
  const { example, file } = store.photo(key) ?? {};
  return { example: example ?? null, file: file ?? null };
};
const captioned = (source, name, note = "") =>
  html("figure", { className: "fig" }, [
    html("figcaption", {}, [name, html("span", { className: "score", textContent: note })]),
    html("img", { src: source, alt: name }),
  ]);

function buildFromPhoto() {
  const ask = { photo: null, time: 0.7 };
  const photo = photoSelect((key) => {
    ask.photo = key;
  });
  const shown = html("small", { className: "num", textContent: words.noise(ask.time) });
  const slider = html("input", { type: "range", min: 5, max: 100, value: 70, "aria-label": "Share of noise" });
  slider.addEventListener("input", () => {
    ask.time = slider.value / 100;
    shown.textContent = words.noise(ask.time);
  });
  const self = part(
    "From your photo",
    "The photo's latent gets noise, and the denoiser takes it away again under what the line above says. Little noise keeps the photo, much noise keeps only its layout.",
    [field("Photo", photo.node), html("label", { className: "set wide" }, ["Noise", slider, shown])],
    () => {
      if (!hasText()) return;
      const now = { label: text(), start: null };
      const wish = { what: "photo", ...sampler(), other: "", subject: subject(), seeds: [settings().seed] };
      self.begin({ ...wish, photos: [photoWish(ask.photo)], time: ask.time }, (value) => {
        if (value.rebuilt) now.start = value;
        if (!now.start || (!value.rebuilt && !value.pictures?.length)) return;
        const { rebuilt, noisy, time } = now.start;
        self.result.replaceChildren(
          html("div", { className: "three" }, [
            captioned(rebuilt, "Your photo, rebuilt"),
            captioned(noisy, "With noise", words.noise(time)),
            captioned(value.pictures?.[0] ?? noisy, `As ${now.label}`, `seed ${settings().seed}`),
          ]),
        );
        if (!value.running) self.tell("");
      });
    },
    "Denoise",
  );
  const draw = self.draw;
  self.draw = () => {
    draw();
    if (!store.photos.has(ask.photo)) ask.photo = state.photo;
    photo.fill(ask.photo);
  };
  return self;
}
