// What the page knows: items, verdicts, what is on its way, what can be undone. It tells whoever listens that it changed.

import * as api from "./api.js";
import { judge, sameBoxes } from "./boxes.js";
import { isScribbled, isWhole } from "./drawn.js";
import { Outbox } from "./outbox.js";

const UNDO_KEPT = 500;
const POLL_MS = 15000;
const VERDICTS_MS = 700;
const ADOPT_MS = 3000;

export class Store {
  constructor(onChange, onNews) {
    this.onChange = onChange;
    this.onNews = onNews;
    this.items = new Map();
    this.order = [];
    this.verdicts = new Map();
    this.conflicts = new Map();
    this.history = [];
    this.times = [];
    this.known = new Map();
    this.judged = { done: 0, total: 0 };
    this.locked = false;
  }

  async open() {
    this.review = await api.get("review");
    const { dataset, segmenter } = this.review;
    this.passedRoot = `mekiki-review/${segmenter ? "unmasked" : "passed"}/${dataset}/`;
    const passed = Object.keys(localStorage).filter((key) => key.startsWith(this.passedRoot));
    this.passed = new Set(passed.map((key) => key.slice(this.passedRoot.length)));
    const send = async (decisions) => (await api.post("decisions", { decisions })).outcomes;
    this.outbox = new Outbox(dataset, (decisions) => this.guarded(send(decisions)), this.settle.bind(this), this.onChange);
    this.outbox.live();
    await this.refresh();
    await this.adopt();
    setInterval(() => this.adopt(), ADOPT_MS);
    setInterval(() => document.hidden || this.refresh().catch(() => {}), POLL_MS);
    addEventListener("focus", () => this.refresh().catch(() => {}));
    if (this.review.detector || segmenter) this.followVerdicts();
  }

  async adopt() {
    await this.outbox.adopt((decision) => {
      const item = this.items.get(decision.item_id);
      if (item && decision.kind === "edit") assign(item, decision);
      this.onChange();
    });
  }

  // An address without its token does nothing any more: the person is told, and everything unsent stays where it is.
  async guarded(answer) {
    try {
      return await answer;
    } catch (error) {
      if (error.status === 403 && !error.reason) this.locked = true;
      throw error;
    }
  }

  async refresh() {
    const told = await this.guarded(api.get("items", { version: this.version ?? "" }));
    if (told === null) return;
    this.version = told.version;
    this.total = told.total;
    const isFirst = this.order.length === 0;
    for (const item of told.items) this.take(item);
    if (isFirst) this.order = told.items.map((item) => item.id);
    else this.order.push(...told.items.map((item) => item.id).filter((id) => !this.ranks.has(id)));
    this.ranks = new Map(this.order.map((id, rank) => [id, rank]));
    this.onChange();
  }

  // Another one's newer version of an item; what is on its way from here stays what is shown.
  take(item) {
    if (this.outbox.holds(item.id) || this.conflicts.has(item.id)) return;
    const known = this.items.get(item.id);
    if (known?.etag === item.etag) known.drawn ??= item.drawn;
    else this.items.set(item.id, item);
  }

  async look(id) {
    this.take(await this.guarded(api.get("item", { id })));
    this.onChange();
  }

  // An item's boxes: those that it carries, and the region that the detector finds anomalous, until somebody judged it.
  boxes(id) {
    const item = this.items.get(id);
    const region = this.propose(item);
    return region ? [...item.annotations, region] : item.annotations;
  }

  propose(item) {
    const verdict = this.verdicts.get(item.id);
    if (!verdict?.region) return null;
    const source = `anomaly/${verdict.model}`;
    if (item.annotations.some((each) => each.source === source || each.id === `region-${verdict.model}`)) return null;
    const score = 1 - Math.min(Math.max(verdict.p_value ?? 0, 0), 1);
    return { id: `region-${verdict.model}`, box: verdict.region, label: "defect", score, source, state: "proposed", needs_review: false };
  }

  // Of the items, the most frequent first, and of boxes.
  listLabels() {
    const drawn = [...this.items.values()].flatMap((item) => item.annotations.map((each) => each.label));
    return [...new Set([...this.review.labels, ...drawn])].filter((label) => label);
  }

