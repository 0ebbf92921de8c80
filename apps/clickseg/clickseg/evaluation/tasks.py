"""What is asked of a segmenter, and what is measured: protocol, tasks, results."""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..clicks import (
    DeterministicUser,
    JitteredUser,
    LiuUser,
    SakinisUser,
    SimulatedUser,
    StaticUser,
    WrongUser,
)
from ..datasets import Case
from ..geometry import AxialSlices
from ..images import read_grid, read_label
from ..metrics import Mask, dice, iou, surface_distances_mm

logger = logging.getLogger(__name__)


def side(spacing: Sequence[float]) -> float:
    """Of the square or cube as large as a voxel of such sides, mm."""
    return float(math.prod(spacing) ** (1 / len(spacing)))


# How each user clicks on a grid of a given spacing (mm) along each axis. The same for every model: the examiners.
USERS: dict[str, Callable[[tuple[float, ...]], SimulatedUser]] = {
    "sakinis": lambda spacing: SakinisUser(metric="chessboard", scale=side(spacing), first="interior"),
    "liu": lambda spacing: LiuUser(disturbance=10),  # voxels, as published
    "liu_faces": lambda spacing: LiuUser(disturbance=10, corners=False),
    "deterministic": DeterministicUser,
    "jittered": lambda spacing: JitteredUser(DeterministicUser(spacing), radius=3, spacing=spacing),
    "static": lambda spacing: StaticUser(metric="chessboard", scale=side(spacing)),
    "wrong": lambda spacing: WrongUser(USERS["sakinis"](spacing), rate=0.1),
}


ONE_STRUCTURE = ("sakinis", "static", "wrong")  # users that know inside and outside, and no classes


def default_user(dimension: int) -> str:
    """The user of the paper whose methods have that dimension."""
    return "liu" if dimension == 3 else "sakinis"


@dataclass(frozen=True)
class Protocol:
    """What is asked of every case.

    clicks: after how many clicks to measure; 0 is the network's answer before the first. limit: slices per label,
    drawn by the seed. labels: names of the structures to play on, None for all that the data names. values: of labels
    that neither the data nor the weights name. separately: in 3D, one game for each structure, in which nothing else is
    corrected, instead of one for all (in 2D it is always so). named: whether weights that know names are told what each
    structure is called.
    """

    clicks: tuple[int, ...] = (1, 2, 5, 10, 15)
    user: str = "sakinis"
    seed: int = 0
    limit: int | None = None
    labels: tuple[str, ...] | None = None
    values: Mapping[str, int] = field(default_factory=dict)
    batch: int = 8
    separately: bool = False
    named: bool = True

    def check_dimension(self, dimension: int) -> None:
        """ValueError for a user who cannot play against methods of that dimension."""
        if dimension == 3 and not self.separately and self.user in ONE_STRUCTURE:
            fit = ", ".join(user for user in USERS if user not in ONE_STRUCTURE)
            raise ValueError(
                f"user {self.user} clicks for one structure at a time, and this method answers with all at once: take "
                f"one of {fit}, or a game for each structure (separately)"
            )

    def __post_init__(self) -> None:
        if self.user not in USERS:
            raise ValueError(f"unknown user {self.user!r}; known: {', '.join(USERS)}")
        if not self.clicks or list(self.clicks) != sorted(set(self.clicks)) or self.clicks[0] < 0:
            raise ValueError(f"clicks must be rising numbers from 0 up, got {self.clicks}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1 slice per label, got {self.limit}")


@dataclass(frozen=True)
class Task:
    """One structure in one axial slice of a case."""

    case: Case
    slice: int
    name: str
    value: int

    def seed(self, protocol_seed: int) -> int:
        """What its clicks grow from: the same whichever tasks are run beside it and in whatever order."""
        words = [protocol_seed, zlib.crc32(self.case.id.encode()), self.slice, self.value]
        return int(np.random.SeedSequence(words).generate_state(1)[0] >> 1)


@dataclass(frozen=True)
class Result:
    """What was measured on a task after `clicks` clicks, on the source grid; NaN where it is undefined.

    overlap, total: |A and B| and |A| + |B| in voxels, for Dice over whole volumes. obeyed, contained: whether this
    click did what it was set for (`clickseg.evaluation.obedience`).
    """

    task: Task
    clicks: int
    dice: float
    iou: float
    hd_mm: float
    mad_mm: float
    overlap: int
    total: int
    obeyed: float = math.nan
    contained: float = math.nan

    @classmethod
    def of(
        cls, task: Task, clicks: int, masks: tuple[Mask, Mask], spacing: Sequence[float], **obedience: float
    ) -> Result:
        """Measured on a mask and the truth, (prediction, truth), with this spacing in mm."""
        mask, truth = masks
        distances = np.concatenate(surface_distances_mm(mask, truth, spacing))
        return cls(
            task,
            clicks,
            dice=dice(mask, truth),
            iou=iou(mask, truth),
            hd_mm=float(distances.max()) if distances.size else math.nan,
            mad_mm=float(distances.mean()) if distances.size else math.nan,
            overlap=int((mask & truth).sum()),
            total=int(mask.sum() + truth.sum()),
            **obedience,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the case left out."""
        task = {"slice": self.task.slice, "name": self.task.name, "value": self.task.value}
        return {**vars(self), "task": task}

    @classmethod
    def from_dict(cls, case: Case, values: Mapping[str, Any]) -> Result:
        """Exactly what `to_dict` was made from, of this case."""
        return cls(**{**values, "task": Task(case, **values["task"])})


def find_tasks(cases: Sequence[Case], labels: Mapping[str, int], protocol: Protocol, dimension: int = 2) -> list[Task]:
    """Every slice with a label in it (Sakinis 2019, IV-A: slice-wise), or `protocol.limit` of them per label.

    In 3D every volume with a label in it, as slice 0. Cases without any are named in the log.
    Raises ValueError for labels that are nowhere, and for label files as `read_label`.
    """
    strange = sorted(set(protocol.labels or ()) - set(labels))
    if strange:
        raise ValueError(f"unknown label {', '.join(strange)}; the data has {', '.join(labels)}")
    if protocol.labels is not None:
        labels = {name: labels[name] for name in protocol.labels}
    by_label: dict[str, list[Task]] = {name: [] for name in labels}
    for case in cases:
        for name, number in _present(case, labels, dimension):
            by_label[name].append(Task(case, number, name, labels[name]))
    tasks = []
    for name, found in by_label.items():
        if protocol.limit is not None and len(found) > protocol.limit:
            generator = np.random.default_rng([protocol.seed, labels[name]])
            found = [found[i] for i in sorted(generator.choice(len(found), protocol.limit, replace=False))]
        tasks += found
    if not tasks:
        raise ValueError(f"none of the labels {dict(labels)} is present in any of the {len(cases)} cases")
    there = {task.case.id for found in by_label.values() for task in found}
    without = [case.id for case in cases if case.id not in there]
    if without:
        logger.warning("left out, for none of the labels is there: %s", ", ".join(without))
    return tasks


def _present(case: Case, labels: Mapping[str, int], dimension: int) -> Iterator[tuple[str, int]]:
    """The labels that a case has, with each slice that has them, or in 3D with 0."""
    grid = read_grid(case.image)
    label = read_label(case.label, grid)
    slices = AxialSlices(grid)
    for number in range(grid.shape[slices.axis] if dimension == 2 else 1):
        present = set(np.unique(slices.view(label, number) if dimension == 2 else label).tolist())
        yield from ((name, number) for name, value in labels.items() if value in present)
