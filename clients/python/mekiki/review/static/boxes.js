// Boxes as [left, top, right, bottom], half open, whole pixels; and what a person says of annotations. All pure.

export const EDGES = ["left", "top", "right", "bottom"];

export function clampBox([left, top, right, bottom], width, height) {
  const xs = [left, right].map((x) => Math.min(Math.max(Math.round(x), 0), width)).sort((a, b) => a - b);
  const ys = [top, bottom].map((y) => Math.min(Math.max(Math.round(y), 0), height)).sort((a, b) => a - b);
  if (xs[0] === xs[1]) xs[0] < width ? (xs[1] += 1) : (xs[0] -= 1);
  if (ys[0] === ys[1]) ys[0] < height ? (ys[1] += 1) : (ys[0] -= 1);
  return [xs[0], ys[0], xs[1], ys[1]];
}

// Moved as a whole, without leaving the image or changing its size.
export function moveBox([left, top, right, bottom], dx, dy, width, height) {
  const x = Math.min(Math.max(Math.round(dx), -left), width - right);
  const y = Math.min(Math.max(Math.round(dy), -top), height - bottom);
  return [left + x, top + y, right + x, bottom + y];
}

// One edge moved; it stops a pixel before the one across.
export function moveEdge(box, edge, delta, width, height) {
  const moved = [...box];
  const across = box[(edge + 2) % 4];
  const limit = edge % 2 === 0 ? width : height;
  const wanted = box[edge] + delta;
  moved[edge] = edge < 2 ? Math.max(0, Math.min(wanted, across - 1)) : Math.min(limit, Math.max(wanted, across + 1));
  return moved;
}

export function newBox(box, label) {
  return { id: newId(), box, label, score: 1, source: "", state: "accepted", needs_review: false };
}

function newId() {
  return [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// The one that is chosen; else the proposals; where there are none, all.
function meant(boxes, chosen) {
  if (chosen) return (box) => box.id === chosen;
  return boxes.some((box) => box.state === "proposed") ? (box) => box.state === "proposed" : () => true;
}

export function judge(boxes, state, chosen = "") {
  const isMeant = meant(boxes, chosen);
  return boxes.map((box) => (isMeant(box) ? { ...box, state, needs_review: false } : box));
}

// What a person changes is the person's own.
export function edit(boxes, id, change) {
  const own = { score: 1, source: "", state: "accepted", needs_review: false };
  return boxes.map((box) => (box.id === id ? { ...box, ...change, ...own } : box));
}

const MACHINES = /^(boxfit|anomaly|saliency)\//;

// A person's box goes; a machine's stays as rejected, or it would be proposed again.
export function remove(boxes, id) {
  const stays = (box) => MACHINES.test(box.source);
  return boxes
    .filter((box) => box.id !== id || stays(box))
    .map((box) => (box.id === id ? { ...box, state: "rejected", needs_review: false } : box));
}

export function sameBoxes(some, others) {
  const tell = ({ id, box, label, score, state, needs_review }) => [id, ...box, label, score, state, needs_review];
  return JSON.stringify(some.map(tell)) === JSON.stringify(others.map(tell));
}
