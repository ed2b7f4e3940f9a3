// What resembles a place, layer by layer.

const answers = new Map(); // what was answered, by photo, token and second photo
const KEPT = 80;
let kept = null; // of the last one
let subject = null; // the token that was looked at last
const subjects = (first, token, second) => `${store.mark(first)} ${token} ${second ? store.mark(second) : ""}`;
const question = (token = subject) => subjects(state.photo, token, secondWish()?.key);
const similar = () => answers.get(question()) ?? null;

function secondWish() {
  const other = state.second && store.photo(state.second);
  return other && !other.pending ? store.describe(other.key) : null;
}

function keepAnswer() {
  const value = store.data("similar");
  if (!value || kept === value.photos) return;
  kept = value.photos;
  const photos = kept.map((each) => ({ ...each, mark: store.mark(each.key), values: unpack(each.values) }));
  answers.set(subjects(kept[0].key, value.token, kept[1]?.key), { maps: value.maps, photos });
  if (answers.size > KEPT) answers.delete(answers.keys().next().value);
}

let resting = 0;
let asked = null; // what failed is not asked for again
function ask(now = state.pinned) {
  if (state.like === null || subject === null || !parts.visible(root)) return;
  clearTimeout(resting);
  if (similar()) return;
  const wish = () => {
    if (state.like === null || similar() || store.waits("similar")) return; // the answer asks again
    if (store.problem("similar") && asked === question()) return;
    asked = question();
    const second = secondWish();
    store.need("similar", { token: subject, ...(second ? { second } : {}) });
  };
  if (now) wish();
  else resting = setTimeout(wish, REST);
}

const shownMaps = () =>
  similar() ?? [...answers.values()].reverse().find((each) => each.photos[0].mark === store.mark());
function mapNames() {
  const known = shownMaps();
  const layers = Array.from({ length: routes().layers || store.config.layers }, (_, k) => String(k + 1));
  return known?.maps ?? [...layers, "z_base", ...(routes().shares ? ["z_fuse", "z_final"] : [])];
}
const NAMES = { z_base: "last", z_fuse: "mix", z_final: "latent" };
const SAID = { z_base: "the last layer", z_fuse: "the mix of all layers", z_final: "the latent" };
const shortName = (name) => NAMES[name] ?? name;
const saidName = (name) => SAID[name] ?? `layer ${name}`;

function chooseLike(name) {
  const layer = Number(name) - 1;
  store.set({ like: name, ...(layer >= 0 ? { layer } : {}) });
}

const valuesOf = (known, key, name) => {
  const about = known?.photos.find((each) => each.mark === store.mark(key));
  const at = known?.maps.indexOf(name) ?? -1;
  if (!about || at < 0) return null;
  const size = about.rows * about.columns;
  return about.values.subarray(at * size, (at + 1) * size);
};
// Places in a hundred that resemble it; itself does not count on its own photo.
const placesAlike = (values, own) =>
  (100 * (values.filter((value) => value >= ALIKE).length - own)) / Math.max(1, values.length - own);

