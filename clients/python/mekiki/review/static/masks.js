// Which pixels show the item's first label: as a segmenter finds them, and as a person scribbles, paints and accepts.

import * as api from "./api.js";
import { el, foreign, replace } from "./dom.js";
import { BACKGROUND, OBJECT, decode, encode, isScribbled, isWhole, lay, paint, stroke } from "./drawn.js";

const LEAST_RADIUS = 0.75; // of a smaller one a click between pixels would paint nothing
const RADIUS_STEP = 1.4;
const MOST_DRAWN = 2 << 20; // of a text, about; no hand draws so much
const ANSWERS_KEPT = 16;

export class Masks {
  constructor(store, stage, page) {
    Object.assign(this, { store, stage, page });
    this.node = el("section", { class: "masks" });
    this.cursor = el("i", { class: "brush", hidden: true });
    stage.node.append(this.cursor);
    stage.node.addEventListener("pointermove", (event) => this.follow(event));
    stage.node.addEventListener("pointerleave", () => (this.cursor.hidden = true));
    this.isShown = true;
    this.side = OBJECT;
    this.answers = new Map();
    this.asked = "";
    this.looked = "";
    this.stroke = null;
  }

  // Of a segmenter's own page: what keys mean, and what is done.
  get rules() {
    return Boolean(this.store.review.segmenter);
  }

  isSegmented(item) {
    return this.store.review.segmented.includes(item.labels[0]);
  }

  // On the stage, and beside the image.

  draw(id) {
    if (this.stroke && this.stroke.id !== id) this.end();
    const item = this.store.items.get(id);
    if (item.drawn === null) this.read(item);
    if (!this.stroke) this.show(item);
    this.stage.node.classList.toggle("painting", Boolean(this.stage.brush));
    this.cursor.dataset.side = this.side === OBJECT ? "object" : "background";
    this.node.hidden = !this.rules && !item.drawn;
    replace(this.node, el("h2", {}, "Mask"), ...this.tell(item));
  }

  show(item) {
    const answer = this.answers.get(item.id)?.drawn ?? "";
    const wanted = JSON.stringify([item.id, item.drawn, answer, this.isShown]);
    if (this.drawn === wanted) return;
    this.drawn = wanted;
    const { mask } = this.stage;
    mask.hidden = !this.isShown || !(item.drawn || answer);
    if (mask.hidden) return;
    this.own = decode(item.drawn ?? "", item.width, item.height);
    this.found = answer ? decode(answer, item.width, item.height) : null;
    Object.assign(mask, { width: item.width, height: item.height });
    paint(mask, this.own, this.found, isWhole(item.drawn ?? ""));
  }

  tell(item) {
    const answer = this.answers.get(item.id);
    const lines = [el("p", { class: "own" }, this.tellOwn(item))];
    if (answer) {
      const how = answer.drawn.includes("O") ? `${Math.round(100 * answer.score)} %` : "is not found";
      lines.push(el("p", { class: "answer" }, foreign(answer.label), ` ${how} · `, foreign(answer.model)));
    }
    if (this.stage.brush) {
      lines.push(el("p", { class: "hold" }, `brush: ${this.side === OBJECT ? "object" : "background"}, ${Math.round(2 * this.radius(item))} px wide`));
    }
    return lines;
  }

  tellOwn(item) {
    if (item.drawn === null) return "being read …";
    if (item.drawn) return isScribbled(item.drawn) ? "scribbles" : "accepted";
    if (!this.rules) return "none";
    if (!this.isSegmented(item)) return "this label is not looked for";
    const answer = this.answers.get(item.id);
    if (!answer) return "being looked for …";
    return answer.drawn.includes("O") ? "proposed" : "nothing is found";
  }

  toggle() {
    this.isShown = !this.isShown;
    this.page.plan();
  }

  // What somebody else drew since the list was read, asked for once a version.
  read(item) {
    const version = `${item.id}/${item.etag}`;
    if (this.looked === version) return;
    this.looked = version;
    this.store.look(item.id).catch((error) => this.page.say(`Its mask cannot be read: ${error.message}`));
  }

  // What the segmenter finds, when the person stays.
  async load(id) {
    const item = this.store.items.get(id);
    if (!this.rules || this.asked === id || this.answers.has(id) || !this.isSegmented(item)) return;
    this.asked = id;
    try {
      this.answers.set(id, await api.get("segments", { id }));
      if (this.answers.size > ANSWERS_KEPT) this.answers.delete(this.answers.keys().next().value);
    } catch (error) {
      this.page.say(`No mask: ${error.message}`);
    }
    this.asked = "";
    this.page.plan();
  }

  // Deciding.

