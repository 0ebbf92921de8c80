"""The click benchmark: simulated users play the click game on labelled cases, and the report says how well it went."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from .. import __version__
from ..datasets import CaseFolder
from ..files import digest, file_digest
from ..images import file_identity
from ..machine import pick_device
from ..methods import BASELINES, METHODS, RIVALS, TIS_BASELINES, Model, Recipe, Segmenter, load_model, weights_file
from ..methods.tis import TisRecipe
from .game import Game, by_case, play_all, play_all_parallel, play_case
from .journal import Journal
from .report import Table, make_report, tabulate, tabulate_effort
from .tasks import USERS, Protocol, Result, Task, find_tasks

logger = logging.getLogger(__name__)

__all__ = [
    "USERS",
    "Evaluation",
    "Game",
    "Protocol",
    "Result",
    "Table",
    "Task",
    "Validation",
    "evaluate",
    "find_tasks",
    "make_report",
    "open_player",
    "tabulate",
    "tabulate_effort",
]


@dataclass(frozen=True)
class Evaluation:
    """A finished benchmark: what `report.json` holds, and what it was played with.

    before: whether it was finished before, so that nothing had to be played.
    """

    report: dict[str, Any]
    model: Model
    tasks: Sequence[Task]
    protocol: Protocol
    device: torch.device
    before: bool = False


def open_player(method: str, weights: Path | str | None, device: torch.device | str = "cpu") -> Model:
    """What plays: a method with its weights, a baseline, which has none, or one of `tis`, which has its encoder.

    Raises ValueError for an unknown name, and for weights that are missing, another method's or too many.
    """
    if method in BASELINES:
        if weights is not None:
            raise ValueError(f"the baseline {method} has no weights")
        recipe = Recipe()
        return Model(BASELINES[method](recipe.spacing), recipe)
    if method not in METHODS | RIVALS | TIS_BASELINES:
        known = [*METHODS, *RIVALS, *BASELINES, *TIS_BASELINES]
        raise ValueError(f"unknown method {method!r}; known: {', '.join(known)}")
    if weights is None:
        raise ValueError(f"the method {method} needs weights")
    model = load_model(weights, device)
    wanted = "tis" if method in TIS_BASELINES else method
    if model.recipe.method != wanted:
        raise ValueError(f"{weights} holds {model.recipe.method} weights, not {wanted}")
    if method not in TIS_BASELINES:
        return model
    player = TIS_BASELINES[method](cast(TisRecipe, model.recipe)).to(device).eval()
    player.load_state_dict(model.segmenter.state_dict())
    return replace(model, segmenter=player)


def evaluate(  # noqa: PLR0913 - one for each option of the command line
    method: str,
    weights: Path | str | None,
    data: Path | str,
    output: Path | str,
    protocol: Protocol,
    cases: Sequence[str] | None = None,
    device: str = "auto",
    workers: int = 1,
    resume: bool = False,
) -> Evaluation:
    """Play the benchmark on a data folder and write `output/report.json`: what the command line and the bundle call.

    weights: a file, or the name of a shipped model; None for the method's own, and for a baseline. cases: ids, None for
    all. workers: processes on a CPU. resume: go on with what an evaluation that was stopped has left in `output`.
    Raises ValueError for what does not fit together, and for an output folder as `Journal`.
    """
    where = pick_device(device)
    if workers > 1 and where.type != "cpu":
        raise ValueError("several workers are for the CPU; on a GPU leave it at 1")
    if weights is not None or method in METHODS:
        weights = weights_file(weights, method)
    model = open_player(method, weights, where)
    folder = CaseFolder.read(data, cases)
    protocol.check_dimension(model.segmenter.dimension)
    labels = _labels(folder, model, protocol)
    facts = {"method": method, "weights": weights and Path(weights).name, "data": Path(data).resolve().name}
    states = [file_identity(path)[1:] for case in folder.cases for path in (case.image, case.label)]
    of_files = {
        "weights_sha256": weights and file_digest(weights),
        "cases": [case.id for case in folder.cases],
        "files": digest(repr(states)),  # a label that is corrected is another one
    }
    asked = {"version": __version__, **facts, **of_files, **asdict(protocol), "values": labels}
    journal = Journal(Path(output), asked, resume)
    tasks = find_tasks(folder.cases, labels, protocol, model.segmenter.dimension)
    report = journal.report
    if report is None:
        play: Callable[..., Iterator[list[Result]]] = partial(play_all, model, device=where)
        if workers > 1:
            play = partial(play_all_parallel, partial(open_player, method, weights), workers=workers)
        with journal.held():
            results = journal.results(by_case(tasks), partial(play, protocol=protocol))
            report = make_report(results, protocol, {**facts, "asked": journal.asked})
            journal.end(report)
    return Evaluation(report, model, tasks, protocol, where, before=report is journal.report)


def _labels(folder: CaseFolder, model: Model, protocol: Protocol) -> dict[str, int]:
    """Name -> value of all that can be played: the classes of 3D weights, else what the data and the protocol name.

    Where the data names nothing, the weights do, as long as they know all of its values; else these are called
    `label 1`, ..., as in a training. Raises ValueError for names that contradict.
    """
    if model.segmenter.dimension == 3:
        labels = model.recipe.with_labels(folder.labels).labels
        if protocol.values:
            raise ValueError(f"3D weights have the labels {', '.join(labels)}: name them without values")
        return dict(labels)
    known = folder.labels or _named_by(model.recipe.labels, folder.found_labels())
    for name, value in protocol.values.items():
        if known.get(name, value) != value:
            raise ValueError(f"{name} has the value {known[name]} in the data, not {value}")
    return {**known, **protocol.values}


def _named_by(ours: Mapping[str, int], found: Mapping[str, int]) -> Mapping[str, int]:
    """The labels of weights for the values that were found, if those are all theirs."""
    if not set(found.values()) <= set(ours.values()):
        return found
    known = {name: value for name, value in ours.items() if value in found.values()}
    logger.warning("the data names no labels; by the weights: %s", ", ".join(f"{n} ({v})" for n, v in known.items()))
    return known


class Validation:
    """What a training asks of its network now and then: the mean Dice after some clicks on cases that it does not see.

    recipe: of the network. No cases, no figures.
    """

    def __init__(self, dataset: CaseFolder, recipe: Recipe, protocol: Protocol) -> None:
        protocol.check_dimension(recipe.dimension)
        self.spacing = recipe.spacing
        self.protocol = protocol
        labels = dataset.labels or dataset.found_labels()
        self.tasks = find_tasks(dataset.cases, labels, protocol, recipe.dimension) if dataset.cases else []

    def __call__(self, segmenter: Segmenter) -> dict[str, float]:
        """{"dice@<clicks>": Dice}"""
        if not self.tasks:
            return {}
        device = next(segmenter.parameters()).device
        batches = [play_case(segmenter, self.spacing, group, self.protocol, device) for group in by_case(self.tasks)]
        table = tabulate([result for batch in batches for found in batch for result in found])
        means = table.means("dice", range(len(table.cases)))
        return {f"dice@{clicks}": float(mean) for clicks, mean in zip(table.columns, means, strict=True)}
