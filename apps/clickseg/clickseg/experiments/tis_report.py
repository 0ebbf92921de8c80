"""The report of the TIS experiment: Tables 1 and 2 and Figure 2 of Liu et al. 2022, redrawn from our reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .figures import curves
from .jobs import Job
from .paper import LIU_TABLE_1, LIU_TABLE_2
from .summary import Report, compare, label_means, patient_means, read_reports, table, write_markdown
from .tis import ARMS, CLICKS, OURS, TisDesign, report_name

NAMES = {
    OURS: "**tis**",
    "tis_ball": "a ball painted at each click",
    "tis_rule": "untrained rule (near and alike)",
    "deepedit": "DeepEdit (MONAI)",
}
AT_LAST = 10  # clicks of Table 1
TABLE_2_CLICKS = (5, 10)

Played = Mapping[str, Sequence[Report]]


def write_tis_report(design: TisDesign, jobs: Sequence[Job], output: Path) -> Path:
    """`output`/report.md with its figure, from whatever has been run so far. Returns its path."""
    played = {name: read_reports(output / "reports", report_name(name, "*")) for name in design.players}
    played = {name: reports for name, reports in played.items() if reports}
    parts = [_head(design), _table_1(played), _figure_2(played, output), _against_baselines(played), _table_2(played)]
    parts.append(_pictures(design, output))
    return write_markdown(parts, jobs, output)


def _head(design: TisDesign) -> str:
    length = f"{design.budget.minutes:g} minutes" if design.budget.minutes else f"{design.budget.epochs} epochs"
    return (
        "# Liu et al. 2022 (TIS), section 4, on our data\n\n"
        f"{len(design.train)} cases trained on, {length} per training, {len(design.test)} other cases tested on; user "
        f"`liu`, seeds {', '.join(map(str, design.seeds))}, clicks counted over all structures of a volume, Dice of "
        "whole volumes. The encoder is the same for all"
        f"{_given(design)}. The paper's figures are of other data: an indication."
    )


def _given(design: TisDesign) -> str:
    """What is not alike about the trainings of ours and of those who have no encoder of ours."""
    minutes = design.budget.rival_minutes
    as_long = "for twice as long, for it has no stages" if minutes is None else f"for {minutes:g} minutes"
    deepedit = f"; DeepEdit has learnt {as_long}" if design.rivals else ""
    if design.encoder is None:
        return deepedit
    less = f"{deepedit}, yet not for as long as that encoder: compare what its clicks gain" if deepedit else ""
    return f" and comes from {Path(design.encoder).name}{less}"


def _mean_and_spread(reports: Sequence[Report], clicks: int) -> dict[str, str]:
    """label -> "mean ± deviation" over the seeds (of one its value); the mean over labels under "mean"."""
    seeds = [label_means([report], clicks, "dice") for report in reports]
    values = {label: [seed[label] for seed in seeds] for label in seeds[0]}
    values["mean"] = [float(np.mean(list(seed.values()))) for seed in seeds]
    spread = {label: f" ± {np.std(found):.3f}" if len(found) > 1 else "" for label, found in values.items()}
    return {label: f"{np.mean(found):.3f}{spread[label]}" for label, found in values.items()}


def _table_1(played: Played) -> str:
    if OURS not in played:
        return ""
    labels = list(label_means(played[OURS], AT_LAST, "dice"))
    rows = [["automatic, no clicks", *(f"{label_means(played[OURS], 0, 'dice')[label]:.3f}" for label in labels)]]
    rows[0].append(f"{np.mean(list(label_means(played[OURS], 0, 'dice').values())):.3f}")
    for name, reports in played.items():
        if name not in ARMS:
            found = _mean_and_spread(reports, AT_LAST)
            rows.append([NAMES[name], *(found[label] for label in [*labels, "mean"])])
    paper = [[name, *values] for name, values in LIU_TABLE_1.items()]
    return "\n\n".join(
        [
            f"## After {AT_LAST} clicks (Table 1)",
            table(["Dice, mean ± deviation over seeds", *labels, "mean"], rows),
            "The paper's, in per cent, trained and tested on data of the Medical Segmentation Decathlon:",
            table(["", "lung", "colon", "pancreas", "pancreatic tumour"], paper),
        ]
    )


def _figure_2(played: Played, output: Path) -> str:
    if not played:
        return ""
    lines = {
        NAMES.get(name, name).strip("*"): {
            clicks: [float(np.mean(list(label_means([report], clicks, "dice").values()))) for report in reports]
            for clicks in CLICKS
        }
        for name, reports in played.items()
    }
    curves(lines, "Dice over clicks (Liu 2022, Figure 2)", output / "figure2.png")
    falls = []
    for name, line in lines.items():
        means = [float(np.mean(line[clicks])) for clicks in CLICKS]
        steps = [after for after, before, now in zip(CLICKS[1:], means, means[1:], strict=False) if now < before]
        falls.append(f"{name}: {'never' if not steps else 'after click ' + ', '.join(map(str, steps))}")
    heading = "## Dice over clicks (Figure 2)\n\n![Dice over clicks](figure2.png)"
    return f"{heading}\n\nWhere the mean falls: {'; '.join(falls)}."


def _over_seeds(reports: Sequence[Report], clicks: int) -> dict[str, float]:
    """Each patient's mean over labels and seeds."""
    seeds = [patient_means([report], clicks) for report in reports]
    return {case: float(np.mean([seed[case] for seed in seeds])) for case in seeds[0]}


