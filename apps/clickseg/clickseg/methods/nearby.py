"""The part of a slice that is worth a look once something has been found in it (docs/adr/0024)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..clicks import INSIDE, OUTSIDE
from ..clicks.simulate import bounding_box
from ..networks import UNet

REACH = 64  # pixels that are looked at on each side of what has been found
ELSEWHERE = 10.0  # by which outside leads beyond

Box = tuple[slice, slice]


def surroundings(answer: Tensor, clicks: Tensor) -> Box:
    """Rows and columns of a slice in which the structure lies with `REACH` pixels round it; all if nothing is marked.

    The structure is what the answer marks and the clicks inside. The part begins where a pixel of the network's
    coarsest level does, so that the network says there what it says of the whole slice, but for what is out of sight.

    Args:
        answer: (H, W), the probability of inside. clicks: (N, 3), pixels of the same grid.
    """
    found, step, sides = (answer > 0.5).cpu().numpy(), UNet.divisor, []
    if not found.any():
        return slice(0, found.shape[0]), slice(0, found.shape[1])
    found[tuple(clicks[clicks[:, -1] == INSIDE, :2].cpu().numpy().T)] = True
    for side, count in zip(bounding_box(found) or (), found.shape, strict=True):
        first, end = max(0, side.start - REACH), min(count, side.stop + REACH)
        sides.append(slice(first // step * step, min(count, -(-end // step) * step)))
    return sides[0], sides[1]


def put_back(part: Tensor, box: Box, shape: torch.Size) -> Tensor:
    """Logits (B, 2, H, W) of whole slices of this `shape`: those of a part in its place, outside elsewhere."""
    if part.shape[-2:] == shape:
        return part
    whole = part.new_full((*part.shape[:2], *shape), -ELSEWHERE)
    whole[:, OUTSIDE] = ELSEWHERE
    whole[(..., *box)] = part
    return whole
