"""The report of the Sakinis experiments: Markdown and figures, the paper's numbers beside ours, what was not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .commands import CLICKS
from .figures import grouped_bars
from .findings import DiceGrid, findings
from .jobs import Job
from .paper import TABLE_2
from .sakinis import Design
from .sections import FIGURES, cell, examples, organs, other_methods
from .summary import Report, fold_means, label_means, read_reports, table, write_markdown

ANSWERS = {True: "yes", False: "no", None: "not asked"}


def write_sakinis_report(design: Design, jobs: Sequence[Job], output: Path) -> Path:
    """`output`/report.md with its figures, from whatever has been run so far. Returns its path."""
    reports = output / "reports"
    grid = {k: read_reports(reports, f"cv_fold*_k{k}") for k in design.ks}
    parts = [
        _head(design),
        _cross_validation(grid, output),
        organs(grid.get(design.best_k, []), f"clickseg, K = {design.best_k}, cross-validation", output),
        _other_data(reports, design, output),
        _left_out(reports, design),
        _baselines(reports, design),
        examples(sorted(reports.glob(f"*fold0_k{design.best_k}/overlay_*.png"))[:6], output),
    ]
    return write_markdown(parts, jobs, output)


def _head(design: Design) -> str:
    return (
        "# Sakinis et al. 2019, section IV, on our data\n\n"
        f"{design.folds}-fold cross-validation by patient, training K in {_list(design.ks)}, {design.budget}. The "
        "paper's figures stand beside ours as an indication: its test cases are withheld, its grid is finer, and it "
        "trained for 6 to 24 hours on four V100."
    )


def _cross_validation(grid: Mapping[int, Sequence[Report]], output: Path) -> str:
    run = {k: reports for k, reports in grid.items() if reports}
    if not run:
        return ""
    lines = ["## Training K and test clicks (Figures 4, 5, 6)", ""]
    for figure, (number, name) in FIGURES.items():
        bars = {f"K = {k}": {c: fold_means(reports, c, figure).tolist() for c in CLICKS} for k, reports in run.items()}
        grouped_bars(
            bars, f"{name}, mean over folds", name, output / f"figure{number}.png", 1.0 if figure == "dice" else None
        )
        lines += [f"![{name} by K and test clicks](figure{number}.png)", ""]
    dice: DiceGrid = {k: {c: float(fold_means(r, c, "dice").mean()) for c in CLICKS} for k, r in run.items()}
    header = [f"{c} click{'s' if c > 1 else ''}" for c in CLICKS]
    rows = [[f"K = {k}", *(f"{dice[k][c]:.3f}" for c in CLICKS)] for k in run]
    volume = [
        [f"K = {k}, volume-wise", *(f"{fold_means(r, c, 'dice_volume').mean():.3f}" for c in CLICKS)]
        for k, r in run.items()
    ]
    lines += [table(["Dice", *header], rows + volume), "", "### The findings of IV-A, asked of this grid", ""]
    lines += [f"- **{ANSWERS[found.holds]}**: {found.claim}. {found.figures}." for found in findings(dice)]
    return "\n".join(lines)


def _other_data(reports: Path, design: Design, output: Path) -> str:
    bars: dict[str, dict[int, list[float]]] = {}
    for kind, data in (("known", design.known), ("unknown", design.unknown)):
        found = read_reports(reports, f"{kind}_fold*_k{design.best_k}")
        if data is not None and found:
            name = f"{kind}: {', '.join(found[0]['labels'])}"
            bars[name] = {c: fold_means(found, c, "dice").tolist() for c in CLICKS}
    if not bars:
        return ""
    grouped_bars(bars, f"Networks of K = {design.best_k} on data of others", "Dice", output / "figure7.png", 1.0)
    rows = [[name, *(f"{np.mean(values[c]):.3f}" for c in CLICKS)] for name, values in bars.items()]
    rows += [[f"paper: {name}", *(f"{values[c]:.2f}" for c in CLICKS)] for name, values in TABLE_2.items()]
    head = "## On other data sets (Table II, Figure 7)\n\n![Dice on other data](figure7.png)\n\n"
    return head + table(["Dice", *(f"{c}" for c in CLICKS)], rows)


def _left_out(reports: Path, design: Design) -> str:
    rows = []
    for report in read_reports(reports, "leftout_without_*"):
        organ = next(iter(report["labels"]))
        rows.append([organ, *(f"{report['mean'][str(c)]['dice']:.3f}" for c in CLICKS)])
        with_it = read_reports(reports, f"cv_fold0_k{design.best_k}")
        known = [label_means(with_it, c, "dice").get(organ) for c in CLICKS] if with_it else []
        if known:
            rows.append([f"{organ}, trained on", *(cell(value) for value in known)])
    if not rows:
        return ""
    return "## Trained without an organ, tested on it\n\n" + table(["Dice", *(f"{c}" for c in CLICKS)], rows)


def _baselines(reports: Path, design: Design) -> str:
    lines = []
    for kind, ours_pattern, theirs_pattern in (
        ("cross-validation", f"cv_fold*_k{design.best_k}", "cv_fold*_{}"),
        ("unknown structure", f"unknown_fold0_k{design.best_k}", "unknown_{}"),
    ):
        played = sorted({report["method"] for report in read_reports(reports, theirs_pattern.format("*"))} - {"unet2d"})
        others = {method: read_reports(reports, theirs_pattern.format(method)) for method in played}
        rows = other_methods(f"clickseg, K = {design.best_k}", read_reports(reports, ours_pattern), others, CLICKS)
        lines += [f"### {kind.capitalize()}", "", rows, ""] if rows else []
    if not lines:
        return ""
    minutes = design.budget.rival_minutes
    as_long = "as long as ours" if minutes is None else f"for {minutes:g} minutes each"
    intro = (
        f"Baselines need no training, rivals were trained {as_long}. In brackets: 95 % interval of our lead by "
        "paired bootstrap over patients, and how many patients we won."
    )
    return "\n".join(["## Other methods", "", intro, "", *lines]).rstrip()


def _list(numbers: Sequence[int]) -> str:
    return "{" + ", ".join(map(str, numbers)) + "}"
