/** The little of NIfTI-1 that label maps need. */

const HEADER = 352; // bytes, of a file without extensions
const COMMENT = 6; // the kind of extension that is a text

/** The voxels of a .nii file of unsigned bytes: {dims, values}, the first axis fastest. Throws Error for other files. */
export function readLabels(buffer) {
  const view = new DataView(buffer);
  if (view.byteLength < HEADER || view.getInt32(0, true) !== 348) throw new Error("the server's mask is not NIfTI");
  if (view.getInt16(70, true) !== 2) throw new Error("the server's mask is not of unsigned bytes");
  const dims = [1, 2, 3].map((axis) => view.getInt16(40 + 2 * axis, true));
  const values = new Uint8Array(buffer, view.getFloat32(108, true), dims[0] * dims[1] * dims[2]);
  return { dims, values };
}

/**
 * A .nii file of a label map in source order, with the frame of the image whose head is given.
 * comment: a text for whoever reads the file, in an extension of its head; none if it is empty.
 */
export function writeLabels(imageHead, values, comment = "") {
  const extension = extensionOf(comment);
  const begin = HEADER + extension.length;
  const bytes = new Uint8Array(begin + values.length);
  bytes.set(new Uint8Array(imageHead, 0, HEADER));
  bytes.set(extension, HEADER);
  const view = new DataView(bytes.buffer);
  view.setInt16(70, 2, true); // unsigned bytes
  view.setInt16(72, 8, true); // bits of each
  view.setFloat32(108, begin, true);
  view.setFloat32(112, 1, true); // slope and intercept
  view.setFloat32(116, 0, true);
  view.setFloat32(124, 0, true); // window
  view.setFloat32(128, 0, true);
  view.setUint8(348, extension.length && 1); // whether there is one
  bytes.set(values, begin);
  return bytes;
}

/** An extension of a head with a text, filled up with spaces to a multiple of 16 bytes. */
function extensionOf(text) {
  if (!text) return new Uint8Array();
  const content = new TextEncoder().encode(text);
  const bytes = new Uint8Array(16 * Math.ceil((8 + content.length) / 16)).fill(32);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, bytes.length, true);
  view.setInt32(4, COMMENT, true);
  bytes.set(content, 8);
  return bytes;
}

/** Millilitres of one voxel of a .nii file. */
export function voxelMl(head) {
  const view = new DataView(head);
  const unit = { 1: 1000, 3: 0.001 }[view.getUint8(123) & 7] ?? 1; // mm: of metres and of micrometres
  return [80, 84, 88].reduce((volume, at) => volume * Math.abs(view.getFloat32(at, true)) * unit, 1) / 1000;
}

/** gzip, by the browser. */
export async function compress(bytes) {
  return new Response(new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"))).blob();
}

/** A Blob of gzip -> ArrayBuffer. */
export async function decompress(blob) {
  return new Response(blob.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}
