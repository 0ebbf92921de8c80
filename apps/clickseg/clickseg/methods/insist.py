"""Clicks that a network ignores, put right (docs/adr/0015)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..clicks import INSIDE, PADDING
from ..clicks.encode import gaussian_patch


def insist(logits: Tensor, clicks: Tensor, margin: float, sigma: float) -> Tensor:
    """Logits (B, 2, H, W), outside and inside, in which the label of every click leads by `margin` at its pixel.

    A click whose label does not lead so is given what is missing, as a Gaussian round it that ends half way to other
    clicks (of those at one pixel the last counts). Where all are obeyed, nothing changes.

    Args:
        clicks: (B, N, 3), pixels of the grid of the logits; label 1 inside, 0 outside, -1 padding.
        margin: of the logit of the click's label over the other one; 1 is a probability of 0.73.
        sigma: standard deviation of the Gaussian, pixels.
    """
    rows, columns, labels = clicks.to(logits.device).unbind(-1)
    batch = torch.arange(len(logits), device=logits.device)[:, None]
    outside, inside = logits[batch, :, rows.clamp_min(0), columns.clamp_min(0)].unbind(-1)
    sign = torch.where(labels == INSIDE, 1.0, -1.0)
    missing = (margin - sign * (inside - outside)).clamp_min(0)
    real = labels != PADDING
    ignoring = ((missing > 0) & real).any(1, keepdim=True)
    if not bool(ignoring.any()):
        return logits
    change, nearest = torch.zeros_like(logits[:, 0]), torch.zeros_like(logits[:, 0])
    _, values = gaussian_patch(sigma, clicks)
    side = math.isqrt(len(values))
    radius, patch, pixels = side // 2, values.view(side, side).to(logits), clicks[..., :2].tolist()
    for item, number in (real & ignoring).nonzero().tolist():
        row, column = pixels[item][number]
        top, left = max(0, row - radius), max(0, column - radius)
        bottom, right = min(logits.shape[2], row + radius + 1), min(logits.shape[3], column + radius + 1)
        box = (item, slice(top, bottom), slice(left, right))
        part = patch[top - row + radius : bottom - row + radius, left - column + radius : right - column + radius]
        nearer = part >= nearest[box]
        change[box] = torch.where(nearer, (sign * missing)[item, number] * part, change[box])
        nearest[box] = torch.where(nearer, part, nearest[box])
    return logits + torch.stack([-change, change], dim=1) / 2
