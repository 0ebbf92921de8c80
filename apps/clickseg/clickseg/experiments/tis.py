"""The experiments of Liu et al. 2022, section 4, as jobs: one encoder, and refiners that are trained on its codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch

from ..datasets import CaseFolder
from ..files import plain_name
from ..methods import TIS_BASELINES, load_model, rivals_in, save_weights
from ..methods.tis import Tis, TisRecipe
from .commands import Budget, Commands, check_unseen
from .jobs import Job

CLICKS = tuple(range(21))  # Figure 2
OURS = "tis"

# Table 2, and the two readings that the text allows (docs/adr/0008). name -> the recipe fields that it changes.
ARMS: dict[str, dict[str, Any]] = {
    "no click encoding": {"encode_clicks": False},
    "no label assignment": {"assign_labels": False},
    "read literally": {"balance": "scalar", "copy": False, "distance": False, "alike": "product"},
}


@dataclass(frozen=True)
class TisDesign:
    """What is asked for.

    data: folder with imagesTr/ and labelsTr/. train, test: ids; the encoder is fixed before anything is tested. seeds:
    of the simulated users (Table 1: the spread over five). arms: whether Table 2 is run. rivals: whether other methods
    are trained, for as long as encoder and refiner together. encoder: weights whose encoder is taken as it is, instead
    of training one; their refiner is not, for then that of the same design would have a start before all others.
    """

    data: Path
    train: tuple[str, ...]
    test: tuple[str, ...]
    budget: Budget = field(default_factory=lambda: Budget(limit=None))
    recipe: str | None = None
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    arms: bool = True
    rivals: bool = False
    encoder: Path | None = None

    def __post_init__(self) -> None:
        both = sorted(set(self.train) & set(self.test))
        if both:
            raise ValueError(f"{', '.join(both)}: cases to train on cannot be tested on")
        if not self.train or not self.test:
            raise ValueError("cases to train on and cases to test on are needed")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds must be different numbers from 0 up, got {self.seeds}")

    @property
    def variants(self) -> Mapping[str, Mapping[str, Any]]:
        """Refiner -> the recipe fields that it changes; ours first."""
        return {OURS: {}, **(ARMS if self.arms else {})}

    @property
    def players(self) -> dict[str, tuple[str, str]]:
        """Who is tested: name -> (method, model whose weights it has)."""
        refiners = {name: ("tis", name) for name in self.variants}
        rivals = {name: (name, name) for name in rivals_in(3)} if self.rivals else {}
        return refiners | rivals | {baseline: (baseline, OURS) for baseline in TIS_BASELINES}


def report_name(player: str, seed: int | str) -> str:
    """Where the report of a player lies; "*" for those of all seeds."""
    return f"{plain_name(player)}_seed{seed}"


def plan_tis(design: TisDesign, output: Path) -> list[Job]:
    """All jobs, models before their tests; writes the recipe of every training into `output`/recipes.

    Of a given encoder it writes weights without what its refiner has learnt, `output`/encoder.pt.
    Raises ValueError for a given encoder that has learnt from cases to test on.
    """
    folder = CaseFolder.read(design.data, (*design.train, *design.test))
    if design.encoder is not None:
        check_unseen(design.encoder, design.data, design.test)
    recipe = TisRecipe.find(design.recipe) if design.recipe else TisRecipe()
    recipe = folder.completed(recipe)
    make = Commands(output, design.data, design.budget, CLICKS, user="liu")
    jobs: list[Job] = []
    encoder: str | Path = "encoder"
    if design.encoder is not None:
        encoder = _alone(design.encoder, recipe, output / "encoder.pt")
    else:
        jobs.append(make.training("encoder", replace(recipe, stage="encoder"), design.train))
    for name, changes in design.variants.items():
        refiner = replace(recipe, stage="refiner", **changes)
        jobs.append(make.training(plain_name(name), refiner, design.train, init=encoder))
    for_rivals = replace(make, budget=design.budget.of_rivals(2))
    for name, rival in rivals_in(3).items() if design.rivals else ():
        theirs: Any = rival.recipe
        jobs.append(for_rivals.training(name, theirs.beside(recipe), design.train))
    for seed in design.seeds:
        for player, (method, weights) in design.players.items():
            model = plain_name(weights)
            jobs.append(make.test(report_name(player, seed), model, design.test, method=method, seed=seed))
    return jobs


def _alone(weights: Path, recipe: TisRecipe, path: Path) -> Path:
    """The encoder of weights in a file of its own, its refiner as one begins (seed of the recipe)."""
    given = load_model(weights)
    recipe.check_weights(weights, cast(TisRecipe, given.recipe))
    if not path.exists():
        torch.manual_seed(recipe.seed)
        begun = Tis(replace(recipe, stage="encoder"))
        begun.load_state_dict(begun.with_encoder(given.segmenter.state_dict()))
        save_weights(path, begun, begun.recipe, given.card)
    return path
