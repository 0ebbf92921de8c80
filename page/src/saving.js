/** What becomes of the label map of an open study: it is saved, the saved one is removed, or it is downloaded. */

import * as api from "./api.js";

export class Saving {
  #running = null;

  /** editor: Editor. version: of the label on the server, null if there is none. */
  constructor(editor, version) {
    Object.assign(this, { editor, version });
  }

  /**
   * Save the label map as the study's final label. What is done meanwhile stays, and is not saved yet. Returns what is
   * done then, "saved"; while a removal runs, that.
   * Throws api.Outdated if somebody else has saved one since; replace: whether theirs is to go.
   */
  save(replace = false) {
    return (this.#running ??= this.#save(replace).finally(() => (this.#running = null)));
  }

  /** Whether a label is saved of which nothing is left here, and that is not being seen to. */
  async emptied() {
    const { editor } = this;
    await editor.idle();
    return !editor.closed && !this.#running && this.version !== null && !editor.labels.info(editor.counts).length;
  }

  /** Take the saved label away, as `save` saves one; returns "removed". */
  remove(replace = false) {
    return (this.#running ??= this.#remove(replace).finally(() => (this.#running = null)));
  }

  /** Until a save or a removal that runs has ended; throws what it throws. */
  async settled() {
    await this.#running;
  }

  /**
   * The label map as it is, saved or not: {file: .nii.gz that says what its values mean, names: [{name, idx, color}]}.
   * Throws Error if it is empty.
   */
  async download() {
    const { editor } = this;
    await editor.idle();
    const names = this.#names("download");
    const labels = Object.fromEntries(names.map(({ name, idx }) => [name, idx]));
    return { file: await editor.file(editor.map, JSON.stringify({ labels })), names };
  }

  async #save(replace) {
    const { editor } = this;
    const { failures } = editor;
    await editor.idle();
    this.#checkOpen();
    if (failures !== editor.failures) throw new Error("Not saved, since the last click had no answer.");
    const { state, map } = editor;
    const names = this.#names("save");
    const file = await editor.file(map);
    this.#stored(state, map, await api.save(editor.image, file, names, replace ? undefined : this.version));
    return "saved";
  }

  async #remove(replace) {
    const { editor } = this;
    this.#checkOpen();
    const { state, map } = editor;
    await api.remove(editor.image, replace ? undefined : this.version);
    this.#stored(state, map, null);
    return "removed";
  }

  /** What is said of the map's labels. Throws Error if it has none. */
  #names(verb) {
    const { labels, counts } = this.editor;
    const info = labels.info(counts);
    if (!info.length) throw new Error(`There is nothing to ${verb} yet: click on a structure first.`);
    return info;
  }

  /** Throws Error if the study was left: its map lacks what was answered since. */
  #checkOpen() {
    const { closed, image } = this.editor;
    if (closed) throw new Error(`The label of ${image} is not saved: the study was left meanwhile.`);
  }

  #stored(state, map, version) {
    this.version = version;
    this.editor.stored(state, map);
  }
}
