"""The click game in 3D: a whole volume, all classes at once, each click in the class that is missing there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..clicks import Click, SimulateClickd, stack_clicks, unstack_clicks
from ..datasets import Case
from ..geometry import UprightVolume, resized_shape
from ..images import class_numbers, read_labelled
from ..interaction import interact
from ..machine import half_precision
from ..methods import Segmenter
from ..methods.rescaled import Rescaled
from .tasks import USERS, Protocol, Result, Task


@dataclass(frozen=True)
class VolumeTurn:
    """A case after `number` clicks: the found classes (X, Y, Z), upright, and the clicks so far."""

    number: int
    mask: NDArray[np.integer]
    clicks: list[Click]

    @classmethod
    def of(cls, number: int, logits: torch.Tensor, clicks: torch.Tensor) -> VolumeTurn:
        return cls(number, logits.argmax(1)[0].cpu().numpy(), unstack_clicks(clicks)[0])


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

    def turns(self, tasks: Sequence[Task], protocol: Protocol, device: torch.device | str) -> Iterator[VolumeTurn]:
        """The state of this case after each asked number of clicks."""
        user = SimulateClickd(USERS[protocol.user](1.0))
        image = torch.from_numpy(self.image)[None, None].to(device)
        truth = torch.from_numpy(self.truth)[None, None].to(device)
        seeds = torch.tensor([tasks[0].seed(protocol.seed)])
        with torch.inference_mode(), half_precision(device):
            code = self.segmenter.encode(image)
            if 0 in protocol.clicks:
                nothing = stack_clicks([[]], dimension=3).to(code.device)
                yield VolumeTurn.of(0, self.segmenter.decode(code, nothing), nothing)
            turns = interact(self.segmenter, code, truth, user, seeds, turns=max(protocol.clicks))
            for number, turn in enumerate(turns, start=1):
                if number in protocol.clicks:
                    yield VolumeTurn.of(number, turn.logits, turn.clicks)

    def play(self, tasks: Sequence[Task], protocol: Protocol, device: torch.device | str) -> Iterator[Result]:
        """The figures of each task, a class of this case, after each asked number of clicks."""
        for turn in self.turns(tasks, protocol, device):
            for task in tasks:
                wanted = self.labels.index(task.value) + 1
                mask, truth = turn.mask == wanted, self.truth == wanted
                yield Result.of(task, turn.number, (mask, truth), self.upright.spacing)
