// One image: zoomed, moved, with its boxes, which a mouse draws, moves and pulls at, and with its mask.

import * as api from "./api.js";
import { EDGES, clampBox, moveBox } from "./boxes.js";
import { el, foreign, replace, svg } from "./dom.js";

const DWELL_MS = 70;
const STILL_PX = 4;
const HANDLE_PX = 11;
const ZOOM = { least: 0.5, most: 40, step: 1.25 };
// Edges that each handle pulls: horizontal, vertical.
const HANDLES = [[0, 1], [null, 1], [2, 1], [2, null], [2, 3], [null, 3], [0, 3], [0, null]];

export class Stage {
  // `act` is told of: choose(id), drawn(box), pulled(id, box).
  constructor(act) {
    this.act = act;
    this.picture = el("img", { class: "picture", alt: "", draggable: "false" });
    this.heat = el("img", { class: "heat", alt: "", draggable: "false", hidden: true });
    this.mask = el("canvas", { class: "mask", hidden: true });
    this.frame = svg("svg", { class: "boxes" });
    this.canvas = el("div", { class: "canvas" }, this.picture, this.heat, this.mask, this.frame);
    this.tags = el("div", { class: "tags" });
    this.node = el("section", { class: "stage", "aria-label": "image" }, this.canvas, this.tags);
    this.view = null;
    this.isDrawing = false;
    this.brush = null; // takes what the mouse draws, in place of boxes: begin(item, point, isOther), move(point), end()
    this.picture.addEventListener("error", () => this.node.classList.add("broken"));
    this.picture.addEventListener("load", () => this.node.classList.remove("broken"));
    this.node.addEventListener("wheel", (event) => this.roll(event), { passive: false });
    this.node.addEventListener("pointerdown", (event) => this.press(event));
    this.node.addEventListener("pointermove", (event) => this.drag(event));
    this.node.addEventListener("pointerup", (event) => this.release(event));
    this.node.addEventListener("pointercancel", () => (this.grip?.kind === "paint" ? this.release() : this.cancel()));
    this.node.addEventListener("contextmenu", (event) => this.brush && event.preventDefault());
    this.node.addEventListener("auxclick", (event) => event.preventDefault());
    // To ask the browser for a size in the midst of changes has it lay out the page anew each time.
    this.size = { width: 0, height: 0 };
    new ResizeObserver(([{ contentRect }]) => {
      this.size = { width: contentRect.width, height: contentRect.height };
      this.lay();
    }).observe(this.node);
  }

  draw(item, boxes, chosen, edge) {
    const isOther = this.item?.id !== item.id;
    Object.assign(this, { item, boxes, chosen, edge });
    if (isOther) this.load();
    this.lay();
  }

  // The thumbnail at once; the picture itself when the person stays.
  load() {
    const { item } = this;
    this.view = this.grip = this.draft = this.pulled = null;
    clearTimeout(this.dwelling);
    this.picture.src = api.thumbnail(item);
    this.picture.classList.remove("sharp");
    this.dwelling = setTimeout(async () => {
      const picture = new Image();
      picture.src = api.picture(item);
      try {
        await picture.decode();
      } catch {
        return;
      }
      if (this.item.id !== item.id) return;
      this.picture.src = picture.src;
      this.picture.classList.add("sharp");
      for (const each of this.next ?? []) new Image().src = api.picture(each);
    }, DWELL_MS);
  }

  get fit() {
    return Math.min((this.size.width - 48) / this.item.width, (this.size.height - 72) / this.item.height);
  }

  get scale() {
    return this.fit * (this.view?.zoom ?? 1);
  }

  get origin() {
    const { width, height } = this.size;
    return {
      x: (width - this.item.width * this.scale) / 2 + (this.view?.x ?? 0),
      y: (height - this.item.height * this.scale) / 2 + (this.view?.y ?? 0),
    };
  }

