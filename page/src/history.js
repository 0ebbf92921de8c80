/** States that can be gone back to, any number of steps. States are never changed, only replaced. */
export class History {
  #past = [];
  #future = [];

  constructor(state) {
    this.state = state;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  push(state) {
    this.#past.push(this.state);
    this.#future = [];
    this.state = state;
  }

  undo() {
    if (!this.canUndo) return;
    this.#future.push(this.state);
    this.state = this.#past.pop();
  }

  redo() {
    if (!this.canRedo) return;
    this.#past.push(this.state);
    this.state = this.#future.pop();
  }

  /** Go back to a state that was here before. Those that came since can be done again. */
  restore(state) {
    while (this.state !== state && this.#future.includes(state)) this.redo();
    while (this.state !== state && this.#past.includes(state)) this.undo();
    if (this.state === state) return;
    this.#future.push(this.state);
    this.state = state;
  }
}
