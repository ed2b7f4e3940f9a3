// Strength: the curve over the slider shows what will come.

function drawStrength({ psnr }) {
  const beta = strength();
  const slider = find("strength");
  slider.value = beta;
  const text = `${number(beta, 2)}${asTrained() ? ", as trained" : ""}`;
  slider.setAttribute("aria-valuetext", text);
  find("strength-value").replaceChildren(
    html("b", { textContent: number(beta, 2) }),
    ...(asTrained() ? [" as trained"] : []),
  );
  const all = latestFrames();
  const y = (change) => (100 * (CURVE.top - clamp(change, CURVE.bottom, CURVE.top))) / (CURVE.top - CURVE.bottom);
  const points = (all?.frames.strengths ?? [])
    .map((frame, i) => [100 * all.frames.betas[i], frame.psnr === null ? null : y(frame.psnr - psnr)])
    .filter(([, at]) => at !== null);
  const line = points.map((point) => point.join(",")).join(" ");
  const shapes = [];
  if (points.length > 1) {
    const [first, last] = [points[0][0], points[points.length - 1][0]];
    shapes.push(svg("polygon", { class: "hill", points: `${first},100 ${line} ${last},100` }));
  }
  const usage = store.config.usage;
  if (usage?.strengths?.length) {
    const rows = usage.betas.map((each, i) => [each, usage.strengths[i].change]);
    rows.push([trainedStrength(), { q10: 0, q90: 0 }]);
    rows.sort((a, b) => a[0] - b[0]);
    const side = (name) => rows.map(([each, change]) => `${100 * each},${y(change[name])}`);
    shapes.push(svg("polygon", { class: "usual", points: [...side("q90"), ...side("q10").reverse()].join(" ") }));
  }
  if (points.length > 1)
    shapes.push(svg("polyline", { class: "line", points: line, "vector-effect": "non-scaling-stroke" }));
  const here = points.find(([x]) => same(x, 100 * beta));
  if (here) {
    const [x, top] = here;
    shapes.push(svg("line", { class: "here", x1: x, x2: x, y1: top, y2: 110, "vector-effect": "non-scaling-stroke" }));
  }
  find("curve").replaceChildren(...shapes);
}

const nearest = (beta) => {
  const betas = store.data("frames")?.betas;
  if (!betas) return Math.round(20 * beta) / 20;
  return betas.reduce((a, b) => (Math.abs(b - beta) < Math.abs(a - beta) ? b : a));
};
const choose = (beta) => store.set({ beta: same(beta, trainedStrength()) ? null : beta });
find("strength").addEventListener("input", (event) => choose(nearest(Number(event.target.value))));
find("strength").addEventListener("keydown", (event) => {
  const betas = store.data("frames")?.betas;
  if (!betas) return;
  const index = betas.findIndex((beta) => same(beta, nearest(strength())));
  const next = {
    ArrowLeft: index - 1,
    ArrowDown: index - 1,
    ArrowRight: index + 1,
    ArrowUp: index + 1,
    Home: 0,
    End: betas.length - 1,
  }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  choose(betas[clamp(next, 0, betas.length - 1)]);
});
