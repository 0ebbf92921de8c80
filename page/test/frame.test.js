import assert from "node:assert/strict";
import { test } from "node:test";
import { Frame } from "../src/frame.js";

/** All 48 ways in which three axes can be ordered and directed, as NiiVue writes them. */
function* orientations() {
  const orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
  for (const order of orders) {
    for (let signs = 0; signs < 8; signs++) yield order.map((axis, index) => ((signs >> index) & 1 ? -axis : axis));
  }
}

const DIMS = [3, 4, 5];

test("in each of the 48 orientations every voxel is found again", () => {
  for (const perm of orientations()) {
    const frame = new Frame(DIMS, perm);
    const seen = new Set();
    for (let k = 0; k < 5; k++) {
      for (let j = 0; j < 4; j++) {
        for (let i = 0; i < 3; i++) {
          const [x, y, z] = frame.toShown([i, j, k]);
          assert.deepEqual(frame.toSource([x, y, z]), [i, j, k]);
          assert.equal(frame.offset([i, j, k]), x + frame.shownDims[0] * (y + frame.shownDims[1] * z));
          seen.add(frame.offset([i, j, k]));
        }
      }
    }
    assert.equal(seen.size, 60);
  }
});

test("an axis that runs backwards is turned", () => {
  const frame = new Frame(DIMS, [-2, 1, 3]); // the second axis of the file runs from right to left
  assert.deepEqual(frame.shownDims, [4, 3, 5]);
  assert.deepEqual(frame.toShown([0, 0, 0]), [3, 0, 0]);
  assert.deepEqual(frame.toShown([2, 3, 4]), [0, 2, 4]);
});

test("a label map returns to the order of the file", () => {
  for (const perm of orientations()) {
    const frame = new Frame(DIMS, perm);
    const shown = new Uint8Array(60);
    let value = 0;
    const expected = [];
    for (let k = 0; k < 5; k++) {
      for (let j = 0; j < 4; j++) {
        for (let i = 0; i < 3; i++) {
          shown[frame.offset([i, j, k])] = ++value;
          expected.push(value);
        }
      }
    }
    assert.deepEqual([...frame.sourceOrder(shown)], expected);
  }
});
