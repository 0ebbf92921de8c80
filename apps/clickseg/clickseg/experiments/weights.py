"""What given weights of `unet2d` are worth on cases that they have not seen, beside every user and baseline."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from ..datasets import CaseFolder
from ..evaluation import Protocol
from ..evaluation.report import NOC_LIMIT
from ..methods import BASELINES
from .commands import EACH, Budget, Commands, check_unseen, labels_of
from .jobs import Job

ASKED = (0, *EACH)  # clicks: none is a control arm
OURS = "unet2d"
EXAMINER = "sakinis"
OTHER_USERS = ("deterministic", "liu", "jittered", "static", "wrong")


@dataclass(frozen=True)
class Examination:
    """What is asked for.

    weights: a file. cases: ids of `data`. unknown: a folder with a structure that the weights have never seen. users:
    who clicks beside the paper's user, on `data`. baselines: whether these play, too.
    """

    data: Path
    weights: Path
    cases: tuple[str, ...] | None = None
    budget: Budget = field(default_factory=Budget)
    unknown: Path | None = None
    users: tuple[str, ...] = OTHER_USERS
    baselines: bool = True

    def __post_init__(self) -> None:
        for user in self.users:
            Protocol(user=user)  # raises ValueError for one that is unknown
        if len(set(self.users)) < len(self.users):
            raise ValueError(f"users must be different ones, got {', '.join(self.users)}")


def plan_examination(design: Examination, output: Path) -> list[Job]:
    """All jobs: ours before the others. ValueError for weights that have learnt from cases to test on."""
    check_unseen(design.weights, design.data, [case.id for case in CaseFolder.read(design.data, design.cases).cases])
    make = Commands(output, design.data, design.budget, ASKED, EXAMINER)
    cases = design.cases or ()
    jobs = [make.test(f"known_{OURS}", design.weights, cases)]
    if design.unknown is not None:
        jobs.append(make.test(f"unknown_{OURS}", design.weights, data=design.unknown, labels=labels_of(design.unknown)))
    for user in design.users:
        clicks = tuple(range(NOC_LIMIT + 1)) if user == "deterministic" else ASKED
        jobs.append(replace(make, user=user, clicks=clicks).test(f"user_{user}", design.weights, cases))
    for baseline in BASELINES if design.baselines else ():
        jobs.append(make.baseline(f"known_{baseline}", baseline, cases))
        if design.unknown is not None:
            jobs.append(make.baseline(f"unknown_{baseline}", baseline, data=design.unknown))
    return jobs
