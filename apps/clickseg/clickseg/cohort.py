"""Folders of images, and the folders of label maps that weights which answer without clicks find in them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from . import __version__
from .dicom import series_files
from .dicom_seg import Segment, write_segmentation
from .dicom_slice import files_of
from .files import file_digest, write_text
from .geometry import Grid
from .images import read_slices, read_volume, reading, write_mask
from .methods import Model
from .sessions import VolumeSession
from .sources import Image, Progress, find_images

STATE, TABLE = "predictions.json", "volumes.csv"
DICOM_SUFFIX = ".dcm"
INSTEAD = "name another output folder, or let them be replaced (--overwrite)"

Volumes = dict[str, tuple[int, float]]  # label -> voxels, ml


@dataclass(frozen=True)
class Found:
    """What was found in an image by itself. doubt: why the image is hardly one that the weights are for, or nothing."""

    labels: NDArray[np.uint8]
    grid: Grid
    doubt: str


def predict_image(image: Image, model: Model, device: torch.device | str) -> Found:
    """The label map of an image, without clicks; nothing of it is kept. ValueError says why there is none."""
    with reading(_title(image)):
        volume, grid = _volume(image)
    session = VolumeSession(volume, grid, model, device)
    try:
        labels = session.predict_labels({}, model.recipe.labels)
    except (MemoryError, RuntimeError) as error:  # torch raises the latter where there is not enough memory
        raise ValueError(f"{_title(image)} could not be predicted: {error or 'not enough memory'}") from error
    return Found(labels, grid, session.doubt)


def _volume(image: Image) -> tuple[NDArray[np.generic], Grid]:
    return read_volume(image) if isinstance(image, Path) else read_slices(image.slices(), image.title)


def _files(image: Image) -> list[str]:
    return series_files(image) if isinstance(image, Path) else files_of(image.slices())


def _title(image: Image) -> str:
    return image.name if isinstance(image, Path) else image.title


def label_volumes(labels: NDArray[np.uint8], values: Mapping[str, int], grid: Grid) -> Volumes:
    """How many voxels of a label map have each value, and how many ml these are, by the names of the values."""
    voxel_ml = abs(float(np.linalg.det(grid.affine[:3, :3]))) / 1000
    counts = {name: int(np.count_nonzero(labels == value)) for name, value in values.items()}
    return {name: (count, count * voxel_ml) for name, count in counts.items()}


class Predictions:
    """A folder of label maps, `<id><suffix>`: NIfTI or, with `.dcm`, DICOM segmentations of the images' series.

    `predictions.json` says what was asked, and how much of each label each image has; `volumes.csv` is a table of that.
    A label map that was made of the same images by the same weights is kept; overwrite: none is. progress: as of
    `find_images`. left_out: what lies beside the images and is none.
    Raises ValueError for images as `find_images`, for a folder with other predictions, or with label maps that are none
    of its own, and where DICOM segmentations are asked for of what is no DICOM series.
    """

    def __init__(
        self,
        folder: Path | str,
        suffix: str,
        images: Path | str,
        weights: Path | str,
        overwrite: bool = False,
        progress: Progress = iter,
    ) -> None:
        found = find_images(images, progress)
        self.folder, self.suffix, self.images, self.left_out = Path(folder), suffix, found.by_id, found.left_out
        files = [path.name for path in self.images.values() if isinstance(path, Path) and not path.is_dir()]
        if suffix == DICOM_SUFFIX and files:
            raise ValueError(f"{files[0]} is no DICOM series, which a DICOM segmentation refers to: leave {suffix} out")
        of_weights = {"weights": Path(weights).name, "weights_sha256": file_digest(weights)}
        self.asked = {"version": __version__, "images": str(Path(images).resolve()), **of_weights, "suffix": suffix}
        self._volumes: dict[str, Volumes] = {}
        self._begun = set(self.images)  # what lies in the place of their label maps is to be made anew
        if not overwrite:
            self._go_on()
        self._write()

    def path(self, name: str) -> Path:
        """Where the label map of an image lies, or will."""
        return self.folder / f"{name}{self.suffix}"

    @property
    def table(self) -> Path:
        """Where the volumes of the labels stand."""
        return self.folder / TABLE

    def left(self) -> list[str]:
        """Ids of the images that have no label map yet."""
        return [name for name in self.images if name not in self._volumes or not self.path(name).exists()]

    def begin(self, name: str) -> None:
        """An image is to have a new label map. An earlier one is gone, even if the new one cannot be made."""
        self._begun.add(name)
        self._volumes.pop(name, None)
        self._write()
        self.path(name).unlink(missing_ok=True)

    def keep(self, name: str, found: Found, values: Mapping[str, int]) -> None:
        """Write what was found in an image. ValueError if that form has no such label map: DICOM has no empty ones."""
        if self.suffix == DICOM_SUFFIX:
            segments = {value: Segment(label, automatic=True) for label, value in values.items()}
            image = self.images[name]
            with reading(_title(image)):
                series = _files(image)
            write_segmentation(self.path(name), series, found.labels, found.grid, segments)
        else:
            write_mask(self.path(name), found.labels, found.grid)
        self._volumes[name] = label_volumes(found.labels, values, found.grid)  # last: with it the label map is kept
        self._begun.discard(name)
        self._write()

    def _go_on(self) -> None:
        """As the folder says. ValueError if it says something else."""
        state = self.folder / STATE
        theirs: dict[str, Any] = {"asked": self.asked, "begun": [], "found": {}}
        if state.exists():
            try:
                theirs = {**theirs, **json.loads(state.read_text())}
                other = [name for name, value in self.asked.items() if theirs["asked"].get(name) != value]
                found = {name: dict(volumes) for name, volumes in theirs["found"].items()}
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"{state} cannot be read: {INSTEAD}") from error
            if other:
                raise ValueError(f"{self.folder} holds other predictions, with other {', '.join(other)}: {INSTEAD}")
            self._volumes = found
        self._begun = set(theirs["begun"])
        strange = [self.path(name) for name in self.images if name not in {*self._volumes, *self._begun}]
        there = [path.name for path in ([] if state.exists() else [self.table]) + strange if path.exists()]
        if there:
            more = f" and {len(there) - 1} more" if len(there) > 1 else ""
            raise ValueError(f"{self.folder} holds {there[0]}{more}, which was not made by this command: {INSTEAD}")

    def _write(self) -> None:
        found = dict(sorted(self._volumes.items()))
        state = {"asked": self.asked, "begun": sorted(self._begun), "found": found}
        write_text(self.folder / STATE, json.dumps(state, indent=1) + "\n")
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(("id", "label", "voxels", "ml"))
        for name, volumes in found.items():
            rows.writerows((name, label, voxels, f"{ml:.4f}") for label, (voxels, ml) in volumes.items())
        write_text(self.table, text.getvalue())
