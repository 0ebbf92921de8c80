"""NIfTI files: where ITK has their voxels, in mm, whatever forms and units they have."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from .geometry import Forms, Grid, ras_affine

MILLIMETRES = {1: 1e3, 2: 1.0, 3: 1e-3}  # in the units of NIfTI: metre, millimetre, micrometre

# What nibabel, those below it, and ITK raise for files that are damaged, or say of themselves what cannot be.
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    zlib.error,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    RuntimeError,
)


def is_nifti(path: Path | str) -> bool:
    """Whether a file is NIfTI by its name."""
    return str(path).endswith((".nii", ".nii.gz"))


def read_nifti(path: Path) -> tuple[NDArray[np.generic], NDArray[np.float64], Forms | None]:
    """The voxels of a NIfTI file, its affine, voxel index -> RAS mm, and its forms if they differ.

    ValueError for a file that is damaged.
    """
    with _nifti(path) as image:
        scaled = image.dataobj.slope != 1 or image.dataobj.inter != 0
        return np.asarray(image.dataobj, dtype=np.float32 if scaled else None), *_place(image, path)


def read_nifti_head(path: Path) -> tuple[tuple[int, ...], NDArray[np.float64], Forms | None]:
    """The shape of what `read_nifti` reads, and where it lies."""
    with _nifti(path) as image:
        return image.shape, *_place(image, path)


def _place(image: Any, path: Path) -> tuple[NDArray[np.float64], Forms | None]:
    """Where the voxels of a NIfTI image lie, in RAS mm, and its forms if they differ by half a voxel.

    nibabel passes over the unit of length, which ITK heeds, and takes the sform where ITK may take the qform: clients
    that read by ITK, as 3D Slicer does, are to find the mask upon the image.
    """
    millimetres = MILLIMETRES.get(int(image.header["xyzt_units"]) & 7, 1.0)

    def scaled(affine: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.diag([millimetres] * 3 + [1.0]) @ affine

    (sform, scode), (qform, qcode) = image.get_sform(coded=True), image.get_qform(coded=True)
    if not (scode and qcode and np.linalg.det(sform @ qform)):
        return scaled(image.affine), None
    shape, forms = (*image.shape, 1, 1)[:3], Forms(scaled(sform), scaled(qform), (int(scode), int(qcode)))
    if Grid(shape, forms.sform).coincides(Grid(shape, forms.qform)):
        return forms.sform, None
    io = itk.NiftiImageIO.New(FileName=str(path))
    io.ReadImageInformation()
    origin, spacing = ([of(axis) for axis in range(3)] for of in (io.GetOrigin, io.GetSpacing))
    directions = np.stack([np.array(io.GetDirection(axis))[:3] for axis in range(3)], -1)
    return ras_affine(origin, spacing, directions), forms


@contextlib.contextmanager
def _nifti(path: Path) -> Iterator[Any]:
    """A NIfTI file, opened; whatever is wrong with it becomes a ValueError."""
    try:
        yield nib.load(path)
    except UNREADABLE as error:
        raise ValueError(f"{path.name} is not a readable NIfTI file (damaged or cut short?): {error}") from error


def nifti_image(array: NDArray[np.generic], grid: Grid) -> Any:
    """An array on its grid, for nibabel. It says so in both of NIfTI's forms: ITK prefers one, nibabel the other.

    Of a file whose forms differ it has both.
    """
    image = nib.Nifti1Image(array, grid.affine)
    forms = grid.forms or Forms(grid.affine, grid.affine, (1, 1))
    image.set_sform(forms.sform, forms.codes[0])
    image.set_qform(forms.qform, forms.codes[1])
    return image
