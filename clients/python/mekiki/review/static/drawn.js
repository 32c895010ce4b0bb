// What a person drew of an image as text, as the server reads it (drawn.py): its size, then runs of pixels, row by row.
// "" is an image of which nothing is known. All pure, but for `stroke`, which changes the pixels that it is given.

export const BACKGROUND = 0;
export const UNKNOWN = 128;
export const OBJECT = 255;

const LETTERS = { [BACKGROUND]: "B", [UNKNOWN]: "U", [OBJECT]: "O" };
const VALUES = { B: BACKGROUND, U: UNKNOWN, O: OBJECT };

export function encode(pixels, width, height) {
  const runs = [];
  for (let start = 0; start < pixels.length; ) {
    const value = pixels[start];
    let end = start + 1;
    while (end < pixels.length && pixels[end] === value) end += 1;
    runs.push(LETTERS[value], end - start);
    start = end;
  }
  const isBlank = runs.length === 2 && runs[0] === LETTERS[UNKNOWN];
  return isBlank ? "" : `${width}x${height}${runs.join("")}`;
}

export function decode(text, width, height) {
  const pixels = new Uint8Array(width * height).fill(UNKNOWN);
  let start = 0;
  for (const [, letter, count] of text.matchAll(/([BOU])(\d+)/g)) {
    pixels.fill(VALUES[letter], start, start + Number(count));
    start += Number(count);
  }
  return pixels;
}

export const isScribbled = (text) => text.includes("U");
export const isWhole = (text) => text !== "" && !isScribbled(text);

// What strokes say, and beneath them what is found; what neither knows is background.
export function lay(strokes, found) {
  return strokes.map((value, place) => (value === UNKNOWN ? (found?.[place] === OBJECT ? OBJECT : BACKGROUND) : value));
}

// Paints along a line; gives the box that may have changed, half open.
export function stroke(pixels, width, height, from, to, radius, value) {
  const left = Math.max(0, Math.floor(Math.min(from.x, to.x) - radius));
  const top = Math.max(0, Math.floor(Math.min(from.y, to.y) - radius));
  const right = Math.min(width, Math.ceil(Math.max(from.x, to.x) + radius));
  const bottom = Math.min(height, Math.ceil(Math.max(from.y, to.y) + radius));
  const dx = to.x - from.x;
  const dy = to.y - from.y;
  const length = dx * dx + dy * dy;
  for (let y = top; y < bottom; y += 1) {
    for (let x = left; x < right; x += 1) {
      const [px, py] = [x + 0.5 - from.x, y + 0.5 - from.y];
      const along = length ? Math.min(Math.max((px * dx + py * dy) / length, 0), 1) : 0;
      const [ox, oy] = [px - along * dx, py - along * dy];
      if (ox * ox + oy * oy <= radius * radius) pixels[y * width + x] = value;
    }
  }
  return [left, top, Math.max(left, right), Math.max(top, bottom)];
}

// Red, green, blue, alpha: what is proposed, accepted and rejected looks as boxes do.
const COLOURS = { found: [242, 185, 59, 130], object: [62, 207, 154, 140], background: [224, 112, 90, 110] };
const PACKED = Object.fromEntries(Object.entries(COLOURS).map(([name, colour]) => [name, new Uint32Array(new Uint8Array(colour).buffer)[0]]));

// A part of a map on a canvas of its image's size: what a person drew, and beneath it what a segmenter finds, if any.
// Of a whole map the background stays clear.
export function paint(canvas, own, found, whole, [left, top, right, bottom] = [0, 0, canvas.width, canvas.height]) {
  if (right <= left || bottom <= top) return;
  const image = new ImageData(right - left, bottom - top);
  const colours = new Uint32Array(image.data.buffer);
  for (let y = top, to = 0; y < bottom; y += 1) {
    for (let x = left, from = y * canvas.width + left; x < right; x += 1, from += 1, to += 1) {
      if (own[from] === OBJECT) colours[to] = PACKED.object;
      else if (own[from] === BACKGROUND) colours[to] = whole ? 0 : PACKED.background;
      else if (found?.[from] === OBJECT) colours[to] = PACKED.found;
    }
  }
  canvas.getContext("2d").putImageData(image, left, top);
}
