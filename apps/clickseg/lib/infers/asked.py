"""What a click request asks of a session: one structure, or several labels by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clickseg.clicks import Click
from clickseg.sessions import Session, VolumeSession

Position = tuple[int, ...]


@dataclass(frozen=True)
class AskedStructure:
    """Clicks inside (label 1) and outside (0) of one structure; values: its name -> 1. reach: of propagation."""

    clicks: Sequence[Click]
    values: Mapping[str, int]
    reach: int

    @property
    def name(self) -> str:
        """What the structure is called."""
        return next(iter(self.values))

    @property
    def positions(self) -> list[Position]:
        """Of all clicks."""
        return [click.position for click in self.clicks]

    @property
    def measured(self) -> Mapping[str, int]:
        """The labels whose area and volume are of interest, and their values."""
        return self.values

    def answer(self, session: Session, start: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """The session's mask (X, Y, Z)."""
        return session.predict(self.clicks, start, self.reach, name=self.name)

    def answer_in(self, number: int, session: Session) -> NDArray[np.uint8]:
        """The same in one axial slice, without propagation; all others are empty."""
        return session.predict(self.clicks, only=number, name=self.name)


@dataclass(frozen=True)
class AskedLabels:
    """Clicks by label name; values: of all labels. frozen: names that stay. measured: names of interest and values.

    reach: of propagation, from slice to slice.
    """

    named: Mapping[str, Sequence[Position]]
    values: Mapping[str, int]
    frozen: Sequence[str]
    measured: Mapping[str, int]
    reach: int

    @property
    def positions(self) -> list[Position]:
        """Of all clicks."""
        return [position for group in self.named.values() for position in group]

    def answer(self, session: Session | VolumeSession, start: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """The session's label map (X, Y, Z)."""
        return session.predict_labels(self.named, self.values, self.frozen, start, self.reach)

    def answer_in(self, number: int, session: Session | VolumeSession) -> NDArray[np.uint8]:
        """The same in one axial slice, without propagation; all others are empty."""
        return session.predict_labels(self.named, self.values, self.frozen, only=number)
