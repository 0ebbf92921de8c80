/** What the server has of a study, as the viewer and the editor need it. */

import * as api from "./api.js";
import { Labels } from "./labels.js";
import { decompress, readLabels, voxelMl } from "./nifti.js";

/** {volume: of the viewer, voxelMl, known: {image, head, frame, axis, labels, base, version}, as Editor takes them}. */
export async function readStudy(image, viewer) {
  const [{ file, axis }, saved] = await Promise.all([api.image(image), api.label(image), viewer.start()]);
  const map = saved && readLabels(await decompress(saved.blob));
  const volume = await viewer.read(file, image);
  const frame = viewer.frameOf(volume);
  const base = new Uint8Array(frame.size);
  if (map) map.values.forEach((value, at) => value && (base[frame.offset(sourceIndex(at, frame.dims))] = value));
  const labels = new Labels(saved?.labels);
  const known = { image, head: file.slice(0, 352), frame, axis, labels, base, version: saved?.version ?? null };
  return { volume, voxelMl: voxelMl(file), known };
}

function sourceIndex(at, [nx, ny]) {
  const row = Math.floor(at / nx);
  return [at % nx, row % ny, Math.floor(row / ny)];
}
