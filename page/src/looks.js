/** How the study is shown: grey values, views, and how strong the mask is. */

import { fillSelect } from "./panels.js";
import { OWN, windows } from "./windows.js";

export class Looks {
  #windows = {};

  /** viewer: Viewer. elements: {window, layout, opacity}. */
  constructor(viewer, elements) {
    Object.assign(this, { viewer, elements });
    elements.window.addEventListener("change", () => this.#setWindow());
    elements.layout.addEventListener("change", () => viewer.setLayout(elements.layout.value));
    elements.opacity.addEventListener("input", () => this.showMask());
  }

  /** Of a study that was just opened. The window that was chosen stays, if images of this kind have it. */
  open() {
    const { value: last } = this.elements.window;
    const own = this.#windows[OWN];
    this.#windows = windows(this.viewer.range);
    if (last === OWN) this.#windows[OWN] = own;
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
    this.viewer.setWindow(...this.#windows[this.elements.window.value]);
  }
}
