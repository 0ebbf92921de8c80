"""Masks as files, in what time a disk takes."""

from __future__ import annotations

import atexit
import functools
import io
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clickseg.clicks.wire import Reply
from clickseg.geometry import Grid
from clickseg.nifti import nifti_image

from .pieces import ZEROS, gzipped, plain

Bytes = bytes | memoryview

NRRD_TYPES = {
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "int16": "short",
    "uint32": "unsigned int",
    "int32": "int",
    "float32": "float",
    "float64": "double",
}


def write_reply(mask: NDArray[np.uint8], grid: Grid, reply: Reply, planes: Iterable[int] | None = None) -> str:
    """Write a mask (X, Y, Z) on `grid` to a temporary file, which the caller owns; returns its path.

    planes: numbers along Z outside of which all is 0, where that is known.

    .nrrd is raw unless `reply.compress` (OHIF reads raw; ITK and 3D Slicer both), .nii.gz is always compressed.
    """
    values = mask.astype(np.dtype(reply.dtype).newbyteorder("<"), copy=False)
    folder = Path(_folder())
    folder.mkdir(mode=0o700, exist_ok=True)  # a machine that is up for weeks may sweep its temporary files
    if reply.extension == ".nrrd":
        parts = nrrd(values, grid, reply, planes)
    else:
        parts = nifti(values, grid, reply.extension == ".nii.gz", planes)
    handle, path = tempfile.mkstemp(prefix="mask-", suffix=reply.extension, dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            for part in parts:
                if part is ZEROS:
                    file.seek(len(part), os.SEEK_CUR)  # a hole: no time to write, and no place on the disk
                else:
                    file.write(part)
            file.truncate()  # a hole at the end counts, too
    except BaseException:
        Path(path).unlink()
        raise
    return path


def nrrd(values: NDArray, grid: Grid, reply: Reply, planes: Iterable[int] | None = None) -> Iterable[Bytes]:
    """The parts of an NRRD file; compressed is all but its head."""
    head, voxels = nrrd_header(grid, reply), np.ascontiguousarray(values.T)  # first axis fastest
    return itertools.chain([head], gzipped(b"", voxels, planes) if reply.compress else plain(voxels, planes))


def nifti(values: NDArray, grid: Grid, compress: bool, planes: Iterable[int] | None = None) -> Iterable[Bytes]:
    """The parts of a NIfTI file of values (X, Y, Z) on `grid`; compressed is the whole of it."""
    voxels = np.ascontiguousarray(values.T, values.dtype.newbyteorder("<"))
    head = nifti_header(values, grid)
    return gzipped(head, voxels, planes) if compress else itertools.chain([head], plain(voxels, planes))


@functools.cache
def _folder() -> str:
    """A folder of this process alone.

    The stock client keeps a mask under the name that it had here, by default in /tmp: on the same machine, removing the
    file after it was sent would take the client's away if both lay in one folder.
    """
    folder = tempfile.mkdtemp(prefix="clickseg-replies-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def nrrd_header(grid: Grid, reply: Reply) -> bytes:
    """The head of an NRRD file (teem.sourceforge.net/nrrd/format.html) in DICOM's frame, up to the empty line."""
    directions = " ".join(_vector(grid.lps_affine[:3, axis]) for axis in range(3))
    fields = [
        "NRRD0004",
        f"type: {NRRD_TYPES[reply.dtype]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(count) for count in grid.shape)}",
        f"space directions: {directions}",
        "kinds: domain domain domain",
        "endian: little",
        f"encoding: {'gzip' if reply.compress else 'raw'}",
        f"space origin: {_vector(grid.lps_affine[:3, 3])}",
    ]
    return ("\n".join(fields) + "\n\n").encode()


def nifti_header(values: NDArray, grid: Grid) -> bytes:
    """The head of a NIfTI file of values (X, Y, Z) on `grid`."""
    image = nifti_image(values, grid)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(1, 0)
    head = io.BytesIO()
    image.header.write_to(head)
    return head.getvalue()


def _vector(values: NDArray[np.float64]) -> str:
    return "(" + ",".join(repr(float(value)) for value in values) + ")"
