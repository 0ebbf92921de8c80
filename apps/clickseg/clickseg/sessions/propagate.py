"""From a clicked slice to its neighbours: one click, a whole organ (docs/adr/0010).

The innermost point of the last mask is the next slice's click. What it is answered counts as far as the network agrees
when it reads the last mask. Where the answer then leaves the surroundings of the last mask it is corrected by further
clicks, as a user would. It ends where the structure does, the mask degenerates or the network is unsure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..clicks import Click
from ..clicks.simulate import bounding_box
from ..clicks.users import innermost, largest_component
from ..metrics import dice

Probability = NDArray[np.float32]
Mask = NDArray[np.bool_]
Ask = Callable[[int, Sequence[Click], Probability, bool], Probability]
Look = Callable[[int], NDArray[np.generic]]

LEAST_SURE = 0.65  # mean lead of a mask over the rest in probability, below which it is a guess
LEAST_OVERLAP = 0.5  # Dice of neighbouring masks below which the structure has ended
MOST_GROWTH = 2.0  # a mask that is so many times larger than the last one has run out into its surroundings
STEP_MM = 10.0  # how far an edge may move from one slice to the next
CORRECTIONS = 2  # at most, of a slice
LEAST_ERROR = 0.05  # of the last mask's area: what is worth a correction
EDGE_MM = 2.0  # of a structure, where its brightness mixes with that of others
MOST_CHANGE = 5.0  # of its median brightness, in spreads of the clicked slice
LEAST_SPREAD = 0.01  # of the range of brightness of that slice, for structures without noise


def propagate(
    begin: int, last: Probability, numbers: Sequence[int], ask: Ask, look: Look, spacing: tuple[float, float]
) -> Iterator[tuple[int, Probability]]:
    """Slice after slice, the probability (R, A) of being inside, from one that has been answered.

    Of each answer only the parts that touch the last mask count: what else it marks has probability 0.

    Args:
        begin: the slice that has been answered.
        last: its probability.
        numbers: the slices to go on to, in their order.
        ask: the probability in a slice, given clicks in it and an answer that is read: if it follows, that in the
            slice before, else that in this slice, which the last click corrects.
        look: the image (R, A) in a slice.
        spacing: mm per pixel step along R and A.
    """
    mask = last > 0.5
    if not numbers or not mask.any():
        return
    tissue = _Tissue.of(look(begin), mask, spacing)
    for number in numbers:
        inside = _corrected(number, last, ask, spacing)
        new = inside > 0.5
        if not _goes_on(mask, new) or not _is_sure(inside[new]) or not tissue.goes_on(look(number), new, spacing):
            return
        yield number, inside
        last, mask = inside, new


def agreed(clicked: Probability, read: Probability) -> Probability:
    """What a click is answered, as far as the network that reads the last mask does not deny it."""
    return np.where(clicked > 0.5, (clicked + read) / 2, np.float32(0))


def _corrected(number: int, last: Probability, ask: Ask, spacing: tuple[float, float]) -> Probability:
    """The answer in a slice, after corrections where it moves farther from the last mask than structures do."""
    mask = last > 0.5
    clicks = [Click(innermost(mask, spacing), 1)]
    answer = ask(number, clicks, last, True)
    while True:
        inside = np.where(_touching(answer > 0.5, mask), answer, np.float32(0))
        correction = _correction(inside > 0.5, mask, spacing) if len(clicks) <= CORRECTIONS else None
        if correction is None:
            return inside
        clicks.append(correction)
        answer = ask(number, clicks, answer, False)


def _correction(mask: Mask, last: Mask, spacing: tuple[float, float]) -> Click | None:
    """A click in the largest part of a mask that runs out of the last one, or that is missing in its depth."""
    box = bounding_box(mask | last)
    if box is None:
        return None
    beyond, missing = np.zeros_like(mask), last & ~mask & (_depth(last, spacing) > STEP_MM)
    beyond[box] = mask[box] & (ndimage.distance_transform_edt(~last[box], sampling=spacing) > STEP_MM)
    error, label = (beyond, 0) if beyond.sum() >= missing.sum() else (missing, 1)
    if error.sum() <= LEAST_ERROR * last.sum():
        return None
    return Click(innermost(largest_component(error, corners=False), spacing), label)


@dataclass(frozen=True)
class _Tissue:
    """How bright a structure is: its median and how much that may change."""

    median: float
    change: float

    @classmethod
    def of(cls, image: NDArray[np.generic], mask: Mask, spacing: tuple[float, float]) -> Self:
        """What a mask marks in a slice."""
        low, median, high = np.percentile(_values(image, mask, spacing), [25, 50, 75])
        darkest, brightest = np.percentile(image.astype(np.float32), [1, 99])
        spread = max((high - low) / 1.35, LEAST_SPREAD * (brightest - darkest))  # as of a normal distribution
        return cls(float(median), float(MOST_CHANGE * spread))

    def goes_on(self, image: NDArray[np.generic], mask: Mask, spacing: tuple[float, float]) -> bool:
        """Whether what a mask marks in a slice may be the same."""
        return abs(float(np.median(_values(image, mask, spacing))) - self.median) <= self.change


def _values(image: NDArray[np.generic], mask: Mask, spacing: tuple[float, float]) -> NDArray[np.float32]:
    """The brightness of a structure away from its edge, if it has such a place."""
    deep = _depth(mask, spacing) > EDGE_MM
    return image[deep if deep.any() else mask].astype(np.float32)


def _depth(mask: Mask, spacing: tuple[float, float]) -> NDArray[np.float64]:
    """mm from every marked pixel to the nearest unmarked one; 0 outside."""
    depth, box = np.zeros(mask.shape), bounding_box(mask)
    if box is not None:
        depth[box] = ndimage.distance_transform_edt(np.pad(mask[box], 1), sampling=spacing)[1:-1, 1:-1]
    return depth


def _touching(mask: Mask, last: Mask) -> Mask:
    """The parts of a mask that overlap the last one."""
    parts, _ = ndimage.label(mask)
    touched = np.unique(parts[last & mask])
    return np.isin(parts, touched[touched > 0])


def _is_sure(marked: Probability) -> bool:
    """Whether the network leads clearly in the pixels that it marks: a structure's end fades."""
    return bool((2 * marked - 1).mean() >= LEAST_SURE)


def _goes_on(last: Mask, new: Mask) -> bool:
    """Whether a mask is of the structure of the last one."""
    return dice(new, last) >= LEAST_OVERLAP and int(new.sum()) <= MOST_GROWTH * int(last.sum())
