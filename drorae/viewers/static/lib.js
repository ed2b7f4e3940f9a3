// Pure functions of the viewers: values in, values out, no page.

// biome-ignore lint/correctness/noUnusedVariables: the scripts after it use it
const lib = (() => {
  const MINUS = "\u2212";

  function decodeBase64(text) {
    const binary = atob(text);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
    return bytes.buffer;
  }

  const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  // Numbers as text: "" for what is not known, a true minus, never "-0.0".

  function number(value, digits) {
    if (value === null || value === undefined) return "";
    const size = Math.abs(value).toFixed(digits);
    return value < 0 && Number(size) !== 0 ? MINUS + size : size;
  }

  // With a sign, also above zero.
  function signedNumber(value, digits) {
    const text = number(value, digits);
    return value > 0 && Number(text) !== 0 ? `+${text}` : text;
  }

  const percent = (share, digits = 0) => (share === null ? "" : `${number(100 * share, digits)} %`);
  const decibel = (psnr) => (psnr === null ? "identical" : `${number(psnr, 2)} dB`); // infinite where nothing differs

  // Diverging scales from ColorBrewer 2 (RdBu, BrBG), readable with every common colour vision deficiency.
  const SCALES = {
    routing: [
      [33, 102, 172],
      [146, 197, 222],
      [247, 247, 247],
      [244, 165, 130],
      [178, 24, 43],
    ],
    gain: [
      [140, 81, 10],
      [223, 194, 125],
      [245, 245, 245],
      [128, 205, 193],
      [1, 102, 94],
    ],
  };

  // value in [-1, 1] to [r, g, b]
  function divergingColour(scale, value) {
    const stops = SCALES[scale];
    const place = ((clamp(value, -1, 1) + 1) / 2) * (stops.length - 1);
    const low = Math.min(Math.floor(place), stops.length - 2);
    const share = place - low;
    return stops[low].map((channel, i) => Math.round(channel + share * (stops[low + 1][i] - channel)));
  }

  const gradient = (scale) => `linear-gradient(to right, ${SCALES[scale].map((c) => `rgb(${c.join(",")})`).join(",")})`;

  // Black or white, whichever is read better on a colour: at least 4.5 to 1 (WCAG's luminance, 0.179 is even).
  function inkOn(channels) {
    const [r, g, b] = channels.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
  }

  // Smallest size that at most `share` of all sizes exceed: keeps a few outliers from washing a whole map out.
  function robustLimit(values, share) {
    const sizes = Float32Array.from(values, Math.abs).sort();
    return sizes[Math.min(sizes.length - 1, Math.floor((1 - share) * sizes.length))] || 1;
  }

  // The tokens of the rectangle with these two at its corners, on a grid of `width` columns.
  function tokensWithin(one, other, width) {
    const range = (a, b) => Array.from({ length: Math.abs(a - b) + 1 }, (_, i) => Math.min(a, b) + i);
    const columns = range(one % width, other % width);
    const rows = range(Math.floor(one / width), Math.floor(other / width));
    return rows.flatMap((row) => columns.map((column) => row * width + column));
  }

  // The tokens on the straight line between two, both included: a quick hand moves over some without an event.
  function tokensBetween(from, to, width) {
    const [row, column] = [Math.floor(from / width), from % width];
    const [down, right] = [Math.floor(to / width) - row, (to % width) - column];
    const steps = Math.max(Math.abs(down), Math.abs(right), 1);
    return Array.from(
      { length: steps + 1 },
      (_, i) => Math.round(row + (down * i) / steps) * width + Math.round(column + (right * i) / steps),
    );
  }

  // "3.7-9" to [3, 7, 8, 9], of the numbers below `end`; what cannot be read is left out.
  function readNumbers(text, end) {
    const parts = (text ?? "")
      .split(".")
      .filter(Boolean)
      .flatMap((part) => {
        const [, first, last = first] = part.match(/^(\d+)(?:-(\d+))?$/) ?? [];
        const [low, high] = [Number(first), Number(last)];
        if (!(low <= high && high < end)) return []; // not a number compares to nothing
        return Array.from({ length: high - low + 1 }, (_, i) => low + i);
      });
    return [...new Set(parts)];
  }

  function writeNumbers(numbers) {
    const runs = [];
    for (const each of [...numbers].sort((a, b) => a - b)) {
      const last = runs[runs.length - 1];
      if (last && last[1] === each - 1) last[1] = each;
      else runs.push([each, each]);
    }
    return runs.map(([low, high]) => (low === high ? `${low}` : `${low}-${high}`)).join(".");
  }

  return {
    clamp,
    decibel,
    decodeBase64,
    divergingColour,
    gradient,
    inkOn,
    mean,
    number,
    percent,
    readNumbers,
    robustLimit,
    signedNumber,
    tokensBetween,
    tokensWithin,
    writeNumbers,
  };
})();
