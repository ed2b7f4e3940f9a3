// Other tokenizers: the same crop through each of them, how much it stores, and what it gains over the last layer.

const { LEVELS, html, lastRoute, panel, term } = parts;
const { divergingPixels, gainMap, gradient, number, percent } = lib;
const { groupDigits } = words;
const { state } = store;
const find = (name) => element.querySelector(`[data-part="${name}"]`);
const REMEMBERED = "drorae-tokenizers";
const MEAN = /^mean-(\d+)$/;

// Which columns there are.

function readRemembered() {
  try {
    const names = JSON.parse(localStorage.getItem(REMEMBERED));
    return Array.isArray(names)
      ? names.filter((name) => typeof name === "string" && name).slice(0, store.BESIDE)
      : null;
  } catch {
    return null; // somebody else's text
  }
}
const usual = () => [...(store.config.layers > 1 ? [`mean-${Math.min(4, store.config.layers)}`] : []), "taef2"];
const names = () => state.tokenizers ?? usual();
function choose(list) {
  localStorage.setItem(REMEMBERED, JSON.stringify(list));
  store.set({ tokenizers: list });
}
if (state.tokenizers === null) store.set({ tokenizers: readRemembered() });

const offered = () => store.config.tokenizers?.offered ?? [];
const agreed = new Set(readRemembered() ?? []); // a link alone fetches nothing
const isAgreed = (name) => MEAN.test(name) || agreed.has(name) || offered().some(({ id }) => id === name);

const narrow = window.matchMedia("(max-width: 760px)");

// What is known of a column: of a route of the model from its routes, of others what the server answered.
function column(id) {
  const routes = store.data("routes");
  if (!routes) return null;
  if (id === "original") return { picture: routes.pictures.original };
  if (id !== "rae" && id !== "all") return store.data("tokenizers")?.columns?.[id] ?? null;
  const route = id === "rae" ? "rae" : lastRoute(routes);
  const latent = [routes.rows, routes.columns, store.config.channels];
  return {
    picture: routes.pictures[route],
    metrics: routes.metrics[route],
    latent,
    stored: latent[0] * latent[1] * latent[2],
    encoder: "vision, frozen",
    decoder: route === "phase2" ? "that of RAE" : "its own",
    licence: store.config.licence,
  };
}

function title(id) {
  if (id === "original") return "Your photo";
  if (id === "rae") return "Last layer (RAE)";
  if (id === "all") return `All ${words.inWords(store.data("routes")?.layers ?? store.config.layers)} layers`;
  const mean = id.match(MEAN);
  if (mean) return `Mean of last ${mean[1]}`;
  return column(id)?.title ?? (id === "taef2" ? "TAEF2" : id.replace(/\/+$/, "").split("/").pop());
}

// Ask for one after the other.

const asked = new Map(); // key of a photo to the column that was asked for
const failures = new Map(); // by what was looked at, and column: a sentence
const place = (id, key = state.photo) => `${store.mark(key)} ${id}`;

function settle() {
  for (const [key, id] of [...asked]) {
    if (store.waits("tokenizers", key)) continue;
    asked.delete(key);
    const problem = store.problem("tokenizers", key);
    if (problem) failures.set(place(id, key), problem);
  }
}

function ask() {
  settle();
  if (!parts.visible(find("root")) || !store.data("routes") || store.waits("tokenizers")) return;
  const next = names().find((id) => isAgreed(id) && !column(id)?.picture && !failures.has(place(id)));
  if (next === undefined) return;
  asked.set(state.photo, next);
  store.need("tokenizers", { id: next });
}

// The columns' nodes; one that was dropped comes back as it was.

const pixels = new WeakMap(); // decoded picture to its pixels
function pixelsOf(picture) {
  if (!pixels.has(picture)) pixels.set(picture, parts.pixels(picture));
  return pixels.get(picture);
}

