// The heat map over the image, where somebody wants one: the detector's, or that of the classifier that proposed a box.

import * as api from "./api.js";

export class Heat {
  constructor(store, stage, say) {
    Object.assign(this, { store, stage, say });
    this.isWanted = false;
    this.shown = "";
  }

  toggle(id, chosen) {
    this.isWanted = !this.isWanted;
    this.clear();
    this.load(id, chosen);
  }

  clear() {
    this.shown = "";
    this.stage.hideHeat();
  }

  async load(id, chosen) {
    const boxes = this.store.boxes(id);
    const box = boxes.find((each) => each.id === chosen) ?? boxes[0];
    const ofBox = { id, label: box?.label ?? "", source: box?.source ?? "" };
    const asked = this.store.review.detector ? { id, of: "anomaly" } : ofBox;
    const name = JSON.stringify(asked);
    if (!this.isWanted || this.shown === name) return;
    this.shown = name;
    try {
      const picture = await api.fetchPicture("heat", asked);
      if (this.shown === name) this.stage.showHeat(picture);
      else URL.revokeObjectURL(picture);
    } catch (error) {
      this.say(`No heat map: ${error.message}`);
    }
  }
}
