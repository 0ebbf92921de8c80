"""What a click of `unet2d` costs with an overview and surroundings (docs/adr/0024), against whole slices, in one run.

    python benchmarks/looks.py [--output benchmarks/results]
    python benchmarks/looks.py --quick    a smoke run: one organ, once

The slice of the sample study that shows most of each organ, shipped weights. First click: the innermost pixel, on a
slice without an answer. Later click: one outside beside it, the organ itself being the answer so far. The variants take
turns; each figure is the median of some rounds, of what `decode` takes with everything in it but the server.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clickseg.clicks import INSIDE, OUTSIDE, Click, stack_clicks
from clickseg.clicks.users import innermost
from clickseg.datasets import CaseFolder
from clickseg.evaluation import Game, Task
from clickseg.machine import cpu_multiplies_bfloat16, half_precision
from clickseg.methods import Model, load_model, shipped_weights
from clickseg.methods.unet2d import UNet2d, UNet2dRecipe
from clickseg.phantom import LABELS, write_phantoms
from publish import machine, publish

WHOLE = 1600  # pixels: a slice no larger than a training's crop is looked at as a whole
VARIANTS: dict[str, dict[str, Any]] = {
    "whole slices, 1.25 mm": {"spacing": 1.25, "overview": 0.0, "size": WHOLE},
    "whole slices, 1 mm": {"spacing": 1.0, "overview": 0.0, "size": WHOLE},
    "surroundings (ships)": {},
}


def open_variants(model: Model, case: Any) -> dict[str, Game]:
    """The shipped network on one case, once for each variant."""
    games = {}
    for name, changes in VARIANTS.items():
        recipe = UNet2dRecipe.from_dict(model.recipe.to_dict() | changes)
        segmenter = UNet2d(recipe)
        segmenter.load_state_dict(model.segmenter.state_dict())
        games[name] = Game(segmenter.eval(), recipe.spacing, case)
    return games


def measure(games: dict[str, Game], task: Task, rounds: int) -> dict[str, Any]:
    """Seconds of the first click and of a later one, for each variant."""
    images, truths = next(iter(games.values())).stack([task])
    organ = truths[0, 0].numpy()
    first = Click(innermost(organ), INSIDE)
    beside = np.argwhere(~organ)
    nearest = beside[np.abs(beside - np.array(first.position)).sum(1).argmin()]
    later = Click((int(nearest[0]), int(nearest[1])), OUTSIDE)
    nothing, answer = torch.zeros_like(images), truths.float()
    times: dict[str, dict[str, list[float]]] = {name: {"first": [], "later": []} for name in games}
    with torch.inference_mode(), half_precision("cpu"):
        for number in range(rounds + 1):
            for name, game in games.items():
                code = game.segmenter.called(game.segmenter.encode(images), [task.name])
                for kind, clicks, before in (("first", [first], nothing), ("later", [first, later], answer)):
                    rows = stack_clicks([clicks], 2)
                    start = time.perf_counter()
                    game.segmenter.decode(code, rows, before)
                    if number:  # the first round warms up
                        times[name][kind].append(time.perf_counter() - start)
    medians = {name: {kind: statistics.median(each) for kind, each in kinds.items()} for name, kinds in times.items()}
    return {"structure": task.name, "pixels": int(organ.sum()), "seconds": medians}


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="folder for looks.json and .md")
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    arguments = parser.parse_args()
    where = machine(torch.get_num_threads(), f"{datetime.date.today()}")
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(folder)
        (case,) = CaseFolder.read(folder).cases
        model = load_model(shipped_weights("unet2d"))
        games = open_variants(model, case)
        label = next(iter(games.values())).label
        areas = {name: (label == value).sum((0, 1)) for name, value in LABELS.items() if name in model.recipe.labels}
        tasks = [Task(case, int(area.argmax()), name, LABELS[name]) for name, area in areas.items()]
        found = [
            measure(games, task, 1 if arguments.quick else 9) for task in (tasks[:1] if arguments.quick else tasks)
        ]
    names = list(VARIANTS)
    head = [f"{kind}: {name}" for kind in ("first click", "later click") for name in names]
    intro = (
        "{cpu}: {cores} cores, {threads} threads, load before {load_before}. torch {torch}. {date}, commit {commit}."
    )
    precision = "Bfloat16" if cpu_multiplies_bfloat16() else "Single precision"
    lines = [f"# Looks\n\nMilliseconds (against the first variant). {intro.format(**where)} {precision}.\n"]
    lines += [f"| organ | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for row in found:
        cells = []
        for kind in ("first", "later"):
            peer = row["seconds"][names[0]][kind]
            cells += [
                f"{row['seconds'][name][kind] * 1000:.0f} ms ({row['seconds'][name][kind] / peer:.2f})"
                for name in names
            ]
        lines.append(f"| {row['structure']} | {' | '.join(cells)} |")
    publish("looks", "\n".join(lines), {"machine": where, "rows": found}, arguments.output)


if __name__ == "__main__":
    main()