const made = new Map();
function make(id) {
  const own = ["original", "rae", "all"].includes(id);
  const name = html("span", { className: "name" });
  const score = html("span", { className: "score" });
  const facts = html("dl", { className: "facts num" });
  const picture = panel({
    label: title(id),
    full: { original: "original", rae: "rae", all: "drorae" }[id] ?? null,
    paint(context, width, height) {
      const now = column(id);
      if (failures.has(place(id)) || isHeld(id)) {
        context.clearRect(0, 0, width, height);
        return true;
      }
      const image = now?.picture && parts.image(now.picture);
      if (!image) return false;
      context.clearRect(0, 0, width, height);
      context.drawImage(image, 0, 0, width, height);
      return true;
    },
  });
  picture.name = id;
  const action = html("button", { type: "button", className: "btn small act", hidden: true });
  picture.node.append(action);
  const caption = html("figcaption", {}, [name, score]);
  if (!own) {
    const drop = html("button", {
      type: "button",
      className: "close",
      textContent: "\u00d7",
      title: "Drop this column",
    });
    drop.addEventListener("click", () => {
      const list = names();
      const next = made.get(list[list.indexOf(id) + 1] ?? list[list.indexOf(id) - 1]);
      choose(list.filter((each) => each !== id));
      (next?.drop ?? find("add")).focus();
    });
    name.after(drop);
    caption.drop = drop;
  }
  const figure = html("figure", { className: "fig" }, [caption, picture.node]);
  const self = { id, own, name, score, facts, picture, action, drop: caption.drop, gains: null };
  self.below = below(self);
  self.node = html("div", { className: "col", role: "group" }, [figure, facts, self.below]);
  return self;
}

// What stands under a column: the map of its gain over the last layer.
function below(self) {
  if (self.id === "rae") return html("p", { className: "soft reference", textContent: "the reference" });
  if (self.id === "original") {
    self.ramp = html("span", { className: "ramp" });
    return html("div", { className: "against" }, [
      html("h2", { textContent: "Against the last layer" }),
      html("p", {
        className: "soft",
        textContent:
          "Green pixels came closer to the photo than RAE brings them, purple ones moved away. Same scale in all columns.",
      }),
      html("div", { className: "rampkey" }, [`\u2212${LEVELS}`, self.ramp, `+${LEVELS} of 255`]),
    ]);
  }
  self.closer = html("span", { className: "score" });
  self.map = panel({
    label: "Gain over the last layer",
    paint(context, width, height) {
      const gains = gainsOf(self);
      if (!gains) {
        context.clearRect(0, 0, width, height);
        return !waits(self.id); // an old map says nothing of this photo
      }
      const dark = parts.dark();
      if (gains.dark !== dark) {
        const data = new ImageData(divergingPixels("gain", gains.map, LEVELS, dark), width, height);
        Object.assign(gains, { dark, data }); // everything is drawn again whenever something may have changed
      }
      context.putImageData(gains.data, 0, 0);
      return true;
    },
  });
  self.map.name = `gain-${self.id}`;
  return html("figure", { className: "fig gain" }, [html("figcaption", {}, self.closer), self.map.node]);
}

const waits = (id) => store.waits("routes") || !(column(id)?.picture || failures.has(place(id)) || isHeld(id));
const isHeld = (id) => !["original", "rae", "all"].includes(id) && !isAgreed(id);

function gainsOf(self) {
  const now = column(self.id);
  const [original, rae] = [parts.route("original"), parts.route("rae")];
  const shown = now?.picture && parts.image(now.picture);
  if (!original || !rae || !shown) return null;
  if (self.gains?.shown !== shown || self.gains?.rae !== rae) {
    const map = gainMap(pixelsOf(original), pixelsOf(rae), pixelsOf(shown));
    self.gains = { shown, rae, map, closer: map.filter((value) => value > 0).length / map.length };
  }
  return self.gains;
}

