"""The K-interaction step (Sakinis 2019, III-C)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from monai.utils import CommonKeys
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from ..clicks import INSIDE, OUTSIDE, PADDING, SimulateClickd, disc_guidance, stack_clicks
from ..interaction import interact, probabilities
from ..machine import half_precision
from ..methods import Segmenter, UNet2dRecipe
from ..methods.unet2d import UNet2d

CLICK_REACH = 4.0  # voxels: somewhat more than the three pixels in which obedience is measured


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
    with `freeze_batchnorm` its batch normalisations stay in that mode for the step, too. click_weight: of `click_loss`
    beside the loss of the whole image. second_looks: of every other image with one click the loss is of the network
    reading its own first answer (docs/adr/0023).
    """

    def __init__(
        self,
        click: SimulateClickd,
        max_clicks: int,
        reading: str,
        freeze_batchnorm: bool = False,
        click_weight: float = 0.0,
        second_looks: bool = False,
    ) -> None:
        self.click = click
        self.max_clicks = max_clicks
        self.reading = reading
        self.freeze_batchnorm = freeze_batchnorm
        self.click_weight = click_weight
        self.second_looks = second_looks

    @classmethod
    def of(cls, recipe: UNet2dRecipe, click: SimulateClickd | None = None) -> Interact:
        """The step that a recipe asks for; with the recipe's own user if no other is given."""
        click = click or click_of(recipe)
        numbers = recipe.interactions, recipe.reading, recipe.freeze_batchnorm, recipe.click_weight
        return cls(click, *numbers, second_looks=recipe.looks > 1)

    def __call__(self, engine: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        device = engine.state.device
        image, label, seeds = (batch[key].to(device) for key in ("image", "label", "seed"))
        network = engine.network
        segmenter = cast(Segmenter, network.module if isinstance(network, DistributedDataParallel) else network)
        names = batch.get("name", ())
        clicks, previous = self.play(segmenter, image, label, seeds, names)
        network.train()
        if self.freeze_batchnorm:
            for module in segmenter.modules():
                if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
                    module.eval()
        engine.optimizer.zero_grad(set_to_none=True)
        with half_precision(device):
            logits = network(image, clicks, previous, names) if names else network(image, clicks, previous)
        loss = engine.loss_function(logits, label)
        if self.click_weight:
            loss = loss + self.click_weight * click_loss(logits, label, clicks)
        loss.backward()
        engine.optimizer.step()
        count = (clicks[..., -1] != PADDING).sum(1).float().mean()
        loss_mean, clicks_mean = mean_over_processes(torch.stack([loss.detach(), count.to(loss)])).tolist()
        return {CommonKeys.LOSS: loss_mean, "clicks": clicks_mean}

    @torch.no_grad()
    def play(
        self, segmenter: Segmenter, image: Tensor, label: Tensor, seeds: Tensor, names: Sequence[str] = ()
    ) -> tuple[Tensor, Tensor | None]:
        """A game against the network as it is: the clicks (B, N, D+1), none if K is 0, and the answer before the last.

        names: what the structure of each image is called, if anybody says so.

        The answer (B, C - 1, *S) is None for a network that does not read it.
        """
        clicks = stack_clicks([[] for _ in image], image.ndim - 2).to(image.device)
        if self.max_clicks == 0:
            return clicks, None
        chances = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        draws = torch.stack([torch.rand(self.max_clicks, generator=chance) for chance in chances], dim=1)
        coins = torch.stack([torch.rand((), generator=chance) for chance in chances])
        schedule = click_schedule(self.max_clicks, self.reading, draws).to(image.device)
        previous: Tensor | None = None
        segmenter.eval()
        with half_precision(image.device):
            code = segmenter.called(segmenter.encode(image), names)
            for turn in interact(segmenter, code, label, self.click, seeds, self.max_clicks, schedule):
                clicks, previous = turn.clicks, turn.previous
            answer = probabilities(previous) if segmenter.feedback and previous is not None else None
            if self.second_looks:
                answer = torch.zeros_like(label, dtype=torch.float32) if answer is None else answer
                again = ((clicks[..., -1] != PADDING).sum(1) == 1) & (coins < 0.5).to(clicks.device)
                if bool(again.any()):
                    seen = cast(UNet2d, segmenter).look(code[again], clicks[again], torch.zeros_like(answer[again]))
                    answer[again] = probabilities(seen)
        return clicks, answer


def click_of(recipe: UNet2dRecipe) -> SimulateClickd:
    """The simulated user of a training, as its recipe has it, on the model's grid."""
    return SimulateClickd(recipe.user(recipe.spacing))


def click_loss(logits: Tensor, label: Tensor, clicks: Tensor) -> Tensor:
    """Cross-entropy near the clicks, for a user who wants them obeyed (after Lin 2020, "click loss").

    logits (B, 2, *S); label (B, 1, *S) of 0 and 1; clicks (B, N, D+1). The mean over all voxels within CLICK_REACH
    voxels of a click; zero without clicks.
    """
    near = disc_guidance(clicks, (INSIDE, OUTSIDE), label.shape[2:], CLICK_REACH).amax(1)
    error = functional.cross_entropy(logits.float(), label[:, 0].long(), reduction="none")
    return (error * near).sum() / near.sum().clamp_min(1)


def mean_over_processes(values: Tensor) -> Tensor:
    """Element by element, the same on every process: each has an equal share of the global batch."""
    if dist.is_initialized():
        dist.all_reduce(values)
        values = values / dist.get_world_size()
    return values
