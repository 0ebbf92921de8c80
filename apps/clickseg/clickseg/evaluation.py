"""The click benchmark: simulated users play the click game on labelled cases, and the report says how well it went."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from .clicks import Click, SakinisUser, SimulateClickd, SimulatedUser, unstack_clicks
from .datasets import Case, CaseFolder
from .geometry import AxialSlices, resized_shape
from .images import read_volume
from .interaction import interact
from .machine import half_precision, keep_freed_memory, pick_device
from .methods import Model, Segmenter, find_method, load_model
from .methods.rescaled import Rescaled
from .methods.unet2d import INSIDE
from .metrics import dice, iou, surface_distances_mm

SCHEMA = 1
METRICS = ("dice", "dice_volume", "iou", "hd_mm", "mad_mm")

# How each user clicks on a grid of a given in-plane spacing (mm). The same for every model: they are the examiners.
USERS: dict[str, Callable[[float], SimulatedUser]] = {
    "sakinis": lambda spacing: SakinisUser(metric="chessboard", scale=spacing, first="interior"),
}


@dataclass(frozen=True)
class Protocol:
    """What is asked of every case. clicks: after how many clicks to measure. limit: slices per label, drawn by seed."""

    clicks: tuple[int, ...] = (1, 2, 5, 10, 15)
    user: str = "sakinis"
    seed: int = 0
    limit: int | None = None
    batch: int = 8

    def __post_init__(self) -> None:
        if self.user not in USERS:
            raise ValueError(f"unknown user {self.user!r}; known: {', '.join(USERS)}")
        if not self.clicks or list(self.clicks) != sorted(set(self.clicks)) or self.clicks[0] < 1:
            raise ValueError(f"clicks must be rising numbers from 1 up, got {self.clicks}")
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
    """What was measured on a task after `clicks` clicks, on the source grid; NaN where a distance is undefined.

    overlap, total: |A and B| and |A| + |B| in voxels, for Dice over whole volumes.
    """

    task: Task
    clicks: int
    dice: float
    iou: float
    hd_mm: float
    mad_mm: float
    overlap: int
    total: int


def find_tasks(cases: Sequence[Case], labels: Mapping[str, int], protocol: Protocol) -> list[Task]:
    """Every slice with a label in it (Sakinis 2019, IV-A: slice-wise), or `protocol.limit` of them per label."""
    by_label: dict[str, list[Task]] = {name: [] for name in labels}
    for case in cases:
        label, grid = read_volume(case.label)
        slices = AxialSlices(grid)
        for number in range(grid.shape[slices.axis]):
            present = set(np.unique(slices.view(label, number)).tolist())
            for name, value in labels.items():
                if value in present:
                    by_label[name].append(Task(case, number, name, value))
    tasks = []
    for name, found in by_label.items():
        if protocol.limit is not None and len(found) > protocol.limit:
            generator = np.random.default_rng([protocol.seed, labels[name]])
            found = [found[i] for i in sorted(generator.choice(len(found), protocol.limit, replace=False))]
        tasks += found
    if not tasks:
        raise ValueError(f"none of the labels {dict(labels)} is present in any of the {len(cases)} cases")
    return tasks


@dataclass(frozen=True)
class GameTurn:
    """A batch of tasks after `number` clicks: masks and truths (B, H, W) bool on the source grid, clicks per task."""

    number: int
    masks: NDArray[np.bool_]
    truths: NDArray[np.bool_]
    clicks: list[list[Click]]


class Game:
    """A case opened for the benchmark: slices and truth on the source grid, the segmenter seen from there."""

    def __init__(self, segmenter: Segmenter, spacing: float, case: Case) -> None:
        self.image, grid = read_volume(case.image)
        self.label, label_grid = read_volume(case.label)
        if label_grid.shape != grid.shape:
            raise ValueError(f"case {case.id}: label of shape {label_grid.shape} on an image of shape {grid.shape}")
        if not label_grid.coincides(grid):
            raise ValueError(f"case {case.id}: the label lies elsewhere in the patient than the image")
        self.slices = AxialSlices(grid)
        model_shape = resized_shape(self.slices.shape, self.slices.spacing, spacing)
        self.segmenter = Rescaled(segmenter, self.slices.shape, model_shape).eval()

    def stack(self, tasks: Sequence[Task]) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 1, H, W) images and (B, 1, H, W) truths."""
        images = [np.array(self.slices.view(self.image, task.slice), dtype=np.float32) for task in tasks]
        truths = [np.array(self.slices.view(self.label, task.slice) == task.value) for task in tasks]
        return torch.from_numpy(np.stack(images))[:, None], torch.from_numpy(np.stack(truths))[:, None]

    def turns(self, tasks: Sequence[Task], protocol: Protocol, device: torch.device | str) -> Iterator[GameTurn]:
        """The state of some tasks of this case after each asked number of clicks."""
        images, truths = self.stack(tasks)
        user = SimulateClickd(USERS[protocol.user](math.sqrt(math.prod(self.slices.spacing))))
        seeds = torch.tensor([task.seed(protocol.seed) for task in tasks])
        with torch.inference_mode(), half_precision(device):
            code = self.segmenter.encode(images.to(device))
            turns = interact(self.segmenter, code, truths.to(device), user, seeds, turns=max(protocol.clicks))
            for number, turn in enumerate(turns, start=1):
                if number in protocol.clicks:
                    masks = turn.logits.argmax(1).cpu().numpy() == INSIDE
                    yield GameTurn(number, masks, truths[:, 0].numpy(), unstack_clicks(turn.clicks))

    def play(self, tasks: Sequence[Task], protocol: Protocol, device: torch.device | str) -> Iterator[Result]:
        """What was measured on some tasks of this case after each asked number of clicks."""
        for turn in self.turns(tasks, protocol, device):
            for task, mask, truth in zip(tasks, turn.masks, turn.truths, strict=True):
                yield self.measure(task, turn.number, mask, truth)

    def measure(self, task: Task, clicks: int, mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Result:
        distances = np.concatenate(surface_distances_mm(mask, truth, self.slices.spacing))
        return Result(
            task,
            clicks,
            dice=dice(mask, truth),
            iou=iou(mask, truth),
            hd_mm=float(distances.max()) if distances.size else math.nan,
            mad_mm=float(distances.mean()) if distances.size else math.nan,
            overlap=int((mask & truth).sum()),
            total=int(mask.sum() + truth.sum()),
        )


def play_case(
    segmenter: Segmenter, spacing: float, tasks: Sequence[Task], protocol: Protocol, device: torch.device | str
) -> Iterator[list[Result]]:
    """The results of all tasks of one case, batch by batch."""
    game = Game(segmenter, spacing, tasks[0].case)
    for start in range(0, len(tasks), protocol.batch):
        yield list(game.play(tasks[start : start + protocol.batch], protocol, device))


def play_all(model: Model, tasks: Sequence[Task], protocol: Protocol, device: torch.device | str) -> list[Result]:
    """All tasks in this process, with a progress bar."""
    results: list[Result] = []
    with tqdm(total=len(tasks), desc="evaluating", unit="slice") as bar:
        for group in _by_case(tasks):
            for found in play_case(model.segmenter, model.recipe.spacing, group, protocol, device):
                results += found
                bar.update(len(found) // len(protocol.clicks))
    return results


def play_all_parallel(weights: Path | str, tasks: Sequence[Task], protocol: Protocol, workers: int) -> list[Result]:
    """All tasks on the CPU, some cases at a time in processes of their own."""
    threads = max(1, torch.get_num_threads() // workers)
    results: list[Result] = []
    with (
        ProcessPoolExecutor(workers, get_context("spawn")) as pool,
        tqdm(total=len(tasks), desc="evaluating", unit="slice") as bar,
    ):
        groups = _by_case(tasks)
        for found in pool.map(_play_in_worker, [(str(weights), group, protocol, threads) for group in groups]):
            results += found
            bar.update(len(found) // len(protocol.clicks))
    return results


def _play_in_worker(job: tuple[str, Sequence[Task], Protocol, int]) -> list[Result]:
    weights, tasks, protocol, threads = job
    keep_freed_memory()
    torch.set_num_threads(threads)
    model = load_model(weights)
    found = play_case(model.segmenter, model.recipe.spacing, tasks, protocol, "cpu")
    return [result for batch in found for result in batch]


def _by_case(tasks: Iterable[Task]) -> list[list[Task]]:
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.case.id, []).append(task)
    return list(groups.values())


class Table:
    """Results as arrays (cases, labels, clicks): sums, and how many slices they are of. One definition of every mean.

    A label's figure is the mean over its slices of all cases, the overall figure the mean over labels. `dice_volume`
    is computed per case and label over the evaluated slices together, then averaged over cases, then labels.
    """

    def __init__(self, results: Sequence[Result]) -> None:
        self.cases = sorted({result.task.case.id for result in results})
        self.labels = list(dict.fromkeys(result.task.name for result in results))
        self.clicks = sorted({result.clicks for result in results})
        shape = (len(self.cases), len(self.labels), len(self.clicks))
        self.sums = {name: np.zeros(shape) for name in METRICS}
        self.counts = {name: np.zeros(shape) for name in METRICS}
        overlap, total = np.zeros(shape), np.zeros(shape)
        for result in results:
            task = result.task
            place = self.cases.index(task.case.id), self.labels.index(task.name), self.clicks.index(result.clicks)
            for name in ("dice", "iou", "hd_mm", "mad_mm"):
                value = getattr(result, name)
                if not math.isnan(value):
                    self.sums[name][place] += value
                    self.counts[name][place] += 1
            overlap[place] += result.overlap
            total[place] += result.total
        present = total > 0
        self.sums["dice_volume"][present] = 2 * overlap[present] / total[present]
        self.counts["dice_volume"] = present.astype(float)

    def label_means(self, name: str, cases: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
        """(labels, clicks) over the given cases (repetitions count); NaN where there is nothing to average."""
        sums, counts = self.sums[name][cases].sum(0), self.counts[name][cases].sum(0)
        return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)

    def means(self, name: str, cases: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
        """(clicks,) over labels of `label_means`."""
        table = self.label_means(name, cases)
        known = ~np.isnan(table)
        return np.divide(np.nansum(table, 0), known.sum(0), out=np.full(len(self.clicks), np.nan), where=known.any(0))

    def undefined(self, cases: Sequence[int]) -> NDArray[np.float64]:
        """(labels, clicks): slices whose distances are undefined because the prediction is empty."""
        return (self.counts["dice"] - self.counts["hd_mm"])[cases].sum(0)


def make_report(results: Sequence[Result], protocol: Protocol, facts: Mapping[str, Any]) -> dict[str, Any]:
    """report.json: means, their intervals by bootstrap over patients, and the figures per label and per case.

    `undefined` counts the slices left out of the distances because their prediction is empty.
    """
    table = Table(results)
    everyone = list(range(len(table.cases)))
    undefined = table.undefined(everyone)
    means = {name: table.means(name, everyone) for name in METRICS}
    intervals = {name: _intervals(table, name, protocol.seed) for name in METRICS}

    def over_clicks(figures: Mapping[str, NDArray[np.float64]]) -> dict[str, dict[str, float | None]]:
        return {
            str(number): {name: _number(values[index]) for name, values in figures.items()}
            for index, number in enumerate(table.clicks)
        }

    def per_label(cases: list[int]) -> dict[str, dict[str, Any]]:
        figures = {name: table.label_means(name, cases) for name in METRICS}
        present = table.counts["dice"][cases].sum((0, 2)) > 0
        return {
            label: over_clicks({name: values[row] for name, values in figures.items()})
            for row, label in enumerate(table.labels)
            if present[row]
        }

    report: dict[str, Any] = {
        "schema": SCHEMA,
        **facts,
        "user": protocol.user,
        "seed": protocol.seed,
        "clicks": list(protocol.clicks),
        "limit": protocol.limit,
        "mean": over_clicks(means),
        "interval": {
            str(number): {name: [_number(end) for end in intervals[name][:, index]] for name in METRICS}
            for index, number in enumerate(table.clicks)
        },
        "labels": per_label(everyone),
        "cases": {case: per_label([index]) for index, case in enumerate(table.cases)},
    }
    for index, number in enumerate(table.clicks):
        report["mean"][str(number)]["undefined"] = int(undefined[:, index].sum())
        for row, label in enumerate(table.labels):
            report["labels"][label][str(number)]["undefined"] = int(undefined[row, index])
    return report


def _intervals(table: Table, name: str, seed: int, resamples: int = 1000) -> NDArray[np.float64]:
    """(2, clicks): 95 % percentile interval of the overall mean, patients drawn with replacement."""
    generator = np.random.default_rng(seed)
    draws = generator.integers(len(table.cases), size=(resamples, len(table.cases)))
    means = np.array([table.means(name, drawn) for drawn in draws])
    known = [column[~np.isnan(column)] for column in means.T]
    ends = [np.quantile(column, (0.025, 0.975)) if column.size else (np.nan, np.nan) for column in known]
    return np.transpose(ends)


def _number(value: float) -> float | None:
    """JSON has no NaN: null."""
    return None if math.isnan(value) else round(float(value), 6)


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
        batches = [play_case(segmenter, self.spacing, group, self.protocol, device) for group in _by_case(self.tasks)]
        table = Table([result for batch in batches for found in batch for result in found])
        means = table.means("dice", range(len(table.cases)))
        return {f"dice@{clicks}": float(mean) for clicks, mean in zip(table.clicks, means, strict=True)}


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """Write `report.json` into a folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
