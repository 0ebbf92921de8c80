"""The report of the Sakinis experiments: Markdown and figures, the paper's numbers beside ours, what was not run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .commands import CLICKS
from .figures import box_plots, grouped_bars
from .findings import DiceGrid, findings
from .jobs import Job
from .paper import TABLE_2, TABLE_3, TABLE_4
from .sakinis import Design
from .summary import Report, compare, fold_means, label_means, patient_means, read_reports, table, write_markdown

FIGURES = {
    "dice": ("4", "Dice"),
    "hd_mm": ("5", "Hausdorff distance (mm)"),
    "mad_mm": ("6", "mean absolute distance (mm)"),
}
ANSWERS = {True: "yes", False: "no", None: "not asked"}
TEST_CLICKS = 5  # of Tables III and IV, and Figure 8


def write_sakinis_report(design: Design, jobs: Sequence[Job], output: Path) -> Path:
    """`output`/report.md with its figures, from whatever has been run so far. Returns its path."""
    reports = output / "reports"
    grid = {k: read_reports(reports, f"cv_fold*_k{k}") for k in design.ks}
    parts = [
        _head(design),
        _cross_validation(grid, output),
        _organs(grid.get(design.best_k, []), design.best_k, output),
        _other_data(reports, design, output),
        _left_out(reports, design),
        _baselines(reports, design),
        _examples(reports, design, output),
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


def _organs(reports: Sequence[Report], k: int, output: Path) -> str:
    if not reports:
        return ""
    ours = [float(fold_means(reports, TEST_CLICKS, figure).mean()) for figure in FIGURES]
    rows = [[f"**clickseg, K = {k}, cross-validation**", *(f"**{value:.3f}**" for value in ours)]]
    rows += [[name, *(f"{value:.3f}" for value in values)] for name, values in TABLE_3.items()]
    table3 = table([f"after {TEST_CLICKS} clicks", "Dice", "HD mm", "MAD mm"], rows)
    found = {figure: label_means(reports, TEST_CLICKS, figure) for figure in FIGURES}
    rows = []
    for organ, dice in found["dice"].items():
        theirs = TABLE_4.get(organ, (None, None, None))
        cells = [_number(found[figure].get(organ)) for figure in FIGURES]
        rows.append([organ, f"{dice:.3f}", *cells[1:], *(_number(value) for value in theirs)])
    table4 = table(["organ", "Dice", "HD mm", "MAD mm", "paper: Dice", "HD mm", "MAD mm"], rows)
    patients: dict[str, list[float]] = {}
    for report in reports:
        for labels in report["cases"].values():
            for organ, values in labels.items():
                patients.setdefault(organ, []).append(values[str(TEST_CLICKS)]["dice"])
    box_plots(patients, f"Dice after {TEST_CLICKS} clicks, one value per patient", "Dice", output / "figure8.png")
    return (
        f"## Against automatic methods (Table III)\n\n{table3}\n\n"
        f"## Organ by organ (Table IV, Figure 8)\n\n{table4}\n\n![Dice of every organ](figure8.png)"
    )


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
            rows.append([f"{organ}, trained on", *(_number(value) for value in known)])
    if not rows:
        return ""
    return "## Trained without an organ, tested on it\n\n" + table(["Dice", *(f"{c}" for c in CLICKS)], rows)


def _baselines(reports: Path, design: Design) -> str:
    lines = []
    for kind, ours_pattern, theirs_pattern in (
        ("cross-validation", f"cv_fold*_k{design.best_k}", "cv_fold*_{}"),
        ("unknown structure", f"unknown_fold0_k{design.best_k}", "unknown_{}"),
    ):
        ours = read_reports(reports, ours_pattern)
        rows = []
        for baseline in sorted({report["method"] for report in read_reports(reports, theirs_pattern.format("*"))}):
            theirs = read_reports(reports, theirs_pattern.format(baseline)) if baseline != "unet2d" else []
            if not ours or not theirs:
                continue
            cells = []
            for c in CLICKS:
                pair = compare(patient_means(ours, c), patient_means(theirs, c))
                mean = np.mean(list(patient_means(theirs, c).values()))
                cells.append(f"{mean:.3f} ({pair.low:+.3f} to {pair.high:+.3f}, {pair.won}/{pair.patients})")
            rows.append([baseline, *cells])
        if rows:
            own = [f"{np.mean(list(patient_means(ours, c).values())):.3f}" for c in CLICKS]
            rows.insert(0, [f"**clickseg, K = {design.best_k}**", *own])
            lines += [f"### {kind.capitalize()}", "", table(["Dice, mean over patients", *map(str, CLICKS)], rows), ""]
    if not lines:
        return ""
    intro = (
        "Baselines need no training, rivals were trained as long as ours. In brackets: 95 % interval of our lead by "
        "paired bootstrap over patients, and how many patients we won."
    )
    return "\n".join(["## Other methods", "", intro, "", *lines]).rstrip()


def _examples(reports: Path, design: Design, output: Path) -> str:
    pictures = sorted(reports.glob(f"*fold0_k{design.best_k}/overlay_*.png"))
    if not pictures:
        return ""
    lines = [
        "## Examples (Figure 3)",
        "",
        "Truth in gold, prediction in red, clicks inside in green, outside in pink.",
        "",
    ]
    for picture in pictures[:6]:
        shutil.copy(picture, output / picture.name)
        lines += [f"![{picture.stem}]({picture.name})", ""]
    return "\n".join(lines).rstrip()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _list(numbers: Sequence[int]) -> str:
    return "{" + ", ".join(map(str, numbers)) + "}"
