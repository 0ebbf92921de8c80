"""Liu et al., MICCAI 2022 (TIS): an automatic 3D segmentation, refined by voxels that copy the labels of clicks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self, cast

import torch
from monai.data.utils import dense_patch_slices
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional

from ..clicks import PADDING, AnyUser, DeterministicUser, LiuUser, SimulatedUser
from ..geometry import axes_order, pad_far
from ..networks import ClickTokens, Refiner, RefinerDesign, Tokens
from ..networks.encoder3d import LEAST_SIDE, Encoder3d, described_unet, plain_unet, plan_strides
from ..progress import tell_part
from .islands import without_denied, without_strays
from .protocol import Method, Recipe, Segmenter, check_window, is_whole
from .regions import balls, dilate

SURE = 50.0  # a logit
DOUBT = 1e-3  # of a mask from outside: its logits are then as large as those of an encoder
STAGES = ("encoder", "refiner")
FIRST_SIGMAS = (3.0, 5.0)  # voxels: of the refiner's bias for near clicks, before it has learnt
SCALARS = ("balance", "log_reach", "gain", "share")  # of the refiner, by name


@dataclass(frozen=True)
class TisRecipe(Recipe):
    """The numbers of `tis`. The paper gives layers, user, optimiser and its schedule; the rest is our choice.

    patch: voxels of the model grid that the encoder sees at once. window: clipped to, then standardised with mean and
    deviation; None standardises each volume by its own. margin: voxels by which the automatic foreground is dilated;
    those, and the ball of `reach` voxels round each click, can be refined; with a `horizon` those of them alone that
    are within so many voxels of a click.
    """

    method: ClassVar[str] = "tis"
    dimension: ClassVar[int] = 3
    fixed: ClassVar[tuple[str, ...]] = (
        "labels", "spacing", "patch", "window", "mean", "deviation", "width", "architecture", "axes"
    )  # fmt: skip

    spacing: float | tuple[float, float, float] = 1.25  # type: ignore[assignment]  # of all axes, or along R, A and S

    patch: tuple[int, int, int] = (40, 48, 40)
    window: tuple[float, float] | None = None
    mean: float = 0.0
    deviation: float = 1.0
    width: int = 16  # channels of the encoder's first stage, and of the features
    architecture: Mapping[str, Any] | None = None  # of an encoder that nnU-Net trained (`networks.described_unet`)
    axes: tuple[str, ...] = ("R", "A", "S")  # the order and directions of the axes that the encoder reads
    overlap: float = 0.5  # of sliding patches

    tokens: int = 32  # width of the refiner
    heads: int = 4
    layers: int = 6  # 2.3
    grid: int = 8
    encode_clicks: bool = True
    assign_labels: bool = True
    balance: Literal["slot", "scalar"] = "slot"
    copy: bool = True
    distance: bool = True
    alike: Literal["kernel", "product"] = "kernel"
    margin: int = 3
    reach: int = 6
    horizon: int | None = 24
    gap: int | None = None  # voxels: what is found farther than that from the rest is no structure (docs/adr/0018)

    stage: Literal["encoder", "refiner"] = "encoder"  # which of the two a training trains
    max_clicks: int = 10  # in a training of the refiner (4.1)
    users: tuple[str, ...] = ("liu", "liu_faces", "deterministic")  # to learn from; the paper's: "liu" (docs/adr/0019)
    disturbance: float = 10.0  # voxels, of the first two of them (4.1)
    copies: int = 4  # augmented ones of each volume that the refiner learns from
    hard_copies: int = 0  # and ones that are changed until the encoder misses parts of structures
    strained: float = 0.0  # share of the encoder's patches that are changed as hard copies are
    crop: tuple[int, int, int] | None = None  # voxels of a volume that a step of the refiner's training sees; None: all
    sampled_tokens: int = 20_000  # that a step of the training looks at, beside the clicked ones; 0 for all
    batch: int = 2
    steps_per_epoch: int = 80
    dice: float = 0.0  # weight of a soft Dice beside cross-entropy, while the encoder learns (1 in nnU-Net's own loss)
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    quick: float = 10.0  # how much faster the refiner's scalars learn
    augment: bool = True
    freeze_batchnorm: bool = False
    seed: int = 4242

    @property
    def reading(self) -> str:
        """How many clicks a sample of the refiner's training has: any number up to `max_clicks`."""
        return "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = (
            "width",
            "tokens",
            "heads",
            "layers",
            "grid",
            "reach",
            "max_clicks",
            "copies",
            "batch",
            "steps_per_epoch",
        )
        if len(self.steps_mm) != 3 or not all(isinstance(step, int | float) and step > 0 for step in self.steps_mm):
            raise ValueError(f"recipe field spacing must be one or three numbers of mm above 0, got {self.spacing!r}")
        axes_order(self.axes)
        check_window(self.window)
        for name in (*whole, "deviation", "learning_rate", "quick", *(["gap"] if self.gap is not None else [])):
            if not getattr(self, name) > 0:
                raise ValueError(f"recipe field {name} must be positive, got {getattr(self, name)!r}")
        for name in ("margin", "disturbance", "weight_decay", "sampled_tokens", "dice", "hard_copies"):
            if getattr(self, name) < 0:
                raise ValueError(f"recipe field {name} must not be negative, got {getattr(self, name)!r}")
        if not 0 <= self.strained <= 1:
            raise ValueError(f"recipe field strained must be a share from 0 to 1, got {self.strained!r}")
        if self.horizon is not None and self.horizon < self.reach:
            raise ValueError(f"recipe field horizon must be at least reach, {self.reach}, got {self.horizon!r}")
        choices = {"stage": STAGES, "balance": ("slot", "scalar"), "alike": ("kernel", "product"), "users": (*USERS,)}
        for name, allowed in choices.items():
            value = getattr(self, name)
            chosen, number = (value, "some") if name == "users" else ((value,), "one")
            if not isinstance(chosen, tuple) or not chosen or not all(one in allowed for one in chosen):
                raise ValueError(f"recipe field {name} must be {number} of {allowed}, got {value!r}")
        if self.tokens % self.heads:
            raise ValueError(f"recipe field tokens must be a multiple of heads, {self.heads}, got {self.tokens}")
        self._check_boxes()

    def _check_boxes(self) -> None:
        if self.crop is not None and not _are_sides(self.crop, least=1):
            raise ValueError(f"recipe field crop must be three sides of at least one voxel, or null, got {self.crop!r}")
        if not _are_sides(self.patch, LEAST_SIDE):
            raise ValueError(
                f"recipe field patch must be three sides of {LEAST_SIDE} voxels at least, got {self.patch!r}"
            )
        if self.architecture is None and len(plan_strides(self.patch)) < 2:
            raise ValueError(
                f"recipe field patch must have a side that a U-Net can halve, an even one of {2 * LEAST_SIDE} voxels "
                f"at least, got {self.patch!r}"
            )

    def of_stage(self, stage: str) -> Self:
        return type(self).from_dict({**self.to_dict(), "stage": stage})

    @property
    def needs_weights(self) -> bool:
        """A refiner learns from the answers of an encoder."""
        return self.stage == "refiner"

    @property
    def steps_mm(self) -> tuple[float, ...]:
        """The spacing along each of the three axes."""
        return self.spacing if isinstance(self.spacing, tuple) else (self.spacing,) * 3

    @property
    def interactions(self) -> int:
        """The most clicks of a sample of the training: the encoder learns without."""
        return 0 if self.stage == "encoder" else self.max_clicks

    def user(self, spacing: float) -> SimulatedUser:
        """Who clicks in a training: each time any one of `users`."""
        return AnyUser(tuple(USERS[name](self) for name in self.users))

    def rate(self, step: int, progress: float) -> float:
        """x 0.9 at every twentieth of the training (3.3: every 10 of 200 epochs); nnU-Net's decay for the encoder."""
        return (1 - progress) ** 0.9 if self.stage == "encoder" else 0.9 ** int(progress * 20)

    @property
    def design(self) -> RefinerDesign:
        """What of this concerns the refiner."""
        named = {entry.name for entry in fields(RefinerDesign)} & {entry.name for entry in fields(self)} - {"width"}
        reach_mm = tuple(sigma * sum(self.steps_mm) / 3 for sigma in FIRST_SIGMAS)
        return RefinerDesign(self.tokens, reach_mm=reach_mm, **{name: getattr(self, name) for name in named})


