"""Images and models are opened once, whoever asks first, and forgotten by size and age."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from cachetools import TTLCache
from numpy.typing import NDArray

from ..geometry import Grid
from ..images import file_identity, read_volume
from ..methods import Recipe, load_model
from .slices import Session
from .volume import VolumeSession

Value = TypeVar("Value")

logger = logging.getLogger(__name__)


class _SharedCache:
    """Least recently used, by bytes, with a time to live since last use; a value is made once, whoever asks first."""

    def __init__(self, max_bytes: float, ttl_s: float, size: Callable[[Any], int]) -> None:
        self._entries: TTLCache[Hashable, Any] = TTLCache(max_bytes, ttl_s, getsizeof=size)
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        with self._lock:
            turn = self._making.setdefault(key, threading.Lock())
        with turn:
            try:
                with self._lock:
                    if key in self._entries:
                        found: Value = self._entries.pop(key)
                        self._entries[key] = found  # renews its time to live
                        return found
                value = make()
                with self._lock:
                    size = self._entries.getsizeof(value)
                    if size <= self._entries.maxsize:
                        self._entries[key] = value
                    else:
                        needed = f"{size / 2**30:.1f} GB, of {self._entries.maxsize / 2**30:.1f}"
                        logger.warning("an image is opened anew for each click: it needs %s (--conf cache_gb)", needed)
                return value
            finally:
                with self._lock:
                    self._making.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)


@dataclass(frozen=True)
class _Image:
    volume: NDArray[np.generic]
    grid: Grid

    @property
    def bytes(self) -> int:
        return self.volume.nbytes


@dataclass(frozen=True)
class _Source:
    """What an image is read from. identity: of the file or folder, which tells it from others. series: of a folder."""

    path: Path | str = field(compare=False)
    series: str | None
    identity: tuple[str, int, int]

    def read(self) -> _Image:
        return _Image(*read_volume(self.path, self.series))


class SessionCache:
    """Open images, ready to click. One per server process; safe to share among threads.

    max_bytes: for images and sessions together, each by what it may come to hold. ttl_s: seconds that an unused one is
    kept.
    """

    def __init__(self, max_bytes: int = 2 * 2**30, ttl_s: float = 3600.0, models: int = 8) -> None:
        self._opened = _SharedCache(max_bytes, ttl_s, lambda image_or_session: image_or_session.bytes)
        self._models = _SharedCache(models, ttl_s, lambda model: 1)

    def open(
        self,
        image: Path | str,
        weights: Path | str,
        device: torch.device | str = "cpu",
        series: str | None = None,
    ) -> Session | VolumeSession:
        """The session of an image with some weights, made or found again. series: as `read_volume` has it.

        Both are known by path, time and size of their files: new weights in the same place, or a changed image, make a
        new session.
        Raises ValueError for an image or weights that cannot be read (`read_volume`, `load_model`).
        """
        source = _Source(image, series, file_identity(image))
        weights_key = (file_identity(weights), str(device))
        return self._opened.get((source, *weights_key), lambda: self._open(source, weights, device))

    def read(self, image: Path | str) -> tuple[NDArray[np.generic], Grid]:
        """An image and its grid, kept for its first click. Raises ValueError as `open`."""
        opened = self._image(_Source(image, None, file_identity(image)))
        return opened.volume, opened.grid

    def _image(self, source: _Source) -> _Image:
        return self._opened.get(source, source.read)

    def _open(self, source: _Source, weights: Path | str, device: torch.device | str) -> Session | VolumeSession:
        model = self._models.get((file_identity(weights), str(device)), lambda: load_model(weights, device))
        opened = self._image(source)
        kind = Session if model.segmenter.dimension == 2 else VolumeSession
        return kind(opened.volume, opened.grid, model, device)

    def recipe(self, weights: Path | str, device: torch.device | str = "cpu") -> Recipe:
        """The recipe of a weights file (the model is kept for the clicks that will follow)."""
        key = (file_identity(weights), str(device))
        return self._models.get(key, lambda: load_model(weights, device)).recipe

    def clear(self) -> None:
        """Forget everything; the next click reads again."""
        self._opened.clear()
        self._models.clear()
