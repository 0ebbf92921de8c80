/** The labels of a study: names, values in its label map, and colours. */

// A Map, as names come from users: an object answers to "constructor", too.
const ORGANS = new Map(
  Object.entries({
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
  }),
);
const OTHERS = ["#35c9a5", "#e86aa6", "#7aa6ff", "#ffb454", "#b28cff", "#5fd4ee", "#c7d64f", "#ff8a73", "#69d58c", "#d39bd8"];

const MOST = 255; // values of a byte that are not background

/** Throws Error for the name of a new label that means something else. reserved: what stands in requests. */
export function checkName(name, reserved) {
  if (name.toLowerCase() === "background") throw new Error("What has no label is background: give the label another name.");
  if (reserved.includes(name)) throw new Error(`${name} means something else to the server, and could not be trained on: give the label another name.`);
}

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
    if (!this.has(name)) this.reserve([name]);
    if (!this.has(name)) throw new Error(`A label map holds at most ${MOST} labels: there is no room for ${name}.`);
    return this.#values.get(name);
  }

  /** Give names their values, in this order, as long as there are free ones. */
  reserve(names) {
    const taken = new Set(this.#values.values());
    const free = Array.from({ length: MOST }, (_, index) => index + 1).filter((value) => !taken.has(value));
    const unknown = names.filter((name) => !this.has(name));
    unknown.slice(0, free.length).forEach((name, index) => this.#values.set(name, free[index]));
  }

  /** #rrggbb, always the same for a name that is known, and for another unless two of a study would have one. */
  colour(name) {
    const known = ORGANS.get(name.toLowerCase().replaceAll("_", " "));
    if (known) return known;
    if (!this.#colours.has(name)) {
      const taken = new Set(this.#colours.values());
      const first = [...name].reduce((sum, letter) => (31 * sum + letter.codePointAt(0)) % 65521, 0);
      const inTurn = OTHERS.map((_, step) => OTHERS[(first + step) % OTHERS.length]);
      this.#colours.set(name, inTurn.find((colour) => !taken.has(colour)) ?? hue(taken.size));
    }
    return this.#colours.get(name);
  }

  /** Of a map's voxel counts by value, that of a label. */
  countOf(name, counts) {
    return this.has(name) ? counts[this.value(name)] : 0;
  }

  /** What clients tell the server about the labels of a map that holds these values, by value. */
  info(counts) {
    return this.names
      .filter((name) => this.countOf(name, counts))
      .map((name) => ({ name, idx: this.value(name), color: rgb(this.colour(name)) }))
      .sort((one, other) => one.idx - other.idx);
  }
}

/** One of any number of colours, told apart as well as so many can be: each is a golden angle from the one before. */
function hue(number) {
  const light = 0.82 - 0.09 * (number % 3);
  const channel = (shift) => {
    const turn = (number * 0.618034 + shift) % 1;
    const part = 0.3 * Math.max(-1, Math.min(1, 2 - 6 * Math.abs(turn - 0.5)));
    return Math.round(255 * Math.min(1, Math.max(0, light - part)));
  };
  return `#${[0.5, 0.5 + 1 / 3, 0.5 + 2 / 3].map((shift) => channel(shift).toString(16).padStart(2, "0")).join("")}`;
}

/** #rrggbb -> [r, g, b], 0 to 255. */
export function rgb(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}
