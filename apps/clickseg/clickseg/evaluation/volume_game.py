"""The click game in 3D: a whole volume, all classes at once, each click in the class that is missing there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..clicks import SimulateClickd, stack_clicks
from ..datasets import Case
from ..geometry import UprightVolume, resized_shape
from ..images import class_numbers, read_labelled
from ..interaction import interact
from ..machine import half_precision
from ..methods import Segmenter
from ..methods.rescaled import Rescaled
from .tasks import USERS, Protocol, Result, Task


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

    def play(self, tasks: Sequence[Task], protocol: Protocol, device: torch.device | str) -> Iterator[Result]:
        """The figures of each task, a class of this case, after each asked number of clicks."""
        user = SimulateClickd(USERS[protocol.user](1.0))
        image, truth = (torch.from_numpy(array)[None, None].to(device) for array in (self.image, self.truth))
        seeds = torch.tensor([tasks[0].seed(protocol.seed)])
        with torch.inference_mode(), half_precision(device):
            code = self.segmenter.encode(image)
            if 0 in protocol.clicks:
                nothing = stack_clicks([[]], dimension=3).to(code.device)
                yield from self.measure(tasks, 0, self.segmenter.decode(code, nothing))
            turns = interact(self.segmenter, code, truth, user, seeds, turns=max(protocol.clicks))
            for number, turn in enumerate(turns, start=1):
                if number in protocol.clicks:
                    yield from self.measure(tasks, number, turn.logits)

    def measure(self, tasks: Sequence[Task], number: int, logits: torch.Tensor) -> Iterator[Result]:
        found = logits.argmax(1)[0].cpu().numpy()
        for task in tasks:
            wanted = self.labels.index(task.value) + 1
            mask, truth = found == wanted, self.truth == wanted
            yield Result.of(task, number, (mask, truth), self.upright.spacing)