// The photo is seen where it resembles the place, and the page where it does not.
function paintLike(context, width, height, key) {
  const known = similar();
  const about = store.data("routes", key);
  const picture = parts.route("original", key);
  const values = valuesOf(known ?? shownMaps(), key, state.like);
  if (!picture || !about) return false;
  drawPhoto(context, picture, width, height);
  if (!values) return subject === null;
  const cover = document.createElement("canvas");
  const [r, g, b] = parts.dark() ? [14, 15, 17] : [250, 249, 247];
  cover.width = about.columns;
  cover.height = about.rows;
  const cells = cover.getContext("2d");
  const data = cells.createImageData(about.columns, about.rows);
  for (const [i, value] of values.entries()) data.data.set([r, g, b, 255 * 0.96 * (1 - clamp(value, 0, 1))], 4 * i);
  cells.putImageData(data, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(cover, 0, 0, width, height);
  return known !== null;
}
function paintBeside(context, width, height) {
  return paintLike(context, width, height, state.second);
}

// Ink on paper, from 0 to 1.
function inkColour(value) {
  const [paper, ink] = parts.dark()
    ? [
        [29, 32, 36],
        [243, 244, 245],
      ]
    : [
        [240, 238, 234],
        [21, 23, 26],
      ];
  const share = clamp(value, 0, 1);
  return paper.map((channel, i) => Math.round(channel + share * (ink[i] - channel)));
}

// How many places are alike, map by map.
function drawCounts() {
  const known = shownMaps();
  counts.hidden = !known;
  if (!known) return;
  const shares = known.maps.map((name) => placesAlike(valuesOf(known, state.photo, name), 1));
  counts.replaceChildren(
    ...known.maps.map((name, i) => {
      const bar = html("u");
      bar.style.height = `${shares[i]}%`;
      const one = html("div", { className: "one" }, [
        html("span", { textContent: Math.round(shares[i]) }),
        html("span", { className: "well" }, bar),
        html("b", { textContent: shortName(name) }),
      ]);
      one.toggleAttribute("data-hot", name === state.like || i === state.hot);
      return one;
    }),
  );
}

function drawLike() {
  const known = similar();
  const shown = shownMaps();
  const { rows, columns } = routes();
  const names = mapNames();
  const waits = subject !== null && !known;
  const problem = store.problem("similar");
  root.classList.toggle("stale", waits);
  large.say(subject === null ? "Point at a place." : waits && !shown ? (problem ?? "Comparing ...") : null);
  const values = valuesOf(known, state.photo, state.like);
  const last = valuesOf(known, state.photo, "z_base");
  const latent = valuesOf(known, state.photo, "z_final");
  const share = (each) => each && placesAlike(each, 1);
  find("headline").textContent = problem
    ? problem
    : values
      ? words.resembles(state.like, share(values), share(last), share(latent))
      : subject === null
        ? "Point at a place. What resembles it?"
        : "Comparing this place with all others ...";
  const other = valuesOf(known, state.second, state.like);
  find("subtitle").textContent = other
    ? `On the second photo, ${Math.round(placesAlike(other, 0))} of 100. A photo stays where it is like the marked place.`
    : "The photo stays where it is like the marked place, and fades where it is not.";
  caption.replaceChildren(
    html("span", { textContent: `Like this place in ${saidName(state.like)}` }),
    soft(subject === null ? "" : parts.place([subject])),
  );
  ramp.replaceChildren("unlike 0", html("span", { className: "ramp" }), "1 alike");
  ramp.querySelector(".ramp").style.background =
    `linear-gradient(to right, ${[0, 1].map((value) => `rgb(${inkColour(value).join(",")})`).join(",")})`;
  const second = state.second && store.photo(state.second);
  root.toggleAttribute("data-second", Boolean(second));
  if (second) {
    captionBeside.replaceChildren(
      html("span", { textContent: second.name }),
      soft(other ? `most alike ${number(Math.max(...other), 2)}` : ""),
    );
    noteBeside.textContent = "Where the second photo is like the place in the first.";
    beside.say(store.data("routes", state.second) ? null : (store.problem("routes", state.second) ?? "Reading ..."));
  }
  drawChoice();
  place.textContent = "of 100 places";
  drawCounts();
  grid.style.setProperty("--across", second ? 4 : Math.max(6, Math.ceil(names.length / 2)));
  grid.classList.add("dense");
  const maps = mapsOf(names.length);
  maps.forEach((map, i) => {
    const each = valuesOf(shown, state.photo, names[i]);
    const alike = each ? String(Math.round(placesAlike(each, 1))) : "";
    map.label(shortName(names[i]), alike, `${words.capital(saidName(names[i]))}: ${alike} of 100 places are alike`);
    map.paint(columns, rows, (k) => inkColour(each ? each[k] : 0));
    map.node.dataset.layer = i;
    map.node.setAttribute("aria-pressed", names[i] === state.like);
  });
  putMaps(maps);
}

// The second photo is one of the tray.
const choice = html("select", { "aria-label": "Also on a second photo" });
choice.addEventListener("change", () => store.set({ second: choice.value || null }));
let choices = "";
function drawChoice() {
  const others = [...store.photos.values()].filter((each) => each.key !== state.photo);
  const wanted = others.map(({ key, name }) => `${key} ${name}`).join("\n");
  if (choices !== wanted) {
    choices = wanted;
    choice.replaceChildren(
      html("option", { value: "", textContent: "one photo" }),
      ...others.map(({ key, name }) => html("option", { value: key, textContent: `and ${name}` })),
    );
  }
  choice.value = state.second ?? "";
  if (!cap.contains(choice))
    cap.replaceChildren(html("span", { textContent: "Layer by layer" }), html("label", { className: "field" }, choice));
}
