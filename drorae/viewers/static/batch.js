// Batch viewer: the rows are all here; sorting, filtering and the histogram need no request.

const { find, htmlNode, replace, say, setAttributes, svgNode } = shared;
const { mean, number, percent, signedNumber } = lib;

const state = { value: null, key: "gain", down: true, search: "", bin: null };
element.__batch = state;

const BINS = 10; // on a phone each is as wide as a finger needs
const WIDTH = 720 / BINS;

function columns() {
  const routes = state.value.routes;
  return [
    { key: "name", title: "picture", read: (row) => row.name, show: (row) => row.name },
    ...routes.map((route) => ({
      key: `${route.name}-psnr`,
      title: `${route.title}, dB`,
      read: (row) => row.psnr[route.name],
      show: (row) => number(row.psnr[route.name], 2),
    })),
    ...routes.map((route) => ({
      key: `${route.name}-ssim`,
      title: `${route.title}, SSIM`,
      read: (row) => row.ssim[route.name],
      show: (row) => number(row.ssim[route.name], 3),
    })),
    ...(routes.length > 1
      ? [
          { key: "gain", title: "gain, dB", read: (row) => row.gain, show: (row) => signedNumber(row.gain, 2) },
          { key: "harmed", title: "harmed", read: (row) => row.harmed, show: (row) => percent(row.harmed) },
          {
            key: "layer",
            title: "layer",
            read: (row) => row.layer,
            show: (row) => (row.layer === null ? "" : String(row.layer)),
          },
        ]
      : []),
  ];
}

const ORDERS = [
  { title: "best gain first", key: "gain", down: true },
  { title: "worst gain first", key: "gain", down: false },
  { title: "most harmed first", key: "harmed", down: true },
];

// Limits of the histogram: from the smallest to the largest gain.
function limits() {
  const gains = state.value.rows.map((row) => row.gain).filter((gain) => gain !== null);
  const [low, high] = [Math.min(...gains), Math.max(...gains)];
  return { gains, low, step: (high - low || 1) / BINS };
}

function binOf(gain) {
  const { low, step } = limits();
  return Math.min(BINS - 1, Math.floor((gain - low) / step));
}

function visibleRows() {
  const { read } = columns().find((column) => column.key === state.key) || columns()[0];
  const wanted = state.search.toLowerCase();
  const kept = state.value.rows.filter(
    (row) =>
      row.name.toLowerCase().includes(wanted) &&
      (state.bin === null || (row.gain !== null && binOf(row.gain) === state.bin)),
  );
  const isMissing = (value) => value === null || value === undefined;
  return kept.sort((a, b) => {
    const [x, y] = [read(a), read(b)];
    if (isMissing(x) || isMissing(y)) return isMissing(x) - isMissing(y); // what has no number comes last
    const order = typeof x === "string" ? x.localeCompare(y) : x - y;
    return state.down ? -order : order;
  });
}

function drawHistogram() {
  const { gains, low, step } = limits();
  find("histogram-card").style.display = gains.length ? "" : "none";
  if (!gains.length) return;
  const counts = Array(BINS).fill(0);
  for (const gain of gains) counts[binOf(gain)] += 1;
  const most = Math.max(...counts);
  const digits = step < 0.1 ? 2 : 1;
  const nodes = counts.flatMap((count, bin) => {
    const height = (count / most) * 108;
    const [x, from, to] = [bin * WIDTH, low + bin * step, low + (bin + 1) * step];
    // the whole column is the button: the bar of a single picture is too low to be hit
    const pictures = count === 1 ? "1 picture" : `${count} pictures`;
    const button = svgNode("g", {
      class: state.bin === bin ? "bin chosen" : "bin",
      tabindex: 0,
      role: "button",
      "aria-pressed": state.bin === bin,
      "aria-label": `${pictures} from ${signedNumber(from, digits)} to ${signedNumber(to, digits)} dB`,
    });
    const choose = () => {
      state.bin = state.bin === bin ? null : bin;
      draw();
      tellRows();
    };
    button.onclick = choose;
    button.onkeydown = (event) => {
      if (["Enter", " "].includes(event.key)) {
        event.preventDefault();
        choose();
      }
    };
    button.append(svgNode("rect", { x: x + 1, y: 18, width: WIDTH - 2, height: 124, class: "column" }));
    button.append(svgNode("rect", { x: x + 2, y: 140 - height, width: WIDTH - 4, height: Math.max(height, 1), rx: 3 }));
    const label = count
      ? [svgNode("text", { x: x + WIDTH / 2, y: 134 - height, "text-anchor": "middle" }, String(count))]
      : [];
    // every other bin is named: on a phone they would touch
    const name =
      bin % 2
        ? []
        : [
            svgNode(
              "text",
              { x: x + WIDTH / 2, y: 164, "text-anchor": "middle" },
              signedNumber((from + to) / 2, digits),
            ),
          ];
    return [button, ...label, ...name];
  });
  replace(find("histogram"), nodes);
}

