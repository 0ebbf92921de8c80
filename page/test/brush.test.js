import assert from "node:assert/strict";
import { test } from "node:test";
import { swept } from "../src/brush.js";
import { Frame } from "../src/frame.js";

const FRAME = new Frame([40, 30, 20], [-3, 1, 2], [0.7, 5, 1.2]); // shown: 20 x 40 x 30 voxels of 1.2 x 0.7 x 5 mm

/** The places of the voxels of a plane that are nearer than a radius to the straight way, each measured by itself. */
function near(from, to, depth, radius) {
  const { shownDims, shownSpacing } = FRAME;
  const mm = (voxel) => voxel.map((at, axis) => at * shownSpacing[axis]);
  const [begin, end] = [mm(from), mm(to)];
  const distance = (place) => {
    const samples = Array.from({ length: 1001 }, (_, step) => begin.map((at, axis) => at + ((end[axis] - at) * step) / 1000));
    return Math.min(...samples.map((sample) => Math.hypot(...sample.map((at, axis) => at - place[axis]))));
  };
  const places = [];
  for (let at = 0; at < FRAME.size; at++) {
    const voxel = [at % shownDims[0], Math.floor(at / shownDims[0]) % shownDims[1], Math.floor(at / shownDims[0] / shownDims[1])];
    if (voxel[depth] === to[depth] && distance(mm(voxel)) <= radius) places.push(at);
  }
  return places;
}

const sorted = (places) => [...new Set(places)].sort((one, other) => one - other);

test("a disc is round in mm in every plane, and ends where the image does", () => {
  for (const [depth, radius] of [[0, 6.05], [1, 6.05], [2, 3.33]]) {
    for (const middle of [[10, 20, 15], [1, 38, 0]]) {
      const disc = swept(middle, middle, depth, radius, FRAME);
      assert.deepEqual(sorted(disc), near(middle, middle, depth, radius), `depth ${depth}`);
    }
  }
});

test("a fast drag leaves no gap: all that the disc passes over is covered", () => {
  for (const [from, to, depth] of [[[3, 5, 7], [17, 36, 7], 2], [[9, 36, 25], [9, 4, 3], 0], [[18, 9, 2], [0, 9, 29], 1]]) {
    assert.deepEqual(sorted(swept(from, to, depth, 5.55, FRAME)), near(from, to, depth, 5.55));
  }
});

test("a disc smaller than a voxel covers the voxel that it is in, and a line of them on its way", () => {
  assert.deepEqual(sorted(swept([4, 5, 6], [4, 5, 6], 2, 0.5, FRAME)), [FRAME.shownOffset([4, 5, 6])]);
  const line = sorted(swept([2, 30, 6], [18, 9, 6], 2, 0.3, FRAME));
  const voxels = line.map((at) => [at % 20, Math.floor(at / 20) % 40, Math.floor(at / 800)]);
  assert.equal(voxels.length, 22, "one for each step of the longer axis");
  for (let y = 9; y <= 30; y++) {
    const at = voxels.find((voxel) => voxel[1] === y);
    assert.ok(Math.abs(at[0] - (2 + (16 * (30 - y)) / 21)) <= 0.5);
    assert.equal(at[2], 6);
  }
});
