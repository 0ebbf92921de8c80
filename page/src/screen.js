/** The open study on the screen: its label map in the views, its labels at the side, and what the controls say of it. */

import { answersFirst, canPropagate, knows, labelsOf, propagated } from "./clicks.js";
import { showLabels } from "./panels.js";
import { doubt } from "./windows.js";

const APART = 1000; // ms: each time takes a browser without a GPU long, and what is computed on the same machine even longer

export class Screen {
  editor = null;
  active = null; // the label that clicks are for
  #hidden = new Set(); // names of labels
  #drawn = []; // shown planes of the live preview
  #coming = new Set(); // shown planes of an answer on its way, that are to be drawn
  #next = 0; // when
  #timer = null;
  #modelShown = null; // whose labels and buttons are on the screen

  /**
   * viewer: Viewer. brush: Brush. elements: {undo, redo, propagate, saved, labels, place, model, modelText, doubt,
   * automatic, views}. lock(name): called when a label is to be locked, or no longer. isSaved(image): whether it has a
   * label. modelChosen(name): called when another model is shown.
   */
  constructor({ viewer, brush, elements, lock, isSaved, modelChosen }) {
    Object.assign(this, { viewer, brush, elements, lock, isSaved, modelChosen });
  }

  /** Show a study that the viewer has just opened; looks: how. */
  open(editor, looks) {
    this.editor = editor;
    this.#hidden = new Set();
    this.#showModel(editor.state.model);
    looks.open();
    this.change(editor, true);
  }

  /** Show no study. */
  close() {
    this.#forgetComing();
    this.editor?.close();
    this.editor = null;
  }

  /** Of a study that is not shown any more nothing is shown. answered: whether its map is another one. */
  change(changed, answered = false) {
    const { editor, viewer, elements } = this;
    if (changed !== editor) return;
    const { state, history } = editor;
    viewer.clicks = state.clicks;
    elements.undo.disabled = !history.canUndo;
    elements.redo.disabled = !history.canRedo;
    elements.propagate.disabled = !canPropagate(editor.model);
    elements.propagate.setAttribute("aria-pressed", String(propagated(state, editor.model, this.active)));
    elements.saved.textContent = editor.unsaved ? "Not saved yet" : this.isSaved(editor.image) ? "Saved" : "";
    if (this.#modelShown !== state.model) this.#showModel(state.model);
    this.#showLabels();
    if (answered) {
      this.#forgetComing();
      viewer.show(editor.display);
      this.#drawn = [];
      this.showPlace();
    }
    viewer.redraw();
  }

  #showLabels() {
    const { labels, counts, voxelMl } = this.editor;
    const figures = (name) => {
      const ml = labels.countOf(name, counts) * voxelMl;
      return ml ? `${ml < 10 ? ml.toFixed(1) : ml.toFixed(0)} ml` : "";
    };
    showLabels(this.elements.labels, labels, this.#names, {
      active: this.active,
      takes: (name) => this.takes(name),
      figures,
      choose: (name) => this.choose(name),
      hidden: (name) => this.isHidden(name),
      hide: (name) => this.hide(name),
      locked: (name) => this.editor.isLocked(name),
      lock: this.lock,
    });
  }

  showPreview(changed, click) {
    const { editor, viewer } = this;
    if (changed !== editor) return;
    const plane = this.#planeOf(click.position[editor.axis]);
    viewer.show(editor.display, this.#axis, [...new Set([...this.#drawn, plane])]);
    this.#drawn = [plane];
    requestAnimationFrame(() => (this.elements.views.dataset.previewed = String(click.position)));
  }

  /** Show a slice, by its number along the source's axis, of an answer that is on its way. */
  showSlice(changed, slice) {
    if (changed !== this.editor) return;
    this.#coming.add(this.#planeOf(slice));
    this.#timer ??= setTimeout(() => this.#showComing(), Math.max(0, this.#next - Date.now()));
  }

  #showComing() {
    this.#timer = null;
    this.#next = Date.now() + APART;
    this.viewer.show(this.editor.display, this.#axis, [...this.#coming]);
    this.#drawn = [...this.#drawn, ...this.#coming]; // a preview takes them away again
    this.#coming.clear();
  }

  /** The shown axis that numbers axial slices. */
  get #axis() {
    return this.editor.frame.axes.indexOf(this.editor.axis);
  }

  /** Where along it a slice lies, by its number along the source's axis. */
  #planeOf(slice) {
    return this.editor.frame.toShown([slice, slice, slice])[this.#axis];
  }

  #forgetComing() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#coming.clear();
  }

  /** Those of the model first, in its order, so that their keys are the same in every study. */
  get #names() {
    const { model, labels } = this.editor;
    return [...new Set([...(labelsOf(model) ?? model.labels), ...labels.names])];
  }

  /** Whether a label can be chosen: the brush takes those, too, that the model does not know. */
  takes(name) {
    return this.brush.on || knows(this.editor.model, name);
  }

  choose(name) {
    this.active = name;
    this.#showColours();
    this.change(this.editor);
  }

  #showColours() {
    const { labels } = this.editor;
    const seen = labels.names.filter((label) => !this.isHidden(label));
    const colours = seen.map((label) => [labels.value(label), labels.colour(label)]);
    this.viewer.setColours(new Map(colours), labels.has(this.active) ? labels.value(this.active) : null);
  }

  isHidden(name) {
    return this.#hidden.has(name);
  }

  /** Hide a label's mask, or show it again. What is hidden is saved like the others. */
  hide(name) {
    if (!this.#hidden.delete(name)) this.#hidden.add(name);
    this.choose(this.active);
  }

  #showModel(name) {
    const { editor, elements } = this;
    const { model } = editor;
    this.#modelShown = name;
    elements.model.value = name;
    elements.modelText.textContent = model.description;
    elements.doubt.textContent = doubt(model, this.viewer.range);
    elements.automatic.hidden = !answersFirst(model);
    const names = this.#names;
    editor.labels.reserve(names);
    const possible = names.filter((label) => this.takes(label));
    this.choose(possible.includes(this.active) ? this.active : (possible[0] ?? null));
    this.modelChosen(name);
  }

  /** The voxel under the cursor (index of the stored image), what the image holds there, and its label. */
  showPlace() {
    const { editor } = this;
    const { cursor, value } = this.viewer;
    const name = editor.labels.names.find((label) => editor.labels.value(label) === editor.map[editor.frame.shownOffset(cursor)]);
    const parts = [editor.frame.toSource(cursor).join(", "), Number(value.toPrecision(5)), name];
    this.elements.place.textContent = parts.filter((part) => part !== undefined).join(" · ");
  }
}
