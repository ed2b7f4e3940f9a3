// The film of the picture in focus is the strip above.

let filmed = null;
function drawFilm() {
  const run = pictureRun();
  const { steps } = sampler();
  let film = null;
  if (run) {
    if (run.frames.length) film = { label: run.label, steps, times: [...run.times], pictures: [...run.frames] };
  } else {
    const seed = view.seeds[view.focus];
    const made = seed === undefined ? null : sampleOf(seed);
    if (made) {
      const pictures = [...made.film, pictureOf(made)];
      const times = [...made.times.slice(0, made.film.length), 0];
      film = {
        label: view.set.label,
        steps: view.set.wish.steps,
        times,
        pictures,
        latent: made.latent,
        side: Math.sqrt(made.latent.length),
      };
    }
  }
  if (!film) return;
  const id = `${film.label} ${film.times.join()} ${film.pictures.map((each) => each.length).join()} ${film.pictures[film.pictures.length - 1].slice(-80)}`;
  if (id === filmed) return;
  filmed = id;
  store.film = film;
  store.set({ film });
}