function drawTable() {
  const all = columns();
  replace(
    find("heads"),
    all.map((column) => {
      const [order, arrow] = state.down ? ["descending", " \u2193"] : ["ascending", " \u2191"];
      const sorted = column.key === state.key;
      const button = htmlNode("button", {
        type: "button",
        textContent: `${column.title}${sorted ? arrow : ""}`,
        onclick: () => {
          state.down = sorted ? !state.down : column.key !== "name";
          state.key = column.key;
          draw();
        },
      });
      return htmlNode("th", { scope: "col", "aria-sort": sorted ? order : "none" }, [button]);
    }),
  );
  replace(
    find("rows"),
    visibleRows().map((row) => {
      const button = {
        type: "button",
        title: row.name,
        disabled: row.error !== null,
        onclick: () => trigger("select", { index: row.index }),
      };
      const picture = row.thumbnail ? [htmlNode("img", { src: row.thumbnail, alt: "" })] : [];
      const name = htmlNode("span", { textContent: row.name });
      const cells =
        row.error === null
          ? all.slice(1).map((column) => htmlNode("td", { textContent: column.show(row) }))
          : [htmlNode("td", { colSpan: all.length - 1, className: "error", textContent: row.error })];
      return htmlNode("tr", { "data-index": row.index }, [
        htmlNode("th", { scope: "row" }, [htmlNode("button", button, [...picture, name])]),
        ...cells,
      ]);
    }),
    (button) => button.closest("tr").dataset.index,
  );
}

function drawHeadline() {
  const { rows, total, running, routes } = state.value;
  const good = rows.filter((row) => row.error === null);
  const gains = good.map((row) => row.gain).filter((gain) => gain !== null);
  const parts = [running ? `${rows.length} of ${total} pictures.` : `${rows.length} pictures.`];
  if (gains.length) {
    const worse = gains.filter((gain) => gain < 0).length;
    parts.push(
      `${routes[routes.length - 1].title} gains ${signedNumber(mean(gains), 2)} dB on average over the last layer; ${worse || "none"} of them got worse.`,
    );
  }
  if (good.length < rows.length) parts.push(`${rows.length - good.length} could not be read.`);
  find("headline").textContent = parts.join(" ");
  find("progress").hidden = !running;
  find("bar").style.width = `${(100 * rows.length) / Math.max(1, total)}%`;
  setAttributes(find("progress"), { "aria-valuenow": rows.length, "aria-valuemax": total });
}

function tellRows() {
  say(`${find("rows").children.length} of ${state.value.rows.length} pictures in the table.`);
}

function draw() {
  drawHeadline();
  drawHistogram();
  drawTable();
  find("all").hidden = state.bin === null;
  [...find("orders").children].forEach((button, i) => {
    button.setAttribute("aria-pressed", ORDERS[i].key === state.key && ORDERS[i].down === state.down);
  });
}

function load() {
  const { value } = props;
  find("root").hidden = !value?.rows?.length;
  state.value = value;
  if (!value?.rows?.length) return;
  if (value.rows.length === 1) state.bin = null; // another batch began
  URL.revokeObjectURL(find("csv").href);
  find("csv").href = URL.createObjectURL(new Blob([value.csv], { type: "text/csv" }));
  draw();
  if (!value.running) say(find("headline").textContent);
}

find("orders").replaceChildren(
  ...ORDERS.map((order) => {
    const onclick = () => {
      state.key = order.key;
      state.down = order.down;
      draw();
    };
    return htmlNode("button", { type: "button", textContent: order.title, onclick });
  }),
);
find("search").addEventListener("input", (event) => {
  state.search = event.target.value;
  if (state.value) {
    draw();
    tellRows();
  }
});
find("all").addEventListener("click", () => {
  const bin = state.bin;
  state.bin = null;
  draw();
  tellRows();
  find("histogram").querySelectorAll(".bin")[bin].focus(); // the button is gone
});
watch("value", load);
watch("stopped", () => {
  if (!state.value?.running) return;
  state.value = { ...state.value, running: false };
  draw();
});
load();
