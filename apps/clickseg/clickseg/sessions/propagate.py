"""From a clicked slice to its neighbours: one click, a whole organ.

The innermost point of the last mask is the next slice's click, until the structure ends or the mask degenerates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..clicks import Click
from ..clicks.users import innermost
from ..metrics import dice

Probability = NDArray[np.float32]
Ask = Callable[[int, Click], Probability]

LEAST_OVERLAP = 0.5  # Dice of neighbouring masks below which the structure has ended
MOST_GROWTH = 2.0  # a mask that is so many times larger than the last one has run out into its surroundings


def propagate(
    last: Probability, numbers: Sequence[int], ask: Ask, spacing: tuple[float, float]
) -> Iterator[tuple[int, Probability]]:
    """Slice after slice, the probability (R, A) of being inside, from one that has been answered.

    Of each answer only the parts that touch the last mask count: what else it marks has probability 0.

    Args:
        last: the probability of the slice before the first of `numbers`.
        numbers: the slices to go on to, in their order.
        ask: the probability in a slice, given one click inside it.
        spacing: mm per pixel step along R and A.
    """
    for number in numbers:
        mask = last > 0.5
        if not mask.any():
            return
        inside = ask(number, Click(innermost(mask, spacing), 1))
        inside = np.where(_touching(inside > 0.5, mask), inside, np.float32(0)).astype(np.float32)
        if not _goes_on(mask, inside > 0.5):
            return
        yield number, inside
        last = inside


def _touching(mask: NDArray[np.bool_], last: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts of a mask that overlap the last one."""
    parts, _ = ndimage.label(mask)
    touched = np.unique(parts[last & mask])
    return np.isin(parts, touched[touched > 0])


def _goes_on(last: NDArray[np.bool_], new: NDArray[np.bool_]) -> bool:
    """Whether a mask is of the structure of the last one."""
    return dice(new, last) >= LEAST_OVERLAP and int(new.sum()) <= MOST_GROWTH * int(last.sum())
