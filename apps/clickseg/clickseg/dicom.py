"""DICOM files, and folders of them: which series there are, and the slices of one, in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .dicom_frames import ENHANCED
from .dicom_head import Head, read_heads
from .dicom_slice import Slice, check_places, files_of
from .dicom_tree import read_series
from .dicom_volume import Volume, is_aside, many_in_one, unreadable_files
from .files import plain_name


def series_files(folder: Path, wanted: str | None = None) -> list[str]:
    """The files of `series_slices`."""
    return files_of(series_slices(folder, wanted))


def series_slices(folder: Path, wanted: str | None = None) -> list[Slice]:
    """The slices of a folder's DICOM series, in order, each once.

    wanted: UID of the series, if the folder holds several; of a part of one, such as an echo, the name that is listed.
    What lies beside a series of slices, a segmentation, a localizer or a screenshot, counts only if it is wanted.
    Raises ValueError if there is none or more than one, if a file of it is damaged, or does not say where its frames
    lie, and as `check_slices`.
    """
    found, damaged = read_series(path for path in sorted(folder.iterdir()) if _is_shown(path))
    if damaged and not found:
        raise ValueError(f"{folder} holds {unreadable_files(damaged)}")
    return _chosen(folder, found, wanted)


def file_slices(file: Path, wanted: str | None = None) -> list[Slice]:
    """The slices of an enhanced DICOM file, as `series_slices` has those of a folder; of any other file one, itself.

    Raises ValueError as `series_slices`, where a series of another file is wanted, and for other files of many slices.
    """
    found, _ = read_series([file])
    heads = [head for volume in found for head in volume.heads]
    if any(head.kind in ENHANCED for head in heads):
        return _chosen(file, found, wanted)
    if wanted is not None:
        raise ValueError(f"{file.name} is a file: a series is chosen from a folder of DICOM files")
    for head in heads:
        _check_frames(head)
    return [head.slice for head in heads] or [Slice(str(file))]


def is_enhanced(file: Path | str) -> bool:
    """Whether a file is an enhanced DICOM file, which may hold many slices."""
    heads = read_heads(Path(file))
    return isinstance(heads, list) and heads[0].kind in ENHANCED


def check_slices(files: Iterable[Path | str]) -> None:
    """ValueError as `check_places`, for the slices of files. Those that are no DICOM are passed over."""
    heads = [read_heads(Path(file)) for file in files]
    check_places(head.slice for found in heads if isinstance(found, list) for head in found)


def _is_shown(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def _chosen(place: Path, found: Sequence[Volume], wanted: str | None) -> list[Slice]:
    """place: what was found in."""
    slices = [volume for volume in found if not is_aside(volume.heads[0])] or found
    fitting = slices if wanted is None else [volume for volume in found if wanted in (volume.about.uid, _name(volume))]
    if len(fitting) > 1 or (found and not fitting):
        raise ValueError(f"{_why(place, fitting, wanted)}\n{_listed(fitting or found)}")
    if not fitting:
        raise ValueError(f"{place} holds no DICOM file: a NIfTI file, or the folder of a DICOM series, is needed")
    for head in fitting[0].heads:
        _check_frames(head)
    return fitting[0].slices()


def _check_frames(head: Head) -> None:
    """ValueError for a file of many slices of which it is not known where they lie: ITK would make up a place."""
    if head.kind in ENHANCED and (head.slice.frame is None or head.slice.place is None):
        raise ValueError(f"{head.file.name} ({head.kind.name}) does not say where its frames lie")
    if reason := many_in_one(head):
        raise ValueError(f"{head.file.name}: {reason}")


def _name(volume: Volume) -> str:
    """What a series, or a part of one, is chosen by."""
    return "_".join(filter(None, (volume.about.uid, plain_name(volume.part))))


def _why(place: Path, fitting: Sequence[Volume], wanted: str | None) -> str:
    if not fitting:
        return f"{place} holds no DICOM series {wanted}, but"
    uids = {volume.about.uid for volume in fitting}
    several = f"{len(fitting)} DICOM series"
    if len(uids) == 1:
        several = f"{len(fitting)} parts of DICOM series {uids.pop()}, which differ"
    return f"{place} holds {several}; one is needed: name it (`--series UID`), or give a folder that holds it alone"


def _listed(found: Sequence[Volume]) -> str:
    """A line for each series. Parts of one have a longer name, which tells them apart and is taken as well."""
    uids = [volume.about.uid for volume in found]
    return "\n".join(
        f"  {volume.about.uid if uids.count(volume.about.uid) == 1 else _name(volume)}: {_described(volume)}"
        for volume in found
    )


def _described(volume: Volume) -> str:
    about, (columns, rows) = volume.about, volume.heads[0].shape
    number = f"number {about.number}" if about.number else ""
    said = ", ".join(filter(None, (number, about.modality, about.description))) or "without a description"
    files = len({head.file for head in volume.heads})
    slices = f"{len(volume.heads)} slices in " if len(volume.heads) > files else ""
    return f"{said}, {slices}{files} file{'s'[: files != 1]}, {columns} x {rows}"
