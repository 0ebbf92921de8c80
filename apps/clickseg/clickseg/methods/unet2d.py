"""Sakinis et al. 2019: a 2D U-Net that reads a slice and two Gaussian click channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.nn import functional

from ..clicks import INSIDE, OUTSIDE, PADDING, SakinisUser, disc_guidance, gaussian_guidance
from ..clicks.encode import Overlap
from ..clicks.simulate import Metric, check_metric
from ..geometry import rescale_clicks, resize, resized_shape
from ..networks import UNet, widened
from .insist import insist
from .nearby import put_back, surroundings
from .protocol import Method, Recipe, Segmenter, check_window
from .specks import without_specks

ENTRY = "network.down.0.0.weight"  # of the state: the weights that read the channels
NAMES = "network.names."  # of the state: what the weights know of names


@dataclass(frozen=True)
class UNet2dRecipe(Recipe):
    """The numbers of `unet2d`; the defaults suit short trainings on a CPU, `docs/adr` says where they leave Table I.

    window: HU (or whatever the image holds), clipped to before standardising with the mean and the deviation of the
    clipped training voxels.
    """

    method: ClassVar[str] = "unet2d"
    dimension: ClassVar[int] = 2
    fixed: ClassVar[tuple[str, ...]] = (
        "spacing", "window", "mean", "deviation", "width", "encoding", "sigma", "radius"
    )  # fmt: skip
    growing: ClassVar[tuple[str, ...]] = ("width",)
    least_clicks: ClassVar[int] = 1  # that K may be

    window: tuple[float, float] | None = (-125.0, 275.0)
    mean: float = -56.4
    deviation: float = 97.7
    width: int = 16
    encoding: Literal["gaussian", "disc"] = "gaussian"  # of clicks
    sigma: float = 2.0  # of the Gaussians, voxels of the model grid (Table I)
    overlap: Overlap = "sum"  # of the Gaussians of clicks near each other
    radius: float = 5.0  # of the discs, voxels of the model grid
    click_margin: float = 0.0  # by which a clicked pixel's label leads, if need be lifted round it (docs/adr/0015)
    speck: float = 0.0  # share of the largest piece that is clicked on, below which others are dropped (docs/adr/0022)
    feedback: bool = False  # the network also reads its answer before the last click (Sofiiuk 2021, III-B)
    looks: int = 1  # type: ignore[misc]  # at a slice without an answer; each reads the last (docs/adr/0023)
    overview: float = 0.0  # mm, of the grid for a slice without an answer; 0: spacing (docs/adr/0024)

    max_clicks: int = 5  # K
    reading: Literal["skip", "stop"] = "stop"
    first_click: Literal["interior", "anywhere"] = "interior"
    click_metric: Metric = "chessboard"
    click_unit: Literal["mm", "voxel"] = "mm"  # of the chamfer distance; the paper's grid is 1 mm, where they agree

    size: int = 128  # pixels of the square crop that training sees
    batch: int = 8
    steps_per_epoch: int = 200
    learning_rate: float = 1e-3
    warmup: int = 50  # steps in which the learning rate rises linearly to its value
    decay: float = 0.3  # the share of the training, at its end, in which the learning rate falls linearly to zero
    label_balance: float = 0.5  # a slice of a structure that has n slices is drawn with weight n ** -label_balance
    augment: bool = True
    superpixels: float = 0.0  # share of the samples whose structure is a superpixel of the image (docs/adr/0014)
    strained: float = 0.0  # share of the samples that are changed more than usual (docs/adr/0020)
    named: float = 0.0  # share of the samples that come with their structure's name (docs/adr/0021)
    click_weight: float = 0.0  # type: ignore[misc]  # of a further loss, near the clicks (docs/adr/0011)
    freeze_batchnorm: bool = False  # keep its running statistics: N processes then compute what one does
    seed: int = 4242

    def __post_init__(self) -> None:
        super().__post_init__()
        check_metric(self.click_metric)
        positive = ("spacing", "deviation", "width", "sigma", "radius", "size", "batch", "steps_per_epoch")
        for name in (*positive, "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"recipe field {name} must be positive, got {getattr(self, name)!r}")
        self._check_looks()
        if self.max_clicks < self.least_clicks:
            raise ValueError(f"recipe field max_clicks must be {self.least_clicks} at least, got {self.max_clicks!r}")
        for name in ("warmup", "decay", "label_balance", "click_weight", "click_margin", "overview"):
            if getattr(self, name) < 0:
                raise ValueError(f"recipe field {name} must not be negative, got {getattr(self, name)!r}")
        for name in ("superpixels", "strained", "named", "speck"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"recipe field {name} must be a share from 0 to 1, got {getattr(self, name)!r}")
        choices = {
            "encoding": ("gaussian", "disc"),
            "overlap": ("sum", "max"),
            "reading": ("skip", "stop"),
            "first_click": ("interior", "anywhere"),
            "click_unit": ("mm", "voxel"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"recipe field {name} must be one of {allowed}, got {getattr(self, name)!r}")
        if self.size % UNet.divisor:
            raise ValueError(f"recipe field size must be a multiple of {UNet.divisor}, got {self.size}")
        check_window(self.window)

    def _check_looks(self) -> None:
        if self.looks < 1 or (self.looks > 1 and not self.feedback):
            raise ValueError(f"recipe field looks must be 1, or more if feedback is on, got {self.looks!r}")
        if self.overview and not self.feedback:
            raise ValueError(f"recipe field overview must be 0, or more if feedback is on, got {self.overview!r}")

    @property
    def whole_numbers(self) -> bool:
        """Whether stored images may be rounded to whole numbers: of CT in HU they may, of one scaled to 0..1 not."""
        low, high = self.window or (0.0, 6 * self.deviation)
        return min(self.deviation, (high - low) / 6) >= 10

    @property
    def names(self) -> dict[str, int]:
        """The names of the labels in plain spelling: 1, 2, ... by their values. Those spelled alike share one."""
        by_value = sorted(self.labels, key=self.labels.__getitem__) if self.named else []
        spellings = dict.fromkeys(plain_spelling(name) for name in by_value)
        return {spelling: number for number, spelling in enumerate(filter(None, spellings), start=1)}

    @property
    def interactions(self) -> int:
        """The most clicks of a sample of the training."""
        return self.max_clicks

    def unlike(self, theirs: Self) -> list[str]:
        """Weights without feedback can learn to read it, the other way round there is no start."""
        return super().unlike(theirs) + (["feedback"] if theirs.feedback and not self.feedback else [])

    def standardise(self, image: Tensor) -> Tensor:
        """Values of an image, in its own units, as the network sees them."""
        image = image.float()
        if self.window is not None:
            image = image.clamp(*self.window)
        return (image - self.mean) / self.deviation

    def rate(self, step: int, progress: float) -> float:
        """Linear warm-up over `warmup` steps, constant, then linear to zero over the last share `decay` of the run.

        As long as a run is in its constant part, resuming it with another length is the same as having asked for that
        length at the start.
        """
        cooling = 1.0 if self.decay == 0 else min(1.0, max(0.0, (1.0 - progress) / self.decay))
        return min(1.0, (step + 1) / max(1, self.warmup)) * cooling

    def user(self, spacing: float) -> SakinisUser:
        """The paper's simulated user on a grid of this in-plane spacing (mm)."""
        scale = spacing if self.click_unit == "mm" else 1.0
        return SakinisUser(metric=self.click_metric, scale=scale, first=self.first_click)


