"""What each choice of a recipe is worth: one network per choice, trained alike, tested on patients new to all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import CaseFolder
from ..methods import UNet2dRecipe
from .commands import CLICKS, EACH, Budget, Commands, base_recipe
from .jobs import Job
from .summary import compare, patient_means, read_reports, share_of_clicks, table, write_markdown

BASE = "base"

# The readings of Sakinis 2019 that its text leaves open, and our departures from its Table I (docs/adr/0002, 0003).
CHOICES: dict[str, dict[str, Any]] = {
    "overlap=max": {"overlap": "max"},
    "encoding=disc": {"encoding": "disc"},
    "feedback=true": {"feedback": True},
    "reading=skip": {"reading": "skip"},
    "first_click=anywhere": {"first_click": "anywhere"},
    "click_metric=taxicab": {"click_metric": "taxicab"},
    "click_metric=chamfer": {"click_metric": "chamfer"},
    "click_unit=voxel": {"click_unit": "voxel"},
    "augment=false": {"augment": False},
    "superpixels=0.3": {"superpixels": 0.3},
    "click_weight=1": {"click_weight": 1.0},
    "decay=0": {"decay": 0.0},
    "learning_rate=0.0001": {"learning_rate": 1e-4},
    "label_balance=0": {"label_balance": 0.0},
    "width=8": {"width": 8},
    "size=96": {"size": 96},
    "seed=1": {"seed": 1},  # what chance alone changes
}


@dataclass(frozen=True)
class Ablation:
    """test: ids of the cases to test on, all others of `cases` (default: of the data) are trained on.

    choices: name -> the recipe fields that it changes (default: CHOICES).
    """

    data: Path
    test: tuple[str, ...]
    budget: Budget = field(default_factory=Budget)
    recipe: str | None = None
    choices: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: CHOICES)
    cases: tuple[str, ...] | None = None

    @property
    def variants(self) -> dict[str, Mapping[str, Any]]:
        """The base first."""
        return {BASE: {}, **self.choices}


def parse_choice(text: str) -> tuple[str, dict[str, Any]]:
    """`reading=skip` or `width=8,size=96` -> (the text, the fields). Values are JSON, or else words."""
    fields = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"choice {text!r} is not of the form field=value")
        try:
            fields[name.strip()] = json.loads(value)
        except ValueError:
            fields[name.strip()] = value.strip()
    return text, fields


def plan_ablation(design: Ablation, output: Path) -> list[Job]:
    """A training and a test per variant. ValueError for fields that the recipe does not have, or unknown cases."""
    folder = CaseFolder.read(design.data, design.cases)
    ids = [case.id for case in folder.cases]
    unknown = sorted(set(design.test) - set(ids))
    if unknown or not design.test:
        raise ValueError(f"cases to test on: {', '.join(unknown) or 'none named'}; there are {', '.join(ids)}")
    train = [case for case in ids if case not in design.test]
    if not train:
        raise ValueError("no case is left to train on")
    base = base_recipe(design.recipe, folder)
    recipes = {name: UNet2dRecipe.from_dict({**base.to_dict(), **changes}) for name, changes in design.variants.items()}
    make = Commands(output, design.data, design.budget, EACH)
    jobs = []
    for name, recipe in recipes.items():
        jobs += [make.training(name, recipe, train), make.test(name, name, design.test)]
    return jobs


def write_ablation_report(design: Ablation, jobs: Sequence[Job], output: Path) -> Path:
    """`output`/report.md: Dice of each variant, and its difference to the base paired by patient. Returns its path."""
    base = read_reports(output / "reports", BASE)
    rows = []
    for name in design.variants:
        found = read_reports(output / "reports", name)
        if not found or not base:
            continue
        cells = []
        for clicks in CLICKS:
            values = patient_means(found, clicks)
            pair = compare(values, patient_means(base, clicks))
            change = f" ({pair.interval()})" if name != BASE else ""
            cells.append(f"{np.mean(list(values.values())):.3f}{change}")
        rows.append([name, *cells, *(share_of_clicks(found, EACH, figure) for figure in ("obeyed", "contained"))])
    parts = [
        "# What each choice of the recipe is worth",
        f"One training per row, one seed, {design.budget}; tested on {', '.join(design.test)}. "
        "In brackets: 95 % interval of the difference to the base, by paired bootstrap over patients; "
        "it does not hold what another seed of the training would change. Obeyed: the share of the clicks from the "
        "second on after which all that was wrong within three pixels is right; contained: of those outside after "
        "which the inside within 10 mm has not grown.",
        table(["Dice, mean over patients", *(f"{clicks} clicks" for clicks in CLICKS), "obeyed", "contained"], rows),
    ]
    return write_markdown(parts, jobs, output)
