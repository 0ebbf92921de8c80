"""Training: the K-interaction step (Sakinis 2019, III-C) and the trainer that app, bundle and command line share."""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from ignite.engine import Events
from ignite.handlers import TensorboardLogger
from ignite.metrics import RunningAverage
from monai.engines import SupervisedTrainer
from monai.utils import CommonKeys
from torch import Tensor, nn, optim
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from .clicks import PADDING, SimulateClickd, stack_clicks
from .datasets import Case, CaseFolder, GlobalOrder, StructureDataset, open_slices
from .interaction import interact, probabilities
from .machine import half_precision, pick_device
from .methods import Recipe, Segmenter, UNet2dRecipe, find_method, save_weights
from .methods.tis import Tis
from .methods.weights import FORMAT, read_file, to_device, write_atomically
from .volumes import collate, open_volumes


def click_schedule(max_clicks: int, reading: str, draws: Tensor) -> Tensor:
    """Who clicks at which turn: the probability falls linearly, 1, 1 - 1/K, ..., 1/K (Sakinis 2019, III-C).

    draws: (K, B) uniform in [0, 1). reading: "skip" lets an image that sat out turn k click at k+1, "stop" does not;
    with "uniform" every number of clicks from 1 to K is as likely as any other.
    Returns (K, B) bool; the first row is all True.
    """
    chance = 1 - torch.arange(max_clicks) / max_clicks
    if reading == "uniform":
        return torch.arange(max_clicks)[:, None] < 1 + (draws[:1] * max_clicks).long()
    schedule = draws < chance[:, None]
    return schedule.cummin(0).values if reading == "stop" else schedule


