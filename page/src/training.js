/** The panel that starts a training and shows how it goes on. */

import * as api from "./api.js";

const POLL_MS = 1500;
const RUNNING = ["SUBMITTED", "RUNNING"];
const WORDS = new Map(
  Object.entries({ none: "", SUBMITTED: "starting", RUNNING: "running", DONE: "done", ERROR: "failed", STOPPED: "stopped" }),
);
const NOTHING = { status: "none", problem: "", total_epochs: 0, epochs: [] };

/** The trainer (of /info) of the weights that a model uses: both models of 2D weights share one. null if there is none. */
export function trainerOf(trainers, model) {
  return [model, model.replace(/_labels$/, "")].find((name) => Object.hasOwn(trainers, name)) ?? null;
}

/** elements: {form, epochs, train, stop, state, progress, curve}. say: what is told the user. done: after the end. */
export class TrainingPanel {
  #timer = null;
  #turn = 0; // of the newest look: what an older one finds is out of date
  #running = false;
  #failed = false; // the last look: that is told once

  constructor(elements, say, done) {
    Object.assign(this, { elements, say, done });
    elements.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#start();
    });
    elements.stop.addEventListener("click", () => this.#do(api.stopTraining));
  }

  /** Follow the training of a model; null: there is nothing to train. */
  follow(model) {
    if (model !== this.model) {
      this.#running = false; // what ran was another's, as what is shown
      this.#show(NOTHING);
    }
    this.model = model;
    this.#turn++;
    clearTimeout(this.#timer);
    this.elements.train.disabled = !model;
    if (model) this.#look();
  }

  #start() {
    const epochs = Number(this.elements.epochs.value);
    this.#do(() => api.train(this.model, { max_epochs: epochs }));
  }

  async #do(action) {
    try {
      await action();
      if (this.model) this.#look(); // of which there may be none by now
    } catch (error) {
      this.say(error.message, true);
    }
  }

  async #look() {
    clearTimeout(this.#timer);
    const turn = ++this.#turn;
    try {
      const found = await api.training(this.model);
      if (turn !== this.#turn) return;
      this.#show(found);
      this.#failed = false;
    } catch (error) {
      if (turn !== this.#turn) return;
      if (!this.#failed) this.say(error.message, true);
      this.#failed = true;
    }
    if (this.#running || this.#failed) this.#timer = setTimeout(() => this.#look(), POLL_MS);
  }

  #show({ status, problem, total_epochs: total, epochs }) {
    const { train, stop, state, progress, curve } = this.elements;
    const running = RUNNING.includes(status);
    train.hidden = running;
    stop.hidden = !running;
    state.textContent = [WORDS.get(status) ?? status, total && `${epochs.length} of ${total}`].filter(Boolean).join(" · ");
    progress.value = total ? epochs.length / total : 0;
    if (running && !total) progress.removeAttribute("value");
    curve.innerHTML = drawCurve(epochs.map(({ loss }) => loss), Math.max(total, 2));
    curve.hidden = !epochs.length;
    if (this.#running && !running) {
      if (status === "ERROR") this.say(`Training failed: ${problem}`, true);
      else this.say(status === "DONE" ? "Training is done: the next click uses the new weights." : "Training was stopped.");
      this.done();
    }
    this.#running = running;
  }
}

/** Losses, of `total` epochs -> SVG. */
export function drawCurve(losses, total) {
  if (!losses.length) return "";
  const [width, height, left] = [200, 84, 30];
  const top = Math.max(...losses) * 1.05 || 1;
  const x = (epoch) => left + ((width - left - 4) * epoch) / (total - 1);
  const y = (loss) => 4 + (height - 20) * (1 - loss / top);
  const points = losses.map((loss, epoch) => `${x(epoch).toFixed(1)},${y(loss).toFixed(1)}`);
  const [endX, endY] = points.at(-1).split(",");
  const text = (at, value, anchor) =>
    `<text x="${at[0]}" y="${at[1]}" fill="#8e9aab" font-size="9" text-anchor="${anchor}">${value}</text>`;
  return `<svg viewBox="0 0 ${width} ${height}" preserveAspectRatio="xMinYMid">
    <path d="M${left} 4V${height - 16}H${width - 4}" fill="none" stroke="#262e3a"/>
    <polyline points="${points.join(" ")}" fill="none" stroke="#4da3ff" stroke-width="1.5"/>
    <circle cx="${endX}" cy="${endY}" r="2.5" fill="#4da3ff"/>
    ${text([left - 4, 11], top.toFixed(2), "end")}${text([left - 4, height - 16], "0", "end")}
    ${text([left, height - 4], "1", "start")}${text([width - 4, height - 4], total, "end")}
    ${text([(left + width) / 2, height - 4], `loss ${losses.at(-1).toFixed(3)}`, "middle")}
  </svg>`;
}
