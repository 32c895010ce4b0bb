// Beside the image: what it is, its boxes, its labels.

import { el, foreign, replace, visible } from "./dom.js";
import { percent } from "./sheet.js";

const HINTS = [["a", "accept"], ["r", "reject"], ["u", "undo"], ["n", "next"], ["Tab", "choose a box"], ["h", "heat map"]];
const MASK_HINTS = [["a", "accept"], ["r", "reject"], ["p", "brush"], ["x", "other side"], ["[ ]", "brush size"], ["m", "mask"], ["u", "undo"], ["n", "next"]];
const WORDS = { proposed: "proposed", accepted: "accepted", rejected: "rejected" };

export class Panel {
  // `masks` is what stands of them beside the image.
  constructor(store, act, masks) {
    this.store = store;
    this.act = act;
    this.facts = el("header", { class: "facts" });
    this.verdict = el("div", { class: "verdict" });
    this.list = el("ol", { class: "list" });
    this.labels = el("div", { class: "labels" });
    this.options = el("datalist", { id: "labels" });
    this.input = el("input", { id: "label", list: "labels", maxlength: 255, autocomplete: "off", spellcheck: "false", placeholder: "another label", "aria-label": "label" });
    this.input.addEventListener("keydown", (event) => this.type(event));
    this.input.addEventListener("blur", () => (this.input.value = ""));
    this.hints = el("footer", { class: "hints" });
    this.node = el("aside", { class: "panel" }, this.facts, this.verdict, masks, this.list,
      el("section", { class: "naming" }, el("h2", {}, "Label"), this.labels, this.input, this.options),
      this.hints);
  }

  draw(id, chosen, labels) {
    const item = this.store.items.get(id);
    const rank = this.store.ranks.get(id) + 1;
    replace(this.facts, el("p", { class: "rank" }, `${rank.toLocaleString("en")} of ${this.store.order.length.toLocaleString("en")}`),
      el("h1", {}, foreign(id)),
      el("p", { class: "detail" }, ...this.details(item)));
    if (!this.hints.hasChildNodes()) replace(this.hints, ...(this.store.review.segmenter ? MASK_HINTS : HINTS).map(([key, what]) => el("span", {}, el("kbd", {}, key), what)));
    this.drawVerdict(id);
    const boxes = this.store.boxes(id);
    replace(this.list, ...boxes.map((box, number) => this.drawBox(box, number, chosen)));
    if (!boxes.length) replace(this.list, el("li", { class: "none" }, "No box. Drag to draw one, or press b."));
    const current = boxes.find((box) => box.id === chosen)?.label;
    replace(this.labels, ...labels.slice(0, 9).map((label, number) =>
      el("button", { class: label === current ? "label on" : "label", onclick: () => this.act.name(label) }, el("kbd", {}, String(number + 1)), foreign(label))));
    if (labels !== this.offered) replace(this.options, ...labels.map((label) => el("option", { value: label })));
    this.offered = labels;
  }

  details(item) {
    const told = [`${item.width} × ${item.height}`];
    for (const part of [item.labels[0], item.group, item.split]) if (part) told.push(part);
    return told.flatMap((part, number) => [number ? " · " : null, number ? foreign(part) : part]);
  }

  drawVerdict(id) {
    const verdict = this.store.verdicts.get(id);
    this.verdict.hidden = !this.store.review.detector;
    if (this.verdict.hidden) return;
    this.verdict.dataset.verdict = verdict?.verdict ?? "";
    if (!verdict) return replace(this.verdict, el("b", {}, "being judged …"));
    if (verdict.error) return replace(this.verdict, el("b", {}, "not judged"), el("span", {}, visible(verdict.error)));
    const score = verdict.threshold ? `${(verdict.score / verdict.threshold).toFixed(2)} × threshold` : `score ${verdict.score.toPrecision(3)}`;
    replace(this.verdict, el("b", {}, verdict.verdict || "not calibrated"), el("span", {}, score),
      verdict.nearest ? el("small", {}, "nearest normal ", foreign(verdict.nearest)) : null);
    if (verdict.verdict === "anomalous") {
      this.verdict.append(el("button", { class: "enrol", onclick: () => this.act.enrol() }, el("kbd", {}, "f"), "false alarm: enrol as normal"));
    }
    return undefined;
  }

  drawBox(box, number, chosen) {
    const [left, top, right, bottom] = box.box;
    const isMachine = box.score < 1 || box.source.includes("/");
    const source = box.source || this.store.review.reviewer;
    const act = (state) => (event) => {
      event.stopPropagation();
      this.act.judge(state, box.id);
    };
    return el("li", { class: `entry ${box.state}${box.id === chosen ? " chosen" : ""}`, "data-entry": box.id, onclick: () => this.act.choose(box.id) },
      el("span", { class: "swatch" }, String(number + 1)),
      el("div", { class: "what" }, foreign(box.label || "no label", { class: "title" }),
        el("span", { class: "how" }, isMachine ? `${WORDS[box.state]} · ${percent(box.score)}` : WORDS[box.state],
          box.needs_review ? el("em", {}, " unsure") : null),
        el("span", { class: "where" }, `${right - left} × ${bottom - top} at ${left}, ${top} · `, foreign(source))),
      el("span", { class: "tools" },
        el("button", { title: "accept this box", "aria-label": "accept this box", onclick: act("accepted") }, "✓"),
        el("button", { title: "reject this box", "aria-label": "reject this box", onclick: act("rejected") }, "✕")));
  }

  type(event) {
    event.stopPropagation();
    if (event.key === "Enter") {
      const label = this.input.value.trim();
      if (label) this.act.name(label);
    }
    if (event.key === "Enter" || event.key === "Escape") this.input.blur();
  }
}