class UNet2d(Segmenter):
    """Image (B, 1, H, W) and clicks (B, N, 3) -> logits (B, 2, H, W): outside, inside.

    The code is the standardised slice and, once it has been `called` so, the number of its structure's name all over a
    second channel. Channels of the network: slice, clicks inside, clicks outside, and with `recipe.feedback` the
    probability of inside in the answer before the last click, zero before the first.
    """

    dimension = 2

    def __init__(self, recipe: UNet2dRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.feedback = recipe.feedback
        self.network = UNet(inputs=3 + recipe.feedback, outputs=2, width=recipe.width, names=len(recipe.names))

    def encode(self, image: Tensor) -> Tensor:
        return self.recipe.standardise(image)

    def called(self, code: Tensor, names: Sequence[str]) -> Tensor:
        known = self.recipe.names
        if not known:
            return code
        # Who says none goes the same way: a training in several processes waits for whatever is left out.
        numbers = torch.tensor([known.get(plain_spelling(name), 0) for name in names or [""] * len(code)])
        return torch.cat([code, numbers.to(code).view(-1, 1, 1, 1).expand_as(code)], dim=1)

    def decode(self, code: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        if previous is None and self.feedback:
            previous = self.replay(code, clicks)
        elif previous is not None and not self.feedback:
            raise ValueError("these weights have no input for an initial mask (recipe field feedback)")
        if self.training or previous is None:  # a loss is of one look
            return self.look(code, clicks, previous)
        clicks, unseen = clicks.to(code.device), ~previous.flatten(1).any(1)
        logits = code.new_empty(len(code), 2, *code.shape[-2:])
        if bool(unseen.any()):
            logits[unseen] = self.first_looks(code[unseen], clicks[unseen]).to(logits)
        if not bool(unseen.all()):
            logits[~unseen] = self.look(code[~unseen], clicks[~unseen], previous[~unseen]).to(logits)
        return logits

    def first_looks(self, code: Tensor, clicks: Tensor) -> Tensor:
        """Logits (B, 2, H, W) of slices that have no answer yet."""
        recipe, shape = self.recipe, code.shape[-2:]
        small = resized_shape(shape, (recipe.spacing, recipe.spacing), recipe.overview or recipe.spacing)
        image = torch.cat([resize(code[:, :1], small), code[:, 1:, :1, :1].expand(-1, -1, *small)], dim=1)
        nothing = torch.zeros_like(image[:, :1])
        logits = resize(self.look(image, rescale_clicks(clicks, shape, small), nothing).float(), shape)
        for _ in range(recipe.looks - 1):
            logits = self.look(code, clicks, logits.softmax(1)[:, INSIDE:]).float()
        return logits

    def look(self, code: Tensor, clicks: Tensor, previous: Tensor | None) -> Tensor:
        """Logits (B, 2, H, W) by one pass of the network. previous: as in decode; None for weights without feedback.

        Of a slice that is larger than what a training sees, the network is shown what lies round the answer alone.
        """
        image, name = code[:, :1], code[:, 1:, 0, 0].long().squeeze(1) if code.shape[1] > 1 else None
        read = [] if previous is None else [previous.to(image)]
        channels = torch.cat([image, self.guidance(image, clicks), *read], dim=1)
        whole = previous is None or max(image.shape[-2:]) <= self.recipe.size
        logits = self.run_network(channels, name) if whole else self.run_nearby(channels, clicks, name)
        if self.training:  # a loss is of what the network says by itself
            return logits
        if self.recipe.click_margin:
            logits = insist(logits.float(), clicks, self.recipe.click_margin, self.recipe.sigma)
        return without_specks(logits, clicks, self.recipe.speck) if self.recipe.speck else logits

    def forward(
        self, image: Tensor, clicks: Tensor, previous: Tensor | None = None, names: Sequence[str] = ()
    ) -> Tensor:
        return self.decode(self.called(self.encode(image), names), clicks, previous)

    def guidance(self, code: Tensor, clicks: Tensor) -> Tensor:
        """(B, 2, H, W): where the clicks inside and outside are."""
        recipe, asked = self.recipe, (clicks.to(code.device), (INSIDE, OUTSIDE), code.shape[-2:])
        if recipe.encoding == "disc":
            return disc_guidance(*asked, recipe.radius).to(code.dtype)
        return gaussian_guidance(*asked, recipe.sigma, recipe.overlap).to(code.dtype)

    def replay(self, code: Tensor, clicks: Tensor) -> Tensor:
        """The probability of inside, (B, 1, H, W), before the last click; zero before the first click inside."""
        clicks = clicks.to(code.device)
        real = clicks[..., -1] != PADDING
        total = real.sum(1)
        answer = torch.zeros_like(code[:, :1])
        for number in range(clicks.shape[1]):
            begun = (clicks[:, : number + 1, -1] == INSIDE).any(1)
            asked = (begun & real[:, number] & (real[:, : number + 1].sum(1) < total)).nonzero()[:, 0]
            if len(asked):
                logits = self.decode(code[asked], clicks[asked, : number + 1], answer[asked])
                answer = answer.index_copy(0, asked, logits.softmax(1)[:, INSIDE:].to(answer))
        return answer

    def adopt(self, state: dict[str, Tensor], theirs: Any) -> dict[str, Tensor]:
        """Weights that were made without feedback are blind to it at first, and deaf to names they have not learnt.

        Those of a narrower network compute here what they did, and its further channels stay as this segmenter has
        them, unheard by the others.
        """
        own, entry = self.state_dict(), state[ENTRY]
        adopted = {name: tensor for name, tensor in state.items() if not name.startswith(NAMES)}
        if self.feedback and entry.shape[1] < own[ENTRY].shape[1]:
            adopted[ENTRY] = torch.cat([entry, torch.zeros_like(entry[:, :1])], dim=1)
        adopted = {name: widened(name, tensor, own[name]) for name, tensor in adopted.items()}
        for key in [key for key in own if key.startswith(NAMES)]:
            adopted[key] = torch.zeros_like(own[key])
            for name, number in self.recipe.names.items():
                if name in theirs.names:
                    row = state[key][theirs.names[name]]
                    adopted[key][number] = widened(key, row[None], adopted[key][:1])[0]
        return adopted

    def run_nearby(self, x: Tensor, clicks: Tensor, names: Tensor | None) -> Tensor:
        """The network on the surroundings of what each slice's answer, its last channel, marks."""
        logits = []
        for number, (answer, own) in enumerate(zip(x[:, -1], clicks, strict=True)):
            item, box = slice(number, number + 1), surroundings(answer, own)
            part = self.run_network(x[(item, slice(None), *box)], None if names is None else names[item])
            logits.append(put_back(part, box, answer.shape))
        return torch.cat(logits)

    def run_network(self, x: Tensor, name: Tensor | None = None) -> Tensor:
        """The network on an input (B, C, H, W) of any size: padded at the far ends to what it can halve."""
        height, width = x.shape[-2:]
        padding = (0, -width % UNet.divisor, 0, -height % UNet.divisor)
        x = functional.pad(x, padding, mode="replicate") if any(padding) else x
        return self.network(x.contiguous(memory_format=torch.channels_last), name)[..., :height, :width]


def plain_spelling(name: str) -> str:
    """A structure's name as weights look it up: `Right_Kidney ` is right kidney."""
    return " ".join(name.replace("_", " ").casefold().split())


def dice_loss(logits: Tensor, label: Tensor) -> Tensor:
    """1 - Dice with squared denominator, averaged over the batch (Sakinis 2019, III-C; V-Net).

    logits (B, 2, *S); label (B, 1, *S) of 0 and 1.
    """
    inside = logits.float().softmax(1)[:, INSIDE].flatten(1)
    truth = label[:, 0].to(inside.dtype).flatten(1)
    overlap = (inside * truth).sum(1)
    total = inside.square().sum(1) + truth.square().sum(1)
    return (1 - 2 * overlap / total.clamp_min(1e-6)).mean()


METHOD = Method(recipe=UNet2dRecipe, build=UNet2d, loss=lambda recipe: dice_loss)
