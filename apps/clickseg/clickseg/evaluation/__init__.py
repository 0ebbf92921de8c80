"""The click benchmark: simulated users play the click game on labelled cases, and the report says how well it went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets import CaseFolder
from ..machine import pick_device
from ..methods import Model, Segmenter, find_method, load_model
from .game import Game, by_case, play_all, play_all_parallel, play_case
from .report import Table, make_report, write_report
from .tasks import USERS, Protocol, Result, Task, find_tasks

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
]


@dataclass(frozen=True)
class Evaluation:
    """A finished benchmark: what `report.json` holds, and what it was played with."""

    report: dict[str, Any]
    model: Model
    tasks: Sequence[Task]


def evaluate(
    method: str,
    weights: Path | str,
    data: Path | str,
    output: Path | str,
    protocol: Protocol,
    cases: Sequence[str] | None = None,
    device: str = "auto",
    workers: int = 1,
) -> Evaluation:
    """Play the benchmark on a data folder and write `output/report.json`: what the command line and the bundle call.

    cases: ids, None for all. workers: processes on a CPU. Raises ValueError for what does not fit together.
    """
    find_method(method)
    where = pick_device(device)
    model = load_model(weights, where)
    if model.recipe.method != method:
        raise ValueError(f"{weights} holds {model.recipe.method} weights, not {method}")
    folder = CaseFolder.read(data, cases)
    tasks = find_tasks(folder.cases, folder.labels or model.recipe.labels or folder.found_labels(), protocol)
    if workers > 1 and where.type != "cpu":
        raise ValueError("several workers are for the CPU; on a GPU leave it at 1")
    results = (
        play_all_parallel(weights, tasks, protocol, workers) if workers > 1 else play_all(model, tasks, protocol, where)
    )
    facts = {"method": method, "weights": Path(weights).name, "data": Path(data).resolve().name}
    report = make_report(results, protocol, facts)
    write_report(report, Path(output))
    return Evaluation(report, model, tasks)


class Validation:
    """What a training asks of its network now and then: the mean Dice after some clicks on cases that it does not see.

    spacing: mm of the network's grid. No cases, no figures.
    """

    def __init__(self, dataset: CaseFolder, spacing: float, protocol: Protocol) -> None:
        self.spacing = spacing
        self.protocol = protocol
        labels = dataset.labels or dataset.found_labels()
        self.tasks = find_tasks(dataset.cases, labels, protocol) if dataset.cases else []

    def __call__(self, segmenter: Segmenter) -> dict[str, float]:
        """{"dice@<clicks>": Dice}"""
        if not self.tasks:
            return {}
        device = next(segmenter.parameters()).device
        batches = [play_case(segmenter, self.spacing, group, self.protocol, device) for group in by_case(self.tasks)]
        table = Table([result for batch in batches for found in batch for result in found])
        means = table.means("dice", range(len(table.cases)))
        return {f"dice@{clicks}": float(mean) for clicks, mean in zip(table.clicks, means, strict=True)}
