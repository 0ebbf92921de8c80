/** What the user is told: sentences, and how long answers take. */

const SOON = 1000; // ms that an answer may take before one sees that it is waited for

export class Teller {
  #silence;
  #clock;
  #latencies = {}; // of each kind: ms, and when that was said

  /** elements: {status, latency}. */
  constructor(elements) {
    this.elements = elements;
  }

  say(sentence, isProblem = false) {
    const { status } = this.elements;
    clearTimeout(this.#silence);
    status.textContent = sentence;
    status.classList.toggle("problem", isProblem);
    this.#silence = setTimeout(() => (status.textContent = ""), isProblem ? 9000 : 3500);
  }

  /** What an action returns; what it throws is said. */
  async attempt(action) {
    try {
      return await action();
    } catch (error) {
      this.say(error.message, true);
      return undefined;
    }
  }

  /** ms: null while the answer is awaited, whose seconds are then counted; undefined if none has come. */
  showLatency(kind, ms) {
    this.#latencies[kind] = { ms, said: Date.now() };
    this.#show();
  }

  /** As if nothing had been asked yet. */
  forgetLatencies() {
    this.#latencies = {};
    this.#show();
  }

  #show() {
    clearTimeout(this.#clock);
    const { latency } = this.elements;
    const shown = Object.entries(this.#latencies).filter(([, { ms }]) => ms !== undefined);
    const waits = shown.filter(([, { ms }]) => ms === null).map(([, { said }]) => Date.now() - said);
    latency.textContent = shown.map(([kind, { ms, said }]) => `${kind} ${ms === null ? waited(Date.now() - said) : taken(ms)}`).join(" · ");
    latency.classList.toggle("waiting", waits.some((wait) => wait >= SOON));
    if (waits.length) this.#clock = setTimeout(() => this.#show(), SOON);
  }
}

const waited = (ms) => (ms < SOON ? "…" : `… ${Math.floor(ms / 1000)} s`);
const taken = (ms) => (ms < 10_000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
