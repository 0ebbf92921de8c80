/** The labels of a study: names, values in its label map, and colours. */

const ORGANS = {
  spleen: "#b068d8",
  "right kidney": "#e8801a",
  "left kidney": "#ffb300",
  gallbladder: "#3fcf5a",
  oesophagus: "#d3ab8f",
  liver: "#e0604a",
  stomach: "#d88ab5",
  aorta: "#f0384c",
  "inferior vena cava": "#4d8fd6",
  "portal and splenic vein": "#37bcd0",
  pancreas: "#f4a460",
  "right adrenal": "#b5d33d",
  "left adrenal": "#7fbf3d",
  spine: "#f1d691",
  ribs: "#e8dfc0",
  tumour: "#8f5cf0",
};
const OTHERS = ["#35c9a5", "#e86aa6", "#7aa6ff", "#ffb454", "#b28cff", "#5fd4ee", "#c7d64f", "#ff8a73", "#69d58c", "#d39bd8"];

export class Labels {
  #values = new Map();
  #colours = new Map(); // of names that are not known

  /** saved: {name: value} of the study's label map. */
  constructor(saved = {}) {
    for (const [name, value] of Object.entries(saved)) this.#values.set(name, value);
  }

  get names() {
    return [...this.#values.keys()];
  }

  has(name) {
    return this.#values.has(name);
  }

  /** The value of a label; a new one gets the smallest that is free. Throws Error if none is. */
  value(name) {
    if (!this.#values.has(name)) {
      const taken = new Set(this.#values.values());
      const free = Array.from({ length: 255 }, (_, index) => index + 1).find((value) => !taken.has(value));
      if (!free) throw new Error("a label map holds at most 255 labels");
      this.#values.set(name, free);
    }
    return this.#values.get(name);
  }

  /** #rrggbb, always the same for a name that is known, and for another unless two of a study would have one. */
  colour(name) {
    const known = ORGANS[name.toLowerCase().replaceAll("_", " ")];
    if (known) return known;
    if (!this.#colours.has(name)) {
      const taken = new Set(this.#colours.values());
      const first = [...name].reduce((sum, letter) => (31 * sum + letter.codePointAt(0)) % 65521, 0);
      const inTurn = OTHERS.map((_, step) => OTHERS[(first + step) % OTHERS.length]);
      this.#colours.set(name, inTurn.find((colour) => !taken.has(colour)) ?? inTurn[0]);
    }
    return this.#colours.get(name);
  }

  /** What clients tell the server about the labels of a map that holds these values, by value. */
  info(counts) {
    return this.names
      .filter((name) => counts[this.value(name)])
      .map((name) => ({ name, idx: this.value(name), color: rgb(this.colour(name)) }))
      .sort((one, other) => one.idx - other.idx);
  }
}

/** #rrggbb -> [r, g, b], 0 to 255. */
export function rgb(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}
