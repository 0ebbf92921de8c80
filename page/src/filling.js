/**
 * What a label would be in slices between those that hold it: shape-based interpolation (Raya and Udupa 1990) of signed
 * distances, each shape seen from its own middle, so that what moves sideways from slice to slice is followed.
 */

/**
 * Places in the shown array that hold nothing yet and lie between slices with a label, in what it would be there.
 * map: label map in shown order. value: of the label. depth: the shown axis that numbers the slices. frame: Frame.
 */
export function between(map, value, depth, frame) {
  const plane = [0, 1, 2].filter((axis) => axis !== depth);
  const steps = plane.map((axis) => frame.shownSpacing[axis]);
  const shapes = shapesOf(map, value, depth, plane, frame.shownDims);
  const found = [];
  for (let upper = 1; upper < shapes.length; upper++) {
    const pair = [shapes[upper - 1], shapes[upper]];
    const gap = pair[1].slice - pair[0].slice;
    if (gap < 2) continue;
    const box = boxOf(pair);
    const fields = pair.map((shape) => signedDistances(shape, box, steps));
    for (let step = 1; step < gap; step++) {
      const part = step / gap;
      const middle = [0, 1].map((axis) => Math.round(pair[0].middle[axis] * (1 - part) + pair[1].middle[axis] * part));
      fields[0].forEach((distance, at) => {
        if (distance * (1 - part) + fields[1][at] * part <= 0) return;
        const place = [0, 0, 0];
        place[depth] = pair[0].slice + step;
        place[plane[0]] = middle[0] + box.from[0] + (at % box.size[0]);
        place[plane[1]] = middle[1] + box.from[1] + Math.floor(at / box.size[0]);
        const voxel = frame.shownOffset(place);
        if (plane.every((axis) => place[axis] >= 0 && place[axis] < frame.shownDims[axis]) && !map[voxel]) found.push(voxel);
      });
    }
  }
  return Uint32Array.from(found);
}

/** Of each slice that holds the value, in their order: {slice, columns, rows: of its pixels, middle: [column, row]}. */
function shapesOf(map, value, depth, plane, [width, height]) {
  const shapes = new Map();
  for (let at = map.indexOf(value); at >= 0; at = map.indexOf(value, at + 1)) {
    const row = Math.floor(at / width);
    const place = [at % width, row % height, Math.floor(row / height)];
    if (!shapes.has(place[depth])) shapes.set(place[depth], { slice: place[depth], columns: [], rows: [] });
    const { columns, rows } = shapes.get(place[depth]);
    columns.push(place[plane[0]]);
    rows.push(place[plane[1]]);
  }
  const mean = (numbers) => Math.round(numbers.reduce((sum, number) => sum + number, 0) / numbers.length);
  for (const shape of shapes.values()) shape.middle = [mean(shape.columns), mean(shape.rows)];
  return [...shapes.values()].sort((one, other) => one.slice - other.slice);
}

/** A box, seen from the middle of each shape, that holds all of them and a pixel round them: {from, size}. */
function boxOf(shapes) {
  const from = [Infinity, Infinity];
  const to = [-Infinity, -Infinity];
  for (const { columns, rows, middle } of shapes) {
    for (const [axis, numbers] of [columns, rows].entries()) {
      for (const number of numbers) {
        from[axis] = Math.min(from[axis], number - middle[axis] - 1);
        to[axis] = Math.max(to[axis], number - middle[axis] + 1);
      }
    }
  }
  return { from, size: [0, 1].map((axis) => to[axis] - from[axis] + 1) };
}

/** mm from each pixel of a box to the rim of a shape, row by row; negative outside of it. */
function signedDistances({ columns, rows, middle }, { from, size }, steps) {
  const inside = new Uint8Array(size[0] * size[1]);
  columns.forEach((column, at) => (inside[column - middle[0] - from[0] + size[0] * (rows[at] - middle[1] - from[1])] = 1));
  const [toInside, toOutside] = [1, 0].map((wanted) => squaredDistances(inside, wanted, size, steps));
  const rim = Math.min(...steps) / 2; // which lies half-way from a pixel to the next
  return Float64Array.from(inside, (is, at) => (is ? Math.sqrt(toOutside[at]) - rim : rim - Math.sqrt(toInside[at])));
}

/** Squared mm from each pixel to the nearest one that holds a value (Felzenszwalb and Huttenlocher 2012). */
function squaredDistances(values, wanted, [width, height], steps) {
  const found = Float64Array.from(values, (value) => (value === wanted ? 0 : Infinity));
  for (let row = 0; row < height; row++) alongLine(found, row * width, 1, width, steps[0]);
  for (let column = 0; column < width; column++) alongLine(found, column, width, height, steps[1]);
  return found;
}

/** The least of all parabolas over a line of pixels, each as high at its pixel as the value there. */
function alongLine(values, first, stride, length, step) {
  const heights = Float64Array.from({ length }, (_, at) => values[first + at * stride]);
  const lowest = []; // {at: pixel, begin: from which on its parabola is the lowest}
  for (let at = 0; at < length; at++) {
    if (heights[at] === Infinity) continue;
    let begin = -Infinity;
    while (lowest.length) {
      const last = lowest.at(-1);
      begin = ((heights[at] - heights[last.at]) / step ** 2 + at ** 2 - last.at ** 2) / (2 * (at - last.at));
      if (begin > last.begin) break;
      lowest.pop();
      begin = -Infinity;
    }
    lowest.push({ at, begin });
  }
  if (!lowest.length) return;
  for (let at = 0, current = 0; at < length; at++) {
    while (current + 1 < lowest.length && lowest[current + 1].begin <= at) current++;
    values[first + at * stride] = ((at - lowest[current].at) * step) ** 2 + heights[lowest[current].at];
  }
}
