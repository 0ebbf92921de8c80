"""What a session of any method begins with: an image, its grid, a model and a device."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..geometry import Grid
from ..methods import Model

Position = Sequence[int]


class OpenImage:
    """An image (X, Y, Z) on its grid, opened with a model on a device; what the sessions of all methods share."""

    def __init__(self, volume: NDArray[np.generic], grid: Grid, model: Model, device: torch.device | str) -> None:
        self.grid = grid
        self.recipe: Any = model.recipe
        self.card: Mapping[str, Any] = model.card
        self._volume = volume
        self._device = torch.device(device)
        self._lock = threading.Lock()

    def empty_mask(self) -> NDArray[np.uint8]:
        """A mask of zeros, first axis fastest: as image files store it, so that no writer has to turn it round."""
        return np.zeros(self.grid.shape, np.uint8, order="F")

    def check(self, position: Position) -> None:
        """ValueError for a click outside the image."""
        if not self.grid.contains(position):
            raise ValueError(f"click {tuple(position)} is outside the image, whose shape is {self.grid.shape}")
