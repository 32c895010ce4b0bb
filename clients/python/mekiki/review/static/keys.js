// What each key does, and the table of it that people see.

import { el } from "./dom.js";

// [keys, what they do, where: "sheet", "item", both, or "mask": an image on a segmenter's page, the method of the page]
export const KEYS = [
  [["a", "Enter"], "accept the mask as it is shown, and go on", "mask", (page) => page.masks.accept(page.current)],
  [["r"], "reject it: the item keeps none; go on", "mask", (page) => page.masks.reject(page.current)],
  [["p"], "take the brush, or put it away", "mask", (page) => page.masks.toggleBrush()],
  [["x"], "paint background, or the object again", "mask", (page) => page.masks.toggleSide()],
  [["[", ","], "smaller brush", "mask", (page) => page.masks.resize(page.stage.item, -1)],
  [["]", "."], "larger brush", "mask", (page) => page.masks.resize(page.stage.item, 1)],
  [["m"], "show or hide the mask", "item", (page) => page.masks.toggle()],
  [["a", "Enter"], "accept, and go on", "item", (page) => page.judge("accepted")],
  [["a"], "accept, and go on", "sheet", (page) => page.judge("accepted")],
  [["r", "x"], "reject, and go on", "both", (page) => page.judge("rejected")],
  [["n", "j", " "], "next", "both", (page) => page.step(1)],
  [["p", "k"], "previous", "both", (page) => page.step(-1)],
  [["u", "ctrl+z"], "undo", "both", (page) => page.undo()],
  [["f"], "false alarm: enrol as a normal", "both", (page) => page.enrol()],
  [["Tab"], "choose the next box", "item", (page) => page.chooseNext(1)],
  [["shift+Tab"], "choose the box before", "item", (page) => page.chooseNext(-1)],
  [["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], "move the chosen box or edge by a pixel; with Shift by ten", "item", (page, event) => page.nudge(event)],
  [["e"], "choose its next edge", "item", (page) => page.chooseEdge()],
  [["1", "2", "3", "4", "5", "6", "7", "8", "9"], "give the box this label", "item", (page, event) => page.nameBy(Number(event.key) - 1)],
  [["l"], "write another label", "item", (page) => page.writeLabel()],
  [["b"], "new box", "item", (page) => page.addBox()],
  [["Delete", "Backspace"], "delete the chosen box", "item", (page) => page.removeBox()],
  [["h"], "heat map", "item", (page) => page.toggleHeat()],
  [["+", "="], "nearer", "item", (page) => page.stage.zoomBy(1.25)],
  [["-"], "farther", "item", (page) => page.stage.zoomBy(0.8)],
  [["z"], "near to the chosen box", "item", (page) => page.zoomToBox()],
  [["0"], "the whole image", "item", (page) => page.stage.reset()],
  [["c"], "look at a conflict", "both", (page) => page.showConflict()],
  [["g", "Escape"], "contact sheet", "item", (page) => page.leave()],
  [["Enter"], "open", "sheet", (page) => page.open(page.current)],
  [["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], "go about", "sheet", (page, event) => page.walk(event)],
  [["?"], "these keys", "both", (page) => page.help.showModal()],
];

const REPEATABLE = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "n", "p", "j", "k", "+", "-", "=", " ", "[", "]", ",", "."]);

// What is engraved on the key, where the keyboard writes another script.
function read(event) {
  const isForeign = event.key === "Process" || (event.key.length === 1 && event.key > "~");
  const key = isForeign ? event.code.replace(/^(Key|Digit)/, "") : event.key;
  return key.length === 1 ? key.toLowerCase() : key;
}

export function find(event, mode, isMasked) {
  const name = read(event);
  const isTab = event.key === "Tab" && event.shiftKey;
  const pressed = event.ctrlKey || event.metaKey ? `ctrl+${name}` : isTab ? "shift+Tab" : name;
  // A key that is held down never decides: its owner may have fallen asleep on it.
  if (event.altKey || (event.repeat && !REPEATABLE.has(pressed))) return null;
  const places = [mode, "both", ...(isMasked && mode === "item" ? ["mask"] : [])];
  const found = KEYS.find(([keys, , where]) => keys.includes(pressed) && places.includes(where));
  return found ? found[3] : null;
}

const NAMES = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", " ": "Space", "ctrl+z": "Ctrl Z", "shift+Tab": "Shift Tab", Escape: "Esc", Delete: "Del" };

export function makeHelp() {
  const rows = (...places) => KEYS.filter(([, , where]) => places.includes(where)).map(([keys, what]) => {
    const shown = keys.length > 4 ? [keys[0], "…", keys.at(-1)] : keys.filter((key) => key !== "=" && key !== "Backspace");
    return el("div", { class: "row" }, el("dt", {}, ...shown.map((key) => (key === "…" ? " … " : el("kbd", {}, NAMES[key] ?? key)))), el("dd", {}, what));
  });
  const dialog = el("dialog", { class: "help", "aria-label": "keys" },
    el("h2", {}, "Keys"),
    el("div", { class: "columns" },
      el("section", {}, el("h3", {}, "One image"), el("dl", {}, ...rows("item", "both"))),
      el("section", {}, el("h3", {}, "Contact sheet"), el("dl", {}, ...rows("sheet", "both")),
        el("h3", {}, "One image, with a segmenter"), el("dl", {}, ...rows("mask")),
        el("h3", {}, "Mouse"),
        el("p", {}, "Drag to draw a box; inside one, Shift-drag. Drag a box or its handles to change it. The wheel zooms, Ctrl-drag or the middle button moves the image. The brush paints; with Alt or the right button the other side."))));
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "?") dialog.close();
  });
  return dialog;
}