function rows(id, now) {
  const routes = store.data("routes");
  if (!routes) return [];
  const { width, height } = routes;
  const count = width * height * 3;
  if (id === "original")
    return [
      ["pixels", `${width} \u00d7 ${height} \u00d7 3`],
      ["numbers", groupDigits(count)],
    ];
  if (!now?.metrics) return [];
  return [
    [term("SSIM"), number(now.metrics.ssim, 3)],
    [term("latent"), now.latent.join(" \u00d7 ")],
    ["numbers stored", groupDigits(now.stored)],
    ["against the pixels", words.ofThePixels(count / now.stored)],
    ["encoder", now.encoder],
    ["decoder", now.decoder],
    ["licence", now.licence ?? "not stated"],
  ];
}

function drawColumn(self) {
  const { id } = self;
  const now = column(id);
  const text = title(id);
  self.name.textContent = text;
  self.name.title = self.own ? "" : id;
  self.node.setAttribute("aria-label", text);
  self.picture.node.setAttribute("aria-label", text);
  self.drop?.setAttribute("aria-label", `Drop ${text}`);
  const psnr = now?.metrics?.psnr;
  const measured = now?.metrics !== undefined;
  self.score.replaceChildren(
    ...(measured ? [html("b", { textContent: psnr === null ? "identical" : number(psnr, 1) })] : []),
    ...(measured && psnr !== null ? [" ", term("dB")] : []),
  );
  const lines = rows(id, now);
  const written = JSON.stringify(lines.map(([key, value]) => [key.textContent ?? key, value]));
  if (self.written !== written) {
    self.written = written; // otherwise a term keeps its focus
    self.facts.replaceChildren(
      ...lines.flatMap(([key, value]) => [html("dt", {}, key), html("dd", { textContent: value, title: value })]),
    );
  }
  const failure = failures.get(place(id));
  self.node.classList.toggle("failed", Boolean(failure));
  self.action.hidden = !failure && !isHeld(id);
  if (isHeld(id)) {
    self.picture.say("The link names this tokenizer.");
    self.action.textContent = "Fetch it";
    self.action.onclick = () => {
      agreed.add(id);
      choose(names());
      ask();
      parts.redraw();
    };
  } else if (failure) {
    self.picture.say(failure);
    self.action.textContent = "Try again";
    self.action.onclick = () => {
      failures.delete(place(id));
      ask();
      parts.redraw();
    };
  } else if (self.own) {
    self.picture.say(store.waits("routes") ? "Rebuilding ..." : store.problem("routes"));
  } else if (now?.picture) self.picture.say(null);
  else if (store.data("routes"))
    self.picture.say(now?.progress ?? (asked.get(state.photo) === id ? "Rebuilding ..." : "Waits for its turn ..."));
  else self.picture.say("Rebuilding ...");
  if (self.ramp) self.ramp.style.background = gradient("gain", parts.dark());
  if (self.closer) {
    const gains = gainsOf(self);
    self.closer.replaceChildren(
      ...(gains ? [html("b", { textContent: percent(gains.closer) }), " closer"] : ["\u00a0"]),
    );
    self.map.node.setAttribute(
      "aria-label",
      gains ? `${text}: ${percent(gains.closer)} of the pixels came closer than the last layer brings them` : text,
    );
  }
}

