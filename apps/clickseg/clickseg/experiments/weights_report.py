"""The report of given weights: the paper's tables, other methods at every click, other users, obedience."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..methods import BASELINES
from ..metrics import auc
from .commands import CLICKS, EACH
from .figures import curves
from .jobs import Job
from .sections import FIGURES, cell, examples, organs, other_methods
from .summary import Report, compare, fold_means, patient_means, read_reports, share_of_clicks, table, write_markdown
from .weights import ASKED, EXAMINER, OURS, Examination

KINDS = {"known": "Other methods, structures of the training", "unknown": "Other methods, a structure never trained on"}
PROMISES = {
    "obeyed": "all that was wrong within 3 pixels of a click is right after it",
    "contained": "what is inside within 10 mm of a click outside has not grown by more than 1 %",
}
ARMS = {
    "deterministic": "innermost point of the largest error",
    "liu": "centre of the largest error, moved by up to 10 pixels or half its radius",
    "jittered": "`deterministic`, moved by 3 mm (standard deviation along each axis)",
    "static": "control: clicks chosen once from the truth",
    "wrong": "control: one click in ten is wrong",
}


def write_examination_report(design: Examination, jobs: Sequence[Job], output: Path) -> Path:
    """`output`/report.md with its figures, from whatever has been run so far. Returns its path."""
    reports = output / "reports"
    played = {
        kind: {name: read_reports(reports, f"{kind}_{name}") for name in (OURS, *BASELINES)}
        for kind in ("known", "unknown")
    }
    ours = played["known"][OURS]
    users = {user: read_reports(reports, f"user_{user}") for user in design.users}
    parts = [
        _head(design),
        _means(ours),
        organs(ours, "clickseg", output),
        *(_others(kind, found, output) for kind, found in played.items()),
        _promises(ours),
        _users({EXAMINER: ours, **users}),
        examples(sorted((reports / f"known_{OURS}").glob("overlay_*.png")), output),
    ]
    return write_markdown(parts, jobs, output)


def _head(design: Examination) -> str:
    cases = ", ".join(design.cases) if design.cases else "all cases"
    return (
        f"# `{design.weights.name}` on {cases}\n\nUser `{EXAMINER}` unless another is named, seed 0, "
        f"{design.budget.slices()}, by chance, of those that hold the structure; "
        "means over slices, then organs, where nothing else is said. Weights that heed names (`named` in their recipe) "
        "are told what each structure is called."
    )


def _means(ours: Sequence[Report]) -> str:
    if not ours:
        return ""
    means, ends = ours[0]["mean"], ours[0]["interval"]
    rows = [[name, *(cell(means[str(c)][figure]) for c in CLICKS)] for figure, (_, name) in FIGURES.items()]
    low_high = [ends[str(c)]["dice"] for c in CLICKS]
    if any(None not in pair for pair in low_high):  # of very few patients there is none
        cells = ["-" if None in pair else " to ".join(map(cell, pair)) for pair in low_high]
        rows.insert(1, ["95 % interval, by bootstrap over patients", *cells])
    rows.append(["Dice of the volume of these slices", *(f"{means[str(c)]['dice_volume']:.3f}" for c in CLICKS)])
    return "## After so many clicks\n\n" + table(["", *map(str, CLICKS)], rows)


def _others(kind: str, played: Mapping[str, Sequence[Report]], output: Path) -> str:
    ours, others = played[OURS], {name: found for name, found in played.items() if name != OURS}
    rows = other_methods("clickseg", ours, others, CLICKS)
    if not rows:
        return ""
    found = {name: reports for name, reports in {"clickseg": ours, **others}.items() if reports}
    lines = {name: {c: list(patient_means(reports, c).values()) for c in EACH} for name, reports in found.items()}
    curves(lines, "Dice over clicks", output / f"{kind}.png", "slice and structure")
    leads = [
        compare(patient_means(ours, clicks), patient_means(reports, clicks))
        for reports in others.values()
        if reports
        for clicks in EACH
    ]
    least = min(pair.low for pair in leads)
    ends = "" if math.isnan(least) else f"the least end of an interval is {least:+.3f}, and "
    fewest = min(leads, key=lambda pair: pair.won)
    return (
        f"## {KINDS[kind]}\n\n![Dice over clicks]({kind}.png)\n\n{rows}\n\n"
        "In brackets: 95 % interval of our lead by paired bootstrap over patients, and how many patients we won. Over "
        f"all numbers of clicks from {EACH[0]} to {EACH[-1]} and all these methods {ends}"
        f"the fewest patients won are {fewest.won} of {fewest.patients}."
    )


def _promises(ours: Sequence[Report]) -> str:
    """Whether clicks help, and do what they were set for."""
    if not ours:
        return ""
    means = [fold_means(ours, clicks, "dice")[0] for clicks in EACH]
    falls = [
        str(clicks) for clicks, (before, now) in zip(EACH[1:], itertools.pairwise(means), strict=True) if now < before
    ]
    rows = [[name, share_of_clicks(ours, EACH, figure)] for figure, name in PROMISES.items()]
    said = f"at click {', '.join(falls)}" if falls else "at no click"
    return f"## What a click does\n\nThe mean Dice falls {said} from {EACH[0]} to {EACH[-1]}.\n\n" + table(
        [f"share of the turns, mean over clicks {EACH[1]} to {EACH[-1]}", ""], rows
    )


def _users(users: Mapping[str, Sequence[Report]]) -> str:
    rows = []
    for user, reports in users.items():
        for report in reports:
            effort, mean = report["effort"]["mean"], report["mean"]
            cells = [f"{mean[str(c)]['dice']:.3f}" for c in (0, *CLICKS)]
            nocs = [
                "-" if effort[f"noc{p}"] is None else f"{effort[f'noc{p}']:.1f} ({effort[f'failed{p}']:.0%})"
                for p in (85, 90)
            ]
            area = auc([mean[str(number)]["dice"] for number in ASKED], ASKED)  # one user is asked for more clicks
            rows.append([f"`{user}`", ARMS.get(user, "the paper's"), *cells, cell(area), *nocs])
    if not rows:
        return ""
    header = ["user", "clicks at", "no clicks", *map(str, CLICKS), "area", "NoC@85", "NoC@90"]
    return (
        "## Other users\n\n"
        + table(header, rows)
        + "\n\nDice after so many clicks, and the area under that curve. NoC: clicks to an IoU of "
        "85 and 90 %, 20 where that is not reached, and the share of slices of which that is so; asked of RITM's user."
    )
