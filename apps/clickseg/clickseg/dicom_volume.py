"""Which of the files of a DICOM series make a volume, or several, and why the others do not."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .dicom_frames import ENHANCED, PHASES
from .dicom_head import About, Head
from .dicom_slice import Place, Slice, slices_in_order
from .files import digest

FEW = 4  # slices, of which fewer make no volume
PLANE = 10  # slices in one direction of a series that has several: fewer are a localizer's

NOWHERE = "the files do not say where in the patient they lie"

Key = Callable[[Head], Hashable]


@dataclass(frozen=True, eq=False)
class Volume:
    """A series that makes a volume, or a part of one.

    folder: where its files lie, in it or below. part: what tells it from other volumes of its series, or nothing.
    damaged: files beside them that may be slices of it, and cannot be read.
    """

    folder: Path
    about: About
    part: str
    heads: tuple[Head, ...]
    damaged: tuple[Path, ...] = ()

    @property
    def title(self) -> str:
        """What it is called in sentences."""
        return ", ".join(filter(None, (self.about.title, self.part)))

    @property
    def content(self) -> str:
        """What tells it from the same volume with other files, or others of the same names: 16 hexadecimal digits."""
        files = sorted((head.slice.identity, head.state) for head in self.heads)
        return digest(repr(files), 16)

    def slices(self) -> list[Slice]:
        """Its slices in order, each once. ValueError names damaged files, and is raised as by `check_places`."""
        if self.damaged:
            raise ValueError(f"{self.damaged[0].parent} holds {unreadable_files(self.damaged)}")
        return slices_in_order(head.slice for head in self.heads)


@dataclass(frozen=True)
class LeftOut:
    """Files that make no volume. about: None if they do not say.

    unreadable: whether they are damaged, or a volume in a form that is not read. alone: whether they are an image all
    the same, which may be read if somebody names the folder that has it alone.
    """

    folder: Path
    about: About | None
    files: tuple[Path, ...]
    reason: str
    unreadable: bool = False
    alone: bool = False

    def title(self, root: Path) -> str:
        """What it is called in a report on a folder: where it lies, and which series it is."""
        place = str(self.folder.relative_to(root)) if self.folder.is_relative_to(root) else str(self.folder)
        return f"{place} ({self.about.title})" if self.about else place


def unreadable_files(damaged: Sequence[Path]) -> str:
    """Files that are, or may be, slices and cannot be read, and what to do about them."""
    more = f" and {len(damaged) - 5} more" if len(damaged) > 5 else ""
    names = ", ".join(path.name for path in damaged[:5])
    return (
        f"files that are no readable DICOM images (damaged, or cut short?): {names}{more}. What they show would be "
        "missing: copy them again, or move them elsewhere"
    )


def groups(heads: Iterable[Head], key: Key) -> list[list[Head]]:
    """Those that are alike together, in the order of the first of them."""
    found: dict[Hashable, list[Head]] = defaultdict(list)
    for head in heads:
        found[key(head)].append(head)
    return list(found.values())


def sort_out(series: list[Head], least: int) -> tuple[list[Volume], list[LeftOut]]:
    """The volumes of a series, and what makes none in it."""
    others = groups([head for head in series if _no_slice(head)], _no_slice)
    left_out = [_left(alike, _no_slice(alike[0])) for alike in others]
    slices = [head for head in series if not _no_slice(head)]
    directions = len(_directions(slices))
    volumes: list[Volume] = []
    planes: list[Head] = []
    for part in _parts(slices):
        if directions > 1 and len(part) < PLANE:
            planes += part
        elif reason := _no_volume(part, least):
            left_out.append(replace(_left(part, reason), alone=len(part) == len(series)))
        else:
            volumes += _volumes(part)
    if planes:
        left_out.append(_left(planes, f"{_count(planes)} of a series in {directions} directions: a localizer"))
    return _told_apart(volumes), left_out


def whatever_it_is(series: list[Head]) -> list[Volume]:
    """All of a series that has pixels, for somebody who asks for it: scouts, screenshots, a lone slice, ... as well."""
    pictures = [head for head in series if all(head.shape)]
    placed = [volume for part in _parts([head for head in pictures if head.slice.place]) for volume in _volumes(part)]
    elsewhere = groups([head for head in pictures if not head.slice.place], lambda head: (head.shape, head.thickness))
    return _told_apart(placed + [_volume(alike) for alike in elsewhere])


def _parts(slices: list[Head]) -> list[list[Head]]:
    """Slices that may lie one upon the other: of one form, in one direction, and of one stack where each has some."""
    forms = groups(slices, lambda head: (head.shape, head.thickness, _spacing(head), head.slice.frame is None))
    return [stack for alike in forms for part in _directions(alike) for stack in _stacks(part)]


def _stacks(part: list[Head]) -> list[list[Head]]:
    stacks = groups(part, lambda head: head.stack)
    return stacks if all(len(stack) >= FEW for stack in stacks) else [part]


def _left(heads: list[Head], reason: str) -> LeftOut:
    unreadable = heads[0].kind in ENHANCED and heads[0].slice.frame is None
    alone = reason.endswith(NOWHERE)
    return LeftOut(_folder(heads), heads[0].about, _files(heads), reason, unreadable, alone)


def _files(heads: Iterable[Head]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(head.file for head in heads))


def is_aside(head: Head) -> bool:
    """Whether nobody means it who asks for the slices beside it: a segmentation, a dose map, a screenshot, a scout."""
    return not _is_image(head) or head.colours > 1 or head.localizer


def _is_image(head: Head) -> bool:
    return "Image" in head.kind.name and "Secondary Capture" not in head.kind.name


def many_in_one(head: Head) -> str:
    """Why a file of many slices is not read, or nothing: where they lie stands in places that are its kind's alone."""
    kind = head.kind.name.removesuffix(" Storage")
    if head.slice.frame is None and (head.frames > 1 or "Enhanced" in kind):
        return f"many slices in one file ({kind}), which is not read: convert it with dcm2niix"
    return ""


