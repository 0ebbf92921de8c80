/** What the server answers to the clicks of one study, and the label maps that it is sent to be corrected; both are kept. */

import * as api from "./api.js";
import { questions, takesLong } from "./clicks.js";
import { collect } from "./masks.js";
import { compress, decompress, readLabels, writeLabels } from "./nifti.js";

const KEPT = 60; // answers, so that undo and redo need not ask again

const keyOf = (state, { params }) => JSON.stringify([state.model, params]);

export class Answers {
  #answers = new WeakMap();
  #starts = new WeakMap();

  /** image: id. head: ArrayBuffer that begins with the image's NIfTI head. frame: Frame. labels: Labels. bases: Bases. */
  constructor({ image, head, frame, labels, bases }) {
    Object.assign(this, { image, head, frame, labels, bases });
  }

  /** Whether nothing need be asked for a state. model: that of /info. */
  known(state, model) {
    return questions(state, model).every((question) => this.#kept(state.base).has(keyOf(state, question)));
  }

  /** The parts that answer a state: of each label that it decides, the voxels. watcher: as of `ask`. */
  async of(state, model, watcher) {
    const parts = [];
    for (const question of questions(state, model)) parts.push(...(await this.#answer(state, model, question, watcher)));
    return parts;
  }

  /**
   * The parts that a model, by its name, gives for a question. start: .nii.gz of the label map that is corrected, or null.
   * watcher: {part(fraction), slice(runs, values of the question), signal}; null where the answer does not take long.
   */
  async ask(model, { params, values }, start, watcher) {
    const watching = watcher && { ...watcher, slice: (runs) => watcher.slice(runs, values) };
    const answer = readLabels(await decompress(await api.infer(model, this.image, params, start, watching)));
    if (String(answer.dims) !== String(this.frame.dims)) throw new Error("The server's mask has another size.");
    const found = collect(answer.values, this.frame);
    const told = [...values].filter(([value, label]) => found.has(value) || this.labels.has(label));
    return told.map(([value, label]) => ({ value: this.labels.value(label), voxels: found.get(value) ?? new Uint32Array() }));
  }

  /** Answers to questions about one label map that is corrected. */
  #kept(base) {
    if (!this.#answers.has(base)) this.#answers.set(base, new Map());
    return this.#answers.get(base);
  }

  async #answer(state, model, question, watcher) {
    const kept = this.#kept(state.base);
    const key = keyOf(state, question);
    if (!kept.has(key)) {
      const start = await this.#start(state.base, question.values);
      const watching = takesLong(model, question.params) ? watcher : null;
      kept.set(key, await this.ask(state.model, question, start, watching));
      if (kept.size > KEPT) kept.delete(kept.keys().next().value);
    }
    return kept.get(key);
  }

  /** The label map that is corrected, as a file with the values of the model; null if it holds none of its labels. */
  async #start(base, values) {
    const table = new Uint8Array(256);
    for (const [value, label] of values) if (this.labels.has(label)) table[this.labels.value(label)] = value;
    const key = table.join();
    if (!this.#starts.has(base)) this.#starts.set(base, new Map());
    const starts = this.#starts.get(base);
    if (!starts.has(key)) {
      const map = this.bases.mapOf(base).map((value) => table[value]);
      const empty = !map.some((value) => value);
      starts.set(key, empty ? null : await this.file(map));
    }
    return starts.get(key);
  }

  /** A label map in shown order as .nii.gz on the image's grid. comment: of `writeLabels`. */
  file(map, comment) {
    return compress(writeLabels(this.head, this.frame.sourceOrder(map), comment));
  }
}
