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

  /** Go back for good: a state that the server refuses. Does nothing if another one has come meanwhile. */
  reject(state) {
    if (this.state === state && this.canUndo) this.state = this.#past.pop();
  }
}
