// Two people, one item: both versions side by side, and the person chooses.

import * as api from "./api.js";
import { el, foreign, replace, svg, visible } from "./dom.js";
import { decode, isScribbled, isWhole, paint } from "./drawn.js";

export class ConflictDialog {
  constructor(store, onResolved) {
    this.store = store;
    this.onResolved = onResolved;
    this.node = el("dialog", { class: "conflict", "aria-label": "conflict" });
    this.node.addEventListener("keydown", (event) => this.press(event));
    this.node.addEventListener("close", () => (this.id = null));
  }

  get isOpen() {
    return this.node.open;
  }

  show(id) {
    this.id = id;
    const { mine, theirs, message } = this.store.conflicts.get(id);
    const item = this.store.items.get(id);
    replace(this.node,
      el("h2", {}, theirs ? "Somebody else has changed this item" : "This could not be kept"),
      el("p", { class: "of" }, foreign(id)),
      theirs ? null : el("p", { class: "why" }, visible(message)),
      el("div", { class: "versions" },
        this.draw("Yours", item, { annotations: mine.annotations, drawn: mine.drawn ?? (theirs ?? item).drawn }, "m", theirs ? "keep mine" : "try again", true),
        this.draw(theirs ? "Theirs" : "In the data set", item, theirs ?? item, "t", theirs ? "take theirs" : "let it go", false)));
    if (!this.node.open) this.node.showModal();
  }

  draw(title, item, { annotations: boxes, drawn }, key, verb, isMine) {
    const mask = el("canvas", { width: item.width, height: item.height });
    if (drawn) paint(mask, decode(drawn, item.width, item.height), null, isWhole(drawn));
    const frame = svg("svg", { viewBox: `0 0 ${item.width} ${item.height}` },
      ...boxes.map(({ box: [left, top, right, bottom], state }) => svg("rect", { x: left, y: top, width: right - left, height: bottom - top, class: state })));
    const lines = boxes.map((box) => el("li", {}, foreign(box.label || "no label"), ` ${box.state}`, el("small", {}, " ", foreign(box.source || this.store.review.reviewer))));
    if (drawn) lines.push(el("li", {}, isScribbled(drawn) ? "scribbles" : "a mask"));
    return el("section", { class: isMine ? "mine" : "theirs" }, el("h3", {}, title),
      el("div", { class: "print" }, el("img", { src: api.thumbnail(item), alt: "" }), mask, frame),
      el("ul", {}, ...(lines.length ? lines : [el("li", {}, "no box")])),
      el("button", { onclick: () => this.choose(isMine) }, el("kbd", {}, key), verb));
  }

  press(event) {
    event.stopPropagation();
    if (event.key === "m" || event.key === "t") this.choose(event.key === "m");
  }

  async choose(keepMine) {
    const { id } = this;
    this.node.close();
    await this.store.resolve(id, keepMine);
    this.onResolved();
  }
}
