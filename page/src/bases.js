/**
 * Label maps that clicks go on from ("bases"), each but the first kept as what it changes of another one: {map}, or
 * {from: base, voxels, values}. Whole maps would fill the memory: one of 512 x 512 x 300 voxels has 79 MB, a stroke some KB.
 */
export class Bases {
  #last = {}; // {base, map}: that was asked for last

  /** The label map of a base, which nobody may write to. */
  mapOf(base) {
    if (this.#last.base !== base) this.#last = { base, map: made(base) };
    return this.#last.map;
  }

  /** A base with this map: a given one if it is that one's, and else one that goes on from it. */
  holding(map, base) {
    const before = this.mapOf(base);
    return map === before ? base : this.#add({ from: base, ...difference(before, map) }, map);
  }

  /** What goes on from a base with values at voxels. */
  changed(base, voxels, values) {
    return this.#add({ from: base, voxels, values }, drawn(this.mapOf(base).slice(), voxels, values));
  }

  #add(base, map) {
    this.#last = { base, map };
    return base;
  }
}

function made(base) {
  const changes = [];
  let first = base;
  for (; first.from; first = first.from) changes.push(first);
  const map = changes.length ? first.map.slice() : first.map;
  for (const { voxels, values } of changes.reverse()) drawn(map, voxels, values);
  return map;
}

function drawn(map, voxels, values) {
  voxels.forEach((voxel, at) => (map[voxel] = values[at]));
  return map;
}

function difference(before, after) {
  const found = [];
  for (let at = 0; at < after.length; at++) if (before[at] !== after[at]) found.push(at);
  return { voxels: Uint32Array.from(found), values: Uint8Array.from(found, (at) => after[at]) };
}
