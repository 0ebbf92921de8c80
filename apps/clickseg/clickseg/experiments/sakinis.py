"""The experiments of Sakinis 2019, section IV, as jobs: who trains on what, and is tested on what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..datasets import CaseFolder
from ..methods import BASELINES, UNet2dRecipe
from .jobs import Job

CLICKS = (1, 2, 5, 10, 15)  # at test time (IV-A)
BEST_K = 5  # "models trained with maximum 5 interactions" serve IV-B, IV-C and IV-D


@dataclass(frozen=True)
class Design:
    """What is asked for.

    data: folder with imagesTr/ and labelsTr/; known, unknown: further ones, with structures that the training has seen
    (IV-B) and has not (IV-C). leave_out: organs, each of which one more network is trained without. epochs or minutes:
    per training. limit: slices per label in each evaluation. baselines: whether these play, too.
    """

    data: Path
    folds: int = 3
    ks: tuple[int, ...] = (1, 5, 15)
    recipe: str | None = None
    epochs: int | None = 10
    minutes: float | None = None
    known: Path | None = None
    unknown: Path | None = None
    leave_out: tuple[str, ...] = ()
    baselines: bool = True
    limit: int | None = 28
    workers: int = 1
    cases: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ValueError(f"{self.folds} folds: cross-validation needs two at least")
        if not self.ks or min(self.ks) < 1 or len(set(self.ks)) < len(self.ks):
            raise ValueError(f"K must be different numbers from 1 up, got {self.ks}")
        if (self.epochs is None) == (self.minutes is None):
            raise ValueError("give either epochs or minutes per run")

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
    labels = dict(folder.labels or folder.found_labels())
    unknown = sorted(set(design.leave_out) - set(labels))
    if unknown:
        raise ValueError(f"cannot leave out {', '.join(unknown)}; the data has {', '.join(labels)}")
    base = UNet2dRecipe.find(design.recipe) if design.recipe else UNet2dRecipe()
    base = base.with_labels(labels)
    folds = split_by_patient([case.id for case in folder.cases], design.folds, base.seed)
    make = _Maker(design, output, base)
    jobs: list[Job] = []
    for fold, test in enumerate(folds):
        train = [case for other in folds if other is not test for case in other]
        for k in design.ks:
            model = f"fold{fold}_k{k}"
            jobs.append(make.training(model, train, max_clicks=k))
            jobs.append(make.test(f"cv_{model}", model, design.data, test))
            if k == design.best_k:
                for kind, data in (("known", design.known), ("unknown", design.unknown)):
                    if data is not None:
                        jobs.append(make.test(f"{kind}_{model}", model, data))
        for baseline in BASELINES if design.baselines else ():
            jobs.append(make.baseline(f"cv_fold{fold}_{baseline}", baseline, design.data, test))
    for baseline in BASELINES if design.baselines and design.unknown is not None else ():
        jobs.append(make.baseline(f"unknown_{baseline}", baseline, design.unknown))
    for organ in design.leave_out:
        model = f"without_{organ.replace(' ', '_')}"
        train = [case for fold in folds[1:] for case in fold]
        seen = {name: value for name, value in labels.items() if name != organ}
        jobs.append(make.training(model, train, max_clicks=design.best_k, labels=seen))
        jobs.append(make.test(f"leftout_{model}", model, design.data, folds[0], organ))
    return jobs


@dataclass(frozen=True)
class _Maker:
    """Commands that share a design. Models are in output/models/<name>, reports in output/reports/<name>."""

    design: Design
    output: Path
    recipe: UNet2dRecipe

    def training(self, name: str, cases: Sequence[str], **changes: object) -> Job:
        values = self.recipe.to_dict() | changes
        path = self.output / "recipes" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(UNet2dRecipe.from_dict(values).to_dict(), indent=1) + "\n")
        length = ("--epochs", self.design.epochs) if self.design.minutes is None else ("--minutes", self.design.minutes)
        command = ["train", "--method", "unet2d", "--data", self.design.data, "--cases", ",".join(cases)]
        command += ["--recipe", path, "--output", self.output / "models" / name, "--resume", *length]
        return Job(f"train {name}", tuple(map(str, command)))

    def test(self, name: str, model: str, data: Path, cases: Sequence[str] = (), organ: str | None = None) -> Job:
        command = ["--method", "unet2d", "--weights", self.output / "models" / model / "weights.pt"]
        command += ["--labels", organ] if organ else []
        return self._evaluation(name, command, data, cases, (f"train {model}",))

    def baseline(self, name: str, baseline: str, data: Path | None, cases: Sequence[str] = ()) -> Job:
        assert data is not None
        return self._evaluation(name, ["--method", baseline], data, cases, ())

    def _evaluation(
        self, name: str, player: Sequence[object], data: Path, cases: Sequence[str], needs: tuple[str, ...]
    ) -> Job:
        command = ["evaluate", *player, "--data", data, "--output", self.output / "reports" / name]
        command += ["--clicks", ",".join(map(str, CLICKS)), "--user", "sakinis", "--seed", 0]
        command += ["--cases", ",".join(cases)] if cases else []
        command += ["--limit", self.design.limit] if self.design.limit is not None else []
        command += ["--workers", self.design.workers] if self.design.workers > 1 else []
        return Job(f"test {name}", tuple(map(str, command)), needs)