def _no_slice(head: Head) -> str:
    """Why a file is no slice, or nothing."""
    kind = head.kind.name.removesuffix(" Storage")
    if not _is_image(head):
        return f"no series of slices: {kind}"
    if reason := many_in_one(head):
        return reason
    if head.colours > 1:
        return f"pictures in colour ({kind})"
    if head.localizer:
        return "a localizer"
    if not head.slice.place:
        return f"{kind}: {NOWHERE}"
    return ""


def _no_volume(part: list[Head], least: int) -> str:
    """Why slices that are alike make no volume, or nothing."""
    slices = {head.slice.identity: head for head in part}
    if len(slices) < least:
        return f"{_count(part)}, and a volume has at least {least}"
    if len(slices) > 1 and len({_position(head) for head in slices.values()}) == 1:
        return f"{_count(part)} in one place, as they are made to see contrast arrive"
    return ""


def _count(part: list[Head]) -> str:
    number = len({head.slice.identity for head in part})
    return f"{number} slice{'s'[: number != 1]}"


def _directions(slices: Iterable[Head]) -> list[list[Head]]:
    """Slices that are parallel, and turned alike, together."""
    found: list[list[Head]] = []
    for head in slices:
        alike = (group for group in found if _place(head).is_parallel(_place(group[0])))
        group = next(alike, None)
        if group is None:
            found.append([head])
        else:
            group.append(head)
    return found


def _place(head: Head) -> Place:
    assert head.slice.place  # `_no_slice` has asked
    return head.slice.place


def _position(head: Head) -> tuple[float, ...]:
    return tuple(np.round(_place(head).position, 2))


def _spacing(head: Head) -> tuple[float, ...]:
    return tuple(np.round(_place(head).spacing, 3))


def _volumes(part: list[Head]) -> list[Volume]:
    """Parallel slices as one volume, or one of each folder, phase or file where several are in one place."""
    if _apart(part):
        return [_volume(part)]
    folders = groups(part, lambda head: head.file.parent)
    if _are_volumes(folders):
        return [_volume(each) for each in folders]
    if phases := _phases(part):
        return [_volume(each, name) for name, each in phases]
    files = groups(part, lambda head: head.file)
    return [_volume(each) for each in (files if _are_volumes(files) else [part])]


def _are_volumes(parts: list[list[Head]]) -> bool:
    return len(parts) > 1 and all(len(each) >= FEW and _apart(each) for each in parts)


def _volume(heads: list[Head], part: str = "") -> Volume:
    return Volume(_folder(heads), heads[0].about, part, tuple(heads))


def _apart(part: list[Head]) -> bool:
    """Whether all slices lie in different places. Copies of a file do not count, if its UID is no other slice's."""
    slices = {head.slice.identity: head for head in part}
    uids, places = {identity[0] for identity in slices}, {_position(head) for head in slices.values()}
    return len(places) == len(slices) and (len(uids) == len(slices) or len(slices) == len(part))


def _phases(part: list[Head]) -> list[tuple[str, list[Head]]]:
    """The phases, echoes, ... of a series by what they are called; [] if nothing tells them apart."""
    for number, name in enumerate(PHASES):
        phases = groups(part, lambda head, number=number: head.phase[number])  # type: ignore[misc]
        if _are_volumes(phases):
            return [(f"{name} {phase[0].phase[number]}".strip(), phase) for phase in phases]
    return []


def _folder(part: list[Head]) -> Path:
    """The folder that has all slices, or the one above those that have some."""
    slices: dict[Path, set[tuple[str, ...]]] = defaultdict(set)
    for head in part:
        slices[head.file.parent].add(head.slice.identity)
    everything = set().union(*slices.values())
    return next((folder for folder in slices if slices[folder] == everything), Path(os.path.commonpath(slices)))


def _told_apart(volumes: list[Volume]) -> list[Volume]:
    """Volumes of one series with what tells them apart: plane, size, stack, phase, ..., and a number if need be."""
    texts = [(*_form(volume.heads[0]), volume.part) for volume in volumes]
    differ = [len(set(column)) > 1 for column in zip(*texts, strict=True)]
    parts = [", ".join(each for each, tells in zip(text, differ, strict=True) if tells and each) for text in texts]
    numbers = [f" {1 + parts[:at].count(part)}" if parts.count(part) > 1 else "" for at, part in enumerate(parts)]
    return [
        replace(volume, part=f"{part}{number}".strip())
        for volume, part, number in zip(volumes, parts, numbers, strict=True)
    ]


def _form(head: Head) -> tuple[str, ...]:
    if not head.slice.place:
        return "", f"{head.thickness:g} mm", f"{head.shape[0]} x {head.shape[1]}", ""
    spacing = " x ".join(f"{mm:g}" for mm in _spacing(head))
    size, stack = f"{head.shape[0]} x {head.shape[1]} of {spacing} mm", f"stack {head.stack}" if head.stack else ""
    return _place(head).plane, f"{head.thickness:g} mm", size, stack
