"""Sections that several reports have: the paper's tables with our figures, other methods, examples."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .figures import box_plots
from .paper import TABLE_3, TABLE_4
from .summary import Report, compare, fold_means, label_means, patient_means, table

FIGURES = {
    "dice": ("4", "Dice"),
    "hd_mm": ("5", "Hausdorff distance (mm)"),
    "mad_mm": ("6", "mean absolute distance (mm)"),
}
TEST_CLICKS = 5  # of Tables III and IV, and Figure 8


def organs(reports: Sequence[Report], name: str, output: Path) -> str:
    """Tables III and IV with ours in bold, and Figure 8, which is written to `output`. Empty without reports."""
    if not reports:
        return ""
    ours = [fold_means(reports, TEST_CLICKS, figure) for figure in FIGURES]
    rows = [[f"**{name}**", *(f"**{cell(float(found.mean()) if len(found) else None)}**" for found in ours)]]
    rows += [[theirs, *(f"{value:.3f}" for value in values)] for theirs, values in TABLE_3.items()]
    table3 = table([f"after {TEST_CLICKS} clicks", "Dice", "HD mm", "MAD mm"], rows)
    means = [report["mean"][str(TEST_CLICKS)] for report in reports]
    caveat = (
        "The figures of others are the challenge's, of its own test volumes; ours are means over slices. Over the "
        f"volume of these slices our Dice is {np.mean([mean['dice_volume'] for mean in means]):.3f}. An empty answer "
        f"has no distance: {sum(mean['undefined'] for mean in means)} slices count in the Dice and not in them."
    )
    found = {figure: label_means(reports, TEST_CLICKS, figure) for figure in FIGURES}
    rows = []
    for organ, dice in found["dice"].items():
        paper = TABLE_4.get(organ, (None, None, None))
        cells = [cell(found[figure].get(organ)) for figure in FIGURES]
        rows.append([organ, f"{dice:.3f}", *cells[1:], *(cell(value) for value in paper)])
    table4 = table(["organ", "Dice", "HD mm", "MAD mm", "paper: Dice", "HD mm", "MAD mm"], rows)
    patients: dict[str, list[float]] = {}
    for report in reports:
        for labels in report["cases"].values():
            for organ, values in labels.items():
                patients.setdefault(organ, []).append(values[str(TEST_CLICKS)]["dice"])
    box_plots(patients, f"Dice after {TEST_CLICKS} clicks, one value per patient", "Dice", output / "figure8.png")
    return (
        f"## Against automatic methods (Table III)\n\n{table3}\n\n{caveat}\n\n"
        f"## Organ by organ (Table IV, Figure 8)\n\n{table4}\n\n![Dice of every organ](figure8.png)"
    )


def other_methods(
    name: str, ours: Sequence[Report], others: Mapping[str, Sequence[Report]], clicks: Sequence[int]
) -> str:
    """A table of Dice: ours, and each other method with our lead over it. Empty if one side is."""
    rows = []
    for other, theirs in others.items():
        if not ours or not theirs:
            continue
        cells = []
        for count in clicks:
            pair = compare(patient_means(ours, count), patient_means(theirs, count))
            mean = np.mean(list(patient_means(theirs, count).values()))
            cells.append(f"{mean:.3f} ({pair.interval()}, {pair.won}/{pair.patients})")
        rows.append([other, *cells])
    if not rows:
        return ""
    own = [f"{np.mean(list(patient_means(ours, count).values())):.3f}" for count in clicks]
    return table(["Dice, mean over patients", *map(str, clicks)], [[f"**{name}**", *own], *rows])


def examples(pictures: Sequence[Path], output: Path) -> str:
    """Pictures of an evaluation, copied to `output` (Figure 3)."""
    if not pictures:
        return ""
    lines = ["## Examples (Figure 3)", "", "Truth in gold, prediction in red, clicks inside in green, outside in pink."]
    for picture in pictures:
        shutil.copy(picture, output / picture.name)
        lines += ["", f"![{picture.stem}]({picture.name})"]
    return "\n".join(lines)


def cell(value: float | None) -> str:
    """As a cell of a table."""
    return "-" if value is None else f"{value:.3f}"