  // For a new box: that of the one that is chosen, else of the last one, else of the item.
  guessLabel(id, chosen) {
    const boxes = this.boxes(id);
    const like = boxes.find((box) => box.id === chosen) ?? boxes.at(-1);
    return like?.label ?? this.items.get(id).labels[0] ?? this.review.labels[0] ?? "part";
  }

  // With a segmenter it is the pixels that a person decides on, of what it looks for.
  isMasked(id) {
    const { has_mask, has_trimap, labels } = this.items.get(id);
    return has_mask || has_trimap || this.passed.has(id) || !this.review.segmented.includes(labels[0]);
  }

  isOpen(id) {
    return this.boxes(id).some((box) => box.state === "proposed");
  }

  // Asked of every item in every frame: what has not changed is not worked out again.
  isDone(id) {
    if (this.review.segmenter) return this.isMasked(id);
    const { annotations } = this.items.get(id);
    const verdict = this.verdicts.get(id);
    const known = this.known.get(id);
    if (known?.annotations === annotations && known.verdict === verdict && (known.isDone || !this.passed.has(id))) return known.isDone;
    const isDone = !this.isOpen(id) && (annotations.length > 0 || this.passed.has(id) || this.isCleared(id));
    this.known.set(id, { annotations, verdict, isDone });
    return isDone;
  }

  // With a detector, what it finds normal needs nobody.
  isCleared(id) {
    return this.verdicts.get(id)?.verdict === "normal";
  }

  // Looked at, and there is no box to judge.
  pass(id) {
    this.passed.add(id);
    localStorage.setItem(this.passedRoot + id, "1");
    this.stamp();
    this.onChange();
  }

  stamp() {
    this.times = [...this.times.slice(-30), performance.now()];
  }

  // `merge` names a change that goes on, such as an edge moved key by key: it is undone as one. `drawn` is left as it is
  // where it is not given.
  change(id, annotations, { delayMs = 0, merge = "", remember = true, bank = null, drawn } = {}) {
    const item = this.items.get(id);
    const before = { annotations: item.annotations, drawn: drawn === undefined ? undefined : item.drawn };
    const after = { annotations, drawn };
    const last = this.history.at(-1);
    if (remember && merge && last?.id === id && last.merge === merge) last.after = after;
    else if (remember) this.history = [...this.history.slice(-UNDO_KEPT), { id, before, after, merge, bank }];
    assign(item, after);
    const conflict = this.conflicts.get(id);
    if (conflict) conflict.mine = { annotations, drawn: drawn ?? conflict.mine.drawn };
    else this.outbox.put({ kind: "edit", item_id: id, etag: item.etag, ...after }, delayMs);
    if (remember && !merge) this.stamp();
    this.onChange();
  }

  // Takes back the last change; returns its item, or null where there is none.
  undo() {
    const last = this.history.pop();
    if (!last) return null;
    const item = this.items.get(last.id);
    const isDrawn = last.after.drawn !== undefined;
    if (!sameBoxes(item.annotations, last.after.annotations) || (isDrawn && item.drawn !== last.after.drawn)) {
      this.onNews("Somebody else has changed this item since: nothing was undone.");
      return last.id;
    }
    this.change(last.id, last.before.annotations, { remember: false, drawn: last.before.drawn });
    if (last.bank) this.outbox.put({ kind: "forget", item_id: last.id });
    return last.id;
  }

  // A false alarm: its region is rejected, and the item becomes one of the detector's normals.
  enrol(id) {
    const verdict = this.verdicts.get(id);
    const bank = { kind: "enrol", item_id: id, category: verdict.category };
    this.change(id, judge(this.boxes(id), "rejected"), { bank });
    this.outbox.put(bank);
  }

  // What became of a decision; `isNewest` unless the person has changed the item again since.
  settle(decision, outcome, isNewest) {
    const item = this.items.get(decision.item_id);
    if (decision.kind !== "edit") this.settleBank(decision, outcome);
    else if (outcome.status !== "saved") this.contest(decision, outcome);
    else if (item && isNewest) this.items.set(item.id, { ...outcome.item, drawn: outcome.item.drawn ?? decision.drawn ?? item.drawn });
    else if (item) item.etag = outcome.item.etag;
  }

