// The page: which item is shown, and what a person does with it.

import { Bar } from "./bar.js";
import { clampBox, edit, judge, moveBox, moveEdge, newBox, remove } from "./boxes.js";
import { ConflictDialog } from "./conflict.js";
import { el, replace } from "./dom.js";
import { Heat } from "./heat.js";
import { find, makeHelp } from "./keys.js";
import { Masks } from "./masks.js";
import { Panel } from "./panel.js";
import { Sheet } from "./sheet.js";
import { Stage } from "./stage.js";
import { Store } from "./store.js";
import { Strip } from "./strip.js";

const NUDGE_DELAY_MS = 350;
const LOOK_MS = 160;
const NEWS_MS = 6000;
const MOST_LABEL_BYTES = 255;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const PLACE = "mekiki-review/place";

class Page {
  constructor() {
    this.store = new Store(() => this.plan(), (text) => this.say(text));
    this.mode = "sheet";
    this.chosen = "";
    this.edge = null;
    this.hasMoved = false;
    this.help = makeHelp();
    this.bar = new Bar(this.store, this);
    this.sheet = new Sheet(this.store, (id) => this.open(id), (id) => this.show(id));
    this.stage = new Stage(this);
    this.heat = new Heat(this.store, this.stage, (text) => this.say(text));
    this.masks = new Masks(this.store, this.stage, this);
    this.panel = new Panel(this.store, {
      choose: (id) => this.choose(id),
      judge: (state, id) => this.judge(state, id, true),
      name: (label) => this.name(label),
      enrol: () => this.enrol(),
    }, this.masks.node);
    this.strip = new Strip(this.store, (id) => this.show(id));
    this.dialog = new ConflictDialog(this.store, () => this.showConflict());
    this.desk = el("main", { class: "desk", hidden: true }, this.stage.node, this.panel.node, this.strip.node);
    this.news = el("div", { class: "news", role: "alert", hidden: true });
    this.news.addEventListener("click", () => (this.news.hidden = true));
  }

  async start() {
    history.replaceState(null, "", "/"); // the token is in the cookie by now, and no address needs to hold it
    await this.store.open();
    replace(document.body, this.bar.node, this.sheet.node, this.desk, this.news, this.help, this.dialog.node);
    document.title = `${this.store.review.dataset} · Mekiki review`;
    this.labels = this.store.listLabels();
    const place = JSON.parse(sessionStorage.getItem(PLACE) ?? "null");
    if (this.store.items.has(place?.current)) {
      this.mode = place.mode;
      this.show(place.current);
    }
    addEventListener("keydown", (event) => this.press(event));
    addEventListener("keyup", () => (this.stage.isPanning = false));
    addEventListener("click", () => document.activeElement?.closest?.("button")?.blur()); // keys go to the page again
    this.draw();
    this.sheet.reveal(this.current);
  }

  press(event) {
    this.stage.isPanning = event.key === "Control";
    if (event.target instanceof HTMLInputElement || event.isComposing || this.dialog.isOpen || this.help.open || !this.current) return;
    const act = find(event, this.mode, this.masks.rules);
    if (!act) return;
    event.preventDefault();
    act(this, event);
  }

  plan() {
    if (this.labels) this.bar.drawSync(); // it says "all kept" at no moment in which something is not
    this.planned ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.planned = null;
    if (!this.store.ranks || !this.labels) return;
    if (!this.hasMoved) [this.current] = this.store.order; // verdicts that come in put others first
    this.bar.draw(this.mode, this.sheet.filter);
    this.sheet.node.hidden = this.mode !== "sheet";
    this.desk.hidden = this.mode === "sheet";
    if (this.mode === "sheet") this.sheet.draw(this.current);
    else this.drawDesk();
  }

  drawDesk() {
    const boxes = this.store.boxes(this.current);
    if (!boxes.some((box) => box.id === this.chosen)) this.chosen = "";
    if (!this.chosen) this.edge = null;
    const { order, ranks, items } = this.store;
    const rank = ranks.get(this.current);
    this.stage.next = order.slice(rank + 1, rank + 3).map((id) => items.get(id));
    this.stage.draw(items.get(this.current), boxes, this.chosen, this.edge);
    this.masks.draw(this.current);
    this.panel.draw(this.current, this.chosen, this.labels);
    this.strip.draw(this.current);
  }

  say(text) {
    this.news.textContent = text;
    this.news.hidden = false;
    clearTimeout(this.silence);
    this.silence = setTimeout(() => (this.news.hidden = true), NEWS_MS);
  }

  // Going about.

  show(id) {
    this.hasMoved = true;
    if (id !== this.current) this.heat.clear();
    this.current = id;
    this.chosen = "";
    this.edge = null;
    sessionStorage.setItem(PLACE, JSON.stringify({ current: id, mode: this.mode }));
    if (this.mode === "sheet") this.sheet.reveal(id);
    clearTimeout(this.looking);
    this.looking = setTimeout(() => this.look(id), LOOK_MS);
    this.plan();
  }

  // Somebody else may have been here since the list was read.
  look(id) {
    if (this.mode === "item") this.store.look(id).catch(() => {});
    if (this.mode === "item") this.heat.load(id, this.chosen);
    if (this.mode === "item") this.masks.load(id);
  }

  open(id) {
    this.mode = "item";
    this.show(id);
  }

  leave() {
    if (this.stage.brush) return this.masks.toggleBrush();
    if (this.chosen) return this.choose("");
    this.mode = "sheet";
    this.show(this.current);
    return requestAnimationFrame(() => this.sheet.reveal(this.current));
  }

