import assert from "node:assert/strict";
import { test } from "node:test";
import { Looks } from "../src/looks.js";

globalThis.Option = class {
  constructor(text, value, _, selected) {
    Object.assign(this, { value, selected });
  }
};

const CT = { low: -900, high: 500, least: -1024, greatest: 1800 };
const MR = { low: 10, high: 800, least: 0, greatest: 1500 };

/** Looks over a viewer that opens images by their ranges, and notes the window it was given. */
function opened(range) {
  const viewer = { nv: {}, setOpacity() {}, setWindow: (...values) => (viewer.window = values) };
  const select = Object.assign(new EventTarget(), {
    replaceChildren: (...options) => (select.value = options.find((option) => option.selected).value),
  });
  const slider = Object.assign(new EventTarget(), { value: "0.5", classList: { toggle() {} } });
  const looks = new Looks(viewer, { window: select, layout: new EventTarget(), opacity: slider });
  const open = (next) => {
    viewer.range = next;
    looks.open();
    return [select.value, viewer.window];
  };
  open(range);
  const choose = (name) => {
    select.value = name;
    select.dispatchEvent(new Event("change"));
  };
  return { looks, open, choose, viewer };
}

test("a window of one's own stays from CT to CT, and is none of an MR's, whose values mean something else", () => {
  const { looks, open, viewer } = opened(CT);
  looks.changeWindow(40, 0);
  const own = viewer.window;
  assert.deepEqual(open(MR), ["Auto", [10, 800]]);
  assert.deepEqual(open({ ...CT, high: 400 }), ["Own", own]);
});

test("a window of one's own of an MR ends with it", () => {
  const { looks, open } = opened(MR);
  looks.changeWindow(40, 0);
  assert.deepEqual(open({ ...MR, high: 400 }), ["Auto", [10, 400]]);
});

test("a CT has the window that was chosen for the last CT, whatever was opened meanwhile", () => {
  const { open, choose } = opened(CT);
  choose("Bone");
  open(MR);
  choose("Full range");
  assert.deepEqual(open(CT), ["Bone", [-500, 1300]]);
  assert.deepEqual(open(MR), ["Full range", [0, 1500]]);
});
