// The contact sheet: a grid of which only what is seen exists, so that any number of items scrolls smoothly.

import * as api from "./api.js";
import { el, foreign, replace, svg, visible } from "./dom.js";

const CELL = 188;
const CAPTION = 44;
const GAP = 14;
const MARGIN_ROWS = 2;
const MOST_RETRIES = 6;
const RETRY_MS = 1500;

export const FILTERS = { all: "All", open: "To do", done: "Done" };

export class Sheet {
  constructor(store, onOpen, onPick) {
    this.store = store;
    this.onPick = onPick;
    this.onOpen = onOpen;
    this.field = el("div", { class: "field" });
    this.node = el("section", { class: "sheet", "aria-label": "contact sheet" }, this.field);
    this.empty = el("p", { class: "nothing" }, "Nothing here.");
    this.cells = new Map();
    this.filter = "all";
    this.columns = 1;
    this.shown = [];
    this.node.addEventListener("scroll", () => this.plan(), { passive: true });
    new ResizeObserver(() => this.plan()).observe(this.node);
  }

  plan() {
    this.planned ??= requestAnimationFrame(() => {
      this.planned = null;
      this.lay();
    });
  }

  draw(current) {
    this.current = current;
    const wanted = { all: () => true, open: (id) => !this.store.isDone(id), done: (id) => this.store.isDone(id) }[this.filter];
    this.shown = this.store.order.filter(wanted);
    this.lay();
  }

  reveal(id) {
    const rank = this.shown.indexOf(id);
    if (rank < 0) return;
    const top = Math.floor(rank / this.columns) * (this.step.y);
    if (top < this.node.scrollTop || top + this.step.y > this.node.scrollTop + this.node.clientHeight) {
      this.node.scrollTop = Math.max(0, top - this.node.clientHeight / 3);
    }
  }

  // The item so many cells, or rows, away.
  neighbour(id, cells, rows) {
    const rank = Math.max(0, this.shown.indexOf(id)) + cells + rows * this.columns;
    return this.shown[Math.min(Math.max(rank, 0), this.shown.length - 1)];
  }

  get step() {
    return { x: CELL + GAP, y: CELL + CAPTION + GAP };
  }

  lay() {
    const { clientWidth, clientHeight, scrollTop } = this.node;
    if (!clientWidth) return;
    this.columns = Math.max(1, Math.floor((clientWidth - GAP) / this.step.x));
    const indent = Math.max(GAP, (clientWidth - this.columns * this.step.x + GAP) / 2);
    this.field.style.height = `${Math.ceil(this.shown.length / this.columns) * this.step.y + 2 * GAP}px`;
    const first = Math.max(0, Math.floor(scrollTop / this.step.y) - MARGIN_ROWS) * this.columns;
    const last = Math.ceil((scrollTop + clientHeight) / this.step.y + MARGIN_ROWS) * this.columns;
    const visibleIds = new Set(this.shown.slice(first, last));
    for (const [id, cell] of this.cells) {
      if (visibleIds.has(id)) continue;
      cell.node.remove();
      this.cells.delete(id);
    }
    let rank = first;
    for (const id of visibleIds) {
      const cell = this.cells.get(id) ?? this.add(id);
      const x = indent + (rank % this.columns) * this.step.x;
      const y = GAP + Math.floor(rank / this.columns) * this.step.y;
      cell.node.style.transform = `translate(${x}px, ${y}px)`;
      cell.draw(id === this.current);
      rank += 1;
    }
    if (!this.shown.length) this.field.append(this.empty);
    else this.empty.remove();
  }

  add(id) {
    const cell = new Cell(this.store, id);
    cell.node.addEventListener("click", () => this.onPick(id));
    cell.node.addEventListener("dblclick", () => this.onOpen(id));
    this.cells.set(id, cell);
    this.field.append(cell.node);
    return cell;
  }
}

class Cell {
  constructor(store, id) {
    this.store = store;
    this.id = id;
    const item = store.items.get(id);
    this.frame = svg("svg", { viewBox: `0 0 ${item.width} ${item.height}`, "aria-hidden": "true" });
    this.caption = el("div", { class: "caption" });
    const picture = el("img", { src: api.thumbnail(item), alt: "", decoding: "async", draggable: "false" });
    picture.addEventListener("error", () => this.retry(picture, api.thumbnail(item)));
    picture.addEventListener("load", () => this.node.classList.remove("broken"));
    this.node = el("figure", { class: "cell", "data-item": id }, el("div", { class: "print" }, picture, this.frame), this.caption);
  }

  // A service that is away for a moment is asked again.
  retry(picture, source) {
    this.node.classList.add("broken");
    this.retries = (this.retries ?? 0) + 1;
    if (this.retries <= MOST_RETRIES) setTimeout(() => this.node.isConnected && (picture.src = source), RETRY_MS * this.retries);
  }

  draw(isCurrent) {
    const item = this.store.items.get(this.id);
    const boxes = this.store.boxes(this.id);
    const verdict = this.store.verdicts.get(this.id);
    const state = tellState(this.store, this.id, boxes);
    this.node.classList.toggle("current", isCurrent);
    if (this.drawn?.item === item && this.drawn.boxes === item.annotations && this.drawn.verdict === verdict && this.drawn.state === state && this.drawn.mask === item.has_mask) return;
    this.drawn = { item, boxes: item.annotations, verdict, state, mask: item.has_mask };
    this.node.dataset.state = state;
    replace(this.frame, ...boxes.map(({ box: [left, top, right, bottom], state: said }) =>
      svg("rect", { x: left, y: top, width: right - left, height: bottom - top, class: said })));
    replace(this.caption, foreign(item.id, { class: "name" }), el("span", { class: "say" }, this.store.review.segmenter ? sayMask(item, verdict?.found) : say(boxes, verdict, item)));
  }
}

export function tellState(store, id, boxes) {
  if (store.conflicts.has(id)) return "conflict";
  if (store.review.segmenter) return tellMask(store, id);
  if (boxes.some((box) => box.state === "proposed")) return boxes.some((box) => box.needs_review) ? "unsure" : "proposed";
  if (boxes.some((box) => box.state === "accepted")) return "accepted";
  if (boxes.length) return "rejected";
  return store.passed.has(id) ? "accepted" : "bare";
}

function tellMask(store, id) {
  const { has_mask, has_trimap } = store.items.get(id);
  if (has_mask || has_trimap) return "accepted";
  return store.passed.has(id) ? "rejected" : "bare";
}

function sayMask({ has_mask, has_trimap, labels }, found) {
  if (has_mask || has_trimap) return has_mask ? "mask" : "scribbles";
  const label = visible(labels[0] ?? "no label");
  if (found === undefined) return label;
  return found ? `${label} ${percent(found)}` : `${label}: not found`;
}

function say(boxes, verdict, item) {
  if (verdict?.error) return "not judged";
  if (verdict) return verdict.verdict ? `${verdict.verdict} ${(verdict.score / verdict.threshold).toFixed(2)}×` : verdict.score.toFixed(3);
  const open = boxes.filter((box) => box.state === "proposed");
  if (open.length) return `${visible(open[0].label)} ${percent(Math.min(...open.map((box) => box.score)))}`;
  const kept = boxes.filter((box) => box.state === "accepted");
  if (kept.length) return kept.length === 1 ? visible(kept[0].label) : `${kept.length} boxes`;
  return boxes.length ? "rejected" : visible(item.labels[0] ?? "no box");
}

export function percent(share) {
  return `${Math.round(100 * share)} %`;
}
