"""What a click of `tis` costs once the volume is encoded, against the encoder's own forward, in the same run.

    python benchmarks/volume_click.py [--memory] [--output benchmarks/results]

A crop with a round structure that fills a given share of it, clicked at random voxels, random weights of the default
recipe (time does not depend on them). Encoder: one forward of the whole crop. Click: the refiner over the voxels that
it looks at (within 24 voxels of a click, the structure dilated by 3, and a ball of 6 round each click). Memory: the
most that the process grew by during clicks, measured in a process of its own.

With --memory only that, of the same voxels under ever more clicks (no horizon: the whole structure is looked at), in
processes that compute nothing before: the median of three each.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clickseg.clicks import Click, stack_clicks
from clickseg.machine import half_precision
from clickseg.methods.tis import Tis, TisRecipe
from publish import publish

ROWS = [
    ((64, 64, 64), 0.05, 1),
    ((96, 96, 96), 0.05, 1),
    ((128, 128, 96), 0.02, 1),
    ((128, 128, 96), 0.05, 1),
    ((128, 128, 96), 0.05, 5),
    ((128, 128, 96), 0.05, 20),
    ((128, 128, 96), 0.20, 1),
    ((128, 128, 96), 0.20, 20),
]
MEMORY_SHARES, MEMORY_CLICKS = (0.05, 0.2), (1, 2, 5, 10, 20, 50)
RECIPE = TisRecipe(labels={"organ": 1, "tumour": 2}, patch=(64, 64, 64))


def seconds(step: Callable[[], object], rounds: int) -> float:
    """The median of some rounds after one to warm up."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def code_with_ball(shape: tuple[int, int, int], share: float) -> torch.Tensor:
    """(1, F + C, *shape): features of noise, and logits in which a ball of this share is class 1."""
    radius = (share * shape[0] * shape[1] * shape[2] * 3 / (4 * torch.pi)) ** (1 / 3)
    x, y, z = (torch.arange(count) - count // 2 for count in shape)
    ball = x[:, None, None] ** 2 + y[:, None] ** 2 + z**2 <= radius**2
    code = torch.randn(1, RECIPE.width + 3, *shape, generator=torch.Generator().manual_seed(0))
    code[:, RECIPE.width :] = torch.stack([~ball, ball, torch.zeros_like(ball)]).float() * 4
    return code


def clicked(recipe: TisRecipe, shape: tuple[int, int, int], share: float, clicks: int) -> tuple[Tis, Tensor, Tensor]:
    """A network, a code with a ball, and clicks at random in it."""
    torch.manual_seed(0)
    network = Tis(recipe).eval()
    draws = torch.Generator().manual_seed(1)
    code = code_with_ball(shape, share)
    structure = network.automatic(code)[0].argmax(0).nonzero()
    places = structure[torch.randint(len(structure), (clicks,), generator=draws)].tolist()
    return network, code, stack_clicks([[Click(tuple(place), number % 3) for number, place in enumerate(places)]], 3)


def most_memory() -> float:
    """MB that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes on Linux


def measure(shape: tuple[int, int, int], share: float, clicks: int, rounds: int) -> dict[str, Any]:
    """One row, in this process."""
    network, code, rows = clicked(RECIPE, shape, share, clicks)
    with torch.inference_mode(), half_precision("cpu"):
        image = torch.randn(1, 1, *shape)
        encoder = seconds(lambda: network.encode_patch(image), max(1, rounds // 3))
        tokens = len(network.refinable(network.automatic(code)[0], rows[0]))
        before = most_memory()
        click = seconds(lambda: network.decode(code, rows), rounds)
        grown = most_memory() - before  # the encoder's peak comes before and hides what is less
    return {
        "shape": shape, "share": share, "clicks": clicks, "tokens": tokens, "encoder_s": encoder, "click_s": click,
        "memory_mb": grown,
    }  # fmt: skip


def memory(share: float, clicks: int) -> tuple[int, float]:
    """How many voxels are looked at, and the MB that takes, in this process."""
    network, code, rows = clicked(replace(RECIPE, horizon=None), (128, 128, 96), share, clicks)
    with torch.inference_mode():
        tokens = len(network.refinable(network.automatic(code)[0], rows[0]))
        before = most_memory()
        network.decode(code, rows)
    return tokens, most_memory() - before


def apart(function: Callable[..., Any], *arguments: object) -> Any:
    """What a function returns in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def measure_memory(output: Path | None) -> None:
    """Each figure in processes of their own."""
    found = []
    lines = ["| crop | structure | clicks | tokens | memory, MB |", "|---|---|---|---|---|"]
    for share, clicks in itertools.product(MEMORY_SHARES, MEMORY_CLICKS):
        runs = [apart(memory, share, clicks) for _ in range(3)]
        tokens, megabytes = runs[0][0], [grown for _, grown in runs]
        found.append({"share": share, "clicks": clicks, "tokens": tokens, "memory_mb": megabytes})
        lines.append(f"| 128 x 128 x 96 | {share:.0%} | {clicks} | {tokens} | {statistics.median(megabytes):.0f} |")
    publish("volume_click_memory", "\n".join(lines), {"rows": found}, output)


def main() -> None:
    """Measure each row in a process of its own, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="folder for volume_click.json and .md")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="only the memory, against the number of clicks")
    arguments = parser.parse_args()
    if arguments.memory:
        measure_memory(arguments.output)
        return
    found = [apart(measure, *row, arguments.rounds) for row in ROWS]
    lines = [
        "| crop | structure | clicks | tokens | encoder, s | click, s | click / encoder | memory added, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        ratio = row["click_s"] / row["encoder_s"]
        size = " x ".join(map(str, row["shape"]))
        cells = [size, f"{row['share']:.0%}", row["clicks"], row["tokens"], f"{row['encoder_s']:.2f}"]
        cells += [f"{row['click_s']:.2f}", f"{ratio:.2f}", f"{row['memory_mb']:.0f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    publish("volume_click", "\n".join(lines), {"rows": found}, arguments.output)


if __name__ == "__main__":
    main()
