"""Image files: volumes in with their Grid, masks out on the same Grid."""

from __future__ import annotations

import contextlib
import gzip
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import itk
import numpy as np
from numpy.typing import NDArray

from .dicom import file_slices, series_slices
from .dicom_pixels import read_frames
from .dicom_slice import Slice
from .files import numbered_links, readable, whole_file
from .geometry import LPS_TO_RAS, Forms, Grid, ras_affine
from .nifti import is_nifti, nifti_image, read_nifti, read_nifti_head

AIR = -200  # HU, less than any tissue
FLAT = 50  # HU, which the noise of any CT spans


def file_identity(path: Path | str) -> tuple[str, int, int]:
    """(absolute path, modification time in ns, size); ValueError if there is no such file."""
    try:
        stats = Path(path).stat()
    except OSError as error:
        raise ValueError(f"no file at {path}") from error
    return str(Path(path).resolve()), stats.st_mtime_ns, stats.st_size


def read_volume(path: Path | str, series: str | None = None) -> tuple[NDArray[np.generic], Grid]:
    """A 3D image as an array in the file's own axis order and number type where it can be kept, with its Grid.

    NIfTI through nibabel; DICOM, NRRD and the rest through ITK. Trailing axes of length one are dropped.
    What is no number, such as the NaN that some programs write outside the field of view, becomes the smallest number.
    series: which one to read of a folder, or of an enhanced DICOM file, with several: as `dicom.series_slices` has it.
    Raises ValueError if the file is missing, damaged, or not a 3D scalar image; of a folder as `dicom.series_slices`.
    """
    array, grid = _read(path, series)
    return _finite(array, Path(path).name), grid


