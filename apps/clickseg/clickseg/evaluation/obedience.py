"""Whether a corrective click did what it was set for: users of other tools complain of clicks that are ignored."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..clicks import INSIDE, Click

DISC_PIXELS = 3.0  # around the click: what it must correct
REACH_MM = 10.0  # around a background click: where the foreground must not grow
GROWTH = 0.01  # of the foreground there


def obeyed(click: Click, before: NDArray[np.bool_], after: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """1 if the part of a disc round the click that was wrong now has the click's label, else 0; masks (H, W).

    NaN if nothing there was wrong as the click says (a user who errs).
    """
    inside = click.label == INSIDE
    box, near = _disc(click, before.shape, (DISC_PIXELS, DISC_PIXELS))
    error = near & (truth[box] == inside) & (before[box] != inside)
    return float((after[box][error] == inside).all()) if error.any() else math.nan


def contained(click: Click, before: NDArray[np.bool_], after: NDArray[np.bool_], spacing: Sequence[float]) -> float:
    """1 if the foreground within REACH_MM of a background click has not grown by more than GROWTH, else 0.

    masks (H, W); spacing: mm. NaN for a click inside.
    """
    if click.label == INSIDE:
        return math.nan
    box, near = _disc(click, before.shape, [REACH_MM / length for length in spacing])
    return float((after[box] & near).sum() <= (1 + GROWTH) * (before[box] & near).sum())


def _disc(click: Click, shape: Sequence[int], radii: Sequence[float]) -> tuple[tuple[slice, ...], NDArray[np.bool_]]:
    """The box round a click within the slice, and which of its pixels are within the radii (pixels per axis)."""
    box, squares = [], []
    for axis, (centre, count, radius) in enumerate(zip(click.position, shape, radii, strict=True)):
        low, high = max(0, centre - math.floor(radius)), min(count, centre + math.floor(radius) + 1)
        box.append(slice(low, high))
        offsets = (np.arange(low, high) - centre) / radius
        squares.append(np.expand_dims(offsets**2, 1 - axis))
    return tuple(box), squares[0] + squares[1] <= 1
