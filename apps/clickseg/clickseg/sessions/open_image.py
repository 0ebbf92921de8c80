"""What a session of any method begins with: an image, its grid, a model and a device."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from ..geometry import Grid
from ..images import doubt, read_volume, write_mask
from ..machine import present_values, zeros
from ..methods import Model, load_model, weights_file
from .turns import turns_on

Position = Sequence[int]


class OpenImage:
    """An image (X, Y, Z) on its grid, opened with a model on a device; what the sessions of all methods share."""

    axis: int  # of the source grid, that numbers the axial slices
    method: ClassVar[str]  # whose shipped weights are taken where none are named
    dimension: ClassVar[int]  # of the networks that it works with

    @classmethod
    def open(
        cls,
        image: Path | str,
        weights: Path | str | None = None,
        device: torch.device | str = "cpu",
        series: str | None = None,
    ) -> Self:
        """An image file or DICOM folder (`read_volume`) opened with weights: a file, or a shipped model by name.

        series: which one of a folder with several, by its SeriesInstanceUID.

        Raises ValueError for an image or weights that cannot be read, and for weights of another kind of session.
        """
        file = weights_file(weights, cls.method)
        model = turns_on(str(torch.device(device))).load(lambda: load_model(file, device))
        if model.segmenter.dimension != cls.dimension:
            raise ValueError(
                f"{weights} holds {model.segmenter.dimension}D weights; a {cls.__name__} needs {cls.dimension}D"
            )
        return cls(*read_volume(image, series), model, device)

    def __init__(self, volume: NDArray[np.generic], grid: Grid, model: Model, device: torch.device | str) -> None:
        self.grid = grid
        self.recipe: Any = model.recipe
        self.card: Mapping[str, Any] = model.card
        self.doubt = doubt(volume, self.recipe.modality)  # whether it is an image that the weights are for
        self._volume = volume
        self._device = torch.device(device)
        self._turns = turns_on(str(self._device))
        model.segmenter.pause = self._turns.let_others
        self._lock = threading.Lock()

    def write(self, mask: NDArray[np.uint8], path: Path | str) -> None:
        """A mask or label map of this image as NIfTI (.nii or .nii.gz), in its place in the patient."""
        write_mask(path, mask, self.grid)

    def reached(
        self, positions: Iterable[Position], start: NDArray[np.uint8] | None = None, reach: int = 0
    ) -> Collection[int] | None:
        """Numbers of the slices that an answer to clicks may hold anything in; None: in any."""

    def empty_mask(self, scattered: bool = False) -> NDArray[np.uint8]:
        """A mask of zeros, first axis fastest: as image files store it, so that no writer has to turn it round.

        scattered: few slices of it will be written.
        """
        return zeros(math.prod(self.grid.shape), scattered).reshape(self.grid.shape, order="F")

    def new_mask(self, start: NDArray[np.uint8] | None, values: Iterable[int]) -> NDArray[np.uint8]:
        """An empty mask, or a copy of the one to start from; ValueError as `check_start`."""
        mask = self.empty_mask(scattered=start is None)
        if start is not None:
            self.check_start(start, values)
            mask[:] = start
        return mask

    def plane(self, mask: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
        """An axial slice of a mask of this image: the other two axes, in array order; a view."""
        return mask[(slice(None),) * self.axis + (number,)]  # `take` would copy the volume first

    def check(self, position: Position) -> None:
        """ValueError for a click outside the image."""
        if not self.grid.contains(position):
            raise ValueError(f"click {tuple(position)} is outside the image, whose shape is {self.grid.shape}")

    def check_slice(self, number: int) -> None:
        """ValueError for an axial slice that the image does not have."""
        if not 0 <= number < self.grid.shape[self.axis]:
            raise ValueError(f"there is no slice {number}; the image has {self.grid.shape[self.axis]}")

    def check_names(self, clicked: Iterable[str], frozen: Iterable[str], labels: Iterable[str]) -> None:
        """ValueError for a name that is none of the labels; clicks may stand under "background", too."""
        unknown = sorted((set(clicked) - {"background"} | set(frozen)) - set(labels))
        if unknown:
            raise ValueError(f"unknown label {', '.join(unknown)}; known: {', '.join(labels)}")

    def check_start(self, start: NDArray[np.integer], values: Iterable[int]) -> None:
        """ValueError for a label map to start from that has another shape or other values than 0 and these."""
        if start.shape != self.grid.shape:
            raise ValueError(f"the mask to start from has shape {start.shape}, the image {self.grid.shape}")
        known = sorted({0, *values})
        strange = [value for value in present_values(start) if value not in known]
        if strange:
            raise ValueError(f"the mask to start from holds {strange}; the labels are {known}")
