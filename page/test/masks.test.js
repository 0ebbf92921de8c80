import assert from "node:assert/strict";
import { test } from "node:test";
import { Frame } from "../src/frame.js";
import { collect, compose, count, paint } from "../src/masks.js";

const DIMS = [3, 4, 5];
const FRAME = new Frame(DIMS, [-2, 1, -3]);

function answer() {
  const values = new Uint8Array(60);
  for (let at = 0; at < 60; at += 7) values[at] = 1 + (at % 3);
  return values;
}

test("an answer is taken apart into the voxels of each value", () => {
  const values = answer();
  const found = collect(values, FRAME);
  const map = new Uint8Array(60);
  for (const [value, voxels] of found) for (const voxel of voxels) map[voxel] = value;
  assert.deepEqual(FRAME.sourceOrder(map), values);
});

test("an answer may begin anywhere in its file", () => {
  const values = answer();
  for (const offset of [352, 3]) {
    const buffer = new ArrayBuffer(offset + 60);
    new Uint8Array(buffer, offset).set(values);
    assert.deepEqual(collect(new Uint8Array(buffer, offset, 60), FRAME), collect(values, FRAME));
  }
});

test("labels are drawn anew, later ones over earlier ones, and the others stay", () => {
  const base = Uint8Array.from([1, 1, 2, 3, 0]);
  const parts = [
    { value: 1, voxels: Uint32Array.from([1, 4]) },
    { value: 2, voxels: Uint32Array.from([4]) },
  ];
  assert.deepEqual([...compose(base, parts)], [0, 1, 0, 3, 2]);
  assert.deepEqual([...base], [1, 1, 2, 3, 0]);
});

test("where other labels are to stay, labels are drawn anew round them", () => {
  const parts = [
    { value: 1, voxels: Uint32Array.from([1, 2, 4]) },
    { value: 2, voxels: Uint32Array.from([0, 4]) },
  ];
  assert.deepEqual([...compose(Uint8Array.from([1, 1, 3, 3, 0]), parts, false)], [2, 1, 3, 3, 2]);
});

test("voxels are counted by label", () => {
  const counts = count(Uint8Array.from([0, 2, 2, 255]));
  assert.deepEqual([counts[0], counts[1], counts[2], counts[255]], [1, 0, 2, 1]);
});

test("a preview is drawn into its slice, whichever axis numbers it", () => {
  for (const axis of [0, 1, 2]) {
    const others = [0, 1, 2].filter((one) => one !== axis);
    const shape = others.map((one) => DIMS[one]);
    const map = new Uint8Array(60).fill(9); // another label
    map[FRAME.offset([0, 0, 0].map((_, one) => (one === axis ? 2 : 0)))] = 5; // the label itself, now elsewhere
    const display = map.slice();
    // Two pixels of the label at the end of the first row, the others are background.
    const lengths = [shape[1] - 1, 2, shape[0] * shape[1] - shape[1] - 1];
    paint(display, map, FRAME, { axis, slice: 2, shape, values: [0, 1, 0], lengths }, new Map([[1, 5]]), new Set());
    const expected = map.map((value) => (value === 5 ? 0 : value));
    for (const [row, column] of [[0, shape[1] - 1], [1, 0]]) {
      const voxel = [0, 0, 0];
      voxel[axis] = 2;
      voxel[others[0]] = row;
      voxel[others[1]] = column;
      expected[FRAME.offset(voxel)] = 5;
    }
    assert.deepEqual(display, expected);
  }
});

test("a preview leaves the labels alone that are to stay", () => {
  const map = Uint8Array.from([3, 0, 2, 1]);
  const display = map.slice();
  const preview = { axis: 2, slice: 0, shape: [4, 1], values: [1], lengths: [4] };
  paint(display, map, new Frame([4, 1, 1], [1, 2, 3]), preview, new Map([[1, 1]]), new Set([3]));
  assert.deepEqual([...display], [3, 1, 1, 1]);
});
