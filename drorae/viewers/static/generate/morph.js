// The latents between two photos.

function buildMorph() {
  const ask = { start: null, end: null };
  const [start, end] = ["start", "end"].map((name) =>
    photoSelect((key) => {
      ask[name] = key;
    }),
  );
  const play = player(() => self.result.querySelectorAll(".walk"));
  const self = part(
    "Morph between two photos",
    "The latents in between, decoded. A generator has to paint such places: where the latent holds more of a photo, so do the pictures between two of them.",
    [field("From", start.node), field("To", end.node)],
    () => {
      play.stop();
      const names = [ask.start, ask.end].map((key) => store.photo(key)?.name ?? "");
      self.begin({ what: "morph", photos: [photoWish(ask.start), photoWish(ask.end)] }, (value) => {
        if (!value.last) return;
        const row = (name, pictures) => [
          html("h3", { className: "rowname", textContent: name }),
          stripOf(
            pictures,
            pictures.map((_, i) => (i === 0 ? names[0] : i === pictures.length - 1 ? names[1] : "")),
            name,
          ),
        ];
        const layers = words.inWords(store.config.layers || 12);
        self.result.replaceChildren(
          ...(value.fused ? row(`All ${layers} layers`, value.fused) : []),
          ...row("Last layer only", value.last),
          play.button,
        );
        self.tell("");
      });
    },
    "Morph",
  );
  const draw = self.draw;
  self.draw = () => {
    draw();
    if (!store.photos.has(ask.start)) ask.start = state.photo;
    if (!store.photos.has(ask.end))
      ask.end = state.second ?? [...store.photos.keys()].find((key) => key !== ask.start) ?? null;
    start.fill(ask.start);
    end.fill(ask.end);
  };
  return self;
}
