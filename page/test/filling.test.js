/** Slices between those that hold a label, filled. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { between } from "../src/filling.js";
import { Frame } from "../src/frame.js";
import { click, opened, shown } from "../testing/study.js";

const FRAME = new Frame([40, 36, 12], [1, 2, 3], [1, 1.5, 4]);
const PLANES = [[1, 2], [0, 2], [0, 1]];

/** A label map with, in slices along `depth`, ellipses: {slice, at: [column, row], radius: mm}. */
function mapOf(discs, depth, frame = FRAME, value = 1) {
  const map = new Uint8Array(frame.size);
  const [first, second] = PLANES[depth];
  for (const { slice, at, radius } of discs) {
    const place = [0, 0, 0];
    place[depth] = slice;
    for (place[first] = 0; place[first] < frame.shownDims[first]; place[first]++) {
      for (place[second] = 0; place[second] < frame.shownDims[second]; place[second]++) {
        const mm = [first, second].map((axis, index) => (place[axis] - at[index]) * frame.shownSpacing[axis]);
        if (Math.hypot(...mm) <= radius) map[frame.shownOffset(place)] = value;
      }
    }
  }
  return map;
}

function filled(map, depth, frame = FRAME) {
  const after = map.slice();
  for (const voxel of between(map, 1, depth, frame)) after[voxel] = 1;
  return after;
}

/** How many voxels differ from the label map with these discs, as a part of what it holds. */
function off(map, discs, depth, frame = FRAME) {
  const wanted = mapOf(discs, depth, frame);
  return map.filter((value, at) => value !== wanted[at]).length / wanted.filter(Boolean).length;
}

test("what moves sideways and grows from slice to slice is followed, along each axis", () => {
  for (const [depth, at, to] of [[2, [9, 12], [29, 20]], [1, [12, 3], [26, 8]], [0, [14, 4], [20, 7]]]) {
    const disc = (slice) => {
      const part = (slice - 1) / 8;
      const middle = [0, 1].map((axis) => Math.round(at[axis] + part * (to[axis] - at[axis])));
      return { slice, at: middle, radius: 5.2 + 3 * part };
    };
    const discs = Array.from({ length: 9 }, (_, number) => disc(1 + number));
    const ends = mapOf([discs[0], discs[8]], depth);
    assert.ok(off(ends, discs, depth) > 0.6);
    assert.ok(off(filled(ends, depth), discs, depth) < 0.12, `depth ${depth}: ${off(filled(ends, depth), discs, depth)}`);
  }
});

test("the same shape in two slices is the same in all between them, and none is added beyond", () => {
  const ends = [2, 9].map((slice) => ({ slice, at: [20, 17], radius: 9 }));
  const all = [2, 3, 4, 5, 6, 7, 8, 9].map((slice) => ({ ...ends[0], slice }));
  assert.equal(off(filled(mapOf(ends, 2), 2), all, 2), 0);
});

test("a hole stays a hole, and slices that hold the label stay as they are", () => {
  const ring = mapOf([0, 4, 5, 8].map((slice) => ({ slice, at: [20, 17], radius: 14 })), 2);
  const holes = mapOf([0, 4, 5, 8].map((slice) => ({ slice, at: [20, 17], radius: 6 })), 2);
  const rings = ring.map((value, at) => value && !holes[at]);
  const after = filled(rings, 2);
  for (const slice of [0, 1, 2, 3, 4, 5, 6, 7, 8]) {
    const [begin, end] = [slice, slice + 1].map((one) => one * 40 * 36);
    assert.deepEqual(after.slice(begin, end), rings.slice(0, 40 * 36), `slice ${slice}`);
  }
});

test("it is what distances say that are measured one by one", () => {
  const frame = new Frame([14, 11, 4], [1, 2, 3], [0.8, 1.9, 5]);
  let seed = 7;
  const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  const rim = (at) => [0, 13].includes(at % 14) || [0, 10].includes(Math.floor(at / 14)); // beyond which all is outside
  const shape = () => Array.from({ length: 14 * 11 }, (_, at) => at).filter((at) => random() < 0.4 && !rim(at));
  const mm = (one, other) => Math.hypot(((one % 14) - (other % 14)) * 0.8, (Math.floor(one / 14) - Math.floor(other / 14)) * 1.9);
  const middle = (pixels) => [(at) => at % 14, (at) => Math.floor(at / 14)].map((of) => Math.round(pixels.reduce((sum, at) => sum + of(at), 0) / pixels.length));
  const signed = (pixels, at) => {
    const inside = pixels.includes(at);
    const others = Array.from({ length: 14 * 11 }, (_, other) => other).filter((other) => pixels.includes(other) !== inside);
    return (inside ? 1 : -1) * (Math.min(...others.map((other) => mm(at, other))) - 0.4);
  };
  let compared = 0;
  while (compared < 12) {
    const [low, high] = [shape(), shape()];
    if (String(middle(low)) !== String(middle(high))) continue; // seen from the same middle, no shape is moved
    const map = new Uint8Array(frame.size);
    for (const at of low) map[at] = 1;
    for (const at of high) map[at + 3 * 154] = 1;
    const found = new Set(between(map, 1, 2, frame));
    for (let step = 1; step < 3; step++) {
      for (let at = 0; at < 154; at++) {
        const sum = (signed(low, at) * (3 - step) + signed(high, at) * step) / 3;
        if (Math.abs(sum) > 1e-9) assert.equal(found.has(at + step * 154), sum > 0, `${at} in ${step}`);
      }
    }
    compared++;
  }
});

test("what lies at the border of the image, or is there already, is not drawn over", () => {
  const ends = [{ slice: 0, at: [0, 0], radius: 6 }, { slice: 4, at: [39, 35], radius: 6 }];
  const map = mapOf(ends, 2);
  for (let at = 2 * 1440; at < 3 * 1440; at++) map[at] = 7;
  const after = filled(map, 2);
  assert.ok(after.slice(2 * 1440, 3 * 1440).every((value) => value === 7));
  assert.ok(after.slice(1440, 2 * 1440).some(Boolean));
});

test("a label that is in one slice, or in slices side by side, has nothing between", () => {
  for (const slices of [[], [3], [3, 4, 5]]) {
    assert.equal(between(mapOf(slices.map((slice) => ({ slice, at: [20, 17], radius: 5 })), 2), 1, 2, FRAME).length, 0);
  }
});

test("a label is filled in between on the page, once, and undo takes it back", async () => {
  const editor = opened({ labels: { spleen: 1, liver: 2 }, base: [0, 2, 0, 0, 1, 2] });
  await editor.fill("liver", 0);
  await editor.idle();
  assert.equal(shown(editor), "02221200");
  assert.equal(editor.unsaved, true);
  await assert.rejects(editor.fill("spleen", 0), /in no two slices of the first view with others between them/);
  editor.undo();
  await editor.idle();
  assert.equal(shown(editor), "02001200");
});

test("what is clicked is filled, too, and a locked label is not", async () => {
  const editor = opened({ labels: {} });
  editor.add(click("liver", 1));
  editor.add(click("liver", 4));
  await editor.fill("liver", 0);
  await editor.idle();
  assert.equal(shown(editor), "01111000");
  await editor.toggleLock("liver");
  await assert.rejects(editor.fill("liver", 0), /liver is locked: unlock it first/);
  await assert.rejects(editor.fill("spleen", 0), /spleen is in no two slices/);
});