def _are_sides(value: Any, least: int) -> bool:
    """Whether a value of a recipe is three numbers of voxels from `least` up."""
    return isinstance(value, tuple) and len(value) == 3 and all(is_whole(side) and side >= least for side in value)


# Those whose clicks a refiner can learn from.
USERS: dict[str, Callable[[TisRecipe], SimulatedUser]] = {
    "liu": lambda recipe: LiuUser(recipe.disturbance),
    "liu_faces": lambda recipe: LiuUser(recipe.disturbance, corners=False),
    "deterministic": lambda recipe: DeterministicUser(recipe.steps_mm),
}


def standardise(image: Tensor, recipe: TisRecipe) -> Tensor:
    """Whole volumes (B, 1, X, Y, Z) in the image's own units -> what the encoder reads."""
    image = image.float()
    if recipe.window is not None:
        return (image.clamp(*recipe.window) - recipe.mean) / recipe.deviation
    mean, deviation = (f(image, dim=(1, 2, 3, 4), keepdim=True) for f in (torch.mean, torch.std))
    return (image - mean) / deviation.clamp_min(1e-6)


class Tis(Segmenter):
    """Image (B, 1, X, Y, Z) and clicks (B, N, 4) -> logits (B, C, X, Y, Z), background first, then `recipe.labels`.

    The code is the encoder's features and the logits of the automatic segmentation, (B, F + C, X, Y, Z). The label of
    a click is the number of its class in that order. Without clicks the automatic segmentation is the answer; a
    clicked voxel always has the label of its last click. With `previous` that mask is corrected instead.
    """

    dimension = 3
    answers_first = True

    def __init__(self, recipe: TisRecipe) -> None:
        if not recipe.labels:
            raise ValueError("tis needs the labels of its structures in the recipe")
        super().__init__()
        self.recipe = recipe
        self.classes = 1 + len(recipe.labels)
        if recipe.architecture is None:
            unet = plain_unet(recipe.width, plan_strides(recipe.patch))
        else:
            unet = described_unet(recipe.architecture)
        self.encoder = Encoder3d(unet, self.classes, recipe.axes)
        self.refiner = Refiner(recipe.width, self.classes, recipe.design)
        for part in ("encoder", "refiner"):
            getattr(self, part).requires_grad_(part == recipe.stage)

    def encode(self, image: Tensor) -> Tensor:
        """A code is its own code, so that a training may keep them."""
        if image.shape[1] > 1:
            return image
        code = self.encode_standardised(standardise(image, self.recipe))
        if self.recipe.gap is not None:
            found = without_strays(self.automatic(code), self.recipe.gap)
            code = torch.cat([code[:, : self.recipe.width], found.to(code)], dim=1)
        return code

    def adopt(self, state: dict[str, Tensor], theirs: Any) -> dict[str, Tensor]:
        """Weights whose refiner is of another design, or for other classes, give their encoder alone."""
        own, refiners = self.state_dict(), [name for name in state if name.startswith("refiner.")]
        shapes = {name: tensor.shape for name, tensor in own.items() if name.startswith("refiner.")}
        alike = self.recipe.design.computes_as(theirs.design)
        if alike and shapes == {name: state[name].shape for name in refiners}:
            return state
        return self.with_encoder(state)

    def with_encoder(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """These weights, with the encoder of others."""
        encoder = {name: tensor for name, tensor in state.items() if name.startswith("encoder.")}
        return {**self.state_dict(), **encoder}

    def encode_standardised(self, image: Tensor) -> Tensor:
        patch, overlap = self.recipe.patch, self.recipe.overlap
        whole = pad_far(image, patch)
        steps = [max(int(side * (1 - overlap)), 1) for side in patch]
        patches = len(image) * len(dense_patch_slices(whole.shape[2:], patch, steps))
        done = itertools.count(1)

        def encode(patch: Tensor) -> Tensor:
            code = self.encode_patch(patch)
            tell_part(next(done), patches)
            return code

        slide = SlidingWindowInferer(patch, overlap=overlap, mode="gaussian")
        width, height, depth = image.shape[2:]
        return cast(Tensor, slide(whole, encode))[..., :width, :height, :depth]

    def encode_patch(self, patch: Tensor) -> Tensor:
        """A standardised patch -> its code."""
        self.pause()
        features = self.encoder(patch)
        return torch.cat([features, self.encoder.head(features)], dim=1)

    def automatic(self, code: Tensor) -> Tensor:
        """The logits (B, C, X, Y, Z) of the automatic segmentation."""
        return code[:, self.recipe.width :].float()

    def decode(self, code: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        clicks = clicks.to(code.device)
        logits = self.automatic(code) if previous is None else as_logits(previous.to(code.device))
        clicked = (clicks[..., -1] != PADDING).any(1)
        if not clicked.any():
            # In a training every parameter has a gradient, also where the automatic segmentation left nothing to click.
            return logits + 0 * sum(value.sum() for value in self.refiner.parameters()) if self.training else logits
        if not clicked.all():
            start = None if previous is None else previous[clicked]
            corrected = self.decode(code[clicked], clicks[clicked], start)
            return logits.index_copy(0, clicked.nonzero()[:, 0], corrected.to(logits))
        if not self.training:  # whose crops cut organs into parts
            logits = without_denied(logits, clicks, -SURE)
        chosen = [self.refinable(own, rows) for own, rows in zip(logits, clicks, strict=True)]
        if self.training and self.recipe.sampled_tokens:
            shape = logits.shape[2:]
            chosen = [self.sample(own, rows, shape) for own, rows in zip(chosen, clicks, strict=True)]
        tokens, given = self.gather(code[:, : self.recipe.width], logits, clicks, chosen)
        refined = self.refiner(tokens, given)
        answer = logits.flatten(2).clone()
        for item, index in enumerate(chosen):
            answer[item, :, index] = refined[item, : len(index)].T.to(answer)
        answer = answer.reshape(logits.shape)
        for item, rows in enumerate(clicks):
            for *position, label in rows[rows[:, -1] != PADDING].tolist():
                answer[(item, slice(None), *position)] = -SURE
                answer[(item, label, *position)] = SURE
        return answer

    def forward(self, image: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        """As any segmenter; where the encoder is trained, the automatic logits of standardised patches."""
        if self.training and self.recipe.stage == "encoder":
            return self.encoder.head(self.encoder(image))
        return super().forward(image, clicks, previous)

    def refinable(self, automatic: Tensor, clicks: Tensor) -> Tensor:
        """Flat numbers (T,) of the voxels that may change: (C, X, Y, Z) and (N, 4) of one image."""
        mask = dilate(automatic[1:].amax(0) > automatic[0], self.recipe.margin)
        positions = clicks[clicks[:, -1] != PADDING, :-1].tolist()
        if self.recipe.horizon is not None:
            mask &= balls(mask, positions, self.recipe.horizon)
        mask |= balls(mask, positions, self.recipe.reach)
        return mask.flatten().nonzero()[:, 0]

    def sample(self, chosen: Tensor, clicks: Tensor, shape: Sequence[int]) -> Tensor:
        """As many of the voxels `chosen` (T,) as the recipe says, drawn by the clicks (N, 4), and all clicked ones."""
        most = self.recipe.sampled_tokens
        if len(chosen) <= most:
            return chosen
        real = clicks[clicks[:, -1] != PADDING]
        generator = torch.Generator().manual_seed(int((real.cpu() * torch.tensor([73, 7919, 104729, 1])).sum()))
        drawn = chosen[torch.randperm(len(chosen), generator=generator)[:most].to(chosen.device)]
        return torch.cat([drawn, _flat_index(real[:, :-1], shape)]).unique()

    def gather(
        self, features: Tensor, logits: Tensor, clicks: Tensor, chosen: Sequence[Tensor]
    ) -> tuple[Tokens, ClickTokens]:
        """The voxels `chosen` (T_b,) of each image as tokens, and the clicks as places among them."""
        shape, longest, device = logits.shape[2:], max(map(len, chosen)), logits.device
        index = torch.zeros(len(logits), longest, dtype=torch.int64, device=device)
        real = torch.zeros(len(logits), longest, dtype=torch.bool, device=device)
        for item, own in enumerate(chosen):
            index[item, : len(own)], real[item, : len(own)] = own, True
        rows, guesses = (
            whole.flatten(2).gather(2, index[:, None].expand(-1, whole.shape[1], -1)).transpose(1, 2).float()
            for whole in (features, logits)
        )
        steps_mm = torch.tensor(self.recipe.steps_mm, device=device)
        places = torch.stack(torch.unravel_index(index, tuple(shape)), dim=-1) * steps_mm
        tokens = Tokens(rows, places, guesses, real)
        flat = _flat_index(clicks[..., :-1], shape)
        where = torch.zeros_like(flat)
        for item, own in enumerate(chosen):
            where[item] = torch.searchsorted(own, flat[item]).clamp_max(len(own) - 1)
        return tokens, ClickTokens(where, torch.where(clicks[..., -1] == PADDING, -1, clicks[..., -1]))


def _flat_index(positions: Tensor, shape: Sequence[int]) -> Tensor:
    """Voxels (..., D) of a volume -> their numbers (...) when it is flat."""
    strides = torch.tensor([math.prod(shape[axis + 1 :]) for axis in range(len(shape))], device=positions.device)
    return (positions * strides).sum(-1)


def as_logits(mask: Tensor) -> Tensor:
    """Probabilities of all classes but the background, (B, C - 1, *S), as logits (B, C, *S), with some doubt."""
    return torch.cat([1 - mask.sum(1, keepdim=True), mask], dim=1).clamp_min(DOUBT).log()


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Voxel by voxel (2.2, 2.3). logits (B, C, *S); label (B, 1, *S) of class numbers."""
    return functional.cross_entropy(logits.float(), label[:, 0].long())


def loss(recipe: TisRecipe) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy; for an encoder with `recipe.dice` also the Dice over the batch, as nnU-Net itself has it."""
    if recipe.stage == "refiner" or not recipe.dice:
        return cross_entropy
    region = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    return lambda logits, label: cross_entropy(logits, label) + recipe.dice * region(logits.float(), label)


def optimizer(recipe: TisRecipe, segmenter: Tis) -> torch.optim.Optimizer:
    """AdamW (3.3); the scalars of the refiner, which hardly move at its rate, learn faster and are not decayed."""
    named = [(name, value) for name, value in segmenter.named_parameters() if value.requires_grad]
    scalars = [value for name, value in named if name.rsplit(".", 1)[-1] in SCALARS]
    others = [value for name, value in named if name.rsplit(".", 1)[-1] not in SCALARS]
    groups = [{"params": others, "lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}]
    if scalars:
        groups.append({"params": scalars, "lr": recipe.learning_rate * recipe.quick, "weight_decay": 0.0})
    return torch.optim.AdamW(groups)


METHOD = Method(recipe=TisRecipe, build=Tis, loss=loss, optimizer=optimizer)
