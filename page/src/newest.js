/** Runs one task at a time and, of those asked for meanwhile, the newest only: no queue builds up. */
export class Newest {
  #run;
  #waiting = null;
  #ending = null;

  /** run: async function of what is asked for; it handles its own failures. */
  constructor(run) {
    this.#run = run;
  }

  ask(wish) {
    this.#waiting = { wish };
    this.#ending ??= this.#work();
  }

  /** Forget what waits. */
  cancel() {
    this.#waiting = null;
  }

  /** Until nothing runs and nothing waits. */
  async idle() {
    while (this.#ending) await this.#ending;
  }

  async #work() {
    await null; // so that #ending is set before the first task can end
    while (this.#waiting) {
      const { wish } = this.#waiting;
      this.#waiting = null;
      await this.#run(wish);
    }
    this.#ending = null;
  }
}
