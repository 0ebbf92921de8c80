/**
 * The voxels of an image in two orders: "source", the array of its file, which the server counts in, and "shown", the
 * same voxels with whole axes turned towards the patient's right, front and head, which the viewer draws.
 */
export class Frame {
  /**
   * dims: voxels along the source axes. perm: of each shown axis the source axis, counted from 1, negative if it runs
   * backwards (NiiVue's `permRAS`). spacing: mm from voxel to voxel along the source axes.
   */
  constructor(dims, perm, spacing = [1, 1, 1]) {
    this.dims = [...dims];
    this.axes = perm.map((axis) => Math.abs(axis) - 1);
    this.flipped = perm.map((axis) => axis < 0);
    this.shownDims = this.axes.map((axis) => dims[axis]);
    this.shownSpacing = this.axes.map((axis) => Math.abs(spacing[axis]));
    this.size = dims[0] * dims[1] * dims[2];
    // A source voxel (i, j, k) lies at start + i * steps[0] + j * steps[1] + k * steps[2] of the shown array.
    this.start = 0;
    this.steps = [0, 0, 0];
    let stride = 1;
    this.axes.forEach((axis, shown) => {
      this.steps[axis] = this.flipped[shown] ? -stride : stride;
      if (this.flipped[shown]) this.start += stride * (dims[axis] - 1);
      stride *= this.shownDims[shown];
    });
  }

  /** Voxel index [x, y, z] in the shown order -> [i, j, k] of the source. */
  toSource(shown) {
    const source = [0, 0, 0];
    this.axes.forEach((axis, index) => {
      source[axis] = this.flipped[index] ? this.dims[axis] - 1 - shown[index] : shown[index];
    });
    return source;
  }

  /** Voxel index [i, j, k] of the source -> [x, y, z] in the shown order. */
  toShown(source) {
    return this.axes.map((axis, index) => (this.flipped[index] ? this.dims[axis] - 1 - source[axis] : source[axis]));
  }

  /** Where a source voxel lies in the shown array. */
  offset(source) {
    return this.start + source[0] * this.steps[0] + source[1] * this.steps[1] + source[2] * this.steps[2];
  }

  /** Where a voxel of the shown order lies in the shown array. */
  shownOffset([x, y, z]) {
    return x + this.shownDims[0] * (y + this.shownDims[1] * z);
  }

  /** A label map in shown order -> the same in source order (the first source axis fastest, as NIfTI has it). */
  sourceOrder(shown) {
    const [nx, ny, nz] = this.dims;
    const [dx, dy, dz] = this.steps;
    const source = new Uint8Array(this.size);
    let at = 0;
    for (let k = 0; k < nz; k++) {
      for (let j = 0; j < ny; j++) {
        let from = this.start + j * dy + k * dz;
        for (let i = 0; i < nx; i++, from += dx) source[at++] = shown[from];
      }
    }
    return source;
  }
}
