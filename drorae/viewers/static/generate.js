// Generate viewer: samples while they are made and when they are done. Choosing one and its film need no request.

const { find, htmlNode, say, setAttributes } = shared;
const { number } = lib;

const TITLES = {
  none: "Unguided",
  cfg: "Classifier-free guidance",
  autoguidance: "AutoGuidance",
};
const DECODERS = { original: "Original decoder", finetuned: "Finetuned decoder" };
const state = { value: null, row: 0, sample: 0 };
element.__samples = state;

const best = () => state.value.decoders[state.value.decoders.length - 1];
const flowTime = (t) => `t = ${number(t, 2)}`;

function rowTitle(row) {
  if (!row.settings) return { guided: "Guided", unguided: "Unguided", other: "The other text" }[row.name];
  const { guidance, scale, prompt, negative } = row.settings[0];
  const how = guidance === "none" ? TITLES.none : `${TITLES[guidance]}, scale ${scale}`;
  const away = negative ? `, away from "${negative}"` : "";
  return row.name === "other" ? `"${prompt}": ${how.toLowerCase()}${away}` : `${how}${away}`;
}

function drawHeadline() {
  const { running, stopped, label, step, count, time, seeds, seconds } = state.value;
  const name = htmlNode("strong", { textContent: label });
  const pictures = seeds.length === 1 ? "one picture" : `${seeds.length} pictures`;
  const text = stopped
    ? `: stopped after step ${step} of ${count}. What you see is where these steps would have ended.`
    : running
      ? `: step ${step} of ${count}, ${flowTime(time)}. What you see is where these steps would end.`
      : `: ${pictures} per row, ${number(seconds, 1)} s in all.`;
  find("headline").replaceChildren(name, text);
  if (!running || stopped) say(find("headline").textContent); // every step would never end
  find("meter").hidden = !running || stopped;
  find("bar").style.width = running ? `${(100 * step) / count}%` : "0";
  setAttributes(find("meter"), { "aria-valuenow": running ? step : 0, "aria-valuemax": running ? count : 1 });
}

function drawRows() {
  const { running, rows, seeds, label } = state.value;
  find("rows").replaceChildren(
    ...rows.map((row, r) => {
      const pictures = running ? row.pictures : row.pictures[best()];
      const samples = pictures.map((source, i) => {
        const picture = htmlNode("img", { className: "pixels", src: source, alt: `${label}, seed ${seeds[i]}` });
        const button = { type: "button", className: "sample", disabled: running, "data-row": r, "data-sample": i };
        return htmlNode("button", button, [picture, htmlNode("span", { textContent: `seed ${seeds[i]}` })]);
      });
      const few = pictures.length <= 4 ? "samples few" : "samples";
      return htmlNode("section", { className: "row", "data-name": row.name }, [
        htmlNode("h3", { textContent: rowTitle(row) }),
        htmlNode("div", { className: few }, samples),
      ]);
    }),
  );
}

function drawDetail() {
  find("detail").style.display = state.value.running ? "none" : "";
  if (state.value.running) return;
  const { rows, seeds, label, decoders } = state.value;
  if (state.row >= rows.length) state.row = 0;
  if (state.sample >= seeds.length) state.sample = 0;
  const row = rows[state.row];
  for (const button of element.querySelectorAll(".sample")) {
    const chosen = Number(button.dataset.row) === state.row && Number(button.dataset.sample) === state.sample;
    button.setAttribute("aria-pressed", chosen);
  }
  const frames = [...row.film[state.sample], row.pictures[best()][state.sample]];
  find("film").replaceChildren(
    ...frames.map((source, i) =>
      htmlNode("figure", {}, [
        htmlNode("img", { className: "pixels", src: source, alt: `estimate at ${flowTime(row.times[i])}` }),
        htmlNode("figcaption", { textContent: flowTime(row.times[i]) }),
      ]),
    ),
  );
  find("decoders").replaceChildren(
    ...decoders.map((decoder) => {
      const picture = htmlNode("img", {
        className: "pixels",
        src: row.pictures[decoder][state.sample],
        alt: `${label}, seed ${seeds[state.sample]}, ${DECODERS[decoder].toLowerCase()}`,
      });
      const note = decoder === "finetuned" ? "learned the fused latent" : "never saw a fused latent";
      return htmlNode("figure", { "data-decoder": decoder }, [
        picture,
        htmlNode("figcaption", {}, [htmlNode("b", { textContent: DECODERS[decoder] }), note]),
      ]);
    }),
  );
  const settings = { ...row.settings[state.sample], decoder: best() };
  find("settings").replaceChildren(
    ...Object.entries(settings).flatMap(([key, value]) => [
      htmlNode("dt", { textContent: key }),
      htmlNode("dd", { textContent: String(value) }),
    ]),
  );
  find("save").href = row.pictures[best()][state.sample];
  const name = label
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .slice(0, 60);
  find("save").download = `${name}-seed${seeds[state.sample]}-${row.name}.png`;
}

function draw() {
  const before = state.value;
  state.value = props.value;
  if (state.value?.stopped) state.value = before && { ...before, stopped: before.running };
  find("root").hidden = !state.value;
  if (!state.value) return;
  if (state.value.running && !state.value.rows.length) {
    // a step without preview: what the last one showed stays
    state.value = { ...state.value, rows: before?.running && !before.stopped ? before.rows : [] };
  }
  drawHeadline();
  drawRows();
  drawDetail();
}

element.addEventListener("click", (event) => {
  const button = event.target.closest(".sample");
  if (button && !state.value.running) {
    state.row = Number(button.dataset.row);
    state.sample = Number(button.dataset.sample);
    drawDetail();
  } else if (event.target.closest('[data-part="use"]') && !state.value.running) {
    trigger("select", { picture: state.value.rows[state.row].pictures[best()][state.sample] });
  }
});

watch("value", draw);
draw();
