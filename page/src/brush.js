/** The brush: what its disc covers on its way, whether it is in hand, and how large it is. */

export const RADII = [0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50]; // mm
const FIRST = RADII.indexOf(5);
const ROUNDING = 1e-4; // mm: headers hold spacings in single precision

/**
 * The voxels (places in the shown array) that a disc covers on its straight way from one voxel to another ([x, y, z]), in
 * the plane of the latter that is cut along the shown axis `depth`: those whose middle it passes over, and those that its
 * own middle does, however small it is. radius: mm. frame: Frame.
 */
export function swept(from, to, depth, radius, frame) {
  const { shownDims, shownSpacing } = frame;
  const plane = [0, 1, 2].filter((axis) => axis !== depth);
  const way = plane.map((axis) => (to[axis] - from[axis]) * shownSpacing[axis]); // mm
  const square = way[0] ** 2 + way[1] ** 2;
  const [columns, rows] = plane.map((axis) => {
    const reach = Math.floor((radius + ROUNDING) / shownSpacing[axis]);
    const [first, last] = [Math.min(from[axis], to[axis]) - reach, Math.max(from[axis], to[axis]) + reach];
    return [Math.max(0, first), Math.min(shownDims[axis] - 1, last)];
  });
  const voxels = [];
  const at = [...to];
  const cover = (column, row) => {
    [at[plane[0]], at[plane[1]]] = [column, row];
    voxels.push(frame.shownOffset(at));
  };
  for (let row = rows[0]; row <= rows[1]; row++) {
    for (let column = columns[0]; column <= columns[1]; column++) {
      const x = (column - from[plane[0]]) * shownSpacing[plane[0]];
      const y = (row - from[plane[1]]) * shownSpacing[plane[1]];
      const along = square && Math.max(0, Math.min(1, (x * way[0] + y * way[1]) / square));
      if (Math.hypot(x - along * way[0], y - along * way[1]) <= radius + ROUNDING) cover(column, row);
    }
  }
  const steps = Math.max(...plane.map((axis) => Math.abs(to[axis] - from[axis])), 1);
  for (let step = 0; step <= steps; step++) {
    cover(...plane.map((axis) => Math.round(from[axis] + ((to[axis] - from[axis]) * step) / steps)));
  }
  return voxels;
}

export class Brush {
  on = false;
  #mouse = null; // {at: [clientX, clientY], erases}, while it is over the views

  /** viewer: Viewer. elements: {button, radius: a slider, size: what it says}. */
  constructor(viewer, elements) {
    Object.assign(this, { viewer, elements });
    Object.assign(elements.radius, { min: 0, max: RADII.length - 1, value: FIRST });
    elements.radius.addEventListener("input", () => this.#show());
    this.#show();
  }

  /** mm */
  get radius() {
    return RADII[Number(this.elements.radius.value)];
  }

  toggle() {
    this.on = !this.on;
    this.#show();
  }

  resize(steps) {
    this.elements.radius.value = Number(this.elements.radius.value) + steps;
    this.#show();
  }

  /** Where the mouse is over the views, {at: [clientX, clientY], erases}, or null where it is not. */
  hover(mouse) {
    this.#mouse = mouse;
    if (this.on) this.#show();
  }

  #show() {
    const { button, radius, size } = this.elements;
    button.setAttribute("aria-pressed", String(this.on));
    radius.classList.toggle("off", !this.on);
    size.textContent = `${this.radius} mm`;
    radius.setAttribute("aria-valuetext", size.textContent);
    this.viewer.setBrush(this.on && this.#mouse ? { ...this.#mouse, radius: this.radius } : null);
  }
}
