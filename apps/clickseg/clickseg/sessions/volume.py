"""A session of a 3D method: the volume is encoded once, and every click after that refines all classes together."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from cachetools import LRUCache
from numpy.typing import NDArray
from torch import Tensor

from ..clicks import Click, stack_clicks
from ..geometry import FinePart, FineSlices, Grid, UprightVolume, resized_shape
from ..images import class_numbers
from ..methods import Model
from ..methods.rescaled import Rescaled
from ..stopwatch import stage
from .claims import fingerprint
from .open_image import OpenImage, Position


@dataclass(frozen=True, eq=False)
class _Asked:
    """Clicks with numbers of classes, a label map of such numbers to start from, frozen ones; all upright."""

    clicks: tuple[Click, ...]
    start: NDArray[np.uint8] | None
    frozen: frozenset[int]

    @cached_property
    def key(self) -> Hashable:
        """What the answer depends on."""
        digest = None if self.start is None else fingerprint(self.start)
        return self.clicks, digest, self.frozen


class VolumeSession(OpenImage):
    """One image opened with one multi-class 3D model: clicks in, label maps out, on the source grid.

    It holds only what can be recomputed, so an evicted and reopened session answers the same. Safe to share among
    threads. The volume is encoded when it is first asked about.
    """

    method, dimension = "tis", 3
    remembered_bytes = 2**28  # of answers, the label maps of the whole volume; one is kept whatever its size

    def __init__(self, volume: NDArray[np.generic], grid: Grid, model: Model, device: torch.device | str) -> None:
        super().__init__(volume, grid, model, device)
        self.upright = UprightVolume(grid)
        self.axis = self.upright.axes[2]
        model_shape = resized_shape(self.upright.shape, self.upright.spacing, model.recipe.spacing)
        self._segmenter = Rescaled(model.segmenter, self.upright.shape, model_shape)
        self._code: Tensor | None = None
        voxels, model_voxels = int(np.prod(grid.shape)), int(np.prod(model_shape))
        room = max(self.remembered_bytes, voxels)
        self._answers: LRUCache[Hashable, NDArray[np.uint8]] = LRUCache(room, getsizeof=lambda answer: answer.nbytes)
        channels = 1 + cast(Any, model.recipe).width + len(model.recipe.labels)
        self.bytes = volume.nbytes + 4 * channels * model_voxels + room

    @property
    def _names(self) -> list[str]:
        """Of classes 1, 2, ..."""
        return list(self.recipe.labels)

    def predict(self, clicks: Sequence[Click], reach: int = 0) -> NDArray[np.uint8]:
        """Clicks whose labels are values of the recipe's labels, 0 for background -> uint8 label map with these values.

        Raises ValueError for another label, a click outside the image, or a `reach`, as `predict_labels`.
        """
        names = {value: name for name, value in {"background": 0, **self.recipe.labels}.items()}
        named: dict[str, list[Position]] = {}
        for click in clicks:
            if click.label not in names:
                known = ", ".join(f"{value} {name}" for value, name in names.items())
                raise ValueError(f"click {click.position} has the unknown label {click.label}; known: {known}")
            named.setdefault(names[click.label], []).append(click.position)
        return self.predict_labels(named, self.recipe.labels, reach=reach)

    def predict_labels(
        self,
        clicks: Mapping[str, Sequence[Position]],
        labels: Mapping[str, int],
        frozen: Collection[str] = (),
        start: NDArray[np.integer] | None = None,
        reach: int = 0,
        only: int | None = None,
    ) -> NDArray[np.uint8]:
        """Clicks by label name, and under "background" -> uint8 label map (X, Y, Z) with the values of `labels`.

        Without clicks it is the automatic segmentation, or `start`. A clicked voxel has the label of its last click,
        the labels taken in their order.

        Args:
            frozen: names of labels that stay, voxel by voxel, as they are without clicks.
            start: a label map (X, Y, Z) with the values of `labels` that is to be corrected.
            reach: of `Session`; here there are no slices to go on to, and any but 0 is refused.
            only: number of the one axial slice that is answered, as without it; all others stay empty.

        Raises:
            ValueError: an unknown name, a click outside the image, a start of another shape or with other values, or a
                reach.
        """
        if reach:
            raise ValueError("propagate is for models that work slice by slice; this one answers in 3D as it is")
        names = self._names
        self.check_names(clicks, frozen, names)
        classes = {"background": 0, **{name: number for number, name in enumerate(names, start=1)}}
        given: list[Click] = []
        for name, positions in clicks.items():
            for position in positions:
                self.check(position)
                given.append(Click(self.upright.locate(position), classes[name]))
        values = np.zeros(len(names) + 1, np.uint8)
        values[[classes[name] for name in labels]] = list(labels.values())
        begin = None if start is None else self._upright_classes(start, values)
        asked = _Asked(tuple(given), begin, frozenset(classes[name] for name in frozen))
        mask = self.empty_mask()
        upright = self.upright.view(mask)
        if only is None:
            upright[:] = _exchanged(self._answer(asked), values)
        else:
            number = self.upright.locate([only] * 3)[2]
            upright[..., number] = _exchanged(self._answer_in(number, asked), values)
        return mask

    def _upright_classes(self, start: NDArray[np.integer], values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A label map with `values` as numbers of classes, upright."""
        self.check_start(start, values.tolist())
        return class_numbers(self.upright.view(start.astype(np.uint8)), values[1:].tolist())

    def _answer(self, asked: _Asked) -> NDArray[np.uint8]:
        """The number of the most probable class of each voxel, upright."""
        with self._lock:
            if asked.key not in self._answers:
                everything = range(self.upright.shape[2])
                self._answers[asked.key] = self._in_turn(asked, everything)
            return self._answers[asked.key]

    def _answer_in(self, number: int, asked: _Asked) -> NDArray[np.uint8]:
        """The same (X, Y) in one upright slice, without the others if they are not known."""
        with self._lock:
            if asked.key in self._answers:
                return self._answers[asked.key][..., number]
            return self._in_turn(asked, range(number, number + 1))[..., 0]

    def _in_turn(self, asked: _Asked, numbers: range) -> NDArray[np.uint8]:
        """`_compute`; the first time the volume is encoded, which takes long."""
        return self._turns.take(lambda: self._compute(asked, numbers), pauses=self._code is None)

    def _compute(self, asked: _Asked, numbers: range) -> NDArray[np.uint8]:
        """The answer (X, Y, N) in N slices: where the clicks change nothing it is as it was without."""
        answer, nothing = self._logits(asked)
        if asked.start is None:
            before = self._automatic(nothing, numbers)
        else:
            before = asked.start[..., numbers.start : numbers.stop]
        if not asked.clicks:
            return before
        found = before.copy(order="K")
        changed = FineSlices((answer != nothing).any(0), self.upright.shape)
        for number in changed.concerned():
            if number in numbers:
                _correct(found[..., number - numbers.start], changed.part(number), asked, answer, nothing)
        return found

    def _automatic(self, logits: Tensor, numbers: range) -> NDArray[np.uint8]:
        """The automatic segmentation (X, Y, N) in N slices, from its logits on the model grid."""
        known = self._answers.get(_AUTOMATIC.key)
        if known is not None:
            return known[..., numbers.start : numbers.stop]
        x, y, _ = self.upright.shape
        found = np.empty((len(numbers), y, x), np.uint8).T
        slices = FineSlices(torch.ones_like(logits[0], dtype=torch.bool), self.upright.shape)
        for place, number in enumerate(numbers):
            _correct(found[..., place], slices.part(number), _AUTOMATIC, logits, logits)
        if found.shape == self.upright.shape:
            self._answers[_AUTOMATIC.key] = found
        return found

    def _logits(self, asked: _Asked) -> tuple[Tensor, Tensor]:
        """Logits (C, X, Y, Z) on the model grid, with the clicks, and without any."""
        if self._code is None:
            with stage("preprocess"):
                plain = np.ascontiguousarray(self.upright.view(self._volume), dtype=np.float32)
            self._code = self._segmenter.encode(torch.from_numpy(plain)[None, None].to(self._device))
        rows = stack_clicks([asked.clicks], dimension=3).to(self._device)
        previous = None if asked.start is None else self._as_previous(torch.from_numpy(asked.start).to(self._device))
        answer, nothing = (
            self._segmenter.decode_on_model(self._code, clicked, previous)[0] for clicked in (rows, rows[:, :0])
        )
        return answer, nothing

    def _as_previous(self, numbers: Tensor) -> Tensor:
        """Class numbers, upright, as `decode` takes a mask: (1, C - 1, X, Y, Z) of 0 and 1."""
        return torch.stack([numbers == number for number in range(1, len(self._names) + 1)])[None].float()


