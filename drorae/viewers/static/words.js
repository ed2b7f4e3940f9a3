// The sentences of the page that hold numbers: values in, text out.

// biome-ignore lint/correctness/noUnusedVariables: the views use it
const words = (() => {
  const { errorChange, meterPlace, number, signedNumber } = lib;
  const NUMBERS = [
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
  ];
  const inWords = (count) => NUMBERS[count] ?? String(count);
  const capital = (text) => text[0].toUpperCase() + text.slice(1);
  const list = (items) =>
    items.length < 2 ? items.join("") : `${items.slice(0, -1).join(", ")} and ${items[items.length - 1]}`;
  const groupDigits = (count) => String(count).replace(/\B(?=(\d{3})+$)/g, ",");

  // What fusion did to a photo, by its gain in dB; null without fusion.
  function headline(gain, layers) {
    if (gain === null) return "This model paints from its last layer alone.";
    const all = inWords(layers);
    if (gain > 3) return `The last layer forgets this photo. ${capital(all)} layers remember it.`;
    if (gain >= 0) return `${capital(all)} layers bring some of it back.`;
    return `Here ${all} layers do worse than the last.`;
  }

  // "65 % less error (+9.1 dB)."; of that what the layers gain with the decoder untouched, and what a new decoder adds:
  // "65 % less error (+9.1 dB: layers +6.2, new decoder +2.9)."
  function certainty(gain, layers = null) {
    const change = errorChange(gain);
    const text = change === 0 ? "The same error" : `${Math.abs(change)} % ${change < 0 ? "less" : "more"} error`;
    const whole = signedNumber(gain, 1);
    if (layers === null) return [text, ` (${whole} dB).`];
    const round = (value) => Math.round(10 * value) / 10; // so that the parts add up as they are read
    const added = signedNumber(round(gain) - round(layers), 1);
    return [text, ` (${whole} dB: layers ${signedNumber(layers, 1)}, new decoder ${added}).`];
  }

  const rank = ({ below, photos }) => `More than on ${groupDigits(below)} of ${groupDigits(photos)} photos.`;

  // What stands beside all layers, and is closer: headline and what to keep in mind. Each of `closer` has a title and the
  // numbers it stores; `stored` are those of all layers.
  function tokenizers(closer, stored) {
    const same = "The same crop through other tokenizers, with the size of what each one stores.";
    if (!closer.length) return ["Closer costs numbers. Count both.", same];
    const less = closer.some((each) => each.stored < stored);
    return [
      `${list(closer.map(({ title }) => title))} ${closer.length > 1 ? "come" : "comes"} closer${less ? ", with fewer numbers" : ""}.`,
      `${same} Those made for pixels alone store pixels well; this latent also keeps what a vision encoder knows.`,
    ];
  }

  // What a change of layers or strength did, in dB against the trained reconstruction.
  function whatIf(change, { off, beta, trained, layers, place = "" }) {
    const grows = errorChange(change);
    const effect = (start) => {
      if (grows > 0) return `${start} the error grows by ${grows} %.`;
      if (grows < 0) return `${start} this photo comes out better: ${-grows} % less error.`;
      return `${start} hardly anything changes.`;
    };
    const named = off.map((layer) => layer + 1);
    if (beta === 0 && !off.length) return `With no correction, only the last layer is left${place}.`;
    const parts = [];
    if (off.length === layers - 1) {
      const [only] = [...Array(layers).keys()].filter((layer) => !off.includes(layer));
      parts.push(`with layer ${only + 1} alone`);
    } else if (off.length > 3) parts.push(`without ${inWords(off.length)} layers`);
    else if (off.length) parts.push(`without ${off.length > 1 ? "layers" : "layer"} ${list(named)}`);
    if (beta !== trained) parts.push(`at strength ${number(beta, 2)}`);
    if (!parts.length) return "Take a layer away. What goes with it?";
    return effect(`${capital(parts.join(" "))}${place},`);
  }

  // The sentence of a layer's map: mean of its share over the photo, and its correlation with texture.
  function layerUse(layer, mean, correlation) {
    const name = `Layer ${layer + 1} is `;
    if (mean < -0.04) return `${name}held back nearly everywhere.`;
    if (Math.abs(mean) < 0.04) return `${name}hardly used in this photo.`;
    if (correlation !== null && correlation > 0.5) return `${name}added where there is texture.`;
    if (correlation !== null && correlation < -0.5) return `${name}added where it is smooth.`;
    return `${name}added everywhere.`;
  }

  // In how many of a hundred places something resembles one; in a map by its name, the last layer, and the latent.
  function resembles(name, places, last, latent) {
    const said = { z_base: "the last layer", z_fuse: "the mix", z_final: "the latent" };
    const others = [
      ["z_base", "in the last layer", last],
      ["z_final", "in the latent", latent],
    ].filter(([other, , count]) => other !== name && count !== null);
    const rest = others.slice(0, 1).map(([, where, count]) => `; ${where} ${Math.round(count)}`);
    return `In ${said[name] ?? `layer ${name}`} this place resembles ${Math.round(places)} of 100 places${rest.join("")}.`;
  }

  // What Pearson's coefficient of a layer's signed share and the texture means; `added`: share of the places where it is
  // added. A layer that is held back and whose share falls is held back more.
  function texture(layer, coefficient, added) {
    if (coefficient === null) return `Layer ${layer + 1} is used alike everywhere: there is no coefficient.`;
    const start = `Layer ${layer + 1}: r = ${signedNumber(coefficient, 2)}.`;
    const [more, less] = coefficient > 0 ? ["textured", "smooth"] : ["smooth", "textured"];
    if (Math.abs(coefficient) < 0.2) return `${start} No clear relation to texture here.`;
    if (added >= 0.9) return `${start} It is added more where the photo is ${more}.`;
    if (added <= 0.1) return `${start} It is held back more where the photo is ${less}.`;
    return `${start} Its weight ${coefficient > 0 ? "rises" : "falls"} with texture.`;
  }

  const WORSE = -0.02; // share of the error below which more is wrong than before

  // How much came back, in words: a share of the last layer's error.
  function howMuch(share) {
    const steps = [
      [0.02, "nothing"],
      [0.08, "hardly any"],
      [0.15, "a tenth"],
      [0.225, "a fifth"],
      [0.29, "a quarter"],
      [0.42, "a third"],
      [0.58, "half"],
      [0.71, "two thirds"],
      [0.9, "most"],
    ];
    return steps.find(([limit]) => share < limit)?.[1] ?? "nearly all";
  }

  // What came back in the large shapes and in the finest detail.
  function bySize(coarse, fine) {
    if (coarse === null || fine === null) return "The last layer lost nothing here, so nothing could come back.";
    if (coarse < WORSE && fine < WORSE) return "All sizes of detail got worse.";
    if (coarse < WORSE) return `The large shapes got worse; ${howMuch(fine)} of the finest detail came back.`;
    const start = `${capital(howMuch(coarse))} of the large shapes came back`;
    return fine < WORSE ? `${start}; the finest detail got worse.` : `${start}, ${howMuch(fine)} of the finest detail.`;
  }

  const odd = (share) => `${Math.round(100 * share)} of 100 places odd`;

  // What the meter says of a frame: a question and its answer, what stands at the ends, and where the needle is, percent.
  const VERDICTS = { inside: "yes", edge: "partly", outside: "no", yes: "yes", partly: "partly", no: "no" };
  function meter({ verdict, beyond = null, departure, limits }) {
    const measured = departure !== undefined;
    const [question, near, far] = measured
      ? ["Does the picture hold up?", "as trained", "another picture"]
      : ["Does the decoder know this?", "as in photos", "never seen"];
    const known = VERDICTS[verdict];
    const [value, bounds] = measured ? [departure, limits] : [beyond, [0.08, 0.25]]; // shares of odd places
    const place = known && bounds && value !== null ? meterPlace(value, bounds) : null;
    const answer = known ? `${capital(known)}.` : "Not measured for this model.";
    return {
      question,
      near,
      far,
      answer,
      more: known && !measured && beyond !== null ? ` ${odd(beyond)}.` : "",
      place,
    };
  }

  // How far the frames of a photo are.
  function oneByOne(frames) {
    return frames ? `Layers one by one: ${frames.done} of ${frames.total}` : "Layers one by one: not begun yet";
  }

  // How many numbers are kept, measured by those of the pixels: `ratio` times as few.
  const PARTS = [
    "",
    "",
    "half",
    "a third",
    "a quarter",
    "a fifth",
    "a sixth",
    "a seventh",
    "an eighth",
    "a ninth",
    "a tenth",
  ];
  function ofThePixels(ratio) {
    if (Math.abs(ratio - 1) < 0.02) return "as many";
    if (ratio < 1)
      return Math.abs(ratio - 0.5) < 0.01 ? "twice as many" : `${Number((1 / ratio).toFixed(1))} times as many`;
    const whole = Math.round(ratio);
    if (Math.abs(ratio / whole - 1) > 0.04) return `${number(100 / ratio, ratio > 20 ? 1 : 0)} %`;
    return PARTS[whole] ?? `1/${whole}`;
  }

  const paintedPlaces = (count, places) =>
    count ? `Only in ${groupDigits(count)} of ${groupDigits(places)} places.` : "In the whole picture.";

  // Generate: the settings as one line; `guidance` is a name such as "AutoGuidance", or null.
  function settings({ steps, guidance, scale, seed, count, negative, other }) {
    const how = guidance && Number(scale) !== 1 ? `${guidance} ${scale}` : "no guidance";
    const seeds = count === null ? [] : [count === 1 ? `seed ${seed}` : `seeds from ${seed}`];
    const more = [...(negative ? [`away from \u201c${negative}\u201d`] : []), ...(other ? ["another text"] : [])];
    return `Settings: ${[`${steps} ${steps === 1 ? "step" : "steps"}`, how, ...seeds, ...more].join(", ")}`;
  }

  // Whose choice the pictures are: [strong, rest].
  function choiceOf(shown, total, lookedAt) {
    if (lookedAt) return [`${capital(inWords(shown))} picked`, ` by us out of ${lookedAt} seeds.`];
    if (total === 1) return ["One seed", ", as it came."];
    if (shown === total) return [`All ${inWords(total)} seeds`, ", as they came."];
    return [`${capital(inWords(shown))} of ${inWords(total)}`, " seeds, as they came."];
  }

  const running = (step, count) => `Step ${step} of ${count}. You see where these steps would end.`;
  const stopped = (step, count) =>
    step ? `Stopped after step ${step} of ${count}. You see where these steps would have ended.` : "Stopped.";
  const noise = (time) => (time > 0 ? `${Math.round(100 * time)} % noise` : "picture");

  const ahead = (count) => (count === 1 ? "1 other is before you." : `${groupDigits(count)} others are before you.`);
  const photos = (count) => (count === 1 ? "1 photo" : `${groupDigits(count)} photos`);
  const rows = (count) => (count === 1 ? "1 row" : `${groupDigits(count)} rows`);

  function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    const half = Math.floor(sorted.length / 2);
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  }

  // What fusion did to many photos: their gains in dB, or what the last layer keeps where there is no fusion.
  function manyPhotos({ gains, psnr, photos: count, fused }) {
    if (!count) return "None of these files could be read.";
    if (!fused || !gains.length) {
      const start = `${capital(photos(count))} from the last layer alone`;
      return psnr.length ? `${start}, ${number(median(psnr), 1)} dB in the middle.` : `${start}, identical.`;
    }
    const closer = gains.filter((gain) => gain > 0).length;
    const middle = `${number(Math.abs(median(gains)), 1)} dB`;
    if (gains.length === 1)
      return closer ? `Fusion came closer to this photo, by ${middle}.` : `Fusion came no closer to this photo.`;
    if (!closer) return `Fusion came closer on none of ${photos(gains.length)}.`;
    const most =
      closer === gains.length ? `all ${photos(closer)}` : `${groupDigits(closer)} of ${photos(gains.length)}`;
    if (median(gains) <= 0) return `Fusion came closer on ${most}, and on most it did not.`;
    return `Fusion came closer on ${most}, by ${middle} in the middle.`;
  }

  // What else is to be said: files that could not be read, of how many the rest was left, which other model it was.
  function manyMore({ bad, stopped, other }) {
    const told = ["All layers and their own decoder, against the last layer alone."];
    if (bad) told.push(`${bad === 1 ? "1 file" : `${groupDigits(bad)} files`} could not be read.`);
    if (stopped) told.push(`Stopped before all ${photos(stopped)} were read.`);
    if (other !== null) told.push(`These numbers are of ${other}.`);
    return told.join(" ");
  }

  return {
    ahead,
    bySize,
    capital,
    certainty,
    groupDigits,
    headline,
    howMuch,
    inWords,
    layerUse,
    list,
    manyMore,
    manyPhotos,
    meter,
    noise,
    ofThePixels,
    oneByOne,
    paintedPlaces,
    photos,
    choiceOf,
    rank,
    resembles,
    rows,
    running,
    settings,
    stopped,
    texture,
    tokenizers,
    whatIf,
  };
})();
