"""What to label next: pure scoring functions, large where a label would teach most."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .clicks import Click, stack_clicks
from .geometry import AxialSlices, Grid, UprightVolume, resize, resized_shape
from .machine import half_precision
from .methods import Segmenter

NOTHING = 1e-6
CENTRAL = (0.3, 0.5, 0.7)  # where in a slice to click, as shares of its sides: a patient fills the middle


def foreground_entropy(probabilities: Tensor) -> float:
    """Mean entropy of a prediction over its foreground, in [0, 1]: 0 is sure, 1 is a coin toss everywhere.

    Every voxel's entropy, divided by log C, is weighted by its probability of being foreground: the large and certain
    background of a medical image would drown everything else in a plain mean. Where there is no foreground at all the
    score is 0: nothing was found to be unsure about.

    Args:
        probabilities: (B, C, *S), C >= 2, channel 0 background, summing to 1 over C.

    Raises:
        ValueError: fewer than two channels, or values that are not probabilities.
    """
    if probabilities.ndim < 2 or probabilities.shape[1] < 2:
        raise ValueError(f"probabilities of shape (B, C, ...) with C >= 2 are needed, got {tuple(probabilities.shape)}")
    probabilities = probabilities.double()
    total = probabilities.sum(1)
    if not bool((probabilities >= 0).all()) or not torch.allclose(total, torch.ones_like(total), atol=1e-3):
        raise ValueError("probabilities must be at least 0 and sum to 1 over the classes")
    entropy = -torch.xlogy(probabilities, probabilities).sum(1) / math.log(probabilities.shape[1])
    foreground = 1 - probabilities[:, 0]
    weight = foreground.sum()
    return float((entropy * foreground).sum() / weight) if weight > NOTHING else 0.0


def spread(count: int, wanted: int) -> list[int]:
    """`wanted` of the numbers 0 ... count - 1, evenly spread and away from both ends; all of them if they are fewer."""
    if wanted >= count:
        return list(range(count))
    return [int((place + 0.5) * count / wanted) for place in range(wanted)]


def click_entropies(
    segmenter: Segmenter, spacing: float, volume: NDArray[np.generic], grid: Grid, wanted: int = 5
) -> dict[int, float]:
    """How unsure a 2D one-structure segmenter is about an unlabeled volume: slice number -> foreground entropy.

    Such a network says nothing before it is clicked, and nobody is there to click: so in `wanted` evenly spread axial
    slices it is given, one at a time, single clicks on a fixed central grid of 3 x 3 points, and asked each time for
    the structure that lies there. The cost is 9 * `wanted` predictions of a slice, whatever the size of the volume.

    Args:
        segmenter: in evaluation mode. spacing: mm of its model grid, in plane. volume: (X, Y, Z) on `grid`.
    """
    slices = AxialSlices(grid)
    shape = resized_shape(slices.shape, slices.spacing, spacing)
    points = [Click((int(a * shape[0]), int(b * shape[1])), label=1) for a in CENTRAL for b in CENTRAL]
    clicks_model = stack_clicks([[point] for point in points], dimension=2)
    device = next(segmenter.parameters()).device
    found = {}
    for number in spread(grid.shape[slices.axis], wanted):
        plane = torch.from_numpy(np.ascontiguousarray(slices.view(volume, number), dtype=np.float32))
        with torch.inference_mode(), half_precision(device):
            code = segmenter.encode(resize(plane[None, None].to(device), shape))
            logits = segmenter.decode(code.expand(len(points), *code.shape[1:]), clicks_model)
        found[number] = foreground_entropy(logits.float().softmax(1).cpu())
    return found


def volume_entropy(segmenter: Segmenter, spacing: float, volume: NDArray[np.generic], grid: Grid) -> float:
    """How unsure a 3D segmenter that answers before the first click is about a volume: its foreground entropy.

    segmenter: in evaluation mode. spacing: mm of its model grid. volume: (X, Y, Z) on `grid`.
    """
    upright = UprightVolume(grid)
    device = next(segmenter.parameters()).device
    plain = torch.from_numpy(np.ascontiguousarray(upright.view(volume), dtype=np.float32))[None, None].to(device)
    with torch.inference_mode(), half_precision(device):
        code = segmenter.encode(resize(plain, resized_shape(upright.shape, upright.spacing, spacing)))
        logits = segmenter.decode(code, stack_clicks([[]], dimension=3).to(device))
    return foreground_entropy(logits.float().softmax(1).cpu())
