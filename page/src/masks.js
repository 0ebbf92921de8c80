/** Label maps: Uint8Array in the frame's shown order; a "part" is one label's voxels: {value, voxels: Uint32Array}. */

/** Of an answer in source order (first axis fastest), the shown voxels of each value but 0: Map value -> Uint32Array. */
export function collect(values, frame) {
  const counts = new Uint32Array(256);
  eachLabelled(values, (at) => counts[values[at]]++);
  const found = new Map();
  counts.forEach((count, value) => {
    if (count) found.set(value, new Uint32Array(count));
  });
  const filled = new Uint32Array(256);
  const [nx, ny] = frame.dims;
  eachLabelled(values, (at) => {
    const value = values[at];
    const row = Math.floor(at / nx);
    const k = Math.floor(row / ny);
    found.get(value)[filled[value]++] = frame.offset([at - row * nx, row - k * ny, k]);
  });
  return found;
}

/** Answers are almost empty: eight zeros at a time are passed over. */
function eachLabelled(values, visit) {
  const whole = values.byteOffset % 8 ? 0 : values.length - (values.length % 8);
  const words = new BigUint64Array(values.buffer, whole ? values.byteOffset : 0, whole / 8);
  for (let word = 0; word < words.length; word++) {
    if (!words[word]) continue;
    for (let at = word * 8; at < word * 8 + 8; at++) if (values[at]) visit(at);
  }
  for (let at = whole; at < values.length; at++) if (values[at]) visit(at);
}

/**
 * A label map in which the labels of `parts` are drawn anew; where two overlap, the later one has it.
 * over: whether they are drawn over the map's other labels, too.
 */
export function compose(base, parts, over = true) {
  const map = base.slice();
  const kept = new Uint8Array(256).map((_, value) => value);
  for (const { value } of parts) kept[value] = 0;
  if (parts.some(({ value }) => base.includes(value))) {
    for (let at = 0; at < map.length; at++) if (map[at]) map[at] = kept[map[at]];
  }
  const free = over ? null : map.map((value) => value === 0);
  for (const { value, voxels } of parts) for (const voxel of voxels) if (over || free[voxel]) map[voxel] = value;
  return map;
}

/** The voxels that hold a value. */
export function voxelsOf(map, value) {
  const voxels = [];
  for (let at = map.indexOf(value); at >= 0; at = map.indexOf(value, at + 1)) voxels.push(at);
  return Uint32Array.from(voxels);
}

/** How many voxels hold each value. */
export function count(map) {
  const counts = new Uint32Array(256);
  eachLabelled(map, (at) => counts[map[at]]++);
  counts[0] = map.length - counts.reduce((sum, count) => sum + count);
  return counts;
}

/**
 * Draw a live preview into a copy of the label map.
 *
 * map: the label map as it was, left alone. display: what is drawn into. preview: the server's reply, one slice as runs.
 * values: Map from the reply's values to those of the label map, of the labels that the preview decides.
 * kept: Set of values of the label map that are not drawn over.
 */
export function paint(display, map, frame, preview, values, kept) {
  const [first, second] = [0, 1, 2].filter((axis) => axis !== preview.axis);
  const decided = new Set(values.values());
  const origin = frame.start + preview.slice * frame.steps[preview.axis];
  const columns = preview.shape[1];
  let at = 0;
  preview.values.forEach((answered, run) => {
    const value = values.get(answered);
    for (const end = at + preview.lengths[run]; at < end; at++) {
      const row = Math.floor(at / columns);
      const voxel = origin + row * frame.steps[first] + (at - row * columns) * frame.steps[second];
      if (!kept.has(map[voxel])) display[voxel] = value ?? (decided.has(map[voxel]) ? 0 : map[voxel]);
    }
  });
}
