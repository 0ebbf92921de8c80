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
    this.#latencies[kind] = { ms, said: Date.now(), far: "" };
    this.#show();
  }

  /** How far the answer is that is awaited, by words that stand behind its seconds. */
  showFar(kind, far) {
    this.#latencies[kind] = { ...this.#latencies[kind], far };
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
    latency.textContent = shown.map(([kind, one]) => `${kind} ${one.ms === null ? waited(one) : taken(one.ms)}`).join(" · ");
    latency.classList.toggle("waiting", waits.some((wait) => wait >= SOON));
    if (waits.length) this.#clock = setTimeout(() => this.#show(), SOON);
  }
}

function waited({ said, far }) {
  const ms = Date.now() - said;
  const known = [ms >= SOON && `${Math.floor(ms / 1000)} s`, far].filter(Boolean);
  return ["…", known.join(", ")].filter(Boolean).join(" ");
}

const taken = (ms) => (ms < 10_000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