  lay() {
    if (!this.item || !this.size.width) return;
    const { x, y } = this.origin;
    const { scale } = this;
    const { style } = this.canvas;
    style.left = `${x}px`;
    style.top = `${y}px`;
    style.width = `${this.item.width * scale}px`;
    style.height = `${this.item.height * scale}px`;
    this.picture.classList.toggle("coarse", scale > 3);
    this.frame.setAttribute("viewBox", `0 0 ${this.item.width} ${this.item.height}`);
    const ordered = [...this.boxes].sort((a, b) => (a.id === this.chosen) - (b.id === this.chosen));
    replace(this.frame, ...ordered.map((box) => this.drawBox(box)), ...this.drawEdges(), this.drawDraft());
    replace(this.tags, ...ordered.map((box) => this.drawTag(box, x, y, scale)));
  }

  drawBox({ id, box, state, label }) {
    const [left, top, right, bottom] = this.pulled?.id === id ? this.pulled.box : box;
    const kind = `box ${state}${id === this.chosen ? " chosen" : ""}`;
    const shape = { x: left, y: top, width: right - left, height: bottom - top };
    const halo = svg("rect", { ...shape, class: "halo" });
    return svg("g", {}, halo, svg("rect", { ...shape, class: kind, "data-box": id, "data-label": label }));
  }

  drawEdges() {
    const chosen = this.boxes.find((each) => each.id === this.chosen);
    if (!chosen) return [];
    const box = this.pulled?.id === chosen.id ? this.pulled.box : chosen.box;
    const side = HANDLE_PX / this.scale;
    const places = { x: [box[0], (box[0] + box[2]) / 2, box[2]], y: [box[1], (box[1] + box[3]) / 2, box[3]] };
    const at = (edge, axis) => (edge === null ? places[axis][1] : box[edge]);
    const handles = HANDLES.map(([across, down], number) => svg("rect", {
      class: `handle h${number % 4}`, "data-handle": number, width: side, height: side,
      x: at(across, "x") - side / 2, y: at(down, "y") - side / 2,
    }));
    return [this.drawActiveEdge(box), ...handles];
  }

  drawActiveEdge([left, top, right, bottom]) {
    if (this.edge === null) return null;
    const ends = [[left, top, left, bottom], [left, top, right, top], [right, top, right, bottom], [left, bottom, right, bottom]][this.edge];
    return svg("line", { class: "edge", "data-edge": EDGES[this.edge], x1: ends[0], y1: ends[1], x2: ends[2], y2: ends[3] });
  }

  drawDraft() {
    if (!this.draft) return null;
    const [left, top, right, bottom] = this.draft;
    return svg("rect", { class: "box draft", x: left, y: top, width: right - left, height: bottom - top });
  }

  drawTag(annotation, x, y, scale) {
    const [left, top] = this.pulled?.id === annotation.id ? this.pulled.box : annotation.box;
    const tag = el("div", { class: `tag ${annotation.state}${annotation.id === this.chosen ? " chosen" : ""}` }, foreign(annotation.label || "no label"));
    tag.style.left = `${Math.max(x + left * scale, 4)}px`;
    tag.style.top = `${Math.max(y + top * scale - 26, 4)}px`;
    return tag;
  }

  zoomBy(factor, centre = { x: this.size.width / 2, y: this.size.height / 2 }) {
    const before = this.origin;
    const zoom = Math.min(Math.max((this.view?.zoom ?? 1) * factor, ZOOM.least), ZOOM.most);
    const ratio = zoom / (this.view?.zoom ?? 1);
    const wanted = { x: centre.x - (centre.x - before.x) * ratio, y: centre.y - (centre.y - before.y) * ratio };
    this.view = { zoom, x: 0, y: 0 };
    this.view = { zoom, x: wanted.x - this.origin.x, y: wanted.y - this.origin.y };
    this.lay();
  }

  zoomTo([left, top, right, bottom]) {
    const room = Math.min(this.size.width / (right - left), this.size.height / (bottom - top));
    const zoom = Math.min(Math.max((0.6 * room) / this.fit, 1), ZOOM.most);
    const off = { x: this.item.width / 2 - (left + right) / 2, y: this.item.height / 2 - (top + bottom) / 2 };
    this.view = { zoom, x: off.x * this.fit * zoom, y: off.y * this.fit * zoom };
    this.lay();
  }

  reset() {
    this.view = null;
    this.lay();
  }

  pan(dx, dy) {
    this.view = { zoom: this.view?.zoom ?? 1, x: (this.view?.x ?? 0) + dx, y: (this.view?.y ?? 0) + dy };
    this.lay();
  }