class Interact:
    """One training step, as ignite calls it: up to K turns of the click game without gradient, then one step.

    `click` is the simulated user; the network is used in evaluation mode while it interacts ("prediction mode"), and
    with `freeze_batchnorm` its batch normalisations stay in that mode for the step, too.
    """

    def __init__(self, click: SimulateClickd, max_clicks: int, reading: str, freeze_batchnorm: bool = False) -> None:
        self.click = click
        self.max_clicks = max_clicks
        self.reading = reading
        self.freeze_batchnorm = freeze_batchnorm

    @classmethod
    def of(cls, recipe: UNet2dRecipe, click: SimulateClickd | None = None) -> Interact:
        """The step that a recipe asks for; with the recipe's own user if no other is given."""
        click = click or SimulateClickd(recipe.user(recipe.spacing))
        return cls(click, recipe.interactions, recipe.reading, recipe.freeze_batchnorm)

    def __call__(self, engine: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        device = engine.state.device
        image, label, seeds = (batch[key].to(device) for key in ("image", "label", "seed"))
        network = engine.network
        segmenter = cast(Segmenter, network.module if isinstance(network, DistributedDataParallel) else network)
        clicks, previous = self.play(segmenter, image, label, seeds)
        network.train()
        if self.freeze_batchnorm:
            for module in segmenter.modules():
                if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
                    module.eval()
        engine.optimizer.zero_grad(set_to_none=True)
        with half_precision(device):
            logits = network(image, clicks, previous)
        loss = engine.loss_function(logits, label)
        loss.backward()
        engine.optimizer.step()
        count = (clicks[..., -1] != PADDING).sum(1).float().mean()
        loss_mean, clicks_mean = mean_over_processes(torch.stack([loss.detach(), count.to(loss)])).tolist()
        return {CommonKeys.LOSS: loss_mean, "clicks": clicks_mean}

    @torch.no_grad()
    def play(self, segmenter: Segmenter, image: Tensor, label: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor | None]:
        """A game against the network as it is: the clicks (B, N, D+1), none if K is 0, and the answer before the last.

        The answer (B, C - 1, *S) is None for a network that does not read it.
        """
        clicks = stack_clicks([[] for _ in image], image.ndim - 2).to(image.device)
        if self.max_clicks == 0:
            return clicks, None
        draws = torch.stack(
            [torch.rand(self.max_clicks, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds], dim=1
        )
        schedule = click_schedule(self.max_clicks, self.reading, draws).to(image.device)
        previous: Tensor | None = None
        segmenter.eval()
        with half_precision(image.device):
            code = segmenter.encode(image)
            for turn in interact(segmenter, code, label, self.click, seeds, self.max_clicks, schedule):
                clicks, previous = turn.clicks, turn.previous
        return clicks, probabilities(previous) if segmenter.feedback and previous is not None else None


def mean_over_processes(values: Tensor) -> Tensor:
    """Element by element, the same on every process: each has an equal share of the global batch."""
    if dist.is_initialized():
        dist.all_reduce(values)
        values = values / dist.get_world_size()
    return values


@dataclass
class Plan:
    """How long, where and from what a training runs; what it learns is in the Recipe.

    Exactly one of epochs and minutes. init: weights to start from. cache_gb: the most that an encoder's codes may take
    on disk (10^9 bytes). validate: called on the bare segmenter every
    `validate_every` epochs on the first process; returns numbers to log.
    """

    output: Path
    epochs: int | None = None
    minutes: float | None = None
    resume: bool = False
    init: Path | None = None
    device: str = "auto"
    workers: int = 0
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
    """A SupervisedTrainer that leaves a finished run alone (ignite would start it anew from epoch 0)."""

    def run(self) -> None:  # type: ignore[override]
        if self.state.epoch < self.state.max_epochs:
            super().run()


def build_trainer(
    method: str, recipe: UNet2dRecipe, cases: Sequence[Case], plan: Plan, click: SimulateClickd | None = None
) -> ClickTrainer:
    """The trainer of a method, ready to `run()`: the one front door for the app, the bundle and the command line.

    It writes to `plan.output`: `checkpoint.pt` after every epoch (network, optimiser, epoch, random state, recipe; a
    resumed run ends with the weights of one that was never interrupted), `weights.pt` (what is published), `log.csv`,
    and TensorBoard events. Under torchrun it is data-parallel: nccl on GPUs, gloo on CPUs.

    Args:
        recipe: with its labels filled in. cases: what to learn from. click: the simulated user, default the recipe's.

    Raises:
        ValueError: a label that does not fit its image, no labels at all, a checkpoint of another recipe.
    """
    rank, processes = join_processes()
    device = pick_device(plan.device)
    if device.type == "cuda" and processes > 1:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    torch.manual_seed(recipe.seed)
    made = find_method(method)
    segmenter = made.build(recipe)
    if plan.init is not None:
        _start_from(plan.init, segmenter, recipe)
    to_device(segmenter, device)
    optimizer = (
        made.optimizer(recipe, segmenter)
        if made.optimizer
        else torch.optim.Adam(segmenter.parameters(), lr=recipe.learning_rate)
    )
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    checkpoint = _read_checkpoint(plan, recipe)
    if checkpoint:
        segmenter.load_state_dict(checkpoint["state"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        torch.set_rng_state(checkpoint["random"])
    progress_shown = plan.progress and rank == 0
    dataset = _open_samples(cases, recipe, segmenter, plan, rank, progress_shown)
    first_step = checkpoint["step"] if checkpoint else 0
    loader = DataLoader(
        dataset,
        batch_sampler=GlobalOrder(recipe.batch, first_step, rank, processes),
        num_workers=plan.workers,
        collate_fn=collate if recipe.dimension == 3 else None,
    )
    network: nn.Module = segmenter
    if processes > 1:
        network = DistributedDataParallel(segmenter, device_ids=[device.index] if device.type == "cuda" else None)
    step = made.step(recipe) if made.step else Interact.of(recipe, click)
    trainer = ClickTrainer(
        device=device,
        max_epochs=plan.epochs if plan.epochs is not None else sys.maxsize,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        loss_function=made.loss,
        epoch_length=recipe.steps_per_epoch,
        iteration_update=step,
        decollate=False,
    )
    trainer.state.epoch = first_step // recipe.steps_per_epoch
    trainer.state.iteration = first_step
    run = _Run(segmenter, optimizer, recipe, plan, Clock(plan, recipe.steps_per_epoch, checkpoint.get("elapsed", 0.0)))
    run.attach(trainer, first=rank == 0, progress=progress_shown)
    return trainer


def open_trainer(
    recipe: UNet2dRecipe, dataset: CaseFolder, click: SimulateClickd, max_epochs: int, **plan: Any
) -> ClickTrainer:
    """`build_trainer` as a bundle's train.json calls it; plan: the other fields of `Plan`."""
    recipe = recipe.with_labels(dataset.labels or dataset.found_labels())
    card = {"method": recipe.method, "cases": [case.id for case in dataset.cases]}
    return build_trainer(recipe.method, recipe, dataset.cases, Plan(epochs=max_epochs, card=card, **plan), click)


def join_processes() -> tuple[int, int]:
    """(rank, number of processes); joins the process group when torchrun has started this process."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def _open_samples(
    cases: Sequence[Case], recipe: Any, segmenter: Segmenter, plan: Plan, rank: int, progress: bool
) -> Dataset:
    """The first process prepares the cases, the others then find them ready."""
    if dist.is_initialized() and rank > 0:
        dist.barrier()
    folder = plan.output / "cache"
    samples: Dataset
    if recipe.dimension == 2:
        samples = StructureDataset(open_slices(cases, recipe, folder, progress), recipe)
    else:
        samples = open_volumes(cases, recipe, cast(Tis, segmenter), folder, progress, plan.cache_gb * 1e9)
    if dist.is_initialized() and rank == 0:
        dist.barrier()
    return samples


def _start_from(path: Path, segmenter: Segmenter, recipe: Recipe) -> None:
    """Give a segmenter the weights in a file. ValueError if its recipe computes something else."""
    content = read_file(path)
    theirs = type(recipe).from_dict(content["recipe"])
    differing = recipe.unlike(theirs)
    if differing:
        raise ValueError(f"weights {path} were made with another {', '.join(differing)} than the recipe asks for")
    state = {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in content["state"].items()
    }
    segmenter.load_state_dict(segmenter.adopt(state))


def _read_checkpoint(plan: Plan, recipe: Recipe) -> dict[str, Any]:
    path = plan.output / "checkpoint.pt"
    if not plan.resume:
        if path.exists():
            raise ValueError(f"{path} exists: resume that run, or name another output folder")
        return {}
    if not path.exists():
        return {}
    content = read_file(path)
    theirs = type(recipe).from_dict(content["recipe"])  # fields that are younger than the checkpoint at their defaults
    if theirs != recipe:
        names = [name for name, value in recipe.to_dict().items() if value != theirs.to_dict()[name]]
        raise ValueError(f"{path} was made with another recipe (it differs in {', '.join(names)})")
    return content


@dataclass
class _Run:
    """What happens around the steps of a run: learning rate, progress, log, validation, checkpoints."""

    segmenter: Segmenter
    optimizer: optim.Optimizer
    recipe: UNet2dRecipe
    plan: Plan
    clock: Clock
    progress: float = 0.0  # of the whole run, in [0, 1]

    def attach(self, trainer: ClickTrainer, first: bool, progress: bool) -> None:
        self.progress = min(1.0, self.clock.progress(trainer.state.iteration))  # all processes ask the clock together
        trainer.add_event_handler(Events.ITERATION_STARTED, self.set_learning_rate)
        # On every process: the metric averages over them, and would wait for those that have none.
        RunningAverage(output_transform=lambda output: output[CommonKeys.LOSS], alpha=0.98).attach(trainer, "loss")
        if not first:
            return
        if progress:
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

    def finish_epoch(self, trainer: ClickTrainer, board: TensorboardLogger) -> None:
        epoch, step = trainer.state.epoch, trainer.state.iteration
        numbers = {"loss": trainer.state.metrics["loss"], "learning_rate": self.optimizer.param_groups[0]["lr"]}
        if self.plan.validate is not None and epoch % self.plan.validate_every == 0:
            self.segmenter.eval()
            numbers |= self.plan.validate(self.segmenter)
        for name, value in numbers.items():
            board.writer.add_scalar(f"epoch/{name}", value, step)
        _append_row(
            self.plan.output / "log.csv", {"epoch": epoch, "step": step, "seconds": self.clock.elapsed, **numbers}
        )
        self.save(step)

    def finish_early(self, trainer: ClickTrainer) -> None:
        """The minutes are over: what was learned in the epoch that is cut short is published, too."""
        self.publish(trainer.state.iteration - 1)

    def publish(self, step: int) -> None:
        card = {**self.plan.card, "steps": step, "seconds": round(self.clock.elapsed)}
        save_weights(self.plan.output / "weights.pt", self.segmenter, self.recipe, card)

    def save(self, step: int) -> None:
        self.publish(step)
        content = {
            "clickseg": FORMAT,
            "recipe": self.recipe.to_dict(),
            "state": self.segmenter.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": step,
            "epoch": step // self.recipe.steps_per_epoch,
            "elapsed": self.clock.elapsed,
            "random": torch.get_rng_state(),
        }
        write_atomically(self.plan.output / "checkpoint.pt", content)


LOG_COLUMNS = ("epoch", "step", "seconds", "loss", "learning_rate", "dice@1", "dice@5", "dice@15")


def _append_row(path: Path, row: Mapping[str, float]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, LOG_COLUMNS, restval="")
        if new:
            writer.writeheader()
        writer.writerow({name: value if isinstance(value, int) else f"{value:.5g}" for name, value in row.items()})
