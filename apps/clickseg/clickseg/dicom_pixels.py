"""The voxels of DICOM files as they are stored: frames of enhanced files, and slices that ITK would change.

ITK takes frames as they come, all with the scale of the first, the type of the first of several files for all of them,
and numbers to be shown dark where they are large (MONOCHROME1), which is for screens, turned round.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import itk
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, generate_pixel_data_frame
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from pydicom.uid import MultiFrameGrayscaleWordSecondaryCaptureImageStorage as PlainFrames

from .dicom_slice import Slice

KEPT = (
    "SOPInstanceUID", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation",
)  # fmt: skip


def read_frames(slices: Sequence[Slice]) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """Frames, in order, as an array (columns, rows, slices), and its 4x4 affine, voxel -> LPS mm.

    slices: placed frames of one size, as `series_slices` gives them. Numbers that a file scales are single precision.
    ValueError for pixels that cannot be read.
    """
    frames: dict[str, list[int]] = {}
    for each in slices:
        assert each.frame is not None
        frames.setdefault(each.file, []).append(each.frame)
    stored = {file: iter(_stored(Path(file), numbers)) for file, numbers in frames.items()}
    pixels = np.stack([next(stored[each.file]) for each in slices])
    return _scaled(pixels, [each.rescale for each in slices]).T, _affine(slices)


def _scaled(pixels: NDArray[np.generic], rescale: Sequence[tuple[float, float]]) -> NDArray[np.generic]:
    """pixels: (slices, rows, columns). rescale: slope and intercept of each slice."""
    if set(rescale) == {(1.0, 0.0)}:
        return pixels
    scaled = np.empty(pixels.shape, np.float32)
    for out, stored, (slope, intercept) in zip(scaled, pixels, rescale, strict=True):
        out[...] = stored.astype(np.float64) * slope + intercept  # single precision would round twice
    return scaled


def _affine(slices: Sequence[Slice]) -> NDArray[np.float64]:
    first, last = slices[0].place, slices[-1].place
    assert first
    assert last
    between = np.linalg.norm(last.position - first.position) / max(len(slices) - 1, 1)
    steps = (first.spacing[1], first.spacing[0], between or slices[0].thickness or 1.0)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([_unit(axis) for axis in (first.row, first.column, first.normal)], -1) * steps
    affine[:3, 3] = first.position
    return affine


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / np.linalg.norm(vector)


def _stored(file: Path, frames: Sequence[int]) -> NDArray[np.generic]:
    """Frames of a file, (frames, rows, columns), as they are stored: ITK unpacks whatever it unpacks of other files."""
    with tempfile.NamedTemporaryFile(prefix="clickseg-frames-", suffix=".dcm") as copy:
        try:
            pydicom.dcmwrite(copy, _alone(pydicom.dcmread(file), frames), write_like_original=False)
            copy.flush()
            return itk.array_view_from_image(itk.imread(copy.name))
        except Exception as error:  # an odd file raises anything
            how = UID(read_file_meta_info(file).get("TransferSyntaxUID", "")).name
            raise ValueError(f"the pixels of {file.name} ({how}) cannot be read: convert it with dcm2niix") from error


def _alone(data: FileDataset, frames: Sequence[int]) -> FileDataset:
    """Frames of a file, in this order, as a file that says nothing of them."""
    kept = FileDataset("", {}, file_meta=data.file_meta, preamble=b"\0" * 128)
    kept.is_little_endian, kept.is_implicit_VR = data.is_little_endian, data.is_implicit_VR
    for name in KEPT:
        setattr(kept, name, data.get(name))
    if kept.PhotometricInterpretation == "MONOCHROME1":
        kept.PhotometricInterpretation = "MONOCHROME2"
    kept.SOPClassUID = kept.file_meta.MediaStorageSOPClassUID = PlainFrames
    kept.NumberOfFrames = len(frames)
    pixels, count = data["PixelData"], int(data.get("NumberOfFrames") or 1)
    if pixels.is_undefined_length:
        packed = list(generate_pixel_data_frame(pixels.value, count))
        kept.PixelData = encapsulate([packed[number] for number in frames])
    else:
        size = kept.Rows * kept.Columns * kept.SamplesPerPixel * kept.BitsAllocated // 8
        kept.PixelData = b"".join(pixels.value[number * size : (number + 1) * size] for number in frames)
        if len(kept.PixelData) < len(frames) * size:
            raise ValueError("some frames have no pixels")
        if kept.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
            kept.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    kept["PixelData"].VR, kept["PixelData"].is_undefined_length = pixels.VR, pixels.is_undefined_length
    return kept
