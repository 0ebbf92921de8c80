"""What the time of a click goes to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar

REST = "other"


class _Watch:
    def __init__(self) -> None:
        self.seconds = {REST: 0.0}
        self._running = [REST]
        self._since = time.perf_counter()

    def _credit(self) -> None:
        now = time.perf_counter()
        name = self._running[-1]
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now

    def begin(self, name: str) -> None:
        self._credit()
        self._running.append(name)

    def end(self) -> None:
        self._credit()
        self._running.pop()


_watch: ContextVar[_Watch | None] = ContextVar("watch", default=None)


@contextlib.contextmanager
def stopwatch() -> Iterator[dict[str, float]]:
    """Seconds by stage of what this thread does in the context, filled in at its end; they add up to "total".

    A stage within another one has its time for itself; "other" is what belongs to none.
    """
    watch, found = _Watch(), dict[str, float]()
    token = _watch.set(watch)
    try:
        yield found
    finally:
        _watch.reset(token)
        watch.end()
        found.update({name: round(seconds, 4) for name, seconds in watch.seconds.items()})
        found["total"] = round(sum(watch.seconds.values()), 4)


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """What happens here counts as this stage of the stopwatch that runs in this thread, if one does."""
    watch = _watch.get()
    if watch is None:
        yield
        return
    watch.begin(name)
    try:
        yield
    finally:
        watch.end()
