"""The click game in 3D: a whole volume, all classes at once or one by one, each click in the class missing there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..clicks import PADDING, Click, SimulateClickd, most_probable, stack_clicks, unstack_clicks
from ..datasets import Case
from ..geometry import UprightVolume, resized_shape
from ..images import class_numbers, read_labelled
from ..interaction import interact
from ..machine import half_precision
from ..methods import Segmenter
from ..methods.rescaled import FineLabels, Rescaled
from .tasks import USERS, Protocol, Result, Task


@dataclass(frozen=True)
class VolumeTurn:
    """A case after `number` clicks: the found classes (X, Y, Z), upright, and the clicks so far."""

    number: int
    mask: NDArray[np.integer]
    clicks: list[Click]

    @classmethod
    def of(cls, number: int, logits: torch.Tensor, clicks: torch.Tensor) -> VolumeTurn:
        return cls(number, most_probable(logits)[0].cpu().numpy(), unstack_clicks(clicks)[0])


class OneClass(Segmenter):
    """A segmenter for somebody who cares for one class: two classes, it and the rest.

    answer: clicks (1, N, 4) -> the classes found (X, Y, Z). truth: (X, Y, Z), all classes. A click of the rest is one
    of whatever class is truly there.
    """

    dimension = 3
    answers_first = True

    def __init__(self, answer: Callable[[Tensor], Tensor], wanted: int, truth: Tensor) -> None:
        super().__init__()
        self.answer, self.wanted, self.truth = answer, wanted, truth

    def decode(self, code: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        x, y, z, label = clicks.unbind(-1)
        clicks = torch.stack([x, y, z, torch.where(label == PADDING, PADDING, self.truth[x, y, z])], dim=-1)
        found = self.answer(clicks) == self.wanted
        return torch.stack([~found, found])[None].float()


class VolumeGame:
    """A case opened for a multi-class 3D segmenter: upright, on its own grid. Clicks are counted over all classes.

    labels: the values in the label image of classes 1, 2, ... Raises ValueError as `read_labelled`.
    """

    def __init__(self, segmenter: Segmenter, spacing: float, case: Case, labels: Sequence[int]) -> None:
        image, label, grid = read_labelled(case.image, case.label)
        self.labels = tuple(labels)
        self.upright = UprightVolume(grid)
        self.image = np.ascontiguousarray(self.upright.view(image), dtype=np.float32)
        self.truth = class_numbers(self.upright.view(label), self.labels)
        model_shape = resized_shape(self.upright.shape, self.upright.spacing, spacing)
        self.segmenter = Rescaled(segmenter, self.upright.shape, model_shape).eval()
        self._code: Tensor | None = None
        self._fine_labels: FineLabels | None = None

    def turns(
        self, tasks: Sequence[Task], protocol: Protocol, device: torch.device | str, wanted: int | None = None
    ) -> Iterator[VolumeTurn]:
        """The state of this case after each asked number of clicks. wanted: the only class that is cared for."""
        user = SimulateClickd(USERS[protocol.user](self.upright.spacing))
        truth = torch.from_numpy(self.truth)[None, None].to(device)
        seeds = torch.tensor([tasks[0].seed(protocol.seed)])
        segmenter: Segmenter = self.segmenter
        if wanted is not None:
            answer = self.fine_labels(device).after
            segmenter, truth = OneClass(answer, wanted, truth[0, 0].long()), truth == wanted
        with torch.inference_mode(), half_precision(device):
            code = self.encode(device)
            if 0 in protocol.clicks:
                nothing = stack_clicks([[]], dimension=3).to(code.device)
                yield VolumeTurn.of(0, segmenter.decode(code, nothing), nothing)
            turns = interact(segmenter, code, truth, user, seeds, turns=max(protocol.clicks))
            for number, turn in enumerate(turns, start=1):
                if number in protocol.clicks:
                    yield VolumeTurn.of(number, turn.logits, turn.clicks)

    def encode(self, device: torch.device | str) -> Tensor:
        """The code of this case, made once."""
        if self._code is None:
            self._code = self.segmenter.encode(torch.from_numpy(self.image)[None, None].to(device))
        return self._code

    def fine_labels(self, device: torch.device | str) -> FineLabels:
        """Of this case, made once."""
        if self._fine_labels is None:
            with torch.inference_mode(), half_precision(device):
                self._fine_labels = FineLabels(self.segmenter, self.encode(device), stack_clicks([[]], dimension=3))
        return self._fine_labels

    def play(self, tasks: Sequence[Task], protocol: Protocol, device: torch.device | str) -> Iterator[Result]:
        """The figures of each task, a class of this case, after each asked number of clicks."""
        for group, wanted in self.games(tasks, protocol):
            for turn in self.turns(group, protocol, device, wanted):
                for task in group:
                    number = self.number(task)
                    mask, truth = turn.mask == (number if wanted is None else 1), self.truth == number
                    yield Result.of(task, turn.number, (mask, truth), self.upright.spacing)

    def games(self, tasks: Sequence[Task], protocol: Protocol) -> list[tuple[list[Task], int | None]]:
        """The tasks of each game, and the only class that it is about."""
        if protocol.separately:
            return [([task], self.number(task)) for task in tasks]
        return [(list(tasks), None)]

    def number(self, task: Task) -> int:
        """The class of a task."""
        return self.labels.index(task.value) + 1
