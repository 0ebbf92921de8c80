"""Guidance signals: clicks drawn as images that a network can read."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .click import PADDING


def gaussian_guidance(clicks: Tensor, labels: Sequence[int], shape: Sequence[int], sigma: float) -> Tensor:
    """One channel per label: unit pixels at its clicks, smoothed, normalised to [0, 1] (Sakinis 2019, III-B).

    The smoothing is the sum of one Gaussian patch (4 sigma each way) per click, so time grows with the clicks and not
    with the image, and memory is that of one patch per image however many clicks there are.

    Args:
        clicks: (B, N, D+1) voxel rows on the grid of `shape`; label -1 is padding.
        labels: the label drawn in each channel.
        shape: spatial shape S, D numbers.
        sigma: standard deviation, voxels of that grid.

    Returns:
        (B, len(labels), *S) float32 on the device of `clicks`; a channel without clicks is zero.
    """
    batch, total, columns = clicks.shape
    dimension = columns - 1
    if len(shape) != dimension:
        raise ValueError(f"clicks have {dimension} coordinates, the grid {tuple(shape)} has {len(shape)}")
    device = clicks.device
    guidance = torch.zeros(batch, len(labels), *shape, device=device)
    if total == 0:
        return guidance
    radius = math.ceil(4 * sigma)
    offsets = torch.tensor(list(itertools.product(range(-radius, radius + 1), repeat=dimension)), device=device)
    patch = torch.exp(-0.5 * (offsets.double() / sigma).square().sum(-1)).float()
    extent = torch.tensor(shape, device=device)
    strides = torch.tensor([math.prod(shape[axis + 1 :]) for axis in range(dimension)], device=device)
    label_of_channel = torch.tensor(labels, device=device)
    flat = guidance.view(-1)
    for number, row in enumerate(clicks.unbind(1)):
        again = (clicks[:, :number] == row[:, None]).all(-1).any(1)  # a pixel clicked twice is still a unit pixel
        shown = (row[:, -1] != PADDING) & ~again
        item, channel = ((row[:, -1:] == label_of_channel) & shown[:, None]).nonzero(as_tuple=True)
        positions = row[item, None, :-1] + offsets
        inside = ((positions >= 0) & (positions < extent)).all(-1)
        base = (item * len(labels) + channel) * math.prod(shape)
        index = base[:, None] + (positions * strides).sum(-1)
        flat.index_put_((index[inside],), patch.expand(len(item), -1)[inside], accumulate=True)
    peak = guidance.flatten(2).amax(-1).clamp_min(torch.finfo(torch.float32).tiny)
    return guidance / peak.view(batch, len(labels), *([1] * dimension))
