"""Simulated clicks: ours against MONAI's deepgrow transforms, on the same masks, in the same run.

    python benchmarks/click_simulation.py [--output benchmarks/results]

The step: 16 predictions and truths of 512 x 512 -> the next click of each. MONAI: FindDiscrepancyRegionsd and
AddRandomGuidanced per image, without the decollating and collating that its training loop adds. Ours: simulate_click
on the batch, on the CPU path, and on the path made for GPUs as it runs on this CPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from monai.apps.deepgrow.transforms import AddRandomGuidanced, FindDiscrepancyRegionsd
from numpy.typing import NDArray
from scipy import ndimage

from clickseg.clicks import simulate_click
from clickseg.clicks.simulate import _click_torch
from publish import publish

BATCH, SIZE, ROUNDS = 16, 512, 9


def blobs(seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(B, H, W) truths: smooth random structures of an organ's size; predictions: the same, grown, shrunk and moved."""
    generator = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(generator.standard_normal((BATCH, SIZE, SIZE)), (0, 24, 24))
    truths = noise > np.quantile(noise, 0.9)
    change = ndimage.gaussian_filter(generator.standard_normal((BATCH, SIZE, SIZE)), (0, 24, 24))
    mixed = 0.8 * noise + 0.6 * change
    return truths, mixed > np.quantile(mixed, 0.9)


def monai_step(truths: NDArray[np.bool_], predictions: NDArray[np.bool_], seed: int) -> list[str]:
    """MONAI's two transforms, image by image."""
    find, add = FindDiscrepancyRegionsd(), AddRandomGuidanced()
    add.set_random_state(seed=seed)
    clicked = []
    for truth, prediction in zip(truths, predictions, strict=True):
        data = {"label": truth[None], "pred": prediction[None], "guidance": [[], []], "probability": 1.0}
        clicked.append(add(find(data))["guidance"])
    return clicked


def our_step(truths: torch.Tensor, predictions: torch.Tensor, seed: int) -> torch.Tensor:
    """One call for the batch."""
    return simulate_click(predictions, truths, [torch.Generator().manual_seed(seed + item) for item in range(BATCH)])


def our_step_for_gpus(truths: torch.Tensor, predictions: torch.Tensor, seed: int) -> torch.Tensor:
    """The pure torch path (relaxation), here on the CPU: what a GPU would run."""
    draws = torch.rand(BATCH, generator=torch.Generator().manual_seed(seed)).tolist()
    return _click_torch(predictions, truths, draws, "chessboard", 1.0)


def milliseconds(step: Callable[[int], object], rounds: int) -> list[float]:
    """Wall time of each round after one to warm up."""
    times = []
    for number in range(rounds + 1):
        start = time.perf_counter()
        step(number)
        times.append((time.perf_counter() - start) * 1000)
    return times[1:]


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="folder for click_simulation.json and .md")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    truths, predictions = blobs(seed=0)
    tensors = torch.from_numpy(truths), torch.from_numpy(predictions)
    times = {
        "MONAI deepgrow transforms": milliseconds(lambda n: monai_step(truths, predictions, n), arguments.rounds),
        "clickseg, CPU path": milliseconds(lambda n: our_step(*tensors, n), arguments.rounds),
        "clickseg, torch path on the CPU": milliseconds(lambda n: our_step_for_gpus(*tensors, n), 1),
    }
    medians = {name: statistics.median(values) for name, values in times.items()}
    peer = medians["MONAI deepgrow transforms"]
    lines = ["| 16 masks of 512 x 512 | ms per batch (median) | faster than MONAI |", "|---|---|---|"]
    lines += [f"| {name} | {value:.1f} | {peer / value:.1f} x |" for name, value in medians.items()]
    publish("click_simulation", "\n".join(lines), {"milliseconds": times}, arguments.output)


if __name__ == "__main__":
    main()
