/** What the user is told: sentences, and how long answers take. */

export class Teller {
  #silence;
  #latencies = {};

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

  /** ms: null while the answer is awaited, undefined if none has come. */
  showLatency(kind, ms) {
    this.#latencies[kind] = ms;
    this.elements.latency.textContent = Object.entries(this.#latencies)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => `${name} ${value === null ? "…" : `${Math.round(value)} ms`}`)
      .join(" · ");
  }

  /** As if nothing had been asked yet. */
  forgetLatencies() {
    this.#latencies = {};
    this.elements.latency.textContent = "";
  }
}
