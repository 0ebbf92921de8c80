/** One open study: its clicks, their answers, and the label map that both make. Knows the server, not the screen. */

import { Answers } from "./answers.js";
import * as api from "./api.js";
import { Awaiting } from "./awaiting.js";
import { Bases } from "./bases.js";
import { answersFirst, canPropagate, decidedIn, knows, labelsOf, ONE, propagated, questionOf, questions } from "./clicks.js";
import { between } from "./filling.js";
import { History } from "./history.js";
import { compose, count, paint, voxelsOf } from "./masks.js";
import { Newest } from "./newest.js";
import { Saving } from "./saving.js";
import { becoming, Strokes } from "./strokes.js";

const DONE = { clicks: [], propagate: [], automatic: false }; // what has done its work: the map holds what came of it

export class Editor {
  #answers;
  #committing = new Newest((state) => this.#commit(state), (error) => this.#tell(error));
  #previewing = new Newest((click) => this.#preview(click), (error) => this.#tell(error));
  #strokes = new Strokes(() => (this.#current ? null : this.#committing.idle()), (stroke) => this.#keep(stroke));
  #bases = new Bases();
  #client = crypto.randomUUID?.() ?? String(Math.random());
  closed = false; // for good
  #previewed = null;
  #answered; // the state that the map and the figures are of
  #unlocked; // the map as it would be if nothing were locked
  #awaiting = new Awaiting({
    current: () => (this.closed ? null : this.state),
    latency: (ms) => this.closed || this.on.latency("click", ms),
    part: (fraction) => this.on.part(fraction),
    slice: (runs, values) => this.#showSlice(runs, values),
  });
  failures = 0; // answers that did not come
  #segmenting = null;

  /**
   * image: id. head: ArrayBuffer that begins with the image's NIfTI head. frame: Frame. axis: that numbers axial slices.
   * models: of /info. labels: Labels. base: the label map to begin with. model: its name.
   * version: of that map on the server, null if there is none.
   * on: {change(editor, answered), preview(editor, click), problem(sentence),
   *   latency(kind, ms; null while the answer is awaited, undefined if none comes),
   *   part(fraction of what is to be done before any of it is known), slice(editor, number: of the answer, shown now)}.
   */
  constructor({ image, head, frame, axis, models, labels, base, version, model, on }) {
    Object.assign(this, { image, frame, axis, models, labels, on });
    this.saving = new Saving(this, version);
    this.#answers = new Answers({ image, head, frame, labels, bases: this.#bases });
    const state = { clicks: [], base: { map: base }, model, propagate: [], automatic: false, locked: [] };
    this.history = new History(state);
    this.saved = state.base;
    this.#answered = state;
    this.map = this.#unlocked = base;
    this.counts = count(base);
    this.display = base.slice();
  }

  get state() {
    return this.history.state;
  }

  get model() {
    return this.models[this.state.model];
  }

  /** Whether there is anything that a save would keep. */
  get unsaved() {
    const { base, clicks, automatic } = this.state;
    return base !== this.saved || clicks.length > 0 || automatic || this.#strokes.wait;
  }

  /** Until every answer that was asked for is on the screen, and what was painted meanwhile upon it. */
  async idle() {
    await this.#previewing.idle();
    do {
      await this.#strokes.idle();
      await this.#committing.idle();
    } while (this.#strokes.wait || !this.#current); // who waits for this goes on from the map
  }

  /** Whether the map is that of the state, or will be that of none any more. */
  get #current() {
    return this.state === this.#answered || this.closed;
  }

  /** Nothing more is asked, shown or saved, whatever is still waited for or done by mistake. */
  close() {
    this.closed = true;
    this.#previewing.cancel();
    this.#committing.cancel();
    this.#awaiting.giveUp();
  }

  /** Make a change that can be undone. */
  change(fields) {
    this.history.push({ ...this.state, ...fields });
    this.#refresh();
  }

  add(click) {
    this.change({ clicks: [...this.state.clicks, click] });
  }

  undo() {
    if (!this.#strokes.undo()) this.history.undo();
    this.#refresh();
  }

  redo() {
    this.history.redo();
    this.#refresh();
  }

  togglePropagate(label) {
    const { state, model } = this;
    const names = labelsOf(model) ?? [label];
    const others = state.propagate.filter((name) => !names.includes(name));
    this.change({ propagate: propagated(state, model, label) ? others : [...others, ...names] });
  }

  isLocked(label) {
    return this.state.locked.some((one) => one.label === label);
  }

  /** Throws Error if the label is locked. */
  checkUnlocked(label) {
    if (this.isLocked(label)) throw new Error(`${label} is locked: unlock it first (L).`);
  }

  /** Let nothing change the label as it is now, or no longer do so, which by itself changes nothing. */
  async toggleLock(label) {
    await this.idle();
    if (!this.isLocked(label)) {
      const voxels = voxelsOf(this.map, this.labels.value(label));
      this.change({ locked: [...this.state.locked, { label, voxels }] });
      return;
    }
    const locked = this.state.locked.filter((one) => one.label !== label);
    const differs = this.#withLocked(this.#unlocked, locked).some((value, at) => value !== this.map[at]);
    this.change({ locked, ...(differs && this.#done(this.map)) });
  }

  /** A state's fields when the clicks have done their work: what came of them is in this map, which is gone on from. */
  #done(map) {
    return { ...DONE, base: this.#bases.holding(map, this.state.base) };
  }

  #withLocked(map, locked) {
    const parts = locked.map(({ label, voxels }) => ({ value: this.labels.value(label), voxels }));
    return parts.length ? compose(map, parts) : map;
  }

  /** Take a label away: its clicks, and its voxels in the map that was opened. */
  async erase(label) {
    this.checkUnlocked(label);
    await this.#strokes.idle();
    const gone = [{ value: this.labels.value(label), voxels: [] }];
    if (answersFirst(this.model)) {
      // It would find the label again unasked, or from the clicks of others: what it has made is gone on from.
      await this.idle();
      this.change(this.#done(compose(this.map, gone)));
      return;
    }
    const { base } = this.state;
    this.change({
      clicks: this.state.clicks.filter((click) => click.label !== label),
      propagate: this.state.propagate.filter((name) => name !== label),
      base: this.#bases.holding(compose(this.#bases.mapOf(base), gone), base),
    });
  }

  /**
   * Go on with a stroke of the brush, that paints a label or erases it; shown at once, and kept when it has ended.
   * voxels: places in the shown array.
   */
  stroke(label, inside, voxels) {
    this.#draw({ ...this.#strokes.paint(label, inside, voxels), voxels });
  }

  /** Keep the stroke. It waits for the answer to the click before it: upon that it is painted. */
  endStroke() {
    this.#strokes.end();
  }

  #keep({ label, inside, voxels }) {
    try {
      this.checkUnlocked(label);
      const table = this.#becoming(label, inside);
      const changed = Uint32Array.from([...voxels].filter((voxel) => table[this.map[voxel]] !== this.map[voxel]));
      if (!changed.length) return;
      this.#put(changed, Uint8Array.from(changed, (voxel) => table[this.map[voxel]]));
    } catch (error) {
      this.#committing.ask(this.state); // which shows the map without it
      this.#tell(error);
    }
  }

  /**
   * Fill a label in slices along a shown axis between those that hold it, where nothing else is. Throws Error if there are
   * none.
   */
  async fill(label, depth) {
    this.checkUnlocked(label);
    await this.idle();
    if (this.closed) return;
    const value = this.labels.has(label) ? this.labels.value(label) : null;
    const voxels = value ? between(this.map, value, depth, this.frame) : [];
    if (!voxels.length) throw new Error(`Nothing to fill: ${label} is in no two slices of the first view with others between them.`);
    this.#put(voxels, new Uint8Array(voxels.length).fill(value));
  }

  /** Change voxels of the map, which is gone on from. */
  #put(voxels, values) {
    const base = this.#bases.holding(this.map, this.state.base);
    this.change({ ...DONE, base: this.#bases.changed(base, voxels, values) });
  }

  #draw({ label, inside, voxels }) {
    const table = this.#becoming(label, inside);
    for (const voxel of voxels) this.display[voxel] = table[this.display[voxel]];
  }

  #becoming(label, inside) {
    const kept = new Set(this.state.locked.map((one) => this.labels.value(one.label)));
    return becoming(this.labels.value(label), inside, kept);
  }

  /** Show the map, and upon it what is painted and not kept yet. */
  #showMap() {
    this.display.set(this.map);
    for (const stroke of this.#strokes) this.#draw(stroke);
  }

  /** Show what one more click would give in its axial slice, without keeping it. */
  preview(click) {
    this.#previewed = click;
    this.#previewing.ask(click);
  }

  /** Forget the click that was previewed, or the stroke that was being painted. */
  cancelPreview() {
    this.#strokes.giveUp();
    this.#previewing.cancel();
    this.#refresh();
  }

  /** Let another model go on: what is there stays, and the clicks that made it have done their work. */
  async chooseModel(model) {
    if (!Object.hasOwn(this.models, model)) throw new Error(`The server has no model ${model} any more.`);
    await this.idle();
    const made = this.state.clicks.length > 0 || this.state.automatic;
    this.change({ model, ...(made && this.#done(this.map)) });
  }

  /** All labels of the model, before the first click; those that the opened map holds stay as they are. */
  segmentAll() {
    this.#segmenting ??= this.#segmentAll().finally(() => (this.#segmenting = null));
    return this.#segmenting;
  }

  async #segmentAll() {
    await this.idle();
    if (this.closed) return;
    const held = count(this.#bases.mapOf(this.state.base));
    if (!labelsOf(this.model).some((label) => this.labels.countOf(label, held))) {
      this.change({ automatic: true });
      return;
    }
    const { state, map } = this;
    const [question] = questions({ ...state, clicks: [], automatic: true }, this.model);
    const here = count(map);
    const parts = await this.#awaiting.run(state, (watcher) => this.#answers.ask(state.model, question, null, watcher));
    if (this.closed) return;
    if (state !== this.state) throw new Error("What all were to be added to has changed meanwhile: segment all again.");
    this.change(this.#done(compose(map, parts.filter(({ value }) => !here[value]), false)));
  }

  /** A map is that of the server now. state: that it is of. */
  stored(state, map) {
    this.saved = this.#bases.holding(map, state.base);
    if (state === this.state && this.unsaved) this.change({ ...DONE, base: this.saved });
  }

  /** A label map in shown order as .nii.gz on the image's grid. comment: of `writeLabels`. */
  file(map, comment) {
    return this.#answers.file(map, comment);
  }

  #refresh() {
    if (this.closed) return;
    this.#previewed = null;
    this.#previewing.cancel();
    this.#committing.ask(this.state); // first: the state needs an answer though its showing should fail
    // What goes from slice to slice need not end if it is not wanted any more: the server remembers what it has found.
    const awaited = this.#awaiting.state;
    if (awaited && awaited !== this.state && canPropagate(this.models[awaited.model])) this.#awaiting.giveUp();
    this.on.change(this);
  }

  #tell(error) {
    if (!this.closed) this.on.problem(error.message);
  }

  async #commit(state) {
    const model = this.models[state.model];
    try {
      const answers = (watcher) => this.#answers.of(state, model, watcher);
      const parts = await (this.#answers.known(state, model) ? answers(null) : this.#awaiting.run(state, answers));
      if (this.closed || state !== this.state) return;
      const base = this.#bases.mapOf(state.base);
      const unlocked = parts.length ? compose(base, parts, model.type === ONE) : base;
      this.map = this.#withLocked(unlocked, state.locked);
      this.#unlocked = unlocked;
      this.#answered = state;
      this.counts = count(this.map);
      this.#showMap();
    } catch (error) {
      if (this.closed || state !== this.state || error instanceof api.Cancelled) return; // a newer one tells
      this.failures++;
      this.history.restore(this.#answered);
      this.#showMap();
      this.on.problem(error.message);
    }
    this.on.change(this, true);
  }

  /** Show a slice of the answer that is on its way. values: of its question. */
  #showSlice(runs, values) {
    this.#paint(runs, [...values].filter(([value, label]) => runs.values.includes(value) || this.labels.has(label)));
    this.on.slice(this, runs.slice);
  }

  /** Draw a slice of an answer upon the map, but for labels that the model does not know and those that are locked. */
  #paint(runs, answered) {
    const free = answered.filter(([, label]) => !this.isLocked(label));
    const values = new Map(free.map(([value, label]) => [value, this.labels.value(label)]));
    const others = this.labels.names.filter((label) => !knows(this.model, label) || this.isLocked(label));
    const kept = new Set(others.map((label) => this.labels.value(label)));
    paint(this.display, this.map, this.frame, runs, values, kept);
  }

  async #preview(click) {
    const { state } = this;
    const wished = { ...state, clicks: [...state.clicks, click] };
    const question = questionOf(wished, this.model, click.label);
    const slice = click.position[this.axis];
    const deciding = decidedIn(wished, this.model, slice, this.axis);
    if (!question || !deciding.size) return;
    const begin = performance.now();
    const reply = await api.preview(state.model, this.image, question.params, slice, this.#client);
    if (!reply || this.closed || !this.#previewed || state !== this.state) return;
    this.on.latency("preview", performance.now() - begin);
    this.#showMap();
    this.#paint(reply, [...question.values].filter(([, label]) => deciding.has(label)));
    this.on.preview(this, click);
  }
}
