"""Results -> means, intervals and report.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import write_text
from ..metrics import auc, noc
from .tasks import Protocol, Result, Task

SCHEMA = 1
REPORT = "report.json"
METRICS = ("dice", "dice_volume", "iou", "hd_mm", "mad_mm", "obeyed", "contained")
EFFORT = ("auc_dice", "noc85", "noc90", "failed85", "failed90")
NOC_LIMIT = 20  # clicks (RITM)
LEAST_PATIENTS = 3  # of an interval: draws of one are all alike, and those of two say hardly more


class Table:
    """Figures as arrays (cases, labels, columns): sums, and how many slices they are of. One definition of every mean.

    A label's figure is the mean over its slices of all cases, the overall figure the mean over labels.
    """

    def __init__(self, results: Sequence[Result], names: Sequence[str], columns: Sequence[int]) -> None:
        self.cases = sorted({result.task.case.id for result in results})
        self.labels = list(dict.fromkeys(result.task.name for result in results))
        self.columns = list(columns)
        shape = (len(self.cases), len(self.labels), len(self.columns))
        self.sums = {name: np.zeros(shape) for name in names}
        self.counts = {name: np.zeros(shape) for name in names}

    def place(self, task: Task, column: int) -> tuple[int, int, int]:
        return self.cases.index(task.case.id), self.labels.index(task.name), self.columns.index(column)

    def add(self, name: str, place: tuple[int, int, int], value: float) -> None:
        """One slice's figure; NaN is left out."""
        if not math.isnan(value):
            self.sums[name][place] += value
            self.counts[name][place] += 1

    def label_means(self, name: str, cases: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
        """(labels, columns) over the given cases (repetitions count); NaN where there is nothing to average."""
        sums, counts = self.sums[name][cases].sum(0), self.counts[name][cases].sum(0)
        return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)

    def means(self, name: str, cases: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
        """(columns,) over labels of `label_means`."""
        table = self.label_means(name, cases)
        known = ~np.isnan(table)
        return np.divide(np.nansum(table, 0), known.sum(0), out=np.full(table.shape[1], np.nan), where=known.any(0))

    def intervals(self, name: str, seed: int, resamples: int = 1000) -> NDArray[np.float64]:
        """(2, columns): 95 % percentile interval of the overall mean, patients drawn with replacement.

        Of the draws those count that have a figure of every label that anybody has one of: without a rare label the
        mean is of others, another quantity. Of a label that one patient alone has, that patient is in all of them. NaN
        where there is nothing to average, or no such draw, and of fewer patients than LEAST_PATIENTS.
        """
        if len(self.cases) < LEAST_PATIENTS:
            return np.full((2, len(self.columns)), np.nan)
        generator = np.random.default_rng(seed)
        draws = generator.integers(len(self.cases), size=(resamples, len(self.cases)))
        means = np.array([self.means(name, drawn) for drawn in draws])
        counted = self.counts[name] > 0
        missing = np.array([(counted.any(0) & ~counted[drawn].any(0)).any(0) for drawn in draws])
        known = [column[~np.isnan(column) & ~gaps] for column, gaps in zip(means.T, missing.T, strict=True)]
        ends = [np.quantile(column, (0.025, 0.975)) if column.size else (np.nan, np.nan) for column in known]
        return np.transpose(ends)


def tabulate(results: Sequence[Result]) -> Table:
    """METRICS over clicks. `dice_volume` is of the evaluated slices of a case together, averaged over cases."""
    table = Table(results, METRICS, sorted({result.clicks for result in results}))
    shape = table.sums["dice"].shape
    overlap, total = np.zeros(shape), np.zeros(shape)
    for result in results:
        place = table.place(result.task, result.clicks)
        for name in ("dice", "iou", "hd_mm", "mad_mm", "obeyed", "contained"):
            table.add(name, place, getattr(result, name))
        overlap[place] += result.overlap
        total[place] += result.total
    present = total > 0
    table.sums["dice_volume"][present] = 2 * overlap[present] / total[present]
    table.counts["dice_volume"] = present.astype(float)
    return table


def tabulate_effort(results: Sequence[Result]) -> Table:
    """EFFORT of every slice, in one column: what a row of clicks achieves as a whole.

    auc_dice: over all asked numbers of clicks. noc85, noc90: the first click with that IoU, 20 if none of the first
    20 has it (RITM); failed85, failed90: the share of slices of which that is so. They need every click from 1 to 20.
    """
    table = Table(results, EFFORT, [0])
    rows: dict[Task, dict[int, Result]] = {}
    for result in results:
        rows.setdefault(result.task, {})[result.clicks] = result
    for task, by_clicks in rows.items():
        place = table.place(task, 0)
        asked = sorted(by_clicks)
        table.add("auc_dice", place, auc([by_clicks[number].dice for number in asked], asked))
        if not set(range(1, NOC_LIMIT + 1)) <= set(asked):
            continue
        ious = [by_clicks[number].iou for number in range(1, NOC_LIMIT + 1)]
        for percent in (85, 90):
            table.add(f"noc{percent}", place, noc(ious, percent / 100, NOC_LIMIT))
            table.add(f"failed{percent}", place, float(max(ious) < percent / 100))
    return table


def make_report(results: Sequence[Result], protocol: Protocol, facts: Mapping[str, Any]) -> dict[str, Any]:
    """report.json: means, their intervals by bootstrap over patients, and the figures per label and per case.

    `undefined` counts the slices left out of the distances because their prediction is empty. An interval that there is
    none of has the ends null.
    """
    table = tabulate(results)
    everyone = list(range(len(table.cases)))
    undefined = (table.counts["dice"] - table.counts["hd_mm"]).sum(0)
    means = {name: table.means(name, everyone) for name in METRICS}
    intervals = {name: table.intervals(name, protocol.seed) for name in METRICS}

    def over_clicks(figures: Mapping[str, NDArray[np.float64]]) -> dict[str, dict[str, float | None]]:
        return {
            str(number): {name: _number(values[index]) for name, values in figures.items()}
            for index, number in enumerate(table.columns)
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
        "separately": protocol.separately,
        "mean": over_clicks(means),
        "interval": {
            str(number): {name: [_number(end) for end in intervals[name][:, index]] for name in METRICS}
            for index, number in enumerate(table.columns)
        },
        "effort": _effort(tabulate_effort(results), protocol.seed),
        "labels": per_label(everyone),
        "cases": {case: per_label([index]) for index, case in enumerate(table.cases)},
    }
    for index, number in enumerate(table.columns):
        report["mean"][str(number)]["undefined"] = int(undefined[:, index].sum())
        for row, label in enumerate(table.labels):
            report["labels"][label][str(number)]["undefined"] = int(undefined[row, index])
    return report


def _effort(table: Table, seed: int) -> dict[str, Any]:
    everyone = list(range(len(table.cases)))
    by_label = {name: table.label_means(name, everyone)[:, 0] for name in EFFORT}
    return {
        "mean": {name: _number(table.means(name, everyone)[0]) for name in EFFORT},
        "interval": {name: [_number(end) for end in table.intervals(name, seed)[:, 0]] for name in EFFORT},
        "labels": {
            label: {name: _number(values[row]) for name, values in by_label.items()}
            for row, label in enumerate(table.labels)
        },
    }


def _number(value: float) -> float | None:
    """JSON has no NaN: null."""
    return None if math.isnan(value) else round(float(value), 6)


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """Write `report.json` into a folder."""
    write_text(folder / REPORT, json.dumps(report, indent=1) + "\n")
