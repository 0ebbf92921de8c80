"""What no click can be faster than: the bare network, and a server whose mask lies ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from clickseg.clicks import wire
from clickseg.geometry import AxialSlices, Grid, resized_shape
from clickseg.machine import half_precision, keep_freed_memory
from clickseg.methods import load_model
from clickseg.networks import UNet
from lib.infers.reply import write_reply
from servers import Surroundings, weights

REPEATS = 10


def network_alone(image: Path, around: Surroundings) -> float:
    """Seconds (median) of the bare network on one slice of the image, in this process."""
    forward = bare_network(image, around)
    return float(np.median([forward() for _ in range(REPEATS)]))


def bare_network(image: Path, around: Surroundings) -> Callable[[], float]:
    """The bare network on one slice of the image, in this process: each call runs it and gives the seconds."""
    keep_freed_memory()  # as the server does
    torch.set_num_threads(around.threads)
    header = nib.load(image)
    model, slices = load_model(weights(around.folder)), AxialSlices(Grid(header.shape, header.affine))
    shape = [n + -n % UNet.divisor for n in resized_shape(slices.shape, slices.spacing, model.recipe.spacing)]
    channels = next(model.segmenter.network.parameters()).shape[1]
    x = torch.randn(1, channels, *shape, generator=torch.Generator().manual_seed(0))
    x = x.to(memory_format=torch.channels_last)

    def forward() -> float:
        with torch.inference_mode(), half_precision("cpu"):
            begin = time.perf_counter()
            model.segmenter.network(x)
            return time.perf_counter() - begin

    forward()  # its first is slower
    return forward


def write_ready_masks(folder: Path, mask: np.ndarray, grid: Grid, replies: Mapping[str, Mapping[str, Any]]) -> None:
    """A mask in every kind of reply, where the app benchmarks/ready expects it: beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for wish in replies.values():
        compressed = wish["result_extension"] == ".nrrd" and wish["result_compress"]
        made = Path(write_reply(mask, grid, wire.parse_reply(wish)))
        made.replace(folder / f"ready{'.gz' * compressed}{wish['result_extension']}")
