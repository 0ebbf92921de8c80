"""The experiments of Sakinis 2019, section IV, as jobs: who trains on what, and is tested on what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import CaseFolder
from ..files import plain_name
from ..methods import BASELINES, rivals_in
from .commands import Budget, Commands, base_recipe, labels_of
from .jobs import Job

BEST_K = 5  # "models trained with maximum 5 interactions" serve IV-B, IV-C and IV-D


@dataclass(frozen=True)
class Design:
    """What is asked for.

    data: folder with imagesTr/ and labelsTr/; known, unknown: further ones, with structures that the training has seen
    (IV-B) and has not (IV-C). leave_out: organs, each of which one more network is trained without. baselines: whether
    these play, too. rivals: whether other methods are trained on the same cases, for as long, and play.
    """

    data: Path
    budget: Budget = field(default_factory=Budget)
    folds: int = 3
    ks: tuple[int, ...] = (1, 5, 15)
    recipe: str | None = None
    known: Path | None = None
    unknown: Path | None = None
    leave_out: tuple[str, ...] = ()
    baselines: bool = True
    rivals: bool = False
    cases: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ValueError(f"{self.folds} folds: cross-validation needs two at least")
        if not self.ks or min(self.ks) < 1 or len(set(self.ks)) < len(self.ks):
            raise ValueError(f"K must be different numbers from 1 up, got {self.ks}")
        if len(set(self.leave_out)) < len(self.leave_out):
            raise ValueError(f"organs to leave out must be different ones, got {', '.join(self.leave_out)}")

    @property
    def best_k(self) -> int:
        """The K of the networks that are tested beyond cross-validation: the paper's 5, or the nearest that is run."""
        return min(self.ks, key=lambda k: (abs(k - BEST_K), k))


def split_by_patient(ids: Sequence[str], folds: int, seed: int) -> list[list[str]]:
    """Every id in exactly one fold, drawn by chance; sizes differ by one at most. ValueError if there are too few."""
    if len(ids) < folds:
        raise ValueError(f"{len(ids)} cases cannot make {folds} folds")
    shuffled = np.random.default_rng(seed).permutation(sorted(ids)).tolist()
    return [sorted(shuffled[fold::folds]) for fold in range(folds)]


def plan_jobs(design: Design, output: Path) -> list[Job]:
    """All jobs, models before their tests; writes the recipe of every training into `output`/recipes."""
    folder = CaseFolder.read(design.data, design.cases)
    base = base_recipe(design.recipe, folder)
    labels = base.labels
    unknown = sorted(set(design.leave_out) - set(labels))
    if unknown:
        raise ValueError(f"cannot leave out {', '.join(unknown)}; the data has {', '.join(labels)}")
    others = (("known", design.known), ("unknown", design.unknown))
    # Of both, so that what is no data folder is said before hours of training.
    found = {kind: labels_of(data) for kind, data in others if data is not None}
    unknown_labels = found.get("unknown")
    folds = split_by_patient([case.id for case in folder.cases], design.folds, base.seed)
    make = Commands(output, design.data, design.budget)
    for_rivals = replace(make, budget=design.budget.of_rivals())
    jobs: list[Job] = []
    for fold, test in enumerate(folds):
        train = [case for other in folds if other is not test for case in other]
        for k in design.ks:
            model = f"fold{fold}_k{k}"
            jobs.append(make.training(model, replace(base, max_clicks=k), train))
            jobs.append(make.test(f"cv_{model}", model, test))
            if k == design.best_k:
                for kind, data in others:
                    if data is not None:
                        named = unknown_labels if kind == "unknown" else None
                        jobs.append(make.test(f"{kind}_{model}", model, data=data, labels=named))
        for rival, method in rivals_in(2).items() if design.rivals else ():
            model = f"fold{fold}_{rival}"
            theirs: Any = method.recipe
            jobs.append(for_rivals.training(model, theirs.beside(base), train))
            play = partial(make.test, model=model, method=rival)
            jobs.append(play(f"cv_{model}", cases=test))
            if design.unknown is not None and fold == 0:
                jobs.append(play(f"unknown_{rival}", data=design.unknown, labels=unknown_labels))
        for baseline in BASELINES if design.baselines else ():
            jobs.append(make.baseline(f"cv_fold{fold}_{baseline}", baseline, test))
    for baseline in BASELINES if design.baselines and design.unknown is not None else ():
        jobs.append(make.baseline(f"unknown_{baseline}", baseline, data=design.unknown))
    for organ in design.leave_out:
        model = f"without_{plain_name(organ)}"
        train = [case for fold in folds[1:] for case in fold]
        seen = {name: value for name, value in labels.items() if name != organ}
        jobs.append(make.training(model, replace(base, max_clicks=design.best_k, labels=seen), train))
        jobs.append(make.test(f"leftout_{model}", model, folds[0], labels={organ: labels[organ]}))
    return jobs
