// Pure functions of the views: values in, values out, no page.

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

  // Diverging scales: [negative, middle, positive]. The middle is the page's own colour, so that nothing glares in the
  // dark; both pairs are told apart with every common colour vision deficiency.
  const SCALES = {
    routing: {
      light: [
        [20, 84, 180],
        [247, 246, 243],
        [184, 62, 4],
      ],
      dark: [
        [100, 165, 255],
        [26, 28, 31],
        [255, 138, 70],
      ],
    },
    gain: {
      light: [
        [122, 28, 148],
        [247, 246, 243],
        [0, 98, 66],
      ],
      dark: [
        [222, 140, 246],
        [26, 28, 31],
        [60, 205, 150],
      ],
    },
  };

  // value in [-1, 1] to [r, g, b]
  function divergingColour(scale, value, dark = false) {
    const [negative, middle, positive] = SCALES[scale][dark ? "dark" : "light"];
    const share = Math.min(1, Math.abs(value));
    return middle.map((channel, i) => Math.round(channel + share * ((value < 0 ? negative : positive)[i] - channel)));
  }

  // The same of many values with `reach` at the ends, as opaque RGBA pixels: in steps that no eye can tell.
  const STEPS = 255; // on either side of zero
  function divergingPixels(scale, values, reach, dark = false) {
    const table = Array.from({ length: 2 * STEPS + 1 }, (_, i) => divergingColour(scale, i / STEPS - 1, dark));
    const pixels = new Uint8ClampedArray(4 * values.length).fill(255);
    values.forEach((value, i) => {
      pixels.set(table[Math.round(STEPS * (clamp(value / reach, -1, 1) + 1))], 4 * i);
    });
    return pixels;
  }

  const gradient = (scale, dark = false) =>
    `linear-gradient(to right, ${SCALES[scale][dark ? "dark" : "light"].map((c) => `rgb(${c.join(",")})`).join(",")})`;

  // Numbers that travel as whole ones: `scale` times int16.
  function unpack({ scale, data }) {
    return Float32Array.from(new Int16Array(decodeBase64(data)), (value) => value * scale);
  }

  // Change of the root mean square error in percent where PSNR changes by so many decibels: 6 dB more is half of it.
  const errorChange = (decibels) => Math.round(100 * (10 ** (-decibels / 20) - 1));

  // Absolute gain of every pixel in 8-bit levels, mean over RGB: |reference - original| - |shown - original|. RGBA in.
  function gainMap(original, reference, shown) {
    return Float32Array.from({ length: original.length / 4 }, (_, i) => {
      let sum = 0;
      for (let k = 4 * i; k < 4 * i + 3; k += 1)
        sum += Math.abs(reference[k] - original[k]) - Math.abs(shown[k] - original[k]);
      return sum / 3;
    });
  }

  // Where on a meter of three parts a value stands, in percent: up to `low` in the first 30, up to `high` in the next 25.
  function meterPlace(value, [low, high]) {
    if (value <= low) return (30 * value) / low;
    if (value <= high) return 30 + (25 * (value - low)) / (high - low);
    return 55 + 45 * (1 - high / value);
  }

  // Black or white, whichever is read better on a colour: at least 4.5 to 1 (WCAG's luminance, 0.179 is even).
  function inkOn(channels) {
    const [r, g, b] = channels.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
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

  // What the server says when it takes no more files for now, from the error that the page's upload makes of it.
  const refusal = (error) => /^HTTP 429: (.*\S)/s.exec(error?.message ?? "")?.[1] ?? null;

  return {
    clamp,
    decodeBase64,
    divergingColour,
    divergingPixels,
    errorChange,
    gainMap,
    gradient,
    inkOn,
    mean,
    meterPlace,
    number,
    percent,
    readNumbers,
    refusal,
    signedNumber,
    tokensBetween,
    tokensWithin,
    unpack,
    writeNumbers,
  };
})();
