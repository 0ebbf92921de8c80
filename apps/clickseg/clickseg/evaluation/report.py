"""Results -> means, intervals and report.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .tasks import Protocol, Result

SCHEMA = 1
METRICS = ("dice", "dice_volume", "iou", "hd_mm", "mad_mm")


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


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """Write `report.json` into a folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