  roll(event) {
    event.preventDefault();
    const bounds = this.node.getBoundingClientRect();
    this.zoomBy(Math.exp(-event.deltaY * 0.0015), { x: event.clientX - bounds.left, y: event.clientY - bounds.top });
  }

  toImage(event) {
    const bounds = this.node.getBoundingClientRect();
    return { x: (event.clientX - bounds.left - this.origin.x) / this.scale, y: (event.clientY - bounds.top - this.origin.y) / this.scale };
  }

  press(event) {
    if (event.button > (this.brush ? 2 : 1)) return;
    const { handle, box } = event.target.dataset;
    const from = this.toImage(event);
    const start = { from, screen: { x: event.clientX, y: event.clientY }, moved: false };
    if (event.button === 1 || this.isPanning) this.grip = { ...start, kind: "pan", last: start.screen };
    else if (this.brush) this.grip = { ...start, kind: "paint" };
    else if (this.isDrawing || event.shiftKey) this.grip = { ...start, kind: "draw" };
    else if (handle !== undefined) this.grip = { ...start, kind: "pull", handle: HANDLES[handle], id: this.chosen };
    else if (box !== undefined) this.grip = { ...start, kind: "move", id: this.pick(from, box) };
    else this.grip = { ...start, kind: "draw" };
    if (this.grip.kind === "paint") this.brush.begin(this.item, from, event.button === 2 || event.altKey);
    if (this.grip.id) this.grip.box = this.boxes.find((each) => each.id === this.grip.id).box;
    this.node.setPointerCapture(event.pointerId);
    event.preventDefault();
  }

  // Of boxes that lie over each other the one that is chosen, else the smallest.
  pick({ x, y }, under) {
    const holds = ({ box: [left, top, right, bottom] }) => x >= left && x < right && y >= top && y < bottom;
    const area = ({ box: [left, top, right, bottom] }) => (right - left) * (bottom - top);
    const found = this.boxes.filter(holds).sort((a, b) => area(a) - area(b));
    return (found.find((each) => each.id === this.chosen) ?? found[0])?.id ?? under;
  }

  drag(event) {
    const { grip } = this;
    if (!grip) return;
    const far = Math.hypot(event.clientX - grip.screen.x, event.clientY - grip.screen.y) >= STILL_PX;
    grip.moved ||= far;
    if (!grip.moved) return;
    if (grip.kind === "pan") {
      this.pan(event.clientX - grip.last.x, event.clientY - grip.last.y);
      grip.last = { x: event.clientX, y: event.clientY };
      return;
    }
    const { x, y } = this.toImage(event);
    if (grip.kind === "paint") return this.brush?.move({ x, y });
    const { width, height } = this.item;
    if (grip.kind === "draw") this.draft = clampBox([grip.from.x, grip.from.y, x, y], width, height);
    else if (grip.kind === "move") this.pulled = { id: grip.id, box: moveBox(grip.box, x - grip.from.x, y - grip.from.y, width, height) };
    else this.pulled = { id: grip.id, box: clampBox(this.pull(grip, x, y), width, height) };
    this.lay();
  }

  pull({ box, handle: [across, down] }, x, y) {
    const pulled = [...box];
    if (across !== null) pulled[across] = x;
    if (down !== null) pulled[down] = y;
    return pulled;
  }

  release() {
    const { grip, draft, pulled } = this;
    this.cancel();
    if (!grip) return;
    if (grip.kind === "paint") this.brush?.end();
    else if (grip.kind === "draw" && draft) this.act.drawn(draft);
    else if (pulled) this.act.pulled(pulled.id, pulled.box);
    else if (grip.kind === "move") this.act.choose(grip.id);
    else if (grip.kind === "draw") this.act.choose("");
  }

  cancel() {
    this.grip = this.draft = this.pulled = null;
    if (this.item) this.lay();
  }

  showHeat(source) {
    this.hideHeat();
    this.heat.src = source;
    this.heat.hidden = false;
  }

  hideHeat() {
    URL.revokeObjectURL(this.heat.src);
    this.heat.hidden = true;
    this.heat.removeAttribute("src");
  }
}
