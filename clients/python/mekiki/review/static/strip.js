// The items before and after the one that is shown.

import * as api from "./api.js";
import { el } from "./dom.js";
import { tellState } from "./sheet.js";

const AROUND = 6;
const COUNT = 2 * AROUND + 1;

export class Strip {
  constructor(store, onPick) {
    this.store = store;
    this.slots = Array.from({ length: COUNT }, () => {
      const picture = el("img", { alt: "", decoding: "async", draggable: "false" });
      const slot = { id: "", node: el("button", { class: "frame", tabindex: "-1" }, picture), picture };
      slot.node.addEventListener("click", () => slot.id && onPick(slot.id));
      return slot;
    });
    this.node = el("nav", { class: "strip", "aria-label": "neighbours" }, ...this.slots.map((slot) => slot.node));
  }

  draw(current) {
    const { order, ranks, items } = this.store;
    const middle = ranks.get(current);
    for (let rank = middle - AROUND; rank <= middle + AROUND; rank += 1) {
      // Of the slots only one changes when the next item is shown.
      const slot = this.slots[((rank % COUNT) + COUNT) % COUNT];
      const id = order[rank] ?? "";
      slot.node.style.order = String(rank - middle + AROUND);
      slot.node.classList.toggle("vacant", !id);
      slot.node.classList.toggle("current", rank === middle);
      slot.node.dataset.state = id ? tellState(this.store, id, this.store.boxes(id)) : "";
      if (id && slot.id !== id) slot.picture.src = api.thumbnail(items.get(id));
      slot.id = id;
    }
  }
}