_AUTOMATIC = _Asked((), None, frozenset())


def _correct(plane: NDArray[np.uint8], part: FinePart, asked: _Asked, answer: Tensor, nothing: Tensor) -> None:
    """Sets a part of an upright slice (X, Y), from logits (C, X, Y, Z) of the model grid, with clicks and without."""
    rectangle, inside = plane[part.box], part.inside.cpu().numpy()
    if asked.start is None and not asked.frozen:
        np.copyto(rectangle, part.labels(answer).cpu().numpy(), where=inside)
        return
    before = torch.from_numpy(rectangle[inside]).to(answer.device)
    fine_answer, fine_nothing = part.logits(answer), part.logits(nothing)
    for frozen in asked.frozen:  # neither lost nor won
        for logits in (fine_nothing, fine_answer):
            logits[:, frozen] = torch.where(before == frozen, math.inf, -math.inf)
    # The model's grid is not the image's: what no click has changed stays as it was given.
    found = fine_answer.argmax(-1)
    found = torch.where(found == fine_nothing.argmax(-1), before, found)
    rectangle[inside] = found.to(torch.uint8).cpu().numpy()


def _exchanged(numbers: NDArray[np.uint8], values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """values[numbers], at no cost where each number is its own value."""
    return numbers if np.array_equal(values, np.arange(len(values))) else values[numbers]
