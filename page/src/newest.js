/** Runs one task at a time and, of those asked for meanwhile, the newest only: no queue builds up. */
export class Newest {
  #run;
  #failed;
  #waiting = null;
  #ending = null;

  /** run: async function of what is asked for. failed(error): told what it throws; what waits runs nevertheless. */
  constructor(run, failed) {
    this.#run = run;
    this.#failed = failed;
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
    try {
      while (this.#waiting) await this.#next();
    } finally {
      this.#ending = null; // whatever happens: who waits for the end would wait, or fail, for ever
    }
  }

  async #next() {
    const { wish } = this.#waiting;
    this.#waiting = null;
    try {
      await this.#run(wish);
    } catch (error) {
      this.#failed(error);
    }
  }
}
