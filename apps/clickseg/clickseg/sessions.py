"""Sessions: an image is read once, encoded once, and every click after that costs what the network costs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from cachetools import LRUCache, TTLCache
from numpy.typing import NDArray
from torch import Tensor

from .clicks import Click, stack_clicks
from .geometry import AxialSlices, Grid, resized_shape
from .images import read_volume
from .machine import half_precision
from .methods import Model, Recipe, load_model
from .methods.rescaled import Rescaled
from .methods.unet2d import INSIDE, OUTSIDE
from .volume_session import VolumeSession

Position = tuple[int, ...]
Value = TypeVar("Value")


class Session:
    """One image opened with one model: clicks in, masks out, on the source grid.

    It holds only what can be recomputed, so an evicted and reopened session answers the same. Safe to share among
    threads. `unet2d` works slice by slice: a slice is encoded when it is first clicked.
    """

    remembered_answers = 64

    def __init__(self, volume: NDArray[np.generic], grid: Grid, model: Model, device: torch.device | str) -> None:
        self.grid = grid
        self.recipe: Any = model.recipe
        self.card: Mapping[str, Any] = model.card
        self.slices = AxialSlices(grid)
        self._volume = volume
        self._device = torch.device(device)
        model_shape = resized_shape(self.slices.shape, self.slices.spacing, self.recipe.spacing)
        self._segmenter = Rescaled(model.segmenter, self.slices.shape, model_shape)
        self._codes: dict[int, Tensor] = {}
        self._answers: LRUCache[Hashable, NDArray[np.float32]] = LRUCache(self.remembered_answers)
        self._lock = threading.Lock()
        pixels, model_pixels = int(np.prod(self.slices.shape)), int(np.prod(model_shape))
        codes, answers = grid.shape[self.slices.axis] * model_pixels, self.remembered_answers * pixels
        self.bytes = volume.nbytes + 4 * (codes + answers)  # float32; what it may come to hold

    def predict(self, clicks: Sequence[Click]) -> NDArray[np.uint8]:
        """Clicks of one structure (label 1 inside, 0 outside; source voxels) -> uint8 mask (X, Y, Z) of 0 and 1.

        Every slice with a click inside is predicted from its own clicks; all the others are 0.
        Raises ValueError for a click outside the image or with another label.
        """
        for click in clicks:
            self._check(click.position)
            if click.label not in (INSIDE, OUTSIDE):
                raise ValueError(f"click {click.position}: the label is 1 (inside) or 0 (outside), not {click.label}")
        mask = self._empty()
        for number, in_slice in self._by_slice(clicks).items():
            if any(click.label == INSIDE for click in in_slice):
                self.slices.view(mask, number)[:] = self._inside(number, in_slice) > 0.5
        return mask

    def predict_labels(self, clicks: Mapping[str, Sequence[Position]], labels: Mapping[str, int]) -> NDArray[np.uint8]:
        """Clicks by label name, and under "background" -> uint8 label map (X, Y, Z) with the values of `labels`.

        A label's clicks are inside for it; every other label's and the background's are outside. Where two labels
        claim a voxel the more probable one has it. Raises ValueError for an unknown name or a click outside the image.
        """
        unknown = sorted(set(clicks) - set(labels) - {"background"})
        if unknown:
            raise ValueError(f"unknown label {', '.join(unknown)}; known: {', '.join(labels)}")
        for positions in clicks.values():
            for position in positions:
                self._check(position)
        mask = self._empty()
        best: dict[int, NDArray[np.float32]] = {}
        for name, value in labels.items():
            if name == "background" or not clicks.get(name):
                continue
            signed = [
                Click(tuple(position), INSIDE if other == name else OUTSIDE)
                for other, positions in clicks.items()
                for position in positions
            ]
            for number, in_slice in self._by_slice(signed).items():
                if all(click.label == OUTSIDE for click in in_slice):
                    continue
                inside = self._inside(number, in_slice)
                rival = best.setdefault(number, np.full(self.slices.shape, 0.5, np.float32))
                self.slices.view(mask, number)[inside > rival] = value
                best[number] = np.maximum(rival, inside)
        return mask

    def _empty(self) -> NDArray[np.uint8]:
        """A mask of zeros, first axis fastest: as image files store it, so that no writer has to turn it round."""
        return np.zeros(self.grid.shape, np.uint8, order="F")

    def _check(self, position: Sequence[int]) -> None:
        if not self.grid.contains(position):
            raise ValueError(f"click {tuple(position)} is outside the image, whose shape is {self.grid.shape}")

    def _by_slice(self, clicks: Sequence[Click]) -> dict[int, list[Click]]:
        """Slice number -> its clicks, in (R, A) index of that slice."""
        grouped: dict[int, list[Click]] = {}
        for click in clicks:
            number, position = self.slices.locate(click.position)
            grouped.setdefault(number, []).append(Click(position, click.label))
        return grouped

    def _inside(self, number: int, clicks: Sequence[Click]) -> NDArray[np.float32]:
        """Probability (R, A) of being inside, for one slice on the source grid.

        One slice at a time: a batch of several would round differently, and answers must not depend on history.
        """
        previous = None
        if self._segmenter.feedback:
            before = np.zeros(self.slices.shape, np.float32)
            for count in range(1, len(clicks)):  # those that are remembered cost nothing
                before = self._answer(number, clicks[:count], torch.from_numpy(before)[None, None])
            previous = torch.from_numpy(before)[None, None]
        return self._answer(number, clicks, previous)

    def _answer(self, number: int, clicks: Sequence[Click], previous: Tensor | None) -> NDArray[np.float32]:
        key = (number, tuple(clicks))
        with self._lock:
            if key not in self._answers:
                tensor = stack_clicks([clicks], dimension=2).to(self._device)
                previous = None if previous is None else previous.to(self._device)
                with torch.inference_mode(), half_precision(self._device):
                    logits = self._segmenter.decode(self._code(number), tensor, previous)
                self._answers[key] = logits.float().softmax(1)[0, INSIDE].cpu().numpy()
            return self._answers[key]

    def _code(self, number: int) -> Tensor:
        if number not in self._codes:
            plane = np.ascontiguousarray(self.slices.view(self._volume, number), dtype=np.float32)
            self._codes[number] = self._segmenter.encode(torch.from_numpy(plane)[None, None].to(self._device))
        return self._codes[number]


class _SharedCache(Generic[Value]):
    """Least recently used, by bytes, with a time to live since last use; a value is made once, whoever asks first."""

    def __init__(self, max_bytes: float, ttl_s: float, size: Callable[[Value], int]) -> None:
        self._entries: TTLCache[Hashable, Value] = TTLCache(max_bytes, ttl_s, getsizeof=size)
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        with self._lock:
            turn = self._making.setdefault(key, threading.Lock())
        with turn:
            try:
                with self._lock:
                    if key in self._entries:
                        value = self._entries.pop(key)
                        self._entries[key] = value  # renews its time to live
                        return value
                value = make()
                with self._lock:
                    if self._entries.getsizeof(value) <= self._entries.maxsize:
                        self._entries[key] = value
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


class SessionCache:
    """Open images, ready to click. One per server process; safe to share among threads.

    max_bytes: for images and for sessions, each. ttl_s: seconds that an unused one is kept.
    """

    def __init__(self, max_bytes: int = 2 * 2**30, ttl_s: float = 3600.0, models: int = 8) -> None:
        self._images: _SharedCache[_Image] = _SharedCache(max_bytes, ttl_s, lambda image: image.volume.nbytes)
        self._sessions: _SharedCache[Session | VolumeSession] = _SharedCache(
            max_bytes, ttl_s, lambda session: session.bytes
        )
        self._models: _SharedCache[Model] = _SharedCache(models, ttl_s, lambda model: 1)

    def open(
        self, image: Path | str, weights: Path | str, device: torch.device | str = "cpu", identity: str | None = None
    ) -> Session | VolumeSession:
        """The session of an image with some weights, made or found again.

        identity: what names the image where its path does not (a DICOM series UID, whose files move); else path, time
        and size of the file. New weights in the same place, or a changed image, make a new session.
        Raises ValueError for an image or weights that cannot be read (`read_volume`, `load_model`).
        """
        image_key = identity if identity is not None else file_identity(image)
        weights_key = (file_identity(weights), str(device))
        return self._sessions.get((image_key, *weights_key), lambda: self._open(image, weights, device, image_key))

    def _open(
        self, image: Path | str, weights: Path | str, device: torch.device | str, image_key: Hashable
    ) -> Session | VolumeSession:
        model = self._models.get((file_identity(weights), str(device)), lambda: load_model(weights, device))
        opened = self._images.get(image_key, lambda: _Image(*read_volume(image)))
        kind = Session if model.segmenter.dimension == 2 else VolumeSession
        return kind(opened.volume, opened.grid, model, device)

    def recipe(self, weights: Path | str, device: torch.device | str = "cpu") -> Recipe:
        """The recipe of a weights file (the model is kept for the clicks that will follow)."""
        key = (file_identity(weights), str(device))
        return self._models.get(key, lambda: load_model(weights, device)).recipe

    def clear(self) -> None:
        """Forget everything; the next click reads again."""
        for cache in (self._images, self._sessions, self._models):
            cache.clear()


def file_identity(path: Path | str) -> tuple[str, int, int]:
    """(absolute path, modification time in ns, size); ValueError if there is no such file."""
    try:
        stats = Path(path).stat()
    except OSError as error:
        raise ValueError(f"no file at {path}") from error
    return str(Path(path).resolve()), stats.st_mtime_ns, stats.st_size
