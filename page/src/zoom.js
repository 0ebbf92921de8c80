/**
 * What is zoomed in: {zoom, pan: mm along each axis}. A place of p mm is drawn where one of zoom * p + pan is without, for
 * the viewer scales about the world's 0, which may be far from the image. extent: of each axis the image's [low, high] mm.
 */

export const WHOLE = { zoom: 1, pan: [0, 0, 0] };
const FURTHEST = 12;

/** Another zoom, with the same place (mm) where it was on the screen, as long as the image fills the views. */
export function zoomed({ zoom, pan }, factor, place, extent) {
  const next = between(1, zoom * factor, FURTHEST);
  const moved = pan.map((shift, axis) => shift - (next - zoom) * place[axis]);
  return { zoom: next, pan: moved.map((shift, axis) => filling(shift, next, extent[axis])) };
}

/** The same zoom, moved only as far as it takes to see a place (mm) along these axes. */
export function showing({ zoom, pan }, place, extent, axes = [0, 1, 2]) {
  const seen = (shift, axis) => between(extent[axis][0] - zoom * place[axis], shift, extent[axis][1] - zoom * place[axis]);
  return { zoom, pan: pan.map((shift, axis) => (axes.includes(axis) ? filling(seen(shift, axis), zoom, extent[axis]) : shift)) };
}

/** The same zoom, with a place (mm) drawn where another one is now, as long as the image fills the views. */
export function dragged({ zoom, pan }, place, to, extent) {
  return { zoom, pan: pan.map((shift, axis) => filling(shift + zoom * (to[axis] - place[axis]), zoom, extent[axis])) };
}

const filling = (shift, zoom, [low, high]) => between((1 - zoom) * high, shift, (1 - zoom) * low);

const between = (least, value, greatest) => Math.max(least, Math.min(greatest, value));
