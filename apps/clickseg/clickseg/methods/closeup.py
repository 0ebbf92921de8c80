"""Where a slice is looked at closely (docs/adr/0003)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..clicks import INSIDE, PADDING

SURROUNDINGS = 8  # a structure is left at least this part of the window's side on each side of it

Corner = tuple[int, int]


def close_ups(answer: Tensor, clicks: Tensor, side: int) -> list[Corner | None]:
    """The first pixel of the window of `side` pixels in which each slice's structure is looked at closely.

    The structure is what its answer marks and the clicks inside; None where nothing is marked or it is too large. The
    structure is in the middle of its window, as far as the slice reaches.

    Args:
        answer: (B, 1, H, W), the probability of inside. clicks: (B, N, 3), pixels of the same grid.
    """
    corners: list[Corner | None] = []
    for marked, rows in zip(answer[:, 0] > 0.5, clicks.to(answer.device), strict=True):
        inside, starts = rows[rows[:, -1] == INSIDE], []
        for axis, count in enumerate(marked.shape if bool(marked.any()) else ()):
            pixels = torch.cat([marked.any(1 - axis).nonzero()[:, 0], inside[:, axis]])
            first, end = int(pixels.min()), int(pixels.max()) + 1
            if fits(end - first, side):
                starts.append(max(0, min((first + end - side) // 2, count - side)))
        corners.append((starts[0], starts[1]) if len(starts) == 2 else None)
    return corners


def fits(extent: int, side: int) -> bool:
    """Whether something of so many pixels is small enough for a window of `side` pixels."""
    return extent <= side - 2 * (side // SURROUNDINGS)


def cut_out(maps: Tensor, corners: list[Corner], side: int) -> Tensor:
    """(B, C, H, W) -> the window of each, (B, C, side, side), or as many pixels as there are."""
    windows = zip(maps, corners, strict=True)
    return torch.stack([one[:, row : row + side, column : column + side] for one, (row, column) in windows])


def put_back(part: Tensor, corners: list[Corner], whole: Tensor) -> Tensor:
    """The windows (B, C, h, w) in their places in `whole` (B, C, H, W), which is changed."""
    height, width = part.shape[-2:]
    for item, (row, column) in enumerate(corners):
        whole[item, :, row : row + height, column : column + width] = part[item]
    return whole


def clicks_in(clicks: Tensor, corners: list[Corner], shape: tuple[int, int]) -> Tensor:
    """(B, N, 3) clicks in pixels of the windows of this `shape`; those beyond are padding."""
    moved = clicks.clone()
    moved[..., :2] -= torch.tensor(corners, device=clicks.device)[:, None]
    beyond = ((moved[..., :2] < 0) | (moved[..., :2] >= torch.tensor(shape, device=clicks.device))).any(-1)
    moved[beyond] = PADDING
    return moved
