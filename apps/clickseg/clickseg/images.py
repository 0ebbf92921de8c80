"""Image files: volumes in with their Grid, masks out on the same Grid."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError

from .files import whole_file
from .geometry import LPS_TO_RAS, Grid

AIR = -200  # HU, less than any tissue
PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")  # of a DICOM slice


def is_nifti(path: Path | str) -> bool:
    """Whether a file is NIfTI by its name."""
    return str(path).endswith((".nii", ".nii.gz"))


def file_identity(path: Path | str) -> tuple[str, int, int]:
    """(absolute path, modification time in ns, size); ValueError if there is no such file."""
    try:
        stats = Path(path).stat()
    except OSError as error:
        raise ValueError(f"no file at {path}") from error
    return str(Path(path).resolve()), stats.st_mtime_ns, stats.st_size


def read_volume(path: Path | str) -> tuple[NDArray[np.generic], Grid]:
    """A 3D image as an array in the file's own axis order and number type where it can be kept, with its Grid.

    NIfTI through nibabel; DICOM folders, NRRD and the rest through ITK. Trailing axes of length one are dropped.
    What is no number, such as the NaN that some programs write outside the field of view, becomes the smallest number.
    Raises ValueError if the file is missing, damaged, or not a 3D scalar image.
    """
    array, grid = _read(path)
    if array.dtype.kind == "f" and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        finite = np.isfinite(array)
        if not finite.any():
            raise ValueError(f"{Path(path).name} holds not one finite number")
        array = np.where(finite, array, array[finite].min())
    return array, grid


def _read(path: Path | str) -> tuple[NDArray[np.generic], Grid]:
    path = Path(path)
    if not path.exists():
        raise ValueError(f"no image at {path}")
    array, affine = _read_nifti(path) if is_nifti(path) else _read_itk(path)
    shape = _three_axes(array.shape, path)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{path.name} holds {array.dtype} values; a scalar image is needed")
    return array.reshape(shape), Grid(shape=shape, affine=affine)


def doubt(volume: NDArray[np.generic], modality: str) -> str:
    """Why an image is hardly of the modality that weights are for, in a sentence; empty where nothing says so.

    CT in HU has fat or air, which are below 0, and MR has nothing far below it.
    """
    least = volume.min()
    if modality.upper() == "CT" and least >= 0:
        return "the weights are for CT in HU, and nothing in the image is below 0: it is no CT, or has other units"
    if modality.upper() in ("MR", "MRI") and least < AIR:
        return f"the weights are for MR, and the image has values below {AIR}, as CT has: the answers mean little"
    return ""


def read_grid(path: Path | str) -> Grid:
    """The Grid of an image; of NIfTI without its voxels. Raises ValueError as `read_volume`."""
    if not is_nifti(path):
        return read_volume(path)[1]
    path = Path(path)
    with _nifti(path) as image:
        shape, affine = image.shape, image.affine
    return Grid(shape=_three_axes(shape, path), affine=affine)


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
    if not own.coincides(grid):
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


def _three_axes(shape: Sequence[int], path: Path) -> tuple[int, int, int]:
    """A shape without trailing axes of length one. ValueError if others than three are left."""
    kept = list(shape)
    while len(kept) > 3 and kept[-1] == 1:
        kept.pop()
    if len(kept) != 3:
        raise ValueError(f"{path.name} has shape {tuple(shape)}; a 3D image (one value per voxel) is needed")
    x, y, z = kept
    return x, y, z


def _read_nifti(path: Path) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    with _nifti(path) as image:
        scaled = image.dataobj.slope != 1 or image.dataobj.inter != 0
        return np.asarray(image.dataobj, dtype=np.float32 if scaled else None), image.affine


@contextlib.contextmanager
def _nifti(path: Path) -> Iterator[Any]:
    """A NIfTI file, opened; whatever is wrong with it becomes a ValueError."""
    try:
        yield nib.load(path)
    except (OSError, EOFError, ValueError, zlib.error, nib.filebasedimages.ImageFileError) as error:
        raise ValueError(f"{path.name} is not a readable NIfTI file (damaged or cut short?): {error}") from error


def _read_itk(path: Path) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    try:
        if path.is_dir():
            names = itk.GDCMSeriesFileNames.New()
            names.SetUseSeriesDetails(True)
            names.SetDirectory(str(path))
            names.GlobalWarningDisplayOff()  # of a folder without a series, which is refused in words
            series = list(names.GetSeriesUIDs())
            names.GlobalWarningDisplayOn()
            if not series:
                raise ValueError(
                    f"{path} holds no DICOM file: a NIfTI file, or the folder of a DICOM series, is needed"
                )
            if len(series) != 1:
                raise ValueError(f"the folder holds {len(series)} DICOM series; one is needed")
            files = list(names.GetFileNames(series[0]))
            check_slices(files)
            image = itk.imread(files)
        else:
            image = itk.imread(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path.name} is not an image that ITK reads: {str(error).splitlines()[-1]}") from error
    except TypeError as error:  # ITK's Python reads neither 64-bit nor signed 8-bit numbers, nor vectors
        raise ValueError(f"{path.name} holds a type of voxels that cannot be read: save it with 16 bits") from error
    dimension = image.GetImageDimension()
    if dimension != 3:
        raise ValueError(f"{path.name} has {dimension} dimensions; a 3D image is needed")
    lps = np.eye(4)
    lps[:3, :3] = itk.array_from_matrix(image.GetDirection()) * np.array(image.GetSpacing())
    lps[:3, 3] = np.array(image.GetOrigin())
    return itk.array_from_image(image).T, LPS_TO_RAS @ lps


def check_slices(files: Sequence[Path | str]) -> None:
    """ValueError for DICOM slices that no even, rectangular grid holds: some are missing, or the gantry was tilted.

    ITK reads them as if there were one, with a word in the log alone, so that whatever is marked would lie elsewhere in
    the patient. A slice may be half a voxel off. Files that say nothing of their place are passed over.
    """
    places, frames = [], []
    for file in files:
        try:
            data = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[*PLACE])
        except InvalidDicomError:
            continue
        if all(data.get(tag) for tag in PLACE):
            places.append(np.array(data.ImagePositionPatient, float))
            frames.append((np.array(data.ImageOrientationPatient, float), np.array(data.PixelSpacing, float)))
    if len(places) < 3:
        return
    orientation, spacing = frames[0]
    axes = np.stack([orientation[:3], orientation[3:], np.cross(orientation[:3], orientation[3:])])
    where = np.array(places) @ axes.T  # mm along the rows, the columns and from slice to slice
    where = where[where[:, 2].argsort()]
    step = (where[-1, 2] - where[0, 2]) / (len(where) - 1)
    expected = where[0] + np.arange(len(where))[:, None] * [0, 0, step]
    off = np.abs(where - expected).max(0)
    if (off[:2] > spacing[::-1] / 2).any():
        raise ValueError(
            f"the slices of this series lie up to {off[:2].max():.1f} mm beside each other (a tilted gantry?): "
            "resample it to a rectangular grid first"
        )
    if off[2] > step / 2:
        raise ValueError(
            f"the slices of this series are not evenly spaced, one lies {off[2]:.1f} mm from where it should (some are "
            "missing?): complete or resample it first"
        )


def write_mask(path: Path | str, mask: NDArray[np.uint8], grid: Grid) -> None:
    """Write a mask (uint8, on `grid`) as NIfTI, whole or not at all. The suffix must be .nii or .nii.gz.

    The same mask gives the same bytes: no time is packed with it.
    """
    if not is_nifti(path):
        raise ValueError(f"masks are written as .nii or .nii.gz, not as {Path(path).name}")
    image = nib.Nifti1Image(mask, grid.affine)
    image.set_sform(grid.affine, 1)
    image.set_qform(grid.affine, 1)
    content = image.to_bytes()
    with whole_file(path) as file:
        file.write(gzip.compress(content, compresslevel=1, mtime=0) if str(path).endswith(".gz") else content)
