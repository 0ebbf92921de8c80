"""How far an answer is, on the terminal."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

LONG = 1.0  # seconds: of what takes less nothing is shown


class Bars:
    """A watcher (`clickseg.progress`) that draws on stderr: a bar of the steps before an answer, a count of slices."""

    def __init__(self) -> None:
        self._steps: tqdm[Any] | None = None
        self._slices: tqdm[Any] | None = None

    def part(self, done: int, whole: int) -> None:
        """As `Watcher.part`."""
        if self._steps is None:
            self._steps = tqdm(total=whole, desc="looking at the volume", unit="patch", delay=LONG)
        self._steps.update(done - self._steps.n)

    def slice(self, axis: int, number: int, plane: NDArray[np.uint8]) -> None:
        """As `Watcher.slice`."""
        if self._slices is None:
            self._slices = tqdm(desc="slice by slice", unit="slice", delay=LONG)
        self._slices.update()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for bar in (self._steps, self._slices):
            if bar is not None:
                bar.close()
