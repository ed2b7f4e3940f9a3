// The index of a gallery: sort and filter what is there already. Without this script all photos are listed by gain.
(() => {
  const find = (name) => document.querySelector(`[data-part="${name}"]`);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const tint = () => document.body.classList.toggle("dark", dark.matches);
  dark.addEventListener("change", tint);
  tint();

  const [tools, order, layer, search, list] = ["tools", "order", "layer", "search", "photos"].map(find);
  const photos = [...list.children];
  const byName = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const value = (photo, key) =>
    photo.dataset[key] === undefined ? Number.NEGATIVE_INFINITY : Number(photo.dataset[key]);
  const compare = (a, b) =>
    (order.value === "name" ? 0 : value(b, order.value) - value(a, order.value) || 0) ||
    byName.compare(a.dataset.name, b.dataset.name);
  const isShown = (photo) =>
    (!layer.value || photo.dataset.layer === layer.value) &&
    photo.textContent.toLowerCase().includes(search.value.trim().toLowerCase());

  const draw = () => {
    list.append(...photos.sort(compare));
    for (const photo of photos) photo.hidden = !isShown(photo);
    const shown = photos.filter((photo) => !photo.hidden).length;
    find("count").textContent = shown === photos.length ? "" : `${shown} of ${photos.length} photos`;
    find("none").hidden = shown > 0;
  };
  tools.addEventListener("input", draw);
  tools.addEventListener("submit", (event) => event.preventDefault());
  find("all").addEventListener("click", () => {
    tools.reset();
    draw();
    search.focus();
  });
  tools.hidden = false;
  draw();
})();
