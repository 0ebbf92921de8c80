"""A session of a 3D method: the volume is encoded once, and every click after that refines all classes together."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from cachetools import LRUCache
from numpy.typing import NDArray
from torch import Tensor

from .clicks import Click, stack_clicks
from .geometry import Grid, UprightVolume, resized_shape
from .machine import half_precision
from .methods import Model
from .methods.rescaled import Rescaled

Position = Sequence[int]


class VolumeSession:
    """One image opened with one multi-class 3D model: clicks in, label maps out, on the source grid.

    It holds only what can be recomputed, so an evicted and reopened session answers the same. Safe to share among
    threads. The volume is encoded when it is first asked about.
    """

    remembered_answers = 8

    def __init__(self, volume: NDArray[np.generic], grid: Grid, model: Model, device: torch.device | str) -> None:
        self.grid = grid
        self.recipe: Any = model.recipe
        self.card: Mapping[str, Any] = model.card
        self.upright = UprightVolume(grid)
        self._volume = volume
        self._device = torch.device(device)
        model_shape = resized_shape(self.upright.shape, self.upright.spacing, model.recipe.spacing)
        self._segmenter = Rescaled(model.segmenter, self.upright.shape, model_shape)
        self._code: Tensor | None = None
        self._answers: LRUCache[Hashable, NDArray[np.uint8]] = LRUCache(self.remembered_answers)
        self._lock = threading.Lock()
        voxels, model_voxels = int(np.prod(grid.shape)), int(np.prod(model_shape))
        channels = 1 + cast(Any, model.recipe).width + len(model.recipe.labels)
        self.bytes = volume.nbytes + 4 * channels * model_voxels + self.remembered_answers * voxels

    @property
    def _names(self) -> list[str]:
        """Of classes 1, 2, ..."""
        return list(self.recipe.labels)

    def predict(self, clicks: Sequence[Click]) -> NDArray[np.uint8]:
        """Clicks whose labels are values of the recipe's labels, 0 for background -> uint8 label map with these values.

        Raises ValueError for another label or a click outside the image.
        """
        names = {value: name for name, value in {"background": 0, **self.recipe.labels}.items()}
        named: dict[str, list[Position]] = {}
        for click in clicks:
            if click.label not in names:
                known = ", ".join(f"{value} {name}" for value, name in names.items())
                raise ValueError(f"click {click.position} has the unknown label {click.label}; known: {known}")
            named.setdefault(names[click.label], []).append(click.position)
        return self.predict_labels(named, self.recipe.labels)

    def predict_labels(self, clicks: Mapping[str, Sequence[Position]], labels: Mapping[str, int]) -> NDArray[np.uint8]:
        """Clicks by label name, and under "background" -> uint8 label map (X, Y, Z) with the values of `labels`.

        Without clicks it is the automatic segmentation. A clicked voxel has the label of its last click, the labels
        taken in their order. Raises ValueError for an unknown name or a click outside the image.
        """
        names = self._names
        unknown = sorted(set(clicks) - set(names) - {"background"})
        if unknown:
            raise ValueError(f"unknown label {', '.join(unknown)}; known: {', '.join(names)}")
        classes = {"background": 0, **{name: number for number, name in enumerate(names, start=1)}}
        given: list[Click] = []
        for name, positions in clicks.items():
            for position in positions:
                if not self.grid.contains(position):
                    raise ValueError(f"click {tuple(position)} is outside the image, whose shape is {self.grid.shape}")
                given.append(Click(self.upright.locate(position), classes[name]))
        values = np.zeros(len(names) + 1, np.uint8)
        values[[classes[name] for name in labels]] = list(labels.values())
        mask = np.zeros(self.grid.shape, np.uint8, order="F")
        self.upright.view(mask)[:] = values[self._classes(given)]
        return mask

    def _classes(self, clicks: Sequence[Click]) -> NDArray[np.uint8]:
        """The number of the most probable class of each voxel, upright."""
        key = tuple(clicks)
        with self._lock:
            if key not in self._answers:
                with torch.inference_mode(), half_precision(self._device):
                    if self._code is None:
                        plain = np.ascontiguousarray(self.upright.view(self._volume), dtype=np.float32)
                        self._code = self._segmenter.encode(torch.from_numpy(plain)[None, None].to(self._device))
                    rows = stack_clicks([clicks], dimension=3).to(self._device)
                    logits = self._segmenter.decode(self._code, rows)
                self._answers[key] = logits.argmax(1)[0].to(torch.uint8).cpu().numpy()
            return self._answers[key]
