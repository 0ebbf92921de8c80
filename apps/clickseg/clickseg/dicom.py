"""Folders of DICOM files: which are the slices of a series, in order, and whether a volume may be made of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import itk
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID

HEAD = 132  # bytes until the mark of a DICOM file ends
TOUCHING = 1e-3  # mm between slices that are in the same place
PARALLEL = 0.01  # that the unit vectors of parallel slices differ by, at most
HOLE = 1.75  # times the usual distance of slices, from which on one is missing between two
IDENTITY = ("SOPInstanceUID", "InstanceNumber", "ImagePositionPatient")  # that copies of a slice share
PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")  # of a slice
RESCALE = {"RescaleSlope": 1.0, "RescaleIntercept": 0.0}  # and what they are if it does not say
SLICE = [*IDENTITY, *PLACE, *RESCALE]
SERIES = "SeriesInstanceUID"
ABOUT = (SERIES, "SOPClassUID", "SeriesNumber", "Modality", "SeriesDescription", "Rows", "Columns")
THICKNESS = ("SpacingBetweenSlices", "SliceThickness")  # of a lone slice: as its series has it, or as it was taken


@dataclass(frozen=True)
class Series:
    """A series in a folder, or a part of one whose slices have another size or thickness than the rest.

    uid: its SeriesInstanceUID. name: that, and what tells such parts apart. about: number, modality and description.
    kind: what its files are, a SOPClassUID. shape: columns and rows.
    """

    uid: str
    name: str
    about: str
    kind: str
    shape: tuple[int, int]
    files: tuple[str, ...]


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
    """identity: what copies of it share; () if it is no DICOM file. place: None if it does not say.

    rescale: slope and intercept, which make HU of the numbers in the file.
    """

    file: str
    identity: tuple[str, ...] = ()
    place: Place | None = None
    rescale: tuple[float, float] = (1.0, 0.0)


def series_files(folder: Path, wanted: str | None = None) -> list[str]:
    """The files of `series_slices`."""
    return [each.file for each in series_slices(folder, wanted)]


def series_slices(folder: Path, wanted: str | None = None) -> list[Slice]:
    """The slices of a folder's DICOM series, in order, each once. wanted: UID of the series, if it holds several.

    Raises ValueError if there is none or more than one, if a file of it is damaged, and as `check_slices`.
    """
    found = _found(folder)
    fitting = found if wanted is None else [series for series in found if wanted in (series.uid, series.name)]
    if len(fitting) > 1 or (found and not fitting):
        raise ValueError(f"{_why(folder, len(fitting), wanted)}\n{_listed(fitting or found)}")
    damaged = _damaged(folder, {Path(file).name for series in found for file in series.files}, fitting)
    if damaged:
        raise ValueError(f"{folder} holds {unreadable_files(damaged)}")
    if not fitting:
        raise ValueError(f"{folder} holds no DICOM file: a NIfTI file, or the folder of a DICOM series, is needed")
    return slices_in_order(map(_slice, fitting[0].files))


def unreadable_files(damaged: Sequence[Path]) -> str:
    """Files that are, or may be, slices and cannot be read, and what to do about them."""
    more = f" and {len(damaged) - 5} more" if len(damaged) > 5 else ""
    names = ", ".join(path.name for path in damaged[:5])
    return (
        f"files that are no readable DICOM images (damaged, or cut short?): {names}{more}. What they show would be "
        "missing: copy them again, or move them elsewhere"
    )


def slices_in_order(slices: Iterable[Slice]) -> list[Slice]:
    """The slices of a series as they lie one upon the other, each once. Raises ValueError as `check_slices`."""
    ordered = _in_order(_without_copies(slices))
    _check(ordered)
    return ordered


def _why(folder: Path, fitting: int, wanted: str | None) -> str:
    if not fitting:
        return f"{folder} holds no DICOM series {wanted}, but"
    several = f"{fitting} DICOM series" if wanted is None else f"{fitting} parts of DICOM series {wanted}, which differ"
    return (
        f"{folder} holds {several}; one is needed: name it (`clickseg predict --series UID`), "
        "or give a folder that holds it alone"
    )


def _listed(found: Iterable[Series]) -> str:
    """A line for each series. Parts of one have a longer name, which tells them apart and is taken as well."""
    found = list(found)
    uids = [series.uid for series in found]
    return "\n".join(
        f"  {series.uid if uids.count(series.uid) == 1 else series.name}: {series.about}, "
        f"{len(series.files)} file{'s'[: len(series.files) != 1]}, {series.shape[0]} x {series.shape[1]}"
        for series in found
    )


def _found(folder: Path) -> list[Series]:
    """What GDCM finds in a folder. It passes over whatever it cannot read, without a word."""
    names = itk.GDCMSeriesFileNames.New()
    names.SetUseSeriesDetails(True)
    names.SetDirectory(str(folder))
    names.GlobalWarningDisplayOff()  # of a folder without a series, which is refused in words
    series = list(names.GetSeriesUIDs())
    names.GlobalWarningDisplayOn()
    return [_series(name, tuple(names.GetFileNames(name))) for name in series]


def _series(name: str, files: tuple[str, ...]) -> Series:
    data = pydicom.dcmread(files[0], stop_before_pixels=True, force=True, specific_tags=[*ABOUT])
    number = f"number {data.SeriesNumber}" if data.get("SeriesNumber") else ""
    about = filter(None, (number, data.get("Modality"), str(data.get("SeriesDescription") or "").strip()))
    return Series(
        uid=str(data.get(SERIES) or name),
        name=name,
        about=", ".join(about) or "without a description",
        kind=str(data.get("SOPClassUID", "")),
        shape=(int(data.get("Columns") or 0), int(data.get("Rows") or 0)),
        files=files,
    )


def _damaged(folder: Path, read: Collection[str], of: Sequence[Series]) -> list[Path]:
    """Files that were not `read`, and may well be slices of one of these series; of any if there is none.

    Others are no images (a DICOMDIR, a report, a presentation state, a text), or say that they are of another series.
    """
    files = [path for path in sorted(folder.iterdir()) if not (path.is_dir() or path.name.startswith("."))]
    endings = {".dcm", *(ending(Path(file)) for series in of for file in series.files)}
    return [path for path in files if path.name not in read and _may_be_slice(path, of, endings)]


def ending(path: Path) -> str:
    """The ending of a file's name; "" for what is but the last number of a UID."""
    return "" if re.fullmatch(r"\.\d+", path.suffix) else path.suffix.lower()


