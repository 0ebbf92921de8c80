/** The answer that is awaited: how far it is, how long it takes, and whether it is wanted still. */

export class Awaiting {
  #awaited = null; // {state, controller}

  /**
   * latency(ms; null while it is awaited, undefined if none comes). part(fraction) and slice(runs, values) are told of what
   * is awaited for the state that is `current()`.
   */
  constructor({ current, latency, part, slice }) {
    Object.assign(this, { current, latency, part, slice });
  }

  /** What an action finds for a state: ask(watcher), a watcher as `Answers.ask` takes it. */
  async run(state, ask) {
    const controller = new AbortController();
    const awaited = (this.#awaited = { state, controller });
    const wanted = () => awaited === this.#awaited && state === this.current();
    const begin = performance.now();
    let ms;
    this.latency(null);
    try {
      const found = await ask({
        signal: controller.signal,
        part: (fraction) => wanted() && this.part(fraction),
        slice: (runs, values) => wanted() && this.slice(runs, values),
      });
      ms = performance.now() - begin;
      return found;
    } finally {
      if (awaited === this.#awaited) this.#awaited = null;
      this.latency(ms);
    }
  }

  /** The state that an answer is awaited for, or null. */
  get state() {
    return this.#awaited?.state ?? null;
  }

  /** Wait for it no longer: whoever does is told that it is cancelled. */
  giveUp() {
    this.#awaited?.controller.abort();
  }
}
