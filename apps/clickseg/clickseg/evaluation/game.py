"""The click game on labelled cases: in this process, or some cases at a time in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ..clicks import INSIDE, Click, SimulateClickd, most_probable, stack_clicks, unstack_clicks
from ..datasets import Case
from ..geometry import AxialSlices, resized_shape
from ..images import read_labelled
from ..interaction import interact
from ..machine import half_precision, keep_freed_memory
from ..methods import Model, Segmenter
from ..methods.rescaled import Rescaled
from .obedience import contained, obeyed
from .tasks import USERS, Protocol, Result, Task
from .volume_game import VolumeGame


@dataclass(frozen=True)
class GameTurn:
    """A batch of tasks after `number` clicks: masks and truths (B, H, W) bool on the source grid, clicks per task."""

    number: int
    masks: NDArray[np.bool_]
    truths: NDArray[np.bool_]
    clicks: list[list[Click]]


class Game:
    """A case opened for the benchmark: slices and truth on the source grid, the segmenter seen from there."""

    def __init__(self, segmenter: Segmenter, spacing: float, case: Case) -> None:
        self.image, self.label, grid = read_labelled(case.image, case.label)
        self.slices = AxialSlices(grid)
        model_shape = resized_shape(self.slices.shape, self.slices.spacing, spacing)
        self.segmenter = Rescaled(segmenter, self.slices.shape, model_shape).eval()

    def stack(self, tasks: Sequence[Task]) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 1, H, W) images and (B, 1, H, W) truths."""
        images = [np.array(self.slices.view(self.image, task.slice), dtype=np.float32) for task in tasks]
        truths = [np.array(self.slices.view(self.label, task.slice) == task.value) for task in tasks]
        return torch.from_numpy(np.stack(images))[:, None], torch.from_numpy(np.stack(truths))[:, None]

    def turns(self, tasks: Sequence[Task], protocol: Protocol, device: torch.device | str) -> Iterator[GameTurn]:
        """The state of some tasks of this case after each asked number of clicks."""
        images, truths = self.stack(tasks)
        user = SimulateClickd(USERS[protocol.user](self.slices.spacing))
        seeds = torch.tensor([task.seed(protocol.seed) for task in tasks])
        with torch.inference_mode(), half_precision(device):
            code = self.segmenter.encode(images.to(device))
            if protocol.named:
                code = self.segmenter.called(code, [task.name for task in tasks])
            if 0 in protocol.clicks:
                nothing = stack_clicks([[] for _ in tasks], dimension=2).to(code.device)
                masks = most_probable(self.segmenter.decode(code, nothing)).cpu().numpy() == INSIDE
                yield GameTurn(0, masks, truths[:, 0].numpy(), [[] for _ in tasks])
            turns = interact(self.segmenter, code, truths.to(device), user, seeds, turns=max(protocol.clicks))
            for number, turn in enumerate(turns, start=1):
                if number in protocol.clicks:
                    masks = most_probable(turn.logits).cpu().numpy() == INSIDE
                    yield GameTurn(number, masks, truths[:, 0].numpy(), unstack_clicks(turn.clicks))

    def play(self, tasks: Sequence[Task], protocol: Protocol, device: torch.device | str) -> Iterator[Result]:
        """What was measured on some tasks of this case after each asked number of clicks."""
        previous: GameTurn | None = None
        for turn in self.turns(tasks, protocol, device):
            earlier = previous if previous is not None and previous.number == turn.number - 1 else None
            for index, task in enumerate(tasks):
                yield self.measure(task, index, turn, earlier)
            previous = turn

    def measure(self, task: Task, index: int, turn: GameTurn, earlier: GameTurn | None) -> Result:
        """The figures of one task of a turn. earlier: the turn one click before, if that was measured."""
        mask, truth = turn.masks[index], turn.truths[index]
        obedience = {}
        if earlier is not None and earlier.number > 0 and len(turn.clicks[index]) > len(earlier.clicks[index]):
            click, before = turn.clicks[index][-1], earlier.masks[index]
            obedience["obeyed"] = obeyed(click, before, mask, truth)
            obedience["contained"] = contained(click, before, mask, self.slices.spacing)
        return Result.of(task, turn.number, (mask, truth), self.slices.spacing, **obedience)


def play_case(
    segmenter: Segmenter, spacing: float, tasks: Sequence[Task], protocol: Protocol, device: torch.device | str
) -> Iterator[list[Result]]:
    """The results of all tasks of one case, batch by batch."""
    if segmenter.dimension == 3:
        recipe: Any = segmenter.recipe
        volume = VolumeGame(segmenter, spacing, tasks[0].case, list(recipe.labels.values()))
        yield list(volume.play(tasks, protocol, device))
        return
    game = Game(segmenter, spacing, tasks[0].case)
    for start in range(0, len(tasks), protocol.batch):
        yield list(game.play(tasks[start : start + protocol.batch], protocol, device))


def play_all(
    model: Model, groups: Sequence[Sequence[Task]], protocol: Protocol, device: torch.device | str
) -> Iterator[list[Result]]:
    """The results of each case in turn, in this process, with a progress bar. groups: the tasks of each case."""
    with _progress(groups) as bar:
        for group in groups:
            results: list[Result] = []
            for found in play_case(model.segmenter, model.recipe.spacing, group, protocol, device):
                results += found
                bar.update(len(found) // len(protocol.clicks))
            yield results


def play_all_parallel(
    open_player: Callable[[], Model], groups: Sequence[Sequence[Task]], protocol: Protocol, workers: int
) -> Iterator[list[Result]]:
    """As `play_all` on the CPU, some cases at a time in processes of their own, each of which opens the player."""
    threads = max(1, torch.get_num_threads() // workers)
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool, _progress(groups) as bar:
        jobs = [(open_player, group, protocol, threads) for group in groups]
        for found in pool.map(_play_in_worker, jobs):
            bar.update(len(found) // len(protocol.clicks))
            yield found


def _progress(groups: Sequence[Sequence[Task]]) -> tqdm:
    return tqdm(total=sum(map(len, groups)), desc="evaluating", unit="structure")


def _play_in_worker(job: tuple[Callable[[], Model], Sequence[Task], Protocol, int]) -> list[Result]:
    open_player, tasks, protocol, threads = job
    keep_freed_memory()
    torch.set_num_threads(threads)
    model = open_player()
    found = play_case(model.segmenter, model.recipe.spacing, tasks, protocol, "cpu")
    return [result for batch in found for result in batch]


def by_case(tasks: Iterable[Task]) -> list[list[Task]]:
    """The tasks, a list for each case."""
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.case.id, []).append(task)
    return list(groups.values())