def _against_baselines(played: Played) -> str:
    rows = []
    for name, reports in played.items():
        if OURS in played and name not in (OURS, *ARMS):
            for clicks in (1, 3, 5, AT_LAST):
                pair = compare(_over_seeds(played[OURS], clicks), _over_seeds(reports, clicks))
                rows.append(
                    [
                        NAMES[name],
                        str(clicks),
                        f"{pair.difference:+.4f}",
                        pair.interval(4),
                        f"{pair.won} of {pair.patients}",
                    ]
                )
    if not rows:
        return ""
    header = ["tis minus", "clicks", "Dice", "95 % interval, paired by patient", "patients won"]
    return "## Against the baselines\n\n" + table(header, rows)


def _table_2(played: Played) -> str:
    if OURS not in played or not set(ARMS) & set(played):
        return ""
    rows = []
    for name in (*ARMS, OURS):
        if name in played:
            cells = [_mean_and_spread(played[name], clicks)["mean"] for clicks in TABLE_2_CLICKS]
            rows.append([NAMES.get(name, name), *cells])
    paper = [[name, *values] for name, values in LIU_TABLE_2.items()]
    return "\n\n".join(
        [
            "## What the parts are worth (Table 2)",
            table(["Dice, mean ± deviation over seeds", *(f"{clicks} clicks" for clicks in TABLE_2_CLICKS)], rows),
            "The paper's, in per cent, on MSD pancreas:",
            table(["", "5 clicks: pancreas", "tumour", "10 clicks: pancreas", "tumour"], paper),
        ]
    )


def _pictures(design: TisDesign, output: Path) -> str:
    """Turn by turn, what was wrong, what was clicked and what was found, of the first pictured case (Figures 3, 4)."""
    folders = {name: output / "reports" / report_name(name, design.seeds[0]) for name in design.players}
    shown = sorted(path.name for path in folders[OURS].glob("overlay_*.png"))[:1]
    lines = [
        f"{NAMES[name].strip('*')}:\n\n![{NAMES[name].strip('*')}]({(folder / shown[0]).relative_to(output)})"
        for name, folder in folders.items()
        if name in NAMES and shown and (folder / shown[0]).exists()
    ]
    return "\n\n".join(["## The same case, turn by turn (Figures 3 and 4)", *lines]) if lines else ""
