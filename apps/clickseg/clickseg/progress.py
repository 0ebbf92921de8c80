"""How far an answer that takes long is, for whoever watches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Watcher(Protocol):
    """Is told by the threads that compute, and returns at once."""

    def part(self, done: int, whole: int) -> None:
        """So many of the steps are done without which nothing can be shown yet."""

    def slice(self, axis: int, number: int, plane: NDArray[np.uint8]) -> None:
        """What slice `number` along an axis of the image holds so far; plane: the other two axes, in array order.

        May raise ValueError: the answer is then given up.
        """


_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextlib.contextmanager
def watched_by(watcher: Watcher | None) -> Iterator[None]:
    """What is computed in the context tells this watcher."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def tell_part(done: int, whole: int) -> None:
    """Tell how many of the steps are done before anything can be shown."""
    if watcher := _watcher.get():
        watcher.part(done, whole)


def tell_slice(axis: int, number: int, plane: NDArray[np.uint8]) -> None:
    """Tell what a slice holds so far, as `Watcher.slice`. Raises what the watcher does to give up."""
    if watcher := _watcher.get():
        watcher.slice(axis, number, plane)