def _may_be_slice(path: Path, of: Sequence[Series], endings: Collection[str]) -> bool:
    try:
        kind = UID(read_file_meta_info(path).get("MediaStorageSOPClassUID", ""))
        if kind and kind not in {series.kind for series in of} and "Image" not in kind.name:
            return False
        uid = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[SERIES]).get(SERIES)
    except InvalidDicomError:  # has not even the mark of one; a full disk leaves files empty, or filled with zeros
        with path.open("rb") as file:
            blank = not any(file.read(HEAD))
        return ending(path) in endings and (blank or ending(path) != "")
    except Exception:  # pydicom raises whatever it met where the file ends
        return True
    return not uid or not of or uid in {series.uid for series in of}


def _slice(file: Path | str) -> Slice:
    try:
        return slice_of(file, pydicom.dcmread(file, stop_before_pixels=True, specific_tags=SLICE))
    except InvalidDicomError:
        return Slice(str(file))


def slice_of(file: Path | str, data: pydicom.Dataset) -> Slice:
    """A file as a slice, of what its head says under the tags of SLICE."""
    identity = tuple(str(data.get(tag)) for tag in IDENTITY)
    said = {tag: data.get(tag) for tag in RESCALE}
    slope, intercept = (RESCALE[tag] if said[tag] in (None, "") else float(said[tag]) for tag in RESCALE)
    rescale = slope, intercept
    if not all(data.get(tag) for tag in PLACE):
        return Slice(str(file), identity, None, rescale)
    position, orientation, spacing = (np.array(data.get(tag), float) for tag in PLACE)
    return Slice(str(file), identity, Place(position, orientation[:3], orientation[3:], spacing), rescale)


def _without_copies(slices: Iterable[Slice]) -> list[Slice]:
    """The slices without those that hold the same as another: exports have some twice, under two names.

    A UID alone does not tell: programs that hide names may give the same to all slices.
    """
    kept: list[Slice] = []
    alike: dict[tuple[str, ...], list[Slice]] = {}
    for each in slices:
        others = alike.setdefault(each.identity, [])
        if not (each.identity and any(_hold_the_same(each.file, other.file) for other in others)):
            others.append(each)
            kept.append(each)
    return kept


def _hold_the_same(one: str, other: str) -> bool:
    """Whether two files differ in their heads alone, which say who has written them."""
    return bool(pydicom.dcmread(one) == pydicom.dcmread(other))


def _in_order(slices: list[Slice]) -> list[Slice]:
    """Slices as they lie one upon the other: GDCM goes by their numbers if two of them are in the same place."""
    places = {each.file: each.place for each in slices if each.place}
    if not places or len(places) < len(slices):
        return slices
    normal = next(iter(places.values())).normal
    return sorted(slices, key=lambda each: float(places[each.file].position @ normal))


def check_slices(files: Iterable[Path | str]) -> None:
    """ValueError for DICOM slices that no even, rectangular grid holds: some are missing, or the gantry was tilted.

    ITK reads them as if there were one, with a word in the log alone, so that whatever is marked would lie elsewhere in
    the patient. A slice may be half a voxel off. Files that say nothing of their place are passed over.
    """
    _check(map(_slice, files))


def _check(slices: Iterable[Slice]) -> None:
    placed = [(Path(each.file).name, each.place) for each in slices if each.place]
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


def slice_thickness(file: Path | str) -> float | None:
    """mm from a lone slice to the next of its series or, if it does not say so, of what it shows. None if unknown."""
    try:
        data = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[*THICKNESS])
    except InvalidDicomError:
        return None
    return next((float(data.get(tag)) for tag in THICKNESS if (data.get(tag) or 0) > 0), None)
