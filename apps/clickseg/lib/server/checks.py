"""What is refused before anything is stored, and how."""

from __future__ import annotations

import contextlib
import filecmp
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException, UploadFile
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException

from clickseg.datasets import SUFFIXES, case_id
from clickseg.images import read_grid, read_label, read_volume, write_mask
from clickseg.labelled import value_names
from clickseg.machine import present_values

from .refusals import refusing

RAW = ".bin"  # a label map as OHIF may send it: voxels without a head
LONGEST = 200  # bytes of a name; files may have 255, with their suffix and that of a file that is being written
ROOM = 255 - len(".") - len(".nii.gz.json") - len(".12345678")  # the same for the note of a label while it is written


def plain_name(name: str) -> str:
    """The same name. HTTPException 404 for a path: it is no name of anything here."""
    if name and (Path(name).name != name or name == ".."):
        raise HTTPException(status_code=404, detail=f"{str(name)!r} is not in the datastore: it is a path, not a name")
    return name


def new_name(name: str) -> str:
    """A name for a file that may not be there yet. HTTPException 400 if no file can be called so."""
    if not is_text(plain_name(name)):
        raise HTTPException(400, f"{name[:20]!a} is no name: it holds half of a surrogate pair")
    if len(name.encode()) > LONGEST:
        raise HTTPException(400, f"{name[:20]!r}... is too long for a name: {LONGEST} bytes are taken at most")
    return name


def new_id(name: str) -> str:
    """An id for an image that may not be there yet. HTTPException 400 if it cannot be told from a file's name."""
    if new_name(name).endswith(SUFFIXES):
        raise HTTPException(400, f"the id {name!r} ends as the name of a file does: leave out the ending")
    return name


def is_text(name: str) -> bool:
    """Whether a name is whole: halves of surrogate pairs come from JSON, and from files whose names are not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def has_room(image_id: str) -> bool:
    """Whether the files that belong to an image's label can be called after it; it may be in the folder as it is."""
    return len(image_id.encode()) <= ROOM


def check_room(image_id: str) -> None:
    """HTTPException 400 for an image whose name leaves no room for its label's."""
    if not has_room(image_id):
        size = len(image_id.encode())
        raise HTTPException(
            400,
            f"the name of image {image_id[:20]}... is too long for a label to be kept beside it: rename its file, "
            f"{ROOM} bytes without the ending are taken at most, and it has {size}",
        )


def image_name(file: UploadFile) -> str:
    """The id of an image that is sent without one. HTTPException 400 for a file of another kind."""
    name = case_id(Path(file.filename or ""))
    if not name:
        raise HTTPException(400, f"image {file.filename!r}: a file ending in {' or '.join(SUFFIXES)} is needed")
    return name


@contextlib.contextmanager
def known() -> Iterator[None]:
    """HTTPException 404 for what is not in the datastore."""
    try:
        yield
    except (ImageNotFoundException, LabelNotFoundException) as error:
        raise HTTPException(404, error.msg) from error


def same_image(one: Path, other: Path) -> bool:
    """Whether two files hold the same voxels in the same place."""
    if filecmp.cmp(one, other, shallow=False):
        return True
    try:
        (voxels, grid), (others, elsewhere) = read_volume(one), read_volume(other)
    except ValueError:
        return False
    return grid.shape == elsewhere.shape and grid.coincides(elsewhere) and np.array_equal(voxels, others)


def same_label(image: str, one: tuple[str, Any], other: tuple[str, Any]) -> bool:
    """Whether two label maps of an image, each with the names of its values, say the same of every voxel.

    Raises ValueError for one that does not fit the image.
    """
    grid, found = read_grid(image), []
    for label, names in (one, other):
        with with_head(image, label) as file:
            values = read_label(file, grid)
        found.append((values, value_names(present_values(values), names or (), {})))
    (values, named), (others, also) = found
    return named == also and np.array_equal(values, others)


def check_label(image: str, label: str, names: Any) -> None:
    """HTTPException 400 for a label map that does not fit its image, or names of its values that are no such list."""
    with refusing():
        value_names(present_values(read_label(label, read_grid(image))), names or (), {})


@contextlib.contextmanager
def with_head(image: str, label: str) -> Iterator[str]:
    """A label map that is voxels alone as a file that says where they lie, for as long as this lasts.

    HTTPException 400 if there are more of them, or fewer, than the image has.
    """
    if not label.endswith(RAW):
        yield label
        return
    with tempfile.TemporaryDirectory(prefix="clickseg-label-") as folder:
        path = Path(folder) / "label.nii.gz"
        with refusing():
            grid, voxels = read_grid(image), np.fromfile(label, np.uint8)
            if voxels.size != math.prod(grid.shape):
                raise ValueError(f"the label map has {voxels.size} voxels of one byte, its image {grid.shape}")
            write_mask(path, voxels.reshape(grid.shape, order="F"), grid)
        yield str(path)
