// Many photos: dropped or chosen, sent one by one, read row by row. Sorting, filtering and the histogram ask for nothing.

const { html, say, save } = parts;
const { number, percent, signedNumber, mean } = lib;
const { state } = store;
const find = (name) => element.querySelector(`[data-part="${name}"]`);
const { most, endings } = props.config;

// What runs or ran: `entries` in the order of the files, with a `row` once it is there.
let run = null;
let numbered = 0;
let routes = [];
let lines = []; // of the table as CSV
const order = { key: "gain", down: true };
const filter = { text: "", bin: null }; // bin: [from, to] in dB
const start = { headline: find("headline").textContent, subtitle: find("subtitle").textContent };

find("limit").textContent = `Up to ${most} at once. They are deleted on the server within two hours.`;

// Files, of folders only those that can be pictures.

const named = (file, path) => ({ file, name: (path || file.webkitRelativePath || file.name).replace(/^\//, "") });
const isPicture = ({ name }) => {
  const last = name.split("/").pop().toLowerCase();
  return !last.startsWith(".") && endings.some((ending) => last.endsWith(ending));
};

async function within(entry) {
  if (entry.isFile) return [named(await new Promise((found, lost) => entry.file(found, lost)), entry.fullPath)];
  const reader = entry.createReader();
  const all = [];
  for (;;) {
    const some = await new Promise((found, lost) => reader.readEntries(found, lost)); // a hundred at a time
    if (!some.length) break;
    for (const each of some) all.push(...(await within(each)));
  }
  return all.filter(isPicture);
}

async function filesIn({ items, files }) {
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...files].map((file) => named(file));
  return (await Promise.all(entries.map(within))).flat();
}

function complain(text) {
  find("problem").hidden = !text;
  find("problem").textContent = text ?? "";
}

// Send the files one by one, then ask for their rows.
async function begin(entries) {
  if (!entries.length) {
    complain("There are no pictures in there. Choose others.");
    return;
  }
  if (entries.length > most) {
    complain(`${entries.length} photos are too many; choose at most ${most}.`);
    return;
  }
  complain(null);
  halt();
  numbered += 1;
  const mine = { id: numbered, entries, sent: 0, done: 0, running: true, model: store.config.model.name };
  run = mine;
  for (const entry of entries) entry.row = null;
  routes = [];
  lines = [];
  filter.bin = null;
  find("rows").replaceChildren();
  draw();
  for (const entry of entries) {
    if (!entry.example && !entry.path) await send(entry);
    if (run !== mine || !mine.running) return;
    mine.sent += 1;
    draw();
  }
  mine.asked = entries.filter((entry) => entry.example || entry.path);
  if (!mine.asked.length) {
    finish();
    return;
  }
  store.request("photos", {
    id: mine.id,
    files: mine.asked.map(({ example, path }) => (example ? { example } : { path })),
    names: mine.asked.map(({ name }) => name),
  });
}

async function send(entry) {
  try {
    entry.path = (await upload(entry.file)).path;
  } catch (error) {
    entry.row = { name: entry.name, psnr: {}, gain: null, harmed: null, layer: null, thumbnail: null };
    entry.row.error = `It could not be sent. ${lib.refusal(error) ?? "It may be larger than this page takes."}`;
  }
}

function halt() {
  if (run?.running && run.asked) store.halt("photos");
  if (run) run.running = false;
}

function finish() {
  run.running = false;
  draw();
  say(find("headline").textContent);
}

store.hear("photos", ({ id, value, error }) => {
  if (id !== run?.id || !run.running) return; // of a run that was stopped
  if (error) {
    complain(error);
    finish();
    return;
  }
  value.rows.forEach((row, i) => {
    run.asked[i].row ??= row;
  });
  [routes, lines] = [value.routes, value.csv];
  run.done = value.done;
  if (value.done === value.total) finish();
  else draw();
});

// The table.

const columns = () => [
  { key: "name", title: "Photo", read: (row) => row.name },
  ...routes.map(({ name, title }) => ({
    key: name,
    title: { rae: "Last layer, dB", phase2: "Same decoder, dB", drorae: "All layers, dB" }[name] ?? title,
    read: (row) => row.psnr[name],
    show: (value) => (value === null ? "identical" : number(value, 1)),
  })),
  ...(routes.length > 1
    ? [
        { key: "gain", title: "Gain, dB", read: (row) => row.gain, show: (value) => signedNumber(value, 1) },
        { key: "harmed", title: "Harmed", read: (row) => row.harmed, show: (value) => percent(value) },
      ]
    : []),
  ...(rowsThere().some((row) => row.layer !== null)
    ? [{ key: "layer", title: "Used most", read: (row) => row.layer, show: (value) => `layer ${value}` }]
    : []),
];
const rowsThere = () => (run ? run.entries.flatMap(({ row }) => row ?? []) : []);
const measured = (rows) => rows.filter((row) => !row.error);
const gainsOf = (rows) => rows.flatMap(({ gain }) => gain ?? []);
const missing = (value) => value === null || value === undefined;

function shownEntries() {
  const all = columns();
  const { read } = all.find(({ key }) => key === order.key) ?? all[0];
  const kept = run.entries.filter(({ row }) => {
    if (!row?.name.toLowerCase().includes(filter.text)) return false;
    return !filter.bin || (row.gain !== null && row.gain >= filter.bin[0] && row.gain < filter.bin[1]);
  });
  return kept.sort((a, b) => {
    const [x, y] = [read(a.row), read(b.row)];
    if (missing(x) || missing(y)) return missing(x) - missing(y); // what has no number comes last
    const sign = typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
    return order.down ? -sign : sign;
  });
}

function drawHeads(all) {
  const heads = find("heads");
  if ([...heads.children].map(({ dataset }) => dataset.key).join() !== all.map(({ key }) => key).join()) {
    heads.replaceChildren(
      ...all.map(({ key, title }) => {
        const button = html("button", { type: "button" });
        button.addEventListener("click", () => {
          order.down = order.key === key ? !order.down : key !== "name";
          order.key = key;
          draw();
        });
        return html("th", { scope: "col", "data-key": key, title }, button);
      }),
    );
    for (const entry of run.entries) entry.line = null; // their cells were of other columns
    find("rows").replaceChildren();
  }
  all.forEach(({ key, title }, i) => {
    const sorted = key === order.key;
    heads.children[i].setAttribute("aria-sort", sorted ? (order.down ? "descending" : "ascending") : "none");
    heads.children[i].firstChild.textContent = `${title}${sorted ? (order.down ? " \u2193" : " \u2191") : ""}`;
  });
}

function open({ file, example }) {
  if (!example) {
    store.openFile(file);
    return;
  }
  store.go(state.explored);
  store.show(example);
}

function lineOf(entry, all) {
  const { row } = entry;
  const picture = row.thumbnail ? html("img", { src: row.thumbnail, alt: "" }) : html("b");
  const button = html("button", { type: "button", title: row.name, disabled: Boolean(row.error) }, [
    picture,
    html("span", { textContent: row.name }),
  ]);
  button.addEventListener("click", () => open(entry));
  const cells = row.error
    ? [html("td", { className: "bad", colSpan: all.length - 1, textContent: row.error })]
    : all.slice(1).map((column) => html("td", { "data-key": column.key }, cell(column, row)));
  return html("tr", {}, [html("th", { scope: "row" }, button), ...cells]);
}

function cell({ key, read, show }, row) {
  const value = read(row);
  const text = value === undefined ? "" : show(value);
  if (key !== "gain" || value === null) return text;
  return html("span", { className: "gain" }, [html("s", { className: value < 0 ? "worse" : "" }), text]);
}

function drawTable() {
  const all = columns();
  drawHeads(all);
  const body = find("rows");
  const shown = shownEntries();
  const widest = Math.max(...gainsOf(rowsThere()).map(Math.abs), 1e-9);
  shown.forEach((entry, i) => {
    entry.line ??= lineOf(entry, all);
    const bar = entry.line.querySelector("s");
    if (bar) bar.style.width = `${Math.max(2, (100 * Math.abs(entry.row.gain)) / widest)}%`;
    if (body.children[i] !== entry.line) body.insertBefore(entry.line, body.children[i] ?? null);
  });
  while (body.children.length > shown.length) body.lastChild.remove();
  const rows = measured(shown.map(({ row }) => row));
  find("mean").parentElement.hidden = !rows.length;
  find("mean").replaceChildren(
    html("th", { scope: "row", textContent: `Mean of ${words.photos(rows.length)}` }),
    ...all.slice(1).map(({ key, read, show }) => {
      const values = key === "layer" ? [] : rows.map(read).filter((value) => !missing(value));
      return html("td", { "data-key": key, textContent: values.length ? show(mean(values)) : "" });
    }),
  );
  const there = rowsThere().length;
  find("rowcount").textContent =
    shown.length === there ? words.capital(`${words.rows(there)}`) : `${shown.length} of ${words.rows(there)}`;
}

// The histogram: steps of round numbers, with an edge at zero, so that a column helped or harmed.

function binsOf(gains) {
  const [low, high] = [Math.min(...gains, 0), Math.max(...gains, 0)];
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20].find((size) => (high - low) / size <= 12) ?? 50;
  const from = Math.floor(low / step);
  const to = Math.max(from + 1, Math.floor(high / step) + 1);
  return Array.from({ length: to - from }, (_, i) => [(from + i) * step, (from + i + 1) * step]);
}

function drawBins() {
  const gains = gainsOf(rowsThere());
  find("gains").hidden = !gains.length;
  find("all").hidden = filter.bin === null;
  if (!gains.length) return;
  const bins = binsOf(gains);
  const node = find("bins");
  const layout = bins.join(";");
  if (node.dataset.layout !== layout) {
    node.dataset.layout = layout;
    filter.bin = null;
    node.replaceChildren(...bins.map(column));
  }
  const counts = bins.map(([from, to]) => gains.filter((gain) => gain >= from && gain < to).length);
  const top = Math.max(...counts);
  bins.forEach(([from, to], i) => {
    const button = node.children[i];
    const range = `${signedNumber(from, 1)} to ${signedNumber(to, 1)} dB`;
    button.setAttribute("aria-label", `${words.photos(counts[i])} from ${range}`);
    button.setAttribute("aria-pressed", filter.bin?.[0] === from);
    button.toggleAttribute("data-none", !counts[i]);
    button.firstChild.textContent = counts[i] || "";
    button.children[1].style.height = `${(96 * counts[i]) / top}px`;
  });
}

function column([from, to], i, bins) {
  const digits = to - from < 1 ? 1 : 0;
  const edge = (value, className) => html("i", { className, textContent: signedNumber(value, digits) });
  const last = i === bins.length - 1;
  const button = html("button", { type: "button" }, [
    html("span"),
    html("u"),
    edge(from, ""),
    ...(last ? [edge(to, "end")] : []),
  ]);
  button.toggleAttribute("data-worse", from < 0);
  button.addEventListener("click", () => {
    filter.bin = filter.bin?.[0] === from ? null : [from, to];
    draw();
    tellRows();
  });
  return button;
}

const tellRows = () => say(`${find("rowcount").textContent} in the table.`);

function draw() {
  find("acts").hidden = !run;
  find("drop").hidden = Boolean(run);
  find("results").hidden = !rowsThere().length;
  find("going").hidden = !run?.running;
  if (!run) return;
  const total = run.entries.length;
  const sending = run.running && run.sent < total;
  const [at, all] = sending ? [run.sent, total] : [run.done, run.asked?.length ?? total];
  find("stop").hidden = !run.running;
  find("again").hidden = run.running;
  find("count").textContent = sending ? `Sending ${at + 1} of ${all}` : `${at} of ${words.photos(all)}`;
  find("progress").setAttribute("aria-valuenow", at);
  find("progress").setAttribute("aria-valuemax", all);
  find("progress").firstChild.style.width = `${(100 * at) / Math.max(1, all)}%`;
  const rows = rowsThere();
  const good = measured(rows);
  const psnr = good.flatMap(({ psnr }) => psnr.rae ?? []);
  find("headline").textContent = rows.length
    ? words.manyPhotos({ gains: gainsOf(good), psnr, photos: good.length, fused: routes.length > 1 })
    : run.running
      ? `Reading ${words.photos(total)}`
      : start.headline;
  find("subtitle").textContent = words.manyMore({
    bad: rows.length - good.length,
    stopped: !run.running && rows.length < total ? total : 0,
    other: run.model === store.config.model.name ? null : run.model,
  });
  if (!rows.length) return;
  drawBins();
  drawTable();
}

// Controls.

find("choose").addEventListener("click", () => find("files").click());
find("folder").addEventListener("click", () => find("directory").click());
find("more").addEventListener("click", () => {
  halt();
  run = null;
  find("headline").textContent = start.headline;
  find("subtitle").textContent = start.subtitle;
  complain(null);
  draw();
  find("choose").focus();
});
find("examples").addEventListener("click", () =>
  begin(store.config.examples.map(({ name, title }) => ({ example: name, name: title }))),
);
find("files").addEventListener("change", () => {
  const chosen = [...find("files").files].map((file) => named(file));
  find("files").value = "";
  begin(chosen);
});
find("directory").addEventListener("change", () => {
  const chosen = [...find("directory").files].map((file) => named(file)).filter(isPicture);
  find("directory").value = "";
  begin(chosen);
});
find("stop").addEventListener("click", () => {
  halt();
  draw();
  say(`Stopped. ${find("headline").textContent}`);
  find("again").focus();
});
find("again").addEventListener("click", () => begin(run.entries));
find("search").addEventListener("input", (event) => {
  filter.text = event.target.value.toLowerCase();
  draw();
  tellRows();
});
find("all").addEventListener("click", () => {
  const chosen = find("bins").querySelector('[aria-pressed="true"]');
  filter.bin = null;
  draw();
  tellRows();
  chosen?.focus(); // the button is gone
});
find("csv").addEventListener("click", (event) => {
  event.preventDefault();
  save("drorae-photos.csv", new Blob(lines, { type: "text/csv" }));
});

// While this page is open, files are dropped here, wherever they fall.
const here = (event) => state.view === "photos" && [...(event.dataTransfer?.types ?? [])].includes("Files");
const over = (event) => {
  if (!here(event)) return;
  event.preventDefault();
  find("root").toggleAttribute("data-over", true);
};
document.addEventListener("dragenter", over);
document.addEventListener("dragover", over);
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) find("root").toggleAttribute("data-over", false);
});
document.addEventListener("drop", async (event) => {
  if (!here(event)) return;
  event.preventDefault();
  find("root").toggleAttribute("data-over", false);
  begin(await filesIn(event.dataTransfer));
});
store.on(["config"], draw);
draw();
