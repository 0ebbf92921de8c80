import assert from "node:assert/strict";
import { test } from "node:test";
import { voxelMl } from "../src/nifti.js";

/** A head of voxels of 2 x 3 x 4 in a unit: of length in the low three bits, of time above. */
function head(unit) {
  const view = new DataView(new ArrayBuffer(352));
  [2, -3, 4].forEach((size, axis) => view.setFloat32(80 + 4 * axis, size, true));
  view.setUint8(123, unit);
  return view.buffer;
}

test("a voxel has its volume in whatever unit the image says where it lies", () => {
  const ml = (unit) => Number(voxelMl(head(unit)).toPrecision(12));
  assert.deepEqual([0, 2, 2 + 8, 1, 3, 3 + 16].map(ml), [0.024, 0.024, 0.024, 24e6, 24e-12, 24e-12]);
});