  accept(id) {
    const item = this.store.items.get(id);
    if (item.drawn === null) return this.page.say("Its mask is still being read.");
    if (!isWhole(item.drawn)) {
      const answer = this.answers.get(id);
      if (this.isSegmented(item) && !answer) return this.page.say("The segmenter has not answered yet.");
      if (!this.isSegmented(item) && !item.drawn) return this.reject(id); // there is nothing to be found, and nothing is
      if (!this.isShown) return this.page.say("Press m first, and see what you accept.");
      const { width, height } = item;
      const whole = encode(lay(decode(item.drawn, width, height), answer && decode(answer.drawn, width, height)), width, height);
      if (!whole.includes("O")) return this.page.say("There is nothing to accept: paint with p, or reject with r.");
      if (!this.keep(item, whole)) return undefined;
    }
    return this.page.forward();
  }

  // It keeps no mask.
  reject(id) {
    const item = this.store.items.get(id);
    if (item.drawn === null) return this.page.say("Its mask is still being read.");
    if (item.drawn) this.keep(item, "");
    this.store.pass(id);
    return this.page.forward();
  }

  keep(item, drawn) {
    if (drawn.length > MOST_DRAWN) {
      this.page.say("This outline is too ragged to be kept.");
      return false;
    }
    this.store.change(item.id, item.annotations, { drawn });
    return true;
  }

  // Painting.

  toggleBrush() {
    this.end();
    this.stage.brush = this.stage.brush ? null : this;
    this.side = OBJECT;
    this.isShown = true;
    this.cursor.hidden = true;
    this.page.plan();
  }

  toggleSide() {
    if (this.stage.brush) this.side = this.side === OBJECT ? BACKGROUND : OBJECT;
    this.page.plan();
  }

  // In pixels of the image: at first a fortieth of its longer side.
  radius({ width, height }) {
    const longer = Math.max(width, height);
    return Math.min(Math.max((this.share ?? 1 / 80) * longer, LEAST_RADIUS), longer / 2);
  }

  resize(item, ways) {
    const longer = Math.max(item.width, item.height);
    const wanted = this.radius(item) * RADIUS_STEP ** ways;
    this.share = Math.min(Math.max(wanted, LEAST_RADIUS), longer / 4) / longer;
    this.page.plan();
  }

  follow(event) {
    this.cursor.hidden = !this.stage.brush || !this.stage.item;
    if (this.cursor.hidden) return;
    const bounds = this.stage.node.getBoundingClientRect();
    const side = 2 * this.radius(this.stage.item) * this.stage.scale;
    const [x, y] = [event.clientX - bounds.left - side / 2, event.clientY - bounds.top - side / 2];
    Object.assign(this.cursor.style, { width: `${side}px`, height: `${side}px`, transform: `translate(${x}px, ${y}px)` });
  }

  begin({ id }, point, isOther) {
    const item = this.store.items.get(id);
    this.isShown = true;
    if (item.drawn === null) return this.page.say("Its mask is still being read.");
    const other = this.side === OBJECT ? BACKGROUND : OBJECT;
    this.stroke = { id: item.id, base: item.drawn, value: isOther ? other : this.side, radius: this.radius(item), points: [point] };
    if (this.stage.mask.hidden || !this.own || this.own.length !== item.width * item.height) {
      this.own = decode(item.drawn, item.width, item.height);
      this.found = null;
      Object.assign(this.stage.mask, { width: item.width, height: item.height, hidden: false });
    }
    return this.apply(item, this.own, [point, point]);
  }

  move(point) {
    if (!this.stroke) return;
    const { id, points } = this.stroke;
    points.push(point);
    this.apply(this.store.items.get(id), this.own, points.slice(-2));
  }

  apply({ width, height }, pixels, [from, to]) {
    const { radius, value, base } = this.stroke;
    const changed = stroke(pixels, width, height, from, to, radius, value);
    if (pixels === this.own) paint(this.stage.mask, pixels, this.found, isWhole(base), changed);
  }

  // A stroke is one change, which one `u` takes back. What came in from elsewhere meanwhile lies beneath it.
  end() {
    if (!this.stroke) return;
    const { id, base, points } = this.stroke;
    const item = this.store.items.get(id);
    if (item.drawn === null) this.page.say("Somebody else has drawn here meanwhile: this stroke was not kept.");
    else {
      const pixels = item.drawn === base ? this.own : decode(item.drawn, item.width, item.height);
      if (pixels !== this.own) points.forEach((point, number) => this.apply(item, pixels, [points[Math.max(0, number - 1)], point]));
      this.keep(item, encode(pixels, item.width, item.height));
    }
    this.stroke = null;
    this.drawn = "";
    this.page.plan();
  }
}
