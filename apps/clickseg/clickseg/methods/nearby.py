"""The part of a slice that is worth a look once something has been found in it (docs/adr/0024)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..clicks import INSIDE, OUTSIDE
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
    marked, step, sides = answer > 0.5, UNet.divisor, []
    inside = clicks[clicks[:, -1] == INSIDE].to(answer.device)
    for axis, count in enumerate(marked.shape):
        lines = marked.any(1 - axis).nonzero()[:, 0]
        pixels = torch.cat([lines, inside[:, axis]]) if len(lines) else torch.tensor([0, count - 1])
        first, last = int(pixels.min()), int(pixels.max())
        sides.append(slice(max(0, first - REACH) // step * step, min(count, -(-(last + 1 + REACH) // step) * step)))
    return sides[0], sides[1]


def put_back(part: Tensor, box: Box, shape: torch.Size) -> Tensor:
    """Logits (B, 2, H, W) of whole slices of this `shape`: those of a part in its place, outside elsewhere."""
    if part.shape[-2:] == shape:
        return part
    whole = part.new_full((*part.shape[:2], *shape), -ELSEWHERE)
    whole[:, OUTSIDE] = ELSEWHERE
    whole[(..., *box)] = part
    return whole
