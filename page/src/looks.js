/** How the study is shown: grey values, views, and how strong the mask is. */

import { fillSelect } from "./panels.js";
import { isCT, OWN, windows } from "./windows.js";

export class Looks {
  #windows = {};
  #kind; // of image
  #chosen = {}; // kind -> [name, [black, white]], of the window

  /** viewer: Viewer. elements: {window, layout, opacity}. */
  constructor(viewer, elements) {
    Object.assign(this, { viewer, elements });
    elements.window.addEventListener("change", () => this.#setWindow());
    elements.layout.addEventListener("change", () => viewer.setLayout(elements.layout.value));
    elements.opacity.addEventListener("input", () => this.showMask());
  }

  /** Of a study that was just opened. Each kind of image keeps the window chosen for it; of values, only CTs do. */
  open() {
    const { range } = this.viewer;
    const ct = isCT(range);
    this.#kind = ct ? "CT" : "other";
    this.#windows = windows(range);
    const [last, values] = this.#chosen[this.#kind] ?? [];
    if (last === OWN && ct) this.#windows[OWN] = values;
    const names = Object.keys(this.#windows);
    fillSelect(this.elements.window, names, names.includes(last) ? last : names[0]);
    this.#setWindow();
    this.showMask();
  }

  /** A window of one's own, by the mouse: 400 pixels are the width that it has. */
  changeWindow(right, up) {
    const [low, high] = this.viewer.window;
    const unit = (high - low) / 400;
    const [level, width] = [(low + high) / 2 - up * unit, Math.max((high - low) * 0.05, high - low + right * unit)];
    this.#windows[OWN] = [level - width / 2, level + width / 2];
    fillSelect(this.elements.window, Object.keys(this.#windows), OWN);
    this.#setWindow();
  }

  showMask(opacity = Number(this.elements.opacity.value)) {
    this.viewer.setOpacity(opacity);
    this.elements.opacity.classList.toggle("off", !opacity);
  }

  toggleMask() {
    this.showMask(this.viewer.nv.drawOpacity ? 0 : undefined);
  }

  #setWindow() {
    const { value: name } = this.elements.window;
    this.#chosen[this.#kind] = [name, this.#windows[name]];
    this.viewer.setWindow(...this.#windows[name]);
  }
}
