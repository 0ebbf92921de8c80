"""Trees of DICOM files, as hospitals export them: the series in them that make volumes, and why the others do not.

What a file is called, and in which folder it lies, says nothing: its head does.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from .dicom_head import Damaged, Head, Known, ending, read_heads
from .dicom_volume import FEW, LeftOut, Volume, groups, sort_out, unreadable_files, whatever_it_is


@dataclass(frozen=True)
class Files:
    """The files of a folder and those below. closed: folders that may not be read."""

    folder: Path
    files: list[Path] = field(default_factory=list)
    closed: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class Tree:
    """What lies in a tree. others: files that are no DICOM."""

    volumes: list[Volume]
    left_out: list[LeftOut]
    others: list[Path]


def find_files(folder: Path) -> Files:
    """All files but hidden ones, in order. A folder that links lead to is looked at once: they may lead in circles."""
    found = Files(folder)
    above = {_identity(each) for each in folder.resolve().parents}
    _walk(folder, above, found)
    return found


def _walk(folder: Path, seen: set[tuple[int, int]], found: Files) -> None:
    try:
        if (identity := _identity(folder)) in seen:
            return
        seen.add(identity)
        shown = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        found.files.extend(path for path in shown if path.is_file())
        folders = [path for path in shown if path.is_dir()]
    except OSError:
        found.closed.append(folder)
        return
    for path in sorted(folders, key=Path.is_symlink):  # real ones first: what is in them is called after them
        _walk(path, seen, found)


def _identity(folder: Path) -> tuple[int, int]:
    state = folder.stat()
    return state.st_dev, state.st_ino


def read_tree(files: Iterable[Path], closed: Iterable[Path] = (), least: int = FEW) -> Tree:
    """What the files of a tree are. Each is opened once. closed: as in Files. least: slices that a volume has."""
    heads, damaged, others = _read(files)
    volumes: list[Volume] = []
    left_out = [LeftOut(each, None, (), "the folder may not be read", unreadable=True) for each in closed]
    for series in groups(heads, lambda head: (head.about.patient.id, head.about.study, head.about.uid)):
        of_series, none = sort_out(series, least)
        volumes += of_series
        left_out += none
    volumes, left = _with_damaged(sorted(volumes, key=_place), damaged)
    others += [each.file for each in left if not _is_dicom(each)]
    left_out += [_unreadable(files) for files in _of_folders([each.file for each in left if _is_dicom(each)])]
    return Tree(volumes, left_out, others)


def read_series(files: Iterable[Path]) -> tuple[list[Volume], list[Path]]:
    """Whatever files of one folder show, and those that are damaged and of none of it. Each is opened once."""
    heads, damaged, _ = _read(files)
    series = groups(heads, lambda head: head.about.uid)
    volumes = [volume for each in series for volume in whatever_it_is(each)]
    volumes, left = _with_damaged(sorted(volumes, key=_place), damaged)
    return volumes, [each.file for each in left if _is_dicom(each)]


def _read(files: Iterable[Path]) -> tuple[list[Head], list[Damaged], list[Path]]:
    """Heads of files, those that cannot be read, and those that are no DICOM."""
    heads: list[Head] = []
    damaged: list[Damaged] = []
    others: list[Path] = []
    known: Known = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of values that break rules
        for file in files:
            found = read_heads(file, known)
            if isinstance(found, list):
                heads += found
            elif found:
                damaged.append(found)
            else:
                others.append(file)
    return heads, damaged, others


def _is_dicom(damaged: Damaged) -> bool:
    """Texts may be blank, too: beside slices alone such a file may be one of them."""
    return damaged.sure or ending(damaged.file) == ".dcm"


def _of_folders(files: Iterable[Path]) -> list[list[Path]]:
    found: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        found[file.parent].append(file)
    return list(found.values())


def _unreadable(files: list[Path]) -> LeftOut:
    return LeftOut(files[0].parent, None, tuple(files), unreadable_files(files), unreadable=True)


def _place(volume: Volume) -> tuple[Path, int, str, str]:
    """Where it comes among others."""
    number = volume.about.number
    return volume.folder, int(number) if number.isdecimal() else -1, number, volume.part


def _with_damaged(volumes: list[Volume], damaged: list[Damaged]) -> tuple[list[Volume], list[Damaged]]:
    """Volumes with the damaged files that may well be slices of them, and the files that are of none."""
    of_volume: list[list[Path]] = [[] for _ in volumes]
    left = []
    for each in damaged:
        fitting = [number for number, volume in enumerate(volumes) if _may_be_of(each, volume)]
        for number in fitting:
            of_volume[number].append(each.file)
        if not fitting:
            left.append(each)
    return [replace(volume, damaged=tuple(of)) for volume, of in zip(volumes, of_volume, strict=True)], left


def _may_be_of(damaged: Damaged, volume: Volume) -> bool:
    """Whether it may be a slice: a file beside others, or one that says its series, wherever it lies."""
    if damaged.kind and damaged.kind != volume.heads[0].kind and "Image" not in damaged.kind.name:
        return False
    if damaged.uid:
        return damaged.uid == volume.about.uid
    beside = [head.file for head in volume.heads if head.file.parent == damaged.file.parent]
    endings = {".dcm", *map(ending, beside)}
    named = ending(damaged.file)
    return bool(beside) and (damaged.sure or (named in endings and (damaged.blank or named != "")))
