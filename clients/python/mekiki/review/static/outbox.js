// Decisions on their way. Each lies in the browser's storage from the moment it is made until the server says that the
// data set holds it: a page that is reloaded, or a machine that goes down, loses none.

import { sameBoxes } from "./boxes.js";

const BATCH = 64;
const AT_ONCE = 2;
const FIRST_PAUSE_MS = 400;
const LONGEST_PAUSE_MS = 8000;
const SENT_KEPT = 8;
const MOST_WEIGHT = 2 << 20; // signs of what was drawn, in one message
const ROOT = "mekiki-review/unsent";

// Edits of an item follow each other, and so do enrolling and forgetting it.
const slot = (decision) => `${decision.kind === "edit" ? "edit" : "bank"}/${decision.item_id}`;

export class Outbox {
  // `send` takes decisions and gives outcomes; `tell` is called with (decision, outcome) for what is over.
  constructor(dataset, send, tell, onChange) {
    this.root = `${ROOT}/${dataset}`;
    this.owner = crypto.randomUUID();
    this.send = send;
    this.tell = tell;
    this.onChange = onChange;
    this.entries = new Map();
    this.underWay = 0;
    this.pauseMs = 0;
    this.timer = 0;
  }

  get size() {
    return this.entries.size;
  }

  get waits() {
    return this.pauseMs > 0;
  }

  holds(itemId) {
    return this.entries.has(`edit/${itemId}`);
  }

  put(decision, delayMs = 0) {
    const name = slot(decision);
    const old = this.entries.get(name);
    const entry = { decision, sent: old?.sent ?? [], flying: old?.flying ?? false, stuck: false, due: now() + delayMs };
    if (old && decision.kind === "edit" && !decision.rebased) {
      entry.decision = { ...decision, etag: old.decision.etag, drawn: decision.drawn ?? old.decision.drawn };
    }
    this.entries.set(name, entry);
    this.store(name, entry);
    this.onChange();
    this.schedule(delayMs);
  }

  drop(decision) {
    const name = slot(decision);
    this.entries.delete(name);
    localStorage.removeItem(`${this.root}/${this.owner}/${name}`);
    this.onChange();
  }

  store(name, { decision, sent }) {
    try {
      localStorage.setItem(`${this.root}/${this.owner}/${name}`, JSON.stringify({ decision, sent }));
    } catch {
      this.reason = "the browser's storage is full: decisions that are not sent yet would not outlive this page";
    }
  }

  // What waits a while does not put off what is due before it.
  schedule(delayMs) {
    const at = now() + Math.max(delayMs, this.pauseMs);
    if (this.timer && this.timerAt <= at) return;
    clearTimeout(this.timer);
    this.timerAt = at;
    this.timer = setTimeout(() => this.pump(), at - now());
  }

  async pump() {
    this.timer = 0;
    const ready = [...this.entries.values()].filter((entry) => !entry.flying && !entry.stuck);
    const batch = fill(ready.filter((entry) => entry.due <= now()).slice(0, BATCH));
    if (ready.length > batch.length) this.schedule(Math.max(20, Math.min(...ready.map((entry) => entry.due)) - now()));
    if (!batch.length || this.underWay >= AT_ONCE) return;
    const flown = batch.map((entry) => this.takeOff(entry));
    this.underWay += 1;
    try {
      const outcomes = await this.send(flown);
      this.pauseMs = 0;
      flown.forEach((decision, number) => this.land(decision, outcomes[number]));
    } catch (error) {
      flown.forEach((decision) => this.land(decision, { status: "later", message: error.message }));
    }
    this.underWay -= 1;
    this.onChange();
    this.schedule(0);
  }

  takeOff(entry) {
    entry.flying = true;
    // What is sent may be kept though its answer is lost; see `land`.
    const { kind, annotations, drawn } = entry.decision;
    if (kind === "edit" && !entry.sent.some((each) => sameBoxes(each.annotations, annotations) && each.drawn === drawn)) {
      entry.sent = [...entry.sent, { annotations, drawn }].slice(-SENT_KEPT);
    }
    this.store(slot(entry.decision), entry);
    return entry.decision;
  }

  land(decision, outcome) {
    const name = slot(decision);
    const entry = this.entries.get(name);
    if (!entry) return;
    entry.flying = false;
    const isNewest = entry.decision === decision;
    if (outcome.status === "later") {
      this.pauseMs = Math.min(Math.max(2 * this.pauseMs, FIRST_PAUSE_MS), LONGEST_PAUSE_MS);
      this.reason = outcome.message;
    } else if (outcome.status === "saved") {
      if (isNewest) this.drop(decision);
      else this.rebase(name, entry, outcome);
      this.tell(decision, outcome, isNewest);
    } else if (outcome.status === "conflict" && this.isOurs(entry, outcome)) {
      this.rebase(name, entry, outcome);
    } else {
      entry.stuck = true;
      this.tell(entry.decision, outcome, true);
    }
  }

  // The other version is one that was sent from here, and whose answer never came.
  isOurs(entry, outcome) {
    const { item } = outcome;
    return entry.sent.some(({ annotations, drawn }) => sameBoxes(annotations, item.annotations) && (drawn ?? item.drawn) === item.drawn);
  }

  rebase(name, entry, outcome) {
    if (outcome.item) entry.decision = { ...entry.decision, etag: outcome.item.etag };
    this.store(name, entry);
  }

  // Takes over what pages that are gone have left behind; `restore` is called for each decision.
  async adopt(restore) {
    const prefix = `${this.root}/`;
    const owners = new Set();
    for (const key of Object.keys(localStorage)) {
      if (key.startsWith(prefix)) owners.add(key.slice(prefix.length).split("/", 1)[0]);
    }
    owners.delete(this.owner);
    for (const owner of owners) await this.inherit(owner, restore);
    return owners.size;
  }

  // A page holds the lock of its name as long as it lives.
  async inherit(owner, restore) {
    await navigator.locks.request(`${ROOT}/${owner}`, { ifAvailable: true }, (lock) => {
      if (!lock) return;
      const prefix = `${this.root}/${owner}/`;
      for (const key of Object.keys(localStorage).filter((each) => each.startsWith(prefix))) {
        const { decision, sent } = JSON.parse(localStorage.getItem(key));
        const entry = { decision, sent, flying: false, stuck: false, due: 0 };
        if (!this.entries.has(slot(decision))) {
          this.entries.set(slot(decision), entry);
          this.store(slot(decision), entry);
          restore(decision);
        }
        localStorage.removeItem(key);
      }
    });
    this.schedule(0);
  }

  live() {
    navigator.locks.request(`${ROOT}/${this.owner}`, () => new Promise(() => {}));
  }
}

const now = () => performance.now();

// As many as one message may weigh, and one at least.
function fill(entries) {
  let weight = 0;
  return entries.filter(({ decision }, number) => (weight += decision.drawn?.length ?? 0) <= MOST_WEIGHT || number === 0);
}
