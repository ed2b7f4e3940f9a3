// What a visitor takes along: a card, a link, a report, pictures, numbers, an embed code; and a picture in full screen.

// biome-ignore lint/correctness/noUnusedVariables: the bar uses it
const share = (() => {
  const { html, save } = parts;
  const { number, signedNumber } = lib;
  const [WIDE, HIGH] = [1200, 630]; // what social networks show
  const { state } = store;

  const FONT = '-apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", Arial, sans-serif';

  // Before and after on one picture, with labels and the numbers.
  function drawCard(canvas) {
    const routes = store.data("routes");
    canvas.width = WIDE;
    canvas.height = HIGH;
    const context = canvas.getContext("2d");
    context.fillStyle = "#faf9f7";
    context.fillRect(0, 0, WIDE, HIGH);
    if (!routes) return false;
    const last = routes.pictures.drorae ? "drorae" : routes.pictures.phase2 ? "phase2" : "rae";
    const side = 456;
    const names = {
      rae: "Last layer only",
      phase2: `All ${words.inWords(routes.layers)} layers`,
      drorae: `All ${words.inWords(routes.layers)} layers`,
    };
    ["rae", last].forEach((name, i) => {
      const picture = parts.route(name);
      const [x, y] = [i ? WIDE - 60 - side : 60, 110];
      if (!picture) return;
      const scale = Math.min(side / routes.width, side / routes.height);
      const [width, height] = [routes.width * scale, routes.height * scale];
      context.imageSmoothingEnabled = scale < 3;
      context.drawImage(picture, x + (side - width) / 2, y + (side - height) / 2, width, height);
      context.fillStyle = "#15171a";
      context.font = `600 24px ${FONT}`;
      context.textAlign = i ? "right" : "left";
      context.fillText(`${names[name]}  ${number(routes.metrics[name].psnr, 1)} dB`, i ? WIDE - 60 : 60, 606);
    });
    context.textAlign = "left";
    context.font = `650 34px ${FONT}`;
    context.fillText(words.headline(parts.gain(), routes.layers), 60, 68);
    context.textAlign = "center";
    context.font = `650 40px ${FONT}`;
    const gain = parts.gain();
    if (gain !== null) {
      context.fillText(signedNumber(gain, 1), WIDE / 2, 340);
      context.font = `500 22px ${FONT}`;
      context.fillStyle = "#585e68";
      context.fillText("dB", WIDE / 2, 370);
    }
    context.fillStyle = "#585e68";
    context.font = `500 20px ${FONT}`;
    context.fillText("DRoRAE", WIDE / 2, 606);
    return true;
  }

  const blobOf = (canvas) => new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const stem = () => (store.photo()?.name ?? "photo").replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N}_-]+/gu, "-");

  async function saveCard() {
    const canvas = document.createElement("canvas");
    if (drawCard(canvas)) save(`drorae-${stem()}.png`, await blobOf(canvas));
  }

  async function copy(text, done) {
    try {
      await navigator.clipboard.writeText(text);
      tell(done);
    } catch {
      tell(text); // no clipboard here
    }
  }

  let told = null;
  function tell(text) {
    if (told) told.textContent = text;
    parts.say(text);
  }

  const upload = () =>
    store.photo()?.example ? "" : " Your photo stays in this browser; for others, save the report.";
  const copyLink = () => copy(store.link(), `Link copied.${upload()}`);
  const embedCode = () => {
    const address = new URL(store.link());
    address.searchParams.set("embed", state.view);
    return `<iframe src="${address}" width="1200" height="760" style="border:0" title="DRoRAE" loading="lazy"></iframe>`;
  };

  // Every panel and map of the open view, and the pictures of all routes.
  async function savePictures() {
    const routes = store.data("routes");
    if (!routes) return;
    for (const name of Object.keys(routes.pictures)) {
      const picture = parts.route(name);
      if (!picture) continue;
      const canvas = html("canvas", { width: routes.width, height: routes.height });
      canvas.getContext("2d").drawImage(picture, 0, 0);
      save(`${stem()}-${name}.png`, await blobOf(canvas));
    }
    for (const { node, canvas, name } of parts.panels)
      if (name && parts.visible(node)) save(`${stem()}-${name}.png`, await blobOf(canvas));
    tell("Saved, one file per picture.");
  }

  function saveNumbers() {
    const routes = store.data("routes");
    if (!routes) return;
    const plain = (name) => (routes[name]?.data ? Array.from(parts.numbers(name)) : routes[name]);
    const text = JSON.stringify(
      {
        photo: routes.name,
        model: routes.model,
        width: routes.width,
        height: routes.height,
        rows: routes.rows,
        columns: routes.columns,
        layers: routes.layers,
        beta: routes.beta,
        metrics: routes.metrics,
        weights: plain("weights"),
        shares: plain("shares"),
        cosines: plain("cosines"),
        texture: plain("texture"),
        correlation: routes.correlation,
        spectra: routes.spectra,
        energies: routes.energies,
        edges: routes.edges,
        standing: store.data("standing"),
        frames: withoutPictures(store.data("frames")),
        tokenizers: columns(store.data("tokenizers")),
      },
      null,
      1,
    );
    save(`${stem()}.json`, new Blob([text], { type: "application/json" }));
    store.need("arrays", { again: Date.now() }); // the same in full precision, as a file of NumPy
    tell("Saved as JSON; the arrays follow as NPZ.");
  }

  // Numbers of the other tokenizers that the photo went through.
  const columns = (known) =>
    known && Object.fromEntries(Object.entries(known.columns).map(([id, { picture: _, ...rest }]) => [id, rest]));

  const withoutPictures = (frames) => {
    if (!frames) return null;
    const { sprite: _, ...rest } = frames;
    return rest;
  };

  function askReport() {
    tell("Writing the report ...");
    const { view, token, pinned, layer, off, beta, region, decoder, split } = state;
    store.need("report", {
      state: { view, token, pinned, layer, off, beta, region, decoder, split },
      again: Date.now(),
    });
  }

  function items(close) {
    const card = html("canvas", { className: "cardpic", role: "img", "aria-label": "The card: before and after" });
    drawCard(card);
    told = html("p", { className: "told", role: "status" });
    const item = (name, key, text, act) =>
      html("button", { type: "button", role: "menuitem", onclick: act }, [
        name,
        html("kbd", { textContent: key }),
        ...(text ? [html("span", { textContent: text })] : []),
      ]);
    const list = [
      item("Save this card", "1200 \u00d7 630", "Before and after, with labels and the numbers", saveCard),
      item("Copy link", "L", "Opens this photo, view, place and layers", copyLink),
      item("Save report", "HTML", "One file, still movable, works offline", askReport),
      item("Save pictures and maps", "PNG", "", savePictures),
      item("Save all numbers", "JSON, NPZ", "", saveNumbers),
      item("Copy embed code", "iframe", "", () => copy(embedCode(), "Embed code copied.")),
    ];
    list[0].addEventListener("click", () => close(true));
    if (state.view === "generate") return [list[1], list[5], told]; // the others speak of the photo
    if (!store.data("routes")) for (const each of list) each.disabled = true;
    return [card, ...list, told];
  }

  const saved = {}; // when the file of a kind was made that was saved last
  const refused = {}; // photo and reason of the failure of a kind that was told last
  store.on(["data"], () => {
    for (const kind of ["report", "arrays"]) {
      const file = store.data(kind);
      if (file?.name && saved[kind] !== file.moment) {
        saved[kind] = file.moment;
        const bytes = file.base64 ? Uint8Array.from(atob(file.base64), (c) => c.charCodeAt(0)) : file.text;
        save(file.name, new Blob([bytes], { type: file.type }));
        tell(`Saved ${file.name}.`);
      }
      const error = store.problem(kind);
      const reason = error && `${state.photo}: ${error}`;
      if (reason && refused[kind] !== reason) tell(error); // once, not with everything that is heard of later
      refused[kind] = reason;
    }
  });

  // Full screen: arrow keys flip through the routes in place.
  let dialog = null;
  function drawFull() {
    const routes = store.data("routes");
    if (!state.full || !routes) {
      dialog?.close();
      return;
    }
    const names = ["original", "rae", "phase2", "drorae"].filter((name) => routes.pictures[name]);
    const titles = {
      original: "Your photo",
      rae: "Last layer only",
      phase2: "All layers, same decoder",
      drorae: "All layers, retrained decoder",
    };
    const at = Math.max(0, names.indexOf(state.full));
    if (!dialog) {
      dialog = html("dialog", { className: "drorae full" });
      dialog.addEventListener("close", () => {
        dialog.remove();
        dialog = null;
        store.set({ full: null });
      });
      dialog.addEventListener("keydown", (event) => {
        const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!move) return;
        event.preventDefault();
        flip(move);
      });
      document.body.append(dialog);
    }
    const flip = (move) => {
      const now = names.indexOf(state.full);
      store.set({ full: names[(now + move + names.length) % names.length] });
    };
    const picture = parts.route(names[at]);
    const canvas = html("canvas", {
      width: routes.width,
      height: routes.height,
      role: "img",
      "aria-label": titles[names[at]],
    });
    if (picture) canvas.getContext("2d").drawImage(picture, 0, 0);
    const arrow = (text, move, label) =>
      html("button", {
        type: "button",
        className: "btn icon",
        textContent: text,
        "aria-label": label,
        onclick: () => flip(move),
      });
    const score = routes.metrics[names[at]] ? `${number(routes.metrics[names[at]].psnr, 1)} dB` : "";
    dialog.replaceChildren(
      canvas,
      html("div", { className: "line" }, [
        arrow("\u2039", -1, "Previous route"),
        html("strong", { textContent: titles[names[at]] }),
        html("span", { className: "score", textContent: score }),
        arrow("\u203a", 1, "Next route"),
        html("button", { type: "button", className: "btn", textContent: "Close", onclick: () => dialog.close() }),
      ]),
    );
    if (!dialog.open) dialog.showModal();
    parts.say(`${titles[names[at]]}. ${score}`);
  }
  store.on(["full"], drawFull);

  return { copyLink, items };
})();