def read_slices(slices: Sequence[Slice], name: str) -> tuple[NDArray[np.generic], Grid]:
    """As `read_volume` of a folder that holds these slices of a DICOM series alone, which are in order.

    name: what the volume is called where something is wrong with it.
    """
    with _itk(name):
        array, affine = _imread(slices, name)
    array, grid = _scalar(array, affine, None, name)
    return _finite(array, name), grid


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Whatever a reader stumbles over becomes a ValueError that names the image: the others of many are to go on."""
    try:
        yield
    except ValueError:
        raise
    except Exception as error:  # an odd file raises anything
        raise ValueError(f"{name} cannot be read: {error!r}") from error


def _finite(array: NDArray[np.generic], name: str) -> NDArray[np.generic]:
    """An image with its smallest number where it has none. ValueError if it has none anywhere."""
    if array.dtype.kind != "f" or (np.isfinite(array.min()) and np.isfinite(array.max())):
        return array
    finite = np.isfinite(array)
    if not finite.any():
        raise ValueError(f"{name} holds not one finite number")
    return np.where(finite, array, array[finite].min())


def _read(path: Path | str, series: str | None = None) -> tuple[NDArray[np.generic], Grid]:
    path = Path(path)
    if not path.exists():
        raise ValueError(f"no image at {path}")
    if is_nifti(path) and series is None:
        return _scalar(*read_nifti(path), path.name)
    array, affine = _read_itk(path, series)
    return _scalar(array, affine, None, path.name)


def _scalar(
    array: NDArray[np.generic], affine: NDArray[np.float64], forms: Forms | None, name: str
) -> tuple[NDArray[np.generic], Grid]:
    """A 3D image of one number for each voxel, on its Grid. ValueError naming the file that is none."""
    shape = _three_axes(array.shape, name)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} holds {array.dtype} values; a scalar image is needed")
    return array.reshape(shape), _grid(shape, affine, forms, name)


def _grid(shape: tuple[int, int, int], affine: NDArray[np.float64], forms: Forms | None, name: str) -> Grid:
    """The Grid of an image. ValueError naming the file that has none."""
    try:
        return Grid(shape, affine, forms)
    except ValueError as error:
        raise ValueError(f"{name} does not say where its voxels lie: {error}") from error


def doubt(volume: NDArray[np.generic], modality: str) -> str:
    """Why an image is hardly of the modality that weights are for, in a sentence; empty where nothing says so.

    CT in HU has fat or air, which are below 0, and spans hundreds of them; MR has nothing far below 0.
    """
    least = volume.min()
    if modality.upper() == "CT" and least >= 0:
        return "the weights are for CT in HU, and nothing in the image is below 0: it is no CT, or has other units"
    if modality.upper() == "CT" and (span := float(volume.max()) - float(least)) < FLAT:
        return (
            f"the weights are for CT in HU, and the values of the image span {span:.3g} alone: it is no CT, or was "
            "normalised"
        )
    if modality.upper() in ("MR", "MRI") and least < AIR:
        return f"the weights are for MR, and the image has values below {AIR}, as CT has: the answers mean little"
    return ""


def read_grid(path: Path | str) -> Grid:
    """The Grid of an image; of NIfTI without its voxels. Raises ValueError as `read_volume`."""
    if not is_nifti(path):
        return read_volume(path)[1]
    name, (shape, affine, forms) = Path(path).name, read_nifti_head(Path(path))
    return _grid(_three_axes(shape, name), affine, forms, name)


def read_labelled(image: Path | str, label: Path | str) -> tuple[NDArray[np.generic], NDArray[np.uint8], Grid]:
    """An image, its label map and the Grid that they share. Raises ValueError as `read_volume` and `read_label`."""
    array, grid = read_volume(image)
    return array, read_label(label, grid), grid


def read_label(path: Path | str, grid: Grid) -> NDArray[np.uint8]:
    """A label map on the grid of its image.

    Raises ValueError naming the file if it lies elsewhere or holds other values than the whole numbers from 0 to 255.
    """
    name = Path(path).name
    values, own = _read(path)
    if own.shape != grid.shape:
        raise ValueError(f"label {name} has shape {own.shape}, but its image {grid.shape}")
    if not grid.bears(own):
        raise ValueError(f"label {name} lies elsewhere in the patient than its image")
    with np.errstate(invalid="ignore"):
        numbers = values.astype(np.uint8)
    if not np.array_equal(numbers, values):
        raise ValueError(f"label {name} has values outside 0..255, or that are not whole")
    return numbers


def class_numbers(label: NDArray[np.uint8], values: Sequence[int]) -> NDArray[np.uint8]:
    """A label map with `values` -> that of their places among them, 1, 2, ...; 0 for the background and all others."""
    table = np.zeros(256, np.uint8)
    table[list(values)] = range(1, len(values) + 1)
    table[0] = 0
    return table[label]


def _three_axes(shape: Sequence[int], name: str) -> tuple[int, int, int]:
    """A shape without trailing axes of length one. ValueError if others than three are left."""
    kept = list(shape)
    while len(kept) > 3 and kept[-1] == 1:
        kept.pop()
    if len(kept) != 3:
        raise ValueError(f"{name} has shape {tuple(shape)}; a 3D image (one value per voxel) is needed")
    x, y, z = kept
    return x, y, z


def _read_itk(path: Path, series: str | None) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    slices = series_slices(path, series) if path.is_dir() else file_slices(path, series)
    with _itk(path.name):
        return _imread(slices, path.name)


@contextlib.contextmanager
def _itk(name: str) -> Iterator[None]:
    """What ITK says of an image that it cannot read becomes a ValueError."""
    try:
        yield
    except RuntimeError as error:
        raise ValueError(f"{name} is not an image that ITK reads: {str(error).splitlines()[-1]}") from error
    except TypeError as error:  # ITK's Python reads neither 64-bit nor signed 8-bit numbers, nor vectors
        raise ValueError(f"{name} holds a type of voxels that cannot be read: save it with 16 bits") from error


def _imread(slices: Sequence[Slice], name: str) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """slices: of a series in order; or one that is any file that ITK reads."""
    if slices[0].frame is not None:
        array, lps = read_frames(slices)
        return _small(array), LPS_TO_RAS @ lps
    changed = any(each.inverted for each in slices) or len({each.signed for each in slices}) > 1  # by ITK
    if changed and all(each.place for each in slices):
        return _imread([replace(each, frame=0) for each in slices], name)
    # ITK takes the type of the first slice for all. In PET each has a slope of its own, and others may have fractions.
    kind = itk.F if len({each.rescale for each in slices}) > 1 else None
    with _plainly_named([each.file for each in slices]) as files:
        image = itk.imread(files if len(files) > 1 else files[0], kind)
    dimension = image.GetImageDimension()
    if dimension != 3:
        raise ValueError(f"{name} has {dimension} dimensions; a 3D image is needed")
    array, spacing = itk.array_from_image(image).T, np.array(image.GetSpacing())
    if array.shape[2] == 1:  # ITK gives a lone slice 1 mm
        spacing[2] = slices[0].thickness or spacing[2]
    return array, ras_affine(image.GetOrigin(), spacing, itk.array_from_matrix(image.GetDirection()))


@contextlib.contextmanager
def _plainly_named(files: Sequence[str]) -> Iterator[list[str]]:
    """The files by names that ITK takes, which are UTF-8: links where some are not."""
    if all(readable(file) == file for file in files):
        yield list(files)
        return
    with tempfile.TemporaryDirectory(prefix="clickseg-links-") as folder:
        yield [str(link) for link in numbered_links(files, Path(folder), readable(Path(files[0]).suffix))]


def write_volume(path: Path | str, volume: NDArray[np.generic], grid: Grid) -> None:
    """Write an image (on `grid`) as .nii.gz in numbers as small as hold its values, whole or not at all.

    The same image gives the same bytes, as of `write_mask`. Fractions are kept to single precision.
    """
    if not str(path).endswith(".nii.gz"):
        raise ValueError(f"images are written as .nii.gz, not as {Path(path).name}")
    image = nifti_image(_small(volume), grid)
    image.header.set_xyzt_units("mm")
    with whole_file(path) as file, gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed:
        image.to_stream(packed)


def _small(volume: NDArray[np.generic]) -> NDArray[np.generic]:
    """The same numbers in the first of these types that holds them; of fractions the nearest."""
    least, most = float(volume.min()), float(volume.max())
    if volume.dtype.kind == "f" and not np.array_equal(volume, np.rint(volume)):
        return volume.astype(np.float32)
    kinds = (np.uint8,) if volume.dtype == np.uint8 else (np.int16, np.uint16, np.int32)
    kept = [kind for kind in kinds if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max]
    return volume.astype(kept[0] if kept else np.float32, copy=False)


def write_mask(path: Path | str, mask: NDArray[np.uint8], grid: Grid) -> None:
    """Write a mask (uint8, on `grid`) as NIfTI, whole or not at all. The suffix must be .nii or .nii.gz.

    The same mask gives the same bytes: no time is packed with it.
    """
    if not is_nifti(path):
        raise ValueError(f"masks are written as .nii or .nii.gz, not as {Path(path).name}")
    content = nifti_image(mask, grid).to_bytes()
    with whole_file(path) as file:
        file.write(gzip.compress(content, compresslevel=1, mtime=0) if str(path).endswith(".gz") else content)
