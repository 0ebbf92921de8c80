/**
 * Strokes of the brush that the label map does not hold yet: the one that is being painted, and those that wait for the
 * answer to the click before them. A stroke is {label, inside: painted, and not erased; voxels: Set of places in the shown array}.
 */
export class Strokes {
  #busy;
  #keep;
  #painted = null;
  #waiting = [];
  #keeping = null;

  /** busy(): null if a stroke can be kept, or else a promise to wait for. keep(stroke): called then, of each in turn. */
  constructor(busy, keep) {
    this.#busy = busy;
    this.#keep = keep;
  }

  /** Whether strokes wait. */
  get wait() {
    return this.#waiting.length > 0;
  }

  *[Symbol.iterator]() {
    yield* this.#waiting;
    if (this.#painted) yield this.#painted;
  }

  /** Go on with the stroke that is being painted, or begin one, which stays of one label; returns it. */
  paint(label, inside, voxels) {
    this.#painted ??= { label, inside, voxels: new Set() };
    for (const voxel of voxels) this.#painted.voxels.add(voxel);
    return this.#painted;
  }

  /** What is being painted is to be kept. */
  end() {
    if (!this.#painted) return;
    this.#waiting.push(this.#painted);
    this.#painted = null;
    this.#keeping ??= this.#keepAll();
  }

  giveUp() {
    this.#painted = null;
  }

  /** Take back the last one that waits; false if none does. */
  undo() {
    return this.#waiting.pop() !== undefined;
  }

  /** Until none waits. */
  async idle() {
    while (this.#keeping || this.wait) await (this.#keeping ??= this.#keepAll());
  }

  async #keepAll() {
    await null; // so that #keeping is set before there is nothing left to keep
    try {
      while (this.#waiting.length) {
        const busy = this.#busy();
        if (busy) await busy; // and look again: something else may have been done first
        else this.#keep(this.#waiting.shift());
      }
    } finally {
      this.#keeping = null; // whatever happens: who waits for the end would wait for ever
    }
  }
}

/**
 * What a stroke makes of each value of a label map: painted, all but those that are `kept` become `value`; erased, `value`
 * alone goes.
 */
export function becoming(value, inside, kept) {
  const painted = (held) => (kept.has(held) ? held : value);
  const erased = (held) => (held === value ? 0 : held);
  return new Uint8Array(256).map((_, held) => (inside ? painted(held) : erased(held)));
}