function draw() {
  if (!parts.visible(find("root"))) return;
  const routes = store.data("routes");
  const list = names();
  const mean = list.filter((id) => MEAN.test(id));
  const others = list.filter((id) => !MEAN.test(id));
  const all = routes && !lastRoute(routes) ? [] : ["all"];
  // on a phone two are seen at once: those that the headline speaks of
  const wanted = narrow.matches
    ? [...all, ...others, "original", "rae", ...mean]
    : ["original", "rae", ...mean, ...all, ...others];
  for (const id of wanted) if (!made.has(id)) made.set(id, make(id));
  const nodes = wanted.map((id) => made.get(id).node);
  const host = find("columns");
  if (nodes.length !== host.childElementCount || nodes.some((node, i) => host.children[i] !== node)) {
    for (const node of [...host.children]) if (!nodes.includes(node)) node.remove();
    for (const [i, node] of nodes.entries())
      if (host.children[i] !== node) host.insertBefore(node, host.children[i] ?? null);
    parts.redraw(); // the new ones
  }
  for (const id of wanted) drawColumn(made.get(id));
  const reference = column(all.length ? "all" : "rae");
  const closer = others.filter((id) => column(id)?.metrics?.psnr > reference?.metrics.psnr);
  const said = closer.map((id) => ({ title: title(id), stored: column(id).stored }));
  [find("headline").textContent, find("subtitle").textContent] = words.tokenizers(said, reference?.stored);
  find("add").hidden = !store.config.tokenizers?.open && !suggestions().length;
  parts.ways(find("how"));
  ask();
}

// Adding one.

function suggestions() {
  const { layers } = store.config;
  const means = [...new Set([Math.min(4, layers), layers])].filter((count) => count > 1);
  return [
    ...means.map((count) => ({
      id: `mean-${count}`,
      about: `the mean of the last ${words.inWords(count)} layers, without weights`,
    })),
    ...offered(),
  ].filter(({ id }) => !names().includes(id));
}

function add(name) {
  const id = name.trim();
  if (!id) return "Name a folder or a Hub id first.";
  if (names().includes(id)) return "It is beside the others already.";
  if (names().length >= store.BESIDE)
    return `Drop one first: ${words.inWords(store.BESIDE)} fit beside the model's own.`;
  agreed.add(id);
  failures.delete(place(id));
  choose([...names(), id]);
  requestAnimationFrame(() =>
    requestAnimationFrame(() =>
      made
        .get(id)
        ?.node.scrollIntoView({ inline: "end", block: "nearest", behavior: parts.calm() ? "auto" : "smooth" }),
    ),
  );
  return null;
}

find("add").addEventListener("click", () => {
  const open = store.config.tokenizers?.open;
  const problem = html("p", { className: "error", role: "alert" });
  const field = html("input", {
    type: "text",
    spellcheck: false,
    autocomplete: "off",
    placeholder: "stabilityai/sd-vae-ft-mse",
    "aria-label": "Hub id or folder",
  });
  const put = (name) => {
    const wrong = add(name);
    problem.textContent = wrong ?? "";
    if (!wrong) dialog.close();
  };
  const items = suggestions().map(({ id, about }) =>
    html("li", {}, [
      html("button", { type: "button", onclick: () => put(id) }, [
        html("b", { textContent: id }),
        html("span", { textContent: about }),
      ]),
    ]),
  );
  const form = html("form", { method: "dialog" }, [
    html("label", { className: "field" }, field),
    html("button", { type: "submit", className: "btn main", textContent: "Add" }),
  ]);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    put(field.value);
  });
  const dialog = html("dialog", { className: "drorae adder", "aria-label": "Add a tokenizer" }, [
    html("h2", { textContent: "Add a tokenizer" }),
    html("p", {
      className: "soft",
      textContent: open
        ? "A Hub id, or a folder on the machine that serves this page; id:vae names a folder in a repository. Fetches it from the Hub if it is not here."
        : "On this page the list is fixed; run your own copy to add others.",
    }),
    ...(open ? [form] : []),
    problem,
    ...(items.length ? [html("ul", {}, items)] : []),
    html("div", { className: "line" }, [
      html("button", { type: "button", className: "btn", textContent: "Cancel", onclick: () => dialog.close() }),
    ]),
  ]);
  dialog.addEventListener("close", () => {
    dialog.remove();
    find("add").focus();
  });
  find("root").append(dialog); // where the view's style reaches it
  dialog.showModal();
  if (open) field.focus();
});

parts.whenDrawn(draw);
store.on(["tokenizers"], parts.redraw);
store.on(["data"], ask);
draw();
