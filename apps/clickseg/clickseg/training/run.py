"""What is asked of a training, and what happens around its steps."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from ignite.handlers import TensorboardLogger
from ignite.metrics import RunningAverage
from monai.engines import SupervisedTrainer
from monai.utils import CommonKeys
from torch import distributed as dist
from torch import optim
from tqdm import tqdm

from ..files import held_alone, whole_file
from ..methods import Segmenter, UNet2dRecipe, save_weights
from ..methods.weights import FORMAT, write_atomically
from .processes import leave_processes

logger = logging.getLogger(__name__)

LOG_COLUMNS = ("epoch", "step", "seconds", "loss", "learning_rate", "dice@1", "dice@5", "dice@15")


@dataclass
class Plan:
    """How long, where and from what a training runs; what it learns is in the Recipe.

    Exactly one of epochs and minutes. init: weights to start from. cache: folder for what is made of the cases before
    they are trained on, which trainings may share; None for `output`/cache. cache_gb: the most that an encoder's codes
    may take there (10^9 bytes). validate: called on the bare segmenter every `validate_every` epochs on the first
    process; returns numbers to log. card: facts of the weights; to what they learn from (`CaseFolder.card`) comes what
    those of `init`, and the run that is resumed, have learnt from.
    """

    output: Path
    epochs: int | None = None
    minutes: float | None = None
    resume: bool = False
    init: Path | None = None
    device: str = "auto"
    workers: int = 0
    cache: Path | None = None
    cache_gb: float = 50.0
    validate: Callable[[Segmenter], dict[str, float]] | None = None
    validate_every: int = 5
    card: dict[str, Any] = field(default_factory=dict)
    progress: bool = True

    def __post_init__(self) -> None:
        self.output = Path(self.output)
        if (self.epochs is None) == (self.minutes is None):
            raise ValueError("give either epochs or minutes")
        for name in ("epochs", "minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if self.validate_every < 1:
            raise ValueError(f"validate_every must be 1 or more epochs, got {self.validate_every}")


class Clock:
    """How far a run is, in [0, 1], by epochs or by minutes of training (those before a resumption counted in)."""

    def __init__(self, plan: Plan, steps_per_epoch: int, elapsed: float) -> None:
        self.steps = None if plan.epochs is None else plan.epochs * steps_per_epoch
        self.seconds = None if plan.minutes is None else plan.minutes * 60
        self._before = elapsed
        self._start = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds."""
        return self._before + time.monotonic() - self._start

    def progress(self, step: int) -> float:
        if self.steps is not None:
            return step / self.steps
        share = torch.tensor(self.elapsed / (self.seconds or 1.0))
        if dist.is_initialized():  # all processes must agree on when to stop
            share = share.to(
                torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else "cpu"
            )
            dist.broadcast(share, 0)
        return float(share)


class ClickTrainer(SupervisedTrainer):
    """A SupervisedTrainer that leaves a finished run alone (ignite would start it anew from epoch 0).

    finished: whether all that was asked for had been trained before. output: the folder that it writes to, on the
    first process. Where several processes train together they leave their group together at the end. Raises ValueError
    while another training writes there.
    """

    finished = False
    output: Path | None = None

    def run(self) -> None:  # type: ignore[override]
        if not self.finished and self.state.epoch < self.state.max_epochs:
            otherwise = f"{self.output}: another training writes there: wait for its end, or name another output folder"
            with held_alone(self.output, otherwise) if self.output else contextlib.nullcontext():
                super().run()
        leave_processes()