  contest(decision, outcome) {
    const theirs = outcome.item ?? null;
    this.conflicts.set(decision.item_id, { mine: decision, theirs, message: outcome.message ?? "", decision });
    this.onNews(theirs ? "Somebody else has changed an item that you decided. Press c to look." : `Not kept: ${outcome.message}. Press c to look.`);
  }

  async settleBank(decision, outcome) {
    const id = decision.item_id;
    if (outcome.status !== "saved") {
      this.outbox.drop(decision);
      this.onNews(`The detector was not told: ${outcome.message}`);
      return;
    }
    const learnt = outcome.is_new === false ? "had been enrolled before" : "enrolled as a normal";
    this.onNews(decision.kind === "enrol" ? `${learnt}; bank version ${outcome.bank_version}` : "taken out of the bank again");
    this.verdicts.set(id, await this.guarded(api.get("verdict", { id })));
    this.onChange();
  }

  // Keeps the person's own version over the other, or the other.
  async resolve(id, keepMine) {
    const { mine, decision } = this.conflicts.get(id);
    let theirs = this.conflicts.get(id).theirs;
    if (!theirs) theirs = await this.guarded(api.get("item", { id })).catch(() => this.items.get(id));
    this.conflicts.delete(id);
    this.outbox.drop(decision);
    this.items.set(id, { ...theirs });
    if (keepMine) {
      assign(this.items.get(id), mine);
      const { annotations, drawn } = mine;
      this.outbox.put({ kind: "edit", item_id: id, etag: theirs.etag, annotations, drawn, rebased: true });
    }
    this.onChange();
  }

  async followVerdicts() {
    for (let seen = 0; ; ) {
      const told = await this.guarded(api.get("verdicts", { since: seen })).catch(() => null);
      for (const verdict of told?.verdicts ?? []) {
        if (!this.verdicts.has(verdict.item_id)) this.verdicts.set(verdict.item_id, verdict);
      }
      if (told) {
        seen += told.verdicts.length;
        this.judged = { done: seen, total: told.total, failure: told.failure };
        if (told.verdicts.length && !this.history.length) this.sortByVerdict();
        this.onChange();
        if (told.failure || (told.total && seen >= told.total)) return;
      }
      await new Promise((resolve) => setTimeout(resolve, VERDICTS_MS));
    }
  }

  // Anomalies that are nearest to the threshold first, then what nobody judged, then normals.
  rankAlarm(id) {
    const verdict = this.verdicts.get(id);
    if (verdict?.verdict === "anomalous") return verdict.score / verdict.threshold;
    return verdict?.verdict === "normal" ? 1e9 - verdict.score / verdict.threshold : 1e8;
  }

  // What the segmenter is unsure of first, then what it was not asked for yet; what needs nobody stays where it is.
  rankFound(id) {
    if (this.isMasked(id)) return 2;
    return this.verdicts.get(id)?.found ?? 1;
  }

  sortByVerdict() {
    const ranks = new Map(this.order.map((id) => [id, this.review.detector ? this.rankAlarm(id) : this.rankFound(id)]));
    this.order.sort((a, b) => ranks.get(a) - ranks.get(b));
    this.ranks = new Map(this.order.map((id, number) => [id, number]));
  }

  progress() {
    let done = 0;
    for (const id of this.order) done += this.isDone(id);
    const open = this.order.length - done;
    return { done, total: this.order.length, leftMs: this.estimate(open) };
  }

  // By how long the last decisions took; pauses count as half a minute.
  estimate(open) {
    const gaps = this.times.slice(1).map((time, number) => Math.min(time - this.times[number], 30000));
    if (gaps.length < 3 || open === 0) return null;
    return (open * gaps.reduce((sum, gap) => sum + gap, 0)) / gaps.length;
  }
}

// What a person has changed of an item.
function assign(item, { annotations, drawn }) {
  item.annotations = annotations;
  if (drawn !== undefined) Object.assign(item, { drawn, has_mask: isWhole(drawn), has_trimap: isScribbled(drawn) });
}
