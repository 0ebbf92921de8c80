"""Voxels near others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def balls(like: Tensor, centres: Sequence[Sequence[int]], radius: int) -> Tensor:
    """A mask (X, Y, Z) like another, with all voxels within `radius` voxels of a centre."""
    found = torch.zeros_like(like, dtype=torch.bool)
    for centre in centres:
        box = tuple(slice(max(0, index - radius), index + radius + 1) for index in centre)
        within = found[box]
        middle = [index - part.start for index, part in zip(centre, box, strict=True)]
        within |= squared_distance(within.shape, middle, like.device) <= radius**2
    return found


def squared_distance(
    shape: Sequence[int], position: Sequence[int], device: torch.device, steps: Sequence[float] = (1.0, 1.0, 1.0)
) -> Tensor:
    """(X, Y, Z) squared distances of all voxels from one, in voxels, or in mm with the steps of a grid."""
    x, y, z = (
        ((torch.arange(count, device=device) - index) * step).square()
        for count, index, step in zip(shape, position, steps, strict=True)
    )
    return x[:, None, None] + y[:, None] + z


def dilate(mask: Tensor, margin: int, far: int | None = None) -> Tensor:
    """A mask (X, Y, Z) with all voxels within `margin` of it along each axis (far faster than a max-pool).

    far: towards the far ends, `margin` if it is not given.
    """
    far = margin if far is None else far
    for axis in range(mask.ndim):
        narrow, mask, length = mask, mask.clone(), mask.shape[axis]
        for shift in range(1, min(far + 1, length)):
            mask.narrow(axis, shift, length - shift).logical_or_(narrow.narrow(axis, 0, length - shift))
        for shift in range(1, min(margin + 1, length)):
            mask.narrow(axis, 0, length - shift).logical_or_(narrow.narrow(axis, shift, length - shift))
    return mask
