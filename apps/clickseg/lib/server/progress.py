"""GET /clickseg/api/progress: how far the answer to a click is, and its slices as they come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import StreamingResponse
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from clickseg.progress import watched_by

from .slice_runs import SliceRuns, as_runs

progress_router = APIRouter(
    prefix="/clickseg/api", tags=["clickseg"], dependencies=[Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
)

LONGEST_SILENCE = 10.0  # seconds: a proxy ends connections that say nothing, and nothing else tells that one has ended
LONGEST_WAIT = 3  # silences, for an answer that nobody asks for: a server that stops waits for all connections


class Part(BaseModel):
    """How much is done before anything is known."""

    part: float = Field(description="of what must be done before any voxel is known, 0 to 1")


class Stream:
    """What is told of one answer by the threads that compute it, as lines for whoever reads them in the event loop."""

    def __init__(self, watch: str) -> None:
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self.begun = False  # whether there is an answer to watch

    def part(self, done: int, whole: int) -> None:
        """As `Watcher.part`."""
        self._put(Part(part=round(done / whole, 4)).model_dump_json())

    def slice(self, axis: int, number: int, plane: NDArray[np.uint8]) -> None:
        """As `Watcher.slice`. Raises ValueError when nobody reads any more."""
        if _streams.get(self._watch) is not self:
            raise ValueError("given up: whoever watched this answer come has left")
        self._put(SliceRuns(**as_runs(axis, number, plane)).model_dump_json())

    def end(self) -> None:
        """The answer is there, or will never be."""
        self._put(None)

    def _put(self, line: str | None) -> None:
        with contextlib.suppress(RuntimeError):  # the server has stopped
            self._loop.call_soon_threadsafe(self._lines.put_nowait, line)

    async def lines(self) -> AsyncIterator[str]:
        """Each as soon as it is told, until the end; an empty one where nothing has been told for a while."""
        line: str | None = ""  # which shows that what is told from now on is heard
        silences = 0
        try:
            while line is not None and (self.begun or silences < LONGEST_WAIT):
                yield f"{line}\n"
                try:
                    line = await asyncio.wait_for(self._lines.get(), LONGEST_SILENCE)
                except TimeoutError:
                    line = ""
                    silences += 1
        finally:
            _streams.pop(self._watch, None)


_streams: WeakValueDictionary[str, Stream] = WeakValueDictionary()  # that are read: one never begun to be goes, too


@contextlib.contextmanager
def watched(watch: Any) -> Iterator[None]:
    """What is computed in the context is told to whoever has asked for this id, if anybody has."""
    stream = _streams.get(watch) if isinstance(watch, str) else None
    if stream:
        stream.begun = True
    try:
        with watched_by(stream):
            yield
    finally:
        if stream:
            stream.end()


@progress_router.get(
    "/progress/{watch}",
    response_class=StreamingResponse,
    responses={
        200: {"model": Part | SliceRuns, "description": "lines of JSON, and empty ones"},
        409: {"description": "it is watched already"},
    },
)
async def progress(watch: str) -> StreamingResponse:
    """Watch an answer come. `watch` is any text of yours that stands as `progress` in the params of a later /infer.

    The stream ends with that answer, or if none is asked for within half a minute. If you leave before, an answer that
    goes from slice to slice is given up.
    """
    if watch in _streams:
        raise HTTPException(409, f"{watch!r} is watched already: choose another text")
    stream = _streams[watch] = Stream(watch)
    return StreamingResponse(stream.lines(), media_type="application/x-ndjson")
