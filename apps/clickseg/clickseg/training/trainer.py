"""The trainer that app, bundle and command line share."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from ..clicks import SimulateClickd
from ..datasets import Case, CaseFolder
from ..machine import pick_device
from ..methods import Recipe, Segmenter, UNet2dRecipe, find_method
from ..methods.tis import Tis, TisRecipe
from ..methods.weights import joined_cards, read_file, to_device
from ..samples import GlobalOrder, StructureDataset, open_slices
from ..volumes import collate_for, open_volumes
from .interact import Interact
from .processes import join_processes
from .run import ClickTrainer, Clock, Plan, Run

logger = logging.getLogger(__name__)


def build_trainer(
    method: str, recipe: UNet2dRecipe, cases: Sequence[Case], plan: Plan, click: SimulateClickd | None = None
) -> ClickTrainer:
    """The trainer of a method, ready to `run()`: the one front door for the app, the bundle and the command line.

    It writes to `plan.output`: `checkpoint.pt` after every epoch and when the minutes are over (network, optimiser,
    step, random state, recipe; a resumed run ends with the weights of one that was never interrupted), `weights.pt`
    (what is published), `log.csv`, and TensorBoard events. Under torchrun it is data-parallel: nccl on GPUs, gloo on
    CPUs.

    Args:
        recipe: with its labels filled in. cases: what to learn from. click: the simulated user, default the recipe's.

    Raises:
        ValueError: a label that does not fit its image, no labels at all, a checkpoint of another recipe, a recipe that
            needs weights to start from and no such weights.
    """
    rank, processes, device = join_processes(pick_device(plan.device))
    torch.manual_seed(recipe.seed)
    made = find_method(method)
    segmenter = made.build(recipe)
    if plan.init is not None:
        card = _start_from(plan.init, segmenter, recipe)
        plan = replace(plan, card=joined_cards(card, plan.card))
    to_device(segmenter, device)
    optimizer = (
        made.optimizer(recipe, segmenter)
        if made.optimizer
        else torch.optim.Adam(segmenter.parameters(), lr=recipe.learning_rate)
    )
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    checkpoint = _read_checkpoint(plan, recipe)
    if recipe.needs_weights and plan.init is None and not checkpoint:
        raise ValueError("a refiner is trained on an encoder that has learnt: name the weights to start from (--init)")
    if checkpoint:
        segmenter.load_state_dict(checkpoint["state"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        torch.set_rng_state(checkpoint["random"])
        plan = replace(plan, card=joined_cards(checkpoint["card"], plan.card))
    progress_shown = plan.progress and rank == 0
    dataset = _open_samples(cases, recipe, segmenter, plan, rank, progress_shown)
    first_step = checkpoint["step"] if checkpoint else 0
    loader = DataLoader(
        dataset,
        batch_sampler=GlobalOrder(recipe.batch, first_step, rank, processes),
        num_workers=plan.workers,
        collate_fn=collate_for(cast(TisRecipe, recipe)) if recipe.dimension == 3 else None,
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
        loss_function=made.loss(recipe),
        epoch_length=recipe.steps_per_epoch,
        iteration_update=step,
        decollate=False,
    )
    trainer.state.epoch = first_step // recipe.steps_per_epoch
    trainer.state.iteration = first_step
    run = Run(segmenter, optimizer, recipe, plan, Clock(plan, recipe.steps_per_epoch, checkpoint.get("elapsed", 0.0)))
    run.attach(trainer, first=rank == 0, progress=progress_shown)
    return trainer


def open_trainer(
    recipe: UNet2dRecipe, dataset: CaseFolder, click: SimulateClickd, max_epochs: int, **plan: Any
) -> ClickTrainer:
    """`build_trainer` as a bundle's train.json calls it; plan: the other fields of `Plan`."""
    recipe = dataset.completed(recipe)
    card = {"method": recipe.method, **dataset.card}
    return build_trainer(recipe.method, recipe, dataset.cases, Plan(epochs=max_epochs, card=card, **plan), click)


def _open_samples(
    cases: Sequence[Case], recipe: Any, segmenter: Segmenter, plan: Plan, rank: int, progress: bool
) -> Dataset:
    """The first process prepares the cases, the others then find them ready."""
    if dist.is_initialized() and rank > 0:
        dist.barrier()
    folder = Path(plan.cache or plan.output / "cache")
    samples: Dataset
    if recipe.dimension == 2:
        samples = StructureDataset(open_slices(cases, recipe, folder, progress), recipe)
    else:
        room = plan.cache_gb * 1e9
        samples = open_volumes(cases, recipe, cast(Tis, segmenter), folder, progress, room, plan.workers)
    if dist.is_initialized() and rank == 0:
        dist.barrier()
    return samples


def _start_from(path: Path, segmenter: Segmenter, recipe: Recipe) -> dict[str, Any]:
    """Give a segmenter the weights in a file; returns their card. ValueError if its recipe computes something else."""
    content = read_file(path)
    theirs = type(recipe).from_dict(content["recipe"])
    recipe.check_weights(path, theirs)
    state = {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in content["state"].items()
    }
    segmenter.load_state_dict(segmenter.adopt(state, theirs))
    return content.get("card", {})


def _read_checkpoint(plan: Plan, recipe: Recipe) -> dict[str, Any]:
    path = plan.output / "checkpoint.pt"
    if not plan.resume:
        if path.exists():
            raise ValueError(f"{path} exists: resume that run, or name another output folder")
        return {}
    if not path.exists():
        logger.warning("no checkpoint in %s to resume: a training begins", plan.output)
        return {}
    content = read_file(path)
    theirs = type(recipe).from_dict(content["recipe"])  # fields that are younger than the checkpoint at their defaults
    differing = recipe.differing(theirs)
    if differing:
        raise ValueError(f"{path} was made with another recipe (it differs in {', '.join(differing)})")
    weights = plan.output / "weights.pt"
    if "card" not in content:  # of an earlier version, which kept it there alone
        content["card"] = read_file(weights).get("card", {}) if weights.exists() else {}
    return content
