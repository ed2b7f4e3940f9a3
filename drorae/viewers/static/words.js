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
  const grouped = (count) => String(count).replace(/\B(?=(\d{3})+$)/g, ",");

  // What fusion did to a photo, by its gain in dB; null without fusion.
  function headline(gain, layers) {
    if (gain === null) return "This model paints from its last layer alone.";
    const all = inWords(layers);
    if (gain > 3) return `The last layer forgets this photo. ${capital(all)} layers remember it.`;
    if (gain >= 0) return `${capital(all)} layers bring some of it back.`;
    return `Here ${all} layers do worse than the last.`;
  }

  // "65 % less error (+9.1 dB)."
  function certainty(gain) {
    const change = errorChange(gain);
    const text = change === 0 ? "The same error" : `${Math.abs(change)} % ${change < 0 ? "less" : "more"} error`;
    return [text, ` (${signedNumber(gain, 1)} dB).`];
  }

  const rank = ({ below, photos }) => `More than on ${grouped(below)} of ${grouped(photos)} photos.`;

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
    return { question, near, far, answer, more: known && beyond !== null ? ` ${odd(beyond)}.` : "", place };
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
    count ? `Only in ${grouped(count)} of ${grouped(places)} places.` : "In the whole picture.";

  return {
    capital,
    certainty,
    grouped,
    headline,
    inWords,
    layerUse,
    list,
    meter,
    odd,
    ofThePixels,
    oneByOne,
    paintedPlaces,
    rank,
    whatIf,
  };
})();
