"""Who computes next on a device."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import deque
from collections.abc import Iterator

from ..stopwatch import stage


class Turns:
    """One at a time, in the order in which they came.

    Somebody who clicks waits for the answer before clicking again, so that several are served in turn and nobody's
    propagation, which takes a turn for every slice, keeps the others waiting.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until all who came before have left."""
        mine = threading.Event()
        with self._lock:
            self._waiting.append(mine)
            self._waiting[0].set()
        with stage("wait"):
            mine.wait()
        try:
            yield
        finally:
            with self._lock:
                self._waiting.popleft()
                if self._waiting:
                    self._waiting[0].set()


@functools.cache
def turns_on(device: str) -> Turns:
    """Those of a device, by its name: all models on it share them, and the threads that they compute with."""
    return Turns()