  filter(name) {
    this.sheet.filter = name;
    this.sheet.node.scrollTop = 0;
    this.plan();
  }

  step(by) {
    const { order, ranks } = this.store;
    const id = this.mode === "sheet" ? this.sheet.neighbour(this.current, by, 0) : order[ranks.get(this.current) + by];
    if (id) this.show(id);
  }

  walk(event) {
    const [cells, rows] = ARROWS[event.key];
    this.show(this.sheet.neighbour(this.current, cells, rows));
  }

  // To the next item that nobody has decided.
  forward() {
    const { order, ranks } = this.store;
    const next = ranks.get(this.current) + 1;
    const id = [...order.slice(next), ...order.slice(0, next - 1)].find((each) => !this.store.isDone(each));
    if (id) this.show(id);
    else this.say("Everything is decided.");
  }

  // Deciding.

  judge(state, id = this.chosen, stays = false) {
    if (this.masks.rules && !stays) return this.say("Open the item with Enter: masks are judged one by one.");
    const boxes = this.store.boxes(this.current);
    if (!boxes.length && state === "rejected") return;
    if (!boxes.length) this.store.pass(this.current);
    else this.store.change(this.current, judge(boxes, state, id));
    const open = id && this.store.boxes(this.current).find((box) => box.state === "proposed");
    if (open) this.choose(open.id);
    else if (!stays) this.forward();
  }

  undo() {
    const id = this.store.undo();
    if (id) this.show(id);
    else this.say("Nothing to undo.");
  }

  enrol() {
    if (this.store.verdicts.get(this.current)?.verdict !== "anomalous") return this.say("The detector does not call this item anomalous.");
    this.store.enrol(this.current);
    return this.forward();
  }

  showConflict() {
    const ids = [...this.store.conflicts.keys()];
    this.news.hidden = true;
    if (ids.length) this.dialog.show(ids.includes(this.current) ? this.current : ids[0]);
  }

  // Correcting.

  choose(id) {
    this.chosen = id;
    this.edge = null;
    this.plan();
  }

  chooseNext(by) {
    const ids = ["", ...this.store.boxes(this.current).map((box) => box.id)];
    this.choose(ids[(ids.indexOf(this.chosen) + by + ids.length) % ids.length]);
  }

  chooseEdge() {
    if (!this.chosen) this.chooseNext(1);
    const edges = [null, 0, 1, 2, 3];
    this.edge = this.chosen ? edges[(edges.indexOf(this.edge) + 1) % edges.length] : null;
    this.plan();
  }

  nudge(event) {
    const [dx, dy] = ARROWS[event.key].map((way) => way * (event.shiftKey ? 10 : 1));
    const boxes = this.store.boxes(this.current);
    const chosen = boxes.find((box) => box.id === this.chosen);
    if (!chosen) return this.step(dx + dy > 0 ? 1 : -1);
    const { width, height } = this.store.items.get(this.current);
    if (this.edge !== null && (this.edge % 2 ? dy : dx) === 0) return undefined;
    const box = this.edge === null ? moveBox(chosen.box, dx, dy, width, height) : moveEdge(chosen.box, this.edge, dx + dy, width, height);
    return this.store.change(this.current, edit(boxes, chosen.id, { box }), { delayMs: NUDGE_DELAY_MS, merge: `nudge ${chosen.id}` });
  }

  drawn(box) {
    this.stage.isDrawing = false;
    const added = newBox(box, this.store.guessLabel(this.current, this.chosen));
    this.store.change(this.current, [...this.store.boxes(this.current), added]);
    this.choose(added.id);
  }

  pulled(id, box) {
    this.store.change(this.current, edit(this.store.boxes(this.current), id, { box }));
    this.choose(id);
  }

  // A box in the middle, to be moved by keys.
  addBox() {
    const { width, height } = this.store.items.get(this.current);
    this.drawn(clampBox([0.35 * width, 0.35 * height, 0.65 * width, 0.65 * height], width, height));
  }

  removeBox() {
    if (this.chosen) this.store.change(this.current, remove(this.store.boxes(this.current), this.chosen));
  }

  nameBy(number) {
    if (this.labels[number] !== undefined) this.name(this.labels[number]);
  }

  // The chosen box's label, or the only one's.
  name(label) {
    const boxes = this.store.boxes(this.current);
    const id = this.chosen || (boxes.length === 1 ? boxes[0].id : "");
    if (!id) return this.say("Choose a box first: Tab, or a click.");
    if (new TextEncoder().encode(label).length > MOST_LABEL_BYTES) return this.say(`A label has at most ${MOST_LABEL_BYTES} bytes.`);
    if (!this.labels.includes(label)) this.labels = [...this.labels, label];
    this.store.change(this.current, edit(boxes, id, { label }));
    return this.choose(id);
  }

  writeLabel() {
    if (!this.chosen) this.chooseNext(1);
    this.panel.input.focus();
  }

  // Looking closely.

  zoomToBox() {
    const boxes = this.store.boxes(this.current);
    const box = boxes.find((each) => each.id === this.chosen) ?? boxes[0];
    if (box) this.stage.zoomTo(box.box);
  }

  toggleHeat() {
    this.heat.toggle(this.current, this.chosen);
  }
}

const page = new Page();
page.start().catch((error) => {
  replace(document.body, el("p", { class: "failed", role: "alert" }, error.message));
});
