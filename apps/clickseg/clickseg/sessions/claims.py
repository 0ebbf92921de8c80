"""What a session keeps of its answers: many, for a mask of many clicked slices asks for all of them each time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..clicks.simulate import bounding_box

Probability = NDArray[np.float32]
KEY_BYTES = 500  # what a claim takes beside its pixels, its clicks included


def fingerprint(array: NDArray[Any]) -> bytes:
    """What an answer is kept by that depends on an array: few bytes, and others for another array of that shape."""
    return hashlib.sha256(array.tobytes()).digest()


@dataclass(frozen=True)
class Claim:
    """The pixels of a slice that an answer claims.

    shape: of the slice (R, A). box: where they lie. inside: the probability there, 0 where it is at most 1/2.
    """

    shape: tuple[int, ...]
    box: tuple[slice, ...]
    inside: Probability

    @classmethod
    def of(cls, inside: Probability) -> Self:
        """What the probability (R, A) of being inside claims."""
        claimed = inside > 0.5
        box = bounding_box(claimed) or (slice(0, 0),) * inside.ndim
        # First axis fastest, as the masks that it is compared into.
        return cls(inside.shape, box, np.asfortranarray(np.where(claimed[box], inside[box], np.float32(0))))

    @property
    def bytes(self) -> int:
        """Of memory."""
        return self.inside.nbytes + KEY_BYTES

    def whole(self) -> Probability:
        """The probability of the whole slice, 0 where it is at most 1/2."""
        inside = np.zeros(self.shape, np.float32, order="F")
        inside[self.box] = self.inside
        return inside
