/** Where the patient's sides are in the views. */

/** Of each view, by the shown axis along which it is cut, the sides as a radiologist has them. */
export const SIDES = [
  { left: "P", right: "A", top: "S", bottom: "I" },
  { left: "R", right: "L", top: "S", bottom: "I" },
  { left: "R", right: "L", top: "A", bottom: "P" },
];

const TOWARDS = { R: [0, 1], L: [0, -1], A: [1, 1], P: [1, -1], S: [2, 1], I: [2, -1] };

/** [shown axis, 1 or -1]: the way to a side ("left", "right", "top", "bottom") of the view that is cut along `depth`. */
export const towards = (depth, side) => TOWARDS[SIDES[depth][side]];
