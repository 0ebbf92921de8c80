/** Stands for the decoders of compressed Zarr chunks, 1.4 MB of them: the server sends NIfTI. */
export default null;
