"""Slices of DICOM series: where each lies, in which order they do, and whether a volume may be made of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.multival import MultiValue

TOUCHING = 1e-3  # mm between slices that are in the same place
PARALLEL = 0.01  # that the unit vectors of parallel slices differ by, at most
HOLE = 1.75  # times the usual distance of slices, from which on one is missing between two
IDENTITY = ("SOPInstanceUID", "InstanceNumber", "ImagePositionPatient")  # that copies of a slice share
PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")  # of a slice
RESCALE = {"RescaleSlope": 1.0, "RescaleIntercept": 0.0}  # and what they are if it does not say
THICKNESS = ("SpacingBetweenSlices", "SliceThickness")  # of a lone slice: as its series has it, or as it was taken
STORED = ("PhotometricInterpretation", "PixelRepresentation")  # what the numbers in the file are
SLICE = [*IDENTITY, *PLACE, *RESCALE, *THICKNESS, *STORED]


class Said(Protocol):
    """What is said of a slice, by DICOM's keywords: the head of a file, or of one of its frames."""

    def get(self, key: str, /) -> Any:
        """A value, None if there is none."""


@dataclass(frozen=True)
class Place:
    """position: LPS mm of the first voxel. row, column: unit vectors. spacing: mm between rows and between columns."""

    position: NDArray[np.float64]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    spacing: NDArray[np.float64]

    @property
    def normal(self) -> NDArray[np.float64]:
        return np.cross(self.row, self.column)

    def is_parallel(self, other: Place) -> bool:
        """Whether both have the same directions: 0.01 is half a degree."""
        mine, theirs = (np.concatenate([place.row, place.column]) for place in (self, other))
        return bool(np.abs(mine - theirs).max() < PARALLEL)

    @property
    def plane(self) -> str:
        """How radiologists call the plane of the slice, or the nearest to it."""
        return ("sagittal", "coronal", "axial")[int(np.abs(self.normal).argmax())]


@dataclass(frozen=True)
class Slice:
    """A file, or a frame of one.

    identity: what copies of it share; () if it is no DICOM file. place: None if it does not say.
    rescale: slope and intercept, which make HU of the numbers in the file. frame: which one, from 0; None for a file
    that is one slice. thickness: mm to the next slice or, if that is not said, of what it shows; None if neither is.
    inverted: whether large numbers are to be shown dark (MONOCHROME1), which changes none of them. signed: whether the
    numbers in the file may be below 0.
    """

    file: str
    identity: tuple[str, ...] = ()
    place: Place | None = None
    rescale: tuple[float, float] = (1.0, 0.0)
    frame: int | None = None
    thickness: float | None = None
    inverted: bool = False
    signed: bool = False

    @property
    def name(self) -> str:
        """What it is called in sentences."""
        return Path(self.file).name if self.frame is None else f"{self.frame + 1} of {Path(self.file).name}"


def slice_of(file: Path | str, said: Said, frame: int | None = None) -> Slice:
    """A file, or a frame of it, as a slice, of what is said of it under the tags of SLICE."""
    identity = tuple(str(said.get(tag)) for tag in IDENTITY)
    values = {tag: said.get(tag) for tag in RESCALE}
    slope, intercept = (RESCALE[tag] if values[tag] in (None, "") else float(values[tag]) for tag in RESCALE)
    places, thick = [said.get(tag) for tag in PLACE], (millimetres(said, tag) for tag in THICKNESS)
    place = None
    if all(places):
        position, orientation, spacing = (np.array(value, float) for value in places)
        place = Place(position, orientation[:3], orientation[3:], spacing)
    return Slice(
        file=str(file),
        identity=identity,
        place=place,
        rescale=(slope, intercept),
        frame=frame,
        thickness=next((mm for mm in thick if mm > 0), None),
        inverted=text(said, "PhotometricInterpretation") == "MONOCHROME1",
        signed=text(said, "PixelRepresentation") == "1",
    )


def text(said: Said, name: str) -> str:
    """A value as it is written; empty if there is none, or one that it cannot have."""
    try:
        value = said.get(name)
    except Exception:  # numbers that are words, letters of no alphabet, ...
        return ""
    parts = value if isinstance(value, MultiValue) else [value]
    return "\\".join("" if part is None else str(part).strip() for part in parts)


