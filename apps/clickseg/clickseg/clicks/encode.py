"""Guidance signals: clicks drawn as images that a network can read."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .click import PADDING

Overlap = Literal["sum", "max"]


def gaussian_guidance(
    clicks: Tensor, labels: Sequence[int], shape: Sequence[int], sigma: float, overlap: Overlap = "sum"
) -> Tensor:
    """One channel per label: a Gaussian at each of its clicks, in [0, 1] (Sakinis 2019, III-B).

    Gaussians are drawn as patches (4 sigma each way), so time grows with the clicks and not with the image, and memory
    is that of one patch per image however many clicks there are.

    Args:
        clicks: (B, N, D+1) voxel rows on the grid of `shape`; label -1 is padding.
        labels: the label drawn in each channel.
        shape: spatial shape S, D numbers.
        sigma: standard deviation, voxels of that grid.
        overlap: "sum" adds up the Gaussians of a channel and divides by the peak, which is to smooth an image of unit
            pixels and normalise it (the paper); with "max" the nearest click counts alone, so that every click has the
            height 1 however many others are near it.

    Returns:
        (B, len(labels), *S) float32 on the device of `clicks`; a channel without clicks is zero.
    """
    offsets, patch = gaussian_patch(sigma, clicks)
    guidance = _draw(clicks, labels, shape, offsets, patch, overlap)
    if overlap == "max":
        return guidance
    peak = guidance.flatten(2).amax(-1).clamp_min(torch.finfo(torch.float32).tiny)
    return guidance / peak.view(*guidance.shape[:2], *([1] * len(shape)))


def disc_guidance(clicks: Tensor, labels: Sequence[int], shape: Sequence[int], radius: float) -> Tensor:
    """One channel per label: 1 within `radius` voxels of any of its clicks, 0 elsewhere (Sofiiuk 2021, III-A).

    Arguments, result and cost as of `gaussian_guidance`.
    """
    offsets = _offsets(math.floor(radius), clicks)
    offsets = offsets[offsets.square().sum(-1) <= radius**2]
    return _draw(clicks, labels, shape, offsets, torch.ones(len(offsets), device=clicks.device), "max")


def gaussian_patch(sigma: float, clicks: Tensor) -> tuple[Tensor, Tensor]:
    """A Gaussian of height 1 in a box of 4 sigma each way round a click: offsets (P, D), voxels, and values (P,).

    For the dimension D of `clicks`, and on their device; the last axis runs fastest.
    """
    offsets = _offsets(math.ceil(4 * sigma), clicks)
    return offsets, torch.exp(-0.5 * (offsets.double() / sigma).square().sum(-1)).float()


def _offsets(radius: int, clicks: Tensor) -> Tensor:
    """The voxels of a box round a click, (P, D), relative to it."""
    box = itertools.product(range(-radius, radius + 1), repeat=clicks.shape[-1] - 1)
    return torch.tensor(list(box), device=clicks.device)


def _draw(
    clicks: Tensor, labels: Sequence[int], shape: Sequence[int], offsets: Tensor, patch: Tensor, overlap: Overlap
) -> Tensor:
    """The values `patch` (P,) at `offsets` (P, D) round every click, in the channel of its label, (B, C, *S)."""
    batch, _, columns = clicks.shape
    dimension = columns - 1
    if len(shape) != dimension:
        raise ValueError(f"clicks have {dimension} coordinates, the grid {tuple(shape)} has {len(shape)}")
    device = clicks.device
    guidance = torch.zeros(batch, len(labels), *shape, device=device)
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
        values = patch.expand(len(item), -1)[inside]
        if overlap == "sum":
            flat.index_put_((index[inside],), values, accumulate=True)
        else:  # each image has one patch at most, so no index comes twice
            flat[index[inside]] = torch.maximum(flat[index[inside]], values)
    return guidance
