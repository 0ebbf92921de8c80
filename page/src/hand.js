/** What the mouse and the keys do in the views of the open study: clicks, strokes of the brush, and moves. */

import { swept } from "./brush.js";
import { knows } from "./clicks.js";
import { listen } from "./pointer.js";
import { towards } from "./sides.js";

export class Hand {
  #pointer;

  /** views: the element. attempt(action): does it, and tells what it throws. */
  constructor(views, { viewer, screen, brush, looks, attempt }) {
    Object.assign(this, { viewer, screen, brush, looks });
    this.#pointer = listen(views, viewer, {
      drag: (...place) => attempt(() => this.#drag(...place)),
      drop: (shown, inside) => attempt(() => (brush.on ? this.#editor.endStroke() : this.#editor.add(this.#clickAt(shown, inside)))),
      giveUp: () => this.#editor.cancelPreview(),
      move: (shown) => this.#moveTo(shown),
      scroll: (axis, steps) => this.step(axis, steps),
      zoom: (factor, place) => this.#editor && viewer.zoomBy(factor, place),
      pan: (from, to) => viewer.pan(from, to),
      window: (right, up) => this.#editor && looks.changeWindow(right, up),
      hover: (mouse) => brush.hover(mouse),
    });
  }

  get #editor() {
    return this.screen.editor;
  }

  #drag(shown, inside, depth, before) {
    if (this.brush.on) return this.#paint(shown, inside, depth, before);
    this.#moveTo(shown);
    const click = this.#clickAt(shown, inside);
    this.viewer.clicks = [...this.#editor.state.clicks, { ...click, pending: true }];
    return this.#editor.preview(click);
  }

  /** Give up what is being dragged or painted; returns whether there was anything. */
  cancel() {
    return this.#pointer.cancel();
  }

  toggleBrush() {
    this.cancel();
    this.brush.toggle();
    this.screen.change(this.#editor);
  }

  /** What a mouse button does, at the cursor. */
  actAtCursor(inside) {
    const { cursor, depth } = this.viewer;
    if (!this.brush.on) return this.#editor.add(this.#clickAt(cursor, inside));
    this.#paint(cursor, inside, depth);
    return this.#editor.endStroke();
  }

  #clickAt(shown, inside) {
    const { active } = this.screen;
    if (active) this.checkKnown(active);
    return { position: this.#editor.frame.toSource(shown), label: this.#changeable(), inside };
  }

  #paint(shown, inside, depth, before = shown) {
    this.#editor.stroke(this.#changeable(), inside, swept(before, shown, depth, this.brush.radius, this.#editor.frame));
    this.viewer.show(this.#editor.display, depth, [shown[depth]]);
  }

  /** Throws Error for a label that cannot be clicked. */
  checkKnown(name) {
    const { model, state } = this.#editor;
    if (knows(model, name)) return;
    throw new Error(`${state.model} does not know the label ${name}: choose another model for it, or paint it with the brush (B).`);
  }

  /** The label that clicks and strokes are for, which is seen from then on. Throws Error if nothing may change it. */
  #changeable() {
    const { active } = this.screen;
    if (!active) throw new Error("Choose a label first, or add one.");
    this.#editor.checkUnlocked(active);
    this.#editor.labels.value(active); // throws if there is no room for it
    if (this.screen.isHidden(active)) this.screen.hide(active);
    return active;
  }

  #moveTo(shown) {
    this.viewer.moveTo(shown);
    this.screen.showPlace();
  }

  step(axis, voxels) {
    if (!this.#editor) return;
    this.viewer.moveBy(axis, voxels);
    this.screen.showPlace();
  }

  /** Move the cursor towards a side of the first view. */
  stepTo(side, far) {
    const [axis, sign] = towards(this.viewer.depth, side);
    this.step(axis, far ? 10 * sign : sign);
  }
}
