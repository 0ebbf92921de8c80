"""What a click is, and the padded tensor that a batch of clicks travels in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

INSIDE, OUTSIDE, PADDING = 1, 0, -1  # labels of clicks; a method of several classes has its own


@dataclass(frozen=True, slots=True)
class Click:
    """One click: `position` is a voxel index in array-axis order, `label` its class.

    A one-structure method has INSIDE and OUTSIDE.
    """

    position: tuple[int, ...]
    label: int


def stack_clicks(batch: Sequence[Sequence[Click]], dimension: int) -> Tensor:
    """Click tensor (B, N, D+1), int64, rows (axis0, ..., label); N is the longest list, label -1 is padding."""
    longest = max((len(clicks) for clicks in batch), default=0)
    stacked = torch.full((len(batch), longest, dimension + 1), PADDING, dtype=torch.int64)
    for item, clicks in enumerate(batch):
        for row, click in enumerate(clicks):
            if len(click.position) != dimension:
                raise ValueError(f"{click} has {len(click.position)} coordinates; this method wants {dimension}")
            stacked[item, row] = torch.tensor((*click.position, click.label))
    return stacked


def unstack_clicks(clicks: Tensor) -> list[list[Click]]:
    """The inverse of `stack_clicks`: one list of clicks per batch item, without the padding."""
    return [[Click(tuple(row[:-1]), row[-1]) for row in item if row[-1] != PADDING] for item in clicks.tolist()]


def append_clicks(clicks: Tensor, rows: Tensor) -> Tensor:
    """(B, N, D+1) and one new row per item (B, D+1) -> (B, N+1, D+1). A row with label -1 is padding."""
    return torch.cat([clicks, rows[:, None].to(clicks)], dim=1)