def millimetres(said: Said, name: str) -> float:
    """A length; 0 if there is none."""
    try:
        return float(text(said, name) or 0)
    except ValueError:
        return 0.0


def slices_in_order(slices: Iterable[Slice]) -> list[Slice]:
    """The slices of a series as they lie one upon the other, each once. Raises ValueError as `check_places`."""
    ordered = _in_order(_without_copies(slices))
    check_places(ordered)
    return ordered


def files_of(slices: Iterable[Slice]) -> list[str]:
    """The files that slices lie in, in their order, each once: an enhanced one holds many."""
    return list(dict.fromkeys(each.file for each in slices))


def _without_copies(slices: Iterable[Slice]) -> list[Slice]:
    """The slices without those that hold the same as another: exports have some twice, under two names.

    A UID alone does not tell: programs that hide names may give the same to all slices.
    """
    kept: list[Slice] = []
    alike: dict[tuple[str, ...], list[Slice]] = {}
    same: dict[tuple[str, str], bool] = {}

    def hold_the_same(pair: tuple[str, str]) -> bool:
        """Whether two files differ in their heads alone, which say who has written them."""
        if pair not in same:  # asked for each of their frames
            same[pair] = bool(pydicom.dcmread(pair[0]) == pydicom.dcmread(pair[1]))
        return same[pair]

    for each in slices:
        others = alike.setdefault(each.identity, [])
        if not (each.identity and any(hold_the_same((each.file, other.file)) for other in others)):
            others.append(each)
            kept.append(each)
    return kept


def _in_order(slices: list[Slice]) -> list[Slice]:
    """Slices as they lie one upon the other; by their numbers, and names, if some do not say where they lie."""
    first = next((each.place for each in slices if each.place), None)
    if first is None or not all(each.place for each in slices):
        return sorted(slices, key=_number)
    normal = first.normal
    return sorted(slices, key=lambda each: float(each.place.position @ normal) if each.place else 0.0)


def _number(each: Slice) -> tuple[float, str]:
    number = each.identity[IDENTITY.index("InstanceNumber")] if each.identity else ""
    return (float(number) if number.isdecimal() else -1.0, each.file)


def check_places(slices: Iterable[Slice]) -> None:
    """ValueError for DICOM slices that no even, rectangular grid holds: some are missing, or the gantry was tilted.

    ITK reads them as if there were one, with a word in the log alone, so that whatever is marked would lie elsewhere in
    the patient. A slice may be half a voxel off. Those that say nothing of their place are passed over.
    """
    placed = [(each.name, each.place) for each in slices if each.place]
    if len(placed) < 2:
        return
    first = placed[0][1]
    axes = np.stack([first.row, first.column, first.normal])
    where = np.array([place.position for _, place in placed]) @ axes.T  # mm along rows, columns and from slice to slice
    order = where[:, 2].argsort(kind="stable")
    where = where[order]
    apart = np.linalg.norm(np.diff(where, axis=0), axis=1)
    if apart.min() < TOUCHING:
        one, other = (placed[order[apart.argmin() + step]][0] for step in (0, 1))
        raise ValueError(f"slices {one} and {other} are in the same place (two phases or echoes?): keep one of each")
    step = (where[-1, 2] - where[0, 2]) / (len(where) - 1)
    expected = where[0] + np.arange(len(where))[:, None] * [0, 0, step]
    off = np.abs(where - expected).max(0)
    if (off[:2] > first.spacing[::-1] / 2).any():
        raise ValueError(
            f"the slices of this series lie up to {off[:2].max():.1f} mm beside each other (a tilted gantry?): "
            "resample it to a rectangular grid first"
        )
    widest, usual = float(apart.max()), float(np.sort(apart)[(len(apart) - 1) // 2])
    if widest > HOLE * usual:  # a single slice that is missing moves the others by less than half a step
        raise ValueError(
            f"the slices of this series are not evenly spaced, two of them lie {widest:.1f} mm apart and others "
            f"{usual:.1f} (some are missing?): complete or resample it first"
        )
    if off[2] > step / 2:
        raise ValueError(
            f"the slices of this series are not evenly spaced, one lies {off[2]:.1f} mm from where it should (some are "
            "missing?): complete or resample it first"
        )
