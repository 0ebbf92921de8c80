"""The jobs of an experiment as `clickseg train` and `clickseg evaluate` commands that share a budget and a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..datasets import CaseFolder
from ..files import write_text
from ..methods import Recipe, UNet2dRecipe, learnt_from
from ..methods.weights import read_file
from .jobs import PLAN, Job

CLICKS = (1, 2, 5, 10, 15)  # at test time (Sakinis 2019, IV-A)
EACH = tuple(range(1, CLICKS[-1] + 1))  # for what is said of every click: obedience, leads


@dataclass(frozen=True)
class Budget:
    """epochs or minutes: of each training. limit: slices per label in each test, elsewhere: in those on another folder,
    which may have one label only. workers: processes of each test. rival_minutes: of each training of a rival, whose
    steps may cost a multiple of ours; None: as long as ours.
    """

    epochs: int | None = 10
    minutes: float | None = None
    limit: int | None = 28
    elsewhere: int | None = 100
    workers: int = 1
    rival_minutes: float | None = None

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.minutes is None):
            raise ValueError("give either epochs or minutes per run")
        for name in ("epochs", "minutes", "rival_minutes"):
            length = getattr(self, name)
            if length is not None and not length > 0:
                raise ValueError(f"{name.replace('_', ' ')} of a training must be more than 0, got {length}")
        for limit in (self.limit, self.elsewhere):
            if limit is not None and limit < 1:
                raise ValueError(f"a test has at least 1 slice per structure, got a limit of {limit}")

    def of_rivals(self, factor: int = 1) -> Budget:
        """The budget for trainings of rivals; factor: how many of our trainings one of them stands beside."""
        if self.rival_minutes is not None:
            return replace(self, epochs=None, minutes=self.rival_minutes)
        if self.epochs is not None:
            return replace(self, epochs=self.epochs * factor)
        return replace(self, minutes=factor * (self.minutes or 0.0))

    def __str__(self) -> str:
        length = f"{self.minutes:g} minutes" if self.minutes else f"{self.epochs} epoch{'s' * (self.epochs != 1)}"
        return f"{length} per training, user `sakinis`, seed 0, {self.slices()} of those that hold the structure"

    def slices(self) -> str:
        """Which slices are tested on, in words."""
        own, other = (
            "all slices" if limit is None else f"at most {limit} slices per structure"
            for limit in (self.limit, self.elsewhere)
        )
        return own if own == other else f"{own} ({other} of other data sets)"


def base_recipe(name: str | None, folder: CaseFolder) -> UNet2dRecipe:
    """The recipe of a name or a file, or the method's own, for the labels of a data folder."""
    recipe = UNet2dRecipe.find(name) if name else UNet2dRecipe()
    return folder.completed(recipe)


def labels_of(data: Path) -> dict[str, int]:
    """The labels of a data folder, by its own names; those of weights may mean other structures."""
    folder = CaseFolder.read(data)
    return dict(folder.labels or folder.found_labels())


def check_unseen(weights: Path, data: Path, cases: Sequence[str]) -> None:
    """ValueError naming those of these cases of a data folder that weights, by their card, have learnt from.

    Raises ValueError as `read_file`, too.
    """
    learnt = learnt_from(read_file(weights).get("card", {}))
    seen = sorted(set(learnt.get(data.resolve().name, ())) & set(cases))
    if seen:
        raise ValueError(f"{', '.join(seen)}: {weights.name} has learnt from these cases, which cannot be tested on")


@dataclass(frozen=True)
class Commands:
    """Recipes go to folder/recipes/<name>.json, models to folder/models/<name>, reports to folder/reports/<name>.

    All trainings share folder/cache.
    """

    folder: Path
    data: Path
    budget: Budget
    clicks: Sequence[int] = CLICKS
    user: str = "sakinis"

    def training(self, name: str, recipe: Recipe, cases: Sequence[str], init: str | Path | None = None) -> Job:
        """Train `recipe` on these cases of the data, from a weights file or those of a model; writes the recipe.

        Raises ValueError if the folder holds an experiment that has another recipe of this name.
        """
        path = self.folder / "recipes" / f"{name}.json"
        if path.exists() and (self.folder / PLAN).exists():
            other = recipe.differing(type(recipe).from_json(path))  # fields that are younger at their defaults
            if other:
                raise ValueError(f"{self.folder} holds another experiment: recipe {name} had other {', '.join(other)}")
        write_text(path, json.dumps(recipe.to_dict(), indent=1) + "\n")
        length = ("--epochs", self.budget.epochs) if self.budget.minutes is None else ("--minutes", self.budget.minutes)
        command = ["train", "--method", recipe.method, "--data", self.data, "--cases", ",".join(cases)]
        command += ["--recipe", path, "--output", self.folder / "models" / name, "--resume", *length]
        command += ["--cache", self.folder / "cache"]
        if isinstance(init, str):
            command += ["--init", self.folder / "models" / init / "weights.pt"]
            return Job(f"train {name}", tuple(map(str, command)), (f"train {init}",))
        command += ["--init", init] if init else []
        return Job(f"train {name}", tuple(map(str, command)))

    def test(
        self,
        name: str,
        model: str | Path,
        cases: Sequence[str] = (),
        data: Path | None = None,
        labels: Mapping[str, int] | None = None,
        method: str = "unet2d",
        seed: int = 0,
    ) -> Job:
        """Test a model of this folder, or weights in a file, on some cases, or all, of the data or another folder.

        labels: names and values, where neither that data nor the weights have the right ones.
        """
        weights = self.folder / "models" / model / "weights.pt" if isinstance(model, str) else model
        named = ",".join(f"{name}={value}" for name, value in (labels or {}).items())
        player = ["--method", method, "--weights", weights, *(["--labels", named] if named else [])]
        needs = (f"train {model}",) if isinstance(model, str) else ()
        return self._evaluation(name, [*player, "--seed", seed], cases, data, needs)

    def baseline(self, name: str, baseline: str, cases: Sequence[str] = (), data: Path | None = None) -> Job:
        """Test a method that needs no training."""
        return self._evaluation(name, ["--method", baseline, "--seed", 0], cases, data, ())

    def _evaluation(
        self, name: str, player: Sequence[object], cases: Sequence[str], data: Path | None, needs: tuple[str, ...]
    ) -> Job:
        command = ["evaluate", *player, "--data", data or self.data]
        command += ["--output", self.folder / "reports" / name, "--resume"]
        command += ["--clicks", ",".join(map(str, self.clicks)), "--user", self.user]
        command += ["--cases", ",".join(cases)] if cases else []
        limit = self.budget.limit if data is None else self.budget.elsewhere
        command += ["--limit", limit] if limit is not None else []
        command += ["--workers", self.budget.workers] if self.budget.workers > 1 else []
        return Job(f"test {name}", tuple(map(str, command)), needs)
