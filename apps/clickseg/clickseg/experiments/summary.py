"""Many report.json files -> the means, spreads and paired comparisons that an experiment prints."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.report import LEAST_PATIENTS
from ..files import write_text
from .jobs import Job, is_done

Report = Mapping[str, Any]


def read_reports(folder: Path, pattern: str) -> list[Report]:
    """The reports `folder`/<pattern>/report.json that are there, by name."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"{pattern}/report.json"))]


def fold_means(reports: Sequence[Report], clicks: int, figure: str) -> NDArray[np.float64]:
    """The overall mean of each fold; folds in which the figure is undefined are left out."""
    values = [report["mean"][str(clicks)][figure] for report in reports if str(clicks) in report["mean"]]
    return np.array([value for value in values if value is not None], float)


def share_of_clicks(reports: Sequence[Report], each: Sequence[int], figure: str) -> str:
    """Of a figure of single clicks (obeyed, contained), the mean over all from the second of `each` on; "-" without."""
    found = np.concatenate([fold_means(reports, clicks, figure) for clicks in each[1:]])
    return f"{found.mean():.3f}" if len(found) else "-"


def label_means(reports: Sequence[Report], clicks: int, figure: str) -> dict[str, float]:
    """Each label's mean over the folds that have it."""
    found: dict[str, list[float]] = {}
    for report in reports:
        for label, values in report["labels"].items():
            value = values[str(clicks)][figure]
            if value is not None:
                found.setdefault(label, []).append(value)
    return {label: float(np.mean(values)) for label, values in found.items()}


def patient_means(reports: Sequence[Report], clicks: int, figure: str = "dice") -> dict[str, float]:
    """Each patient's mean over labels."""
    means = {}
    for report in reports:
        for case, labels in report["cases"].items():
            values = [label[str(clicks)][figure] for label in labels.values()]
            means[case] = float(np.mean([value for value in values if value is not None]))
    return means


@dataclass(frozen=True)
class Paired:
    """The difference of two players over the patients that both have played: mean, 95 % interval, patients won.

    low, high: NaN for fewer patients than LEAST_PATIENTS.
    """

    difference: float
    low: float
    high: float
    won: int
    patients: int

    def interval(self, digits: int = 3) -> str:
        """For people."""
        if math.isnan(self.low):
            return f"no interval from fewer than {LEAST_PATIENTS} patients"
        return f"{self.low:+.{digits}f} to {self.high:+.{digits}f}"


def compare(ours: Mapping[str, float], theirs: Mapping[str, float], seed: int = 0, resamples: int = 2000) -> Paired:
    """Ours minus theirs, by paired bootstrap over patients. ValueError if they have no patient in common."""
    common = sorted(set(ours) & set(theirs))
    if not common:
        raise ValueError("the two have no patient in common")
    differences = np.array([ours[case] - theirs[case] for case in common])
    draws = np.random.default_rng(seed).integers(len(common), size=(resamples, len(common)))
    low, high = np.quantile(differences[draws].mean(1), (0.025, 0.975))
    if len(common) < LEAST_PATIENTS:
        low, high = math.nan, math.nan
    return Paired(float(differences.mean()), float(low), float(high), int((differences > 0).sum()), len(common))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write_markdown(parts: Sequence[str], jobs: Sequence[Job], output: Path) -> Path:
    """`output`/report.md: the parts that are not empty, then the jobs that have not been run. Returns its path."""
    missing = [job.name for job in jobs if not is_done(output, job)]
    if missing:
        parts = [*parts, "## Not run yet\n\n" + "\n".join(f"- {name}" for name in missing)]
    path = output / "report.md"
    write_text(path, "\n\n".join(part for part in parts if part) + "\n")
    return path