@dataclass
class Run:
    """What happens around the steps of a run: learning rate, progress, log, validation, checkpoints."""

    segmenter: Segmenter
    optimizer: optim.Optimizer
    recipe: UNet2dRecipe
    plan: Plan
    clock: Clock
    progress: float = 0.0  # of the whole run, in [0, 1]

    def attach(self, trainer: ClickTrainer, first: bool, progress: bool) -> None:
        self.progress = min(1.0, self.clock.progress(trainer.state.iteration))  # all processes ask the clock together
        trainer.finished = self.progress >= 1
        trainer.add_event_handler(Events.ITERATION_STARTED, self.set_learning_rate)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.check_loss)
        # On every process: the metric averages over them, and would wait for those that have none.
        RunningAverage(output_transform=lambda output: output[CommonKeys.LOSS], alpha=0.98).attach(trainer, "loss")
        if not first:
            return
        trainer.output = self.plan.output
        if trainer.finished:
            logger.warning("%s: finished before; to go on ask for more epochs or minutes", self.plan.output)
        elif progress:
            self.show_progress(trainer)
        board = TensorboardLogger(log_dir=str(self.plan.output / "tensorboard"))
        board.attach_output_handler(trainer, Events.ITERATION_COMPLETED, tag="train", output_transform=dict)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.finish_epoch, board)
        trainer.add_event_handler(Events.TERMINATE, self.finish_early)
        trainer.add_event_handler(Events.COMPLETED, board.close)

    def show_progress(self, trainer: ClickTrainer) -> None:
        """One bar for the whole run, whether epochs or minutes bound it, so that the estimate is of its end."""
        text = "training {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        bar = tqdm(total=1.0, initial=self.progress, bar_format=text)

        def show(trainer: ClickTrainer) -> None:
            bar.set_postfix_str(f"epoch {trainer.state.epoch}, loss {trainer.state.metrics['loss']:.3f}", refresh=False)
            bar.update(self.progress - bar.n)

        def finish(trainer: ClickTrainer) -> None:
            bar.update(1.0 - bar.n)
            bar.close()

        trainer.add_event_handler(Events.ITERATION_COMPLETED, show)
        trainer.add_event_handler(Events.COMPLETED, finish)

    def set_learning_rate(self, trainer: ClickTrainer) -> None:
        step = trainer.state.iteration - 1  # ignite counts the step that starts
        self.progress = min(1.0, self.clock.progress(step))
        if self.progress >= 1:
            trainer.terminate()
        factor = self.recipe.rate(step, self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def check_loss(self, trainer: ClickTrainer) -> None:
        """End a training that has lost its numbers, before they are written over those of the last epoch."""
        loss = trainer.state.output[CommonKeys.LOSS]
        if not math.isfinite(loss):
            step = trainer.state.iteration
            raise ValueError(f"the loss is {loss} at step {step}: look for odd images, or learn more slowly")

    def finish_epoch(self, trainer: ClickTrainer, board: TensorboardLogger) -> None:
        epoch, step = trainer.state.epoch, trainer.state.iteration
        self.save(step)  # before anything else can fail
        numbers = {"loss": trainer.state.metrics["loss"], "learning_rate": self.optimizer.param_groups[0]["lr"]}
        if self.plan.validate is not None and epoch % self.plan.validate_every == 0:
            self.segmenter.eval()
            numbers |= self.plan.validate(self.segmenter)
        for name, value in numbers.items():
            board.writer.add_scalar(f"epoch/{name}", value, step)
        _append_row(
            self.plan.output / "log.csv", {"epoch": epoch, "step": step, "seconds": self.clock.elapsed, **numbers}
        )

    def finish_early(self, trainer: ClickTrainer) -> None:
        """The minutes are over: what was learned in the epoch that is cut short is kept, too.

        The checkpoint has then all its minutes behind it, so that a resumed run knows that it is finished.
        """
        step = trainer.state.iteration - 1  # the step that has begun is not taken
        if self.progress >= 1:
            self.save(step)
        else:
            self.publish(step)

    def publish(self, step: int) -> None:
        card = {**self.plan.card, "steps": step, "seconds": round(self.clock.elapsed)}
        save_weights(self.plan.output / "weights.pt", self.segmenter, self.recipe, card)

    def save(self, step: int) -> None:
        self.publish(step)
        content = {
            "clickseg": FORMAT,
            "recipe": self.recipe.to_dict(),
            "card": self.plan.card,
            "state": self.segmenter.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": step,
            "epoch": step // self.recipe.steps_per_epoch,
            "elapsed": self.clock.elapsed,
            "random": torch.get_rng_state(),
        }
        write_atomically(self.plan.output / "checkpoint.pt", content)


def _append_row(path: Path, row: Mapping[str, float]) -> None:
    """Write a row at the end of a log, which gains the columns that it lacks."""
    rows: list[dict[str, Any]] = []
    if path.exists():
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    rows.append({name: value if isinstance(value, int) else f"{value:.5g}" for name, value in row.items()})
    columns = dict.fromkeys([*LOG_COLUMNS, *rows[0], *row])
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")  # no column: what a crash left of a line
    writer.writeheader()
    writer.writerows(rows)
    with whole_file(path) as file:
        file.write(text.getvalue().encode())
