// At the top: what is looked through, how far it is, and whether everything is kept.

import { el, foreign, replace } from "./dom.js";
import { FILTERS } from "./sheet.js";

export class Bar {
  constructor(store, act) {
    this.store = store;
    this.act = act;
    this.title = el("span", { class: "title" });
    this.fill = el("i");
    this.count = el("span", { class: "count" });
    this.sync = el("span", { class: "sync", role: "status" });
    this.conflicts = el("button", { class: "conflicts", hidden: true, onclick: () => act.showConflict() });
    this.filters = el("span", { class: "filters" }, ...Object.entries(FILTERS).map(([name, word]) =>
      el("button", { "data-filter": name, onclick: () => act.filter(name) }, word)));
    this.back = el("button", { class: "back", hidden: true, onclick: () => act.leave() }, "Contact sheet");
    this.node = el("header", { class: "bar" },
      el("span", { class: "mark" }, "Mekiki"), this.title, this.filters, this.back,
      el("span", { class: "progress" }, el("span", { class: "track" }, this.fill), this.count),
      this.conflicts, this.sync, el("button", { class: "keys", onclick: () => act.help.showModal() }, el("kbd", {}, "?"), "keys"));
  }

  draw(mode, filter) {
    const { store } = this;
    const { done, total, leftMs } = store.progress();
    const { detector, segmenter } = store.review;
    replace(this.title, foreign(store.review.dataset), detector ? el("small", {}, " judged by ", foreign(detector)) : null,
      segmenter ? el("small", {}, " segmented by ", foreign(segmenter)) : null);
    this.fill.style.width = `${total ? (100 * done) / total : 0}%`;
    const left = leftMs === null ? "" : ` · ${tellTime(leftMs)} left`;
    const { judged } = store;
    const judging = judged.done < judged.total ? ` · ${detector ? "judging" : "looking at"} ${judged.done} of ${judged.total}` : "";
    const more = store.total > total ? ` (of ${store.total.toLocaleString("en")})` : "";
    this.count.textContent = `${done.toLocaleString("en")} of ${total.toLocaleString("en")}${more}${left}${judging}`;
    this.filters.hidden = mode !== "sheet";
    this.back.hidden = mode === "sheet";
    for (const button of this.filters.children) button.classList.toggle("on", button.dataset.filter === filter);
    this.conflicts.hidden = store.conflicts.size === 0;
    this.conflicts.textContent = store.conflicts.size === 1 ? "1 conflict" : `${store.conflicts.size} conflicts`;
    this.drawSync();
  }

  drawSync() {
    const { locked, outbox, conflicts } = this.store;
    const waiting = outbox.size - conflicts.size;
    const state = locked ? "locked" : outbox.waits ? "waiting" : waiting > 0 ? "sending" : conflicts.size ? "contested" : "kept";
    this.sync.dataset.state = state;
    this.sync.dataset.unsent = String(outbox.size);
    const words = {
      locked: "started anew: open the address it printed",
      waiting: `not reached: ${waiting} kept in this browser`,
      sending: `${waiting} on ${waiting === 1 ? "its" : "their"} way`,
      contested: "all others kept",
      kept: "all kept",
    };
    this.sync.textContent = words[state];
    this.sync.title = outbox.waits ? (outbox.reason ?? "") : "";
  }
}

function tellTime(ms) {
  const minutes = ms / 60000;
  if (minutes < 1) return "under a minute";
  if (minutes < 90) return `about ${Math.round(minutes)} min`;
  return `about ${(minutes / 60).toFixed(1)} h`;
}
