"""Liu et al., MICCAI 2022 (TIS): an automatic 3D segmentation, refined by voxels that copy the labels of clicks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Literal, cast

import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor
from torch.nn import functional

from ..clicks import PADDING
from ..networks import ClickTokens, Encoder3d, Refiner, RefinerDesign, Tokens, plan_strides
from .protocol import Recipe, Segmenter

SURE = 50.0  # a logit


@dataclass(frozen=True)
class TisRecipe(Recipe):
    """The numbers of `tis`. The paper gives layers, user, optimiser and its schedule; the rest is our choice.

    patch: voxels of the model grid that the encoder sees at once. window: clipped to, then standardised with mean and
    deviation; None standardises each volume by its own. margin: voxels by which the automatic foreground is dilated;
    those, and the ball of `reach` voxels round each click, can be refined.
    """

    method: ClassVar[str] = "tis"
    dimension: ClassVar[int] = 3

    patch: tuple[int, int, int] = (40, 56, 40)
    window: tuple[float, float] | None = None
    mean: float = 0.0
    deviation: float = 1.0
    width: int = 16  # channels of the encoder's first stage, and of the features
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
    margin: int = 3
    reach: int = 6

    @property
    def design(self) -> RefinerDesign:
        """What of this concerns the refiner."""
        named = {entry.name for entry in fields(RefinerDesign)} & {entry.name for entry in fields(self)} - {"width"}
        return RefinerDesign(width=self.tokens, **{name: getattr(self, name) for name in named})


class Tis(Segmenter):
    """Image (B, 1, X, Y, Z) and clicks (B, N, 4) -> logits (B, C, X, Y, Z), background first, then `recipe.labels`.

    The code is the encoder's features and the logits of the automatic segmentation, (B, F + C, X, Y, Z). The label of
    a click is the number of its class in that order. Without clicks the automatic segmentation is the answer; a
    clicked voxel always has the label of its last click.
    """

    dimension = 3

    def __init__(self, recipe: TisRecipe) -> None:
        if not recipe.labels:
            raise ValueError("tis needs the labels of its structures in the recipe")
        super().__init__()
        self.recipe = recipe
        self.classes = 1 + len(recipe.labels)
        self.strides = plan_strides(recipe.patch)
        self.encoder = Encoder3d(self.classes, recipe.width, self.strides)
        self.refiner = Refiner(recipe.width, self.classes, recipe.design)

    def standardise(self, image: Tensor) -> Tensor:
        """(B, 1, X, Y, Z) in the image's own units -> what the encoder reads."""
        image = image.float()
        if self.recipe.window is not None:
            return (image.clamp(*self.recipe.window) - self.recipe.mean) / self.recipe.deviation
        mean, deviation = (f(image, dim=(1, 2, 3, 4), keepdim=True) for f in (torch.mean, torch.std))
        return (image - mean) / deviation.clamp_min(1e-6)

    def encode(self, image: Tensor) -> Tensor:
        image = self.standardise(image)
        sides = [max(side, count) for side, count in zip(image.shape[2:], self.recipe.patch, strict=True)]
        padding = [amount for side, count in zip(sides, image.shape[2:], strict=True) for amount in (side - count, 0)]
        whole = functional.pad(image, padding[::-1]) if any(padding) else image
        slide = SlidingWindowInferer(self.recipe.patch, overlap=self.recipe.overlap, mode="gaussian")
        width, height, depth = image.shape[2:]
        return cast(Tensor, slide(whole, self.encode_patch))[..., :width, :height, :depth]

    def encode_patch(self, patch: Tensor) -> Tensor:
        """A standardised patch -> its code."""
        features = self.encoder(patch)
        return torch.cat([features, self.encoder.head(features)], dim=1)

    def automatic(self, code: Tensor) -> Tensor:
        """The logits (B, C, X, Y, Z) of the automatic segmentation."""
        return code[:, self.recipe.width :].float()

    def decode(self, code: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        if previous is not None:
            raise ValueError("tis has no input for an initial mask yet")
        clicks = clicks.to(code.device)
        logits = self.automatic(code)
        if not bool((clicks[..., -1] != PADDING).any()):
            return logits
        chosen = [self.refinable(own, rows) for own, rows in zip(logits, clicks, strict=True)]
        tokens, given = self.gather(code, clicks, chosen)
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

    def refinable(self, automatic: Tensor, clicks: Tensor) -> Tensor:
        """Flat numbers (T,) of the voxels that may change: (C, X, Y, Z) and (N, 4) of one image."""
        found = (automatic.argmax(0) > 0).float()
        margin = self.recipe.margin
        mask = functional.max_pool3d(found[None, None], 2 * margin + 1, 1, margin)[0, 0] > 0
        axes = [torch.arange(count, device=automatic.device) for count in mask.shape]
        for *position, label in clicks.tolist():
            if label != PADDING:
                apart = [(axis - index).square() for axis, index in zip(axes, position, strict=True)]
                mask |= apart[0][:, None, None] + apart[1][:, None] + apart[2] <= self.recipe.reach**2
        return mask.flatten().nonzero()[:, 0]

    def gather(self, code: Tensor, clicks: Tensor, chosen: Sequence[Tensor]) -> tuple[Tokens, ClickTokens]:
        """The voxels `chosen` (T_b,) of each image as tokens, and the clicks as places among them."""
        shape, longest = code.shape[2:], max(map(len, chosen))
        index = torch.zeros(len(code), longest, dtype=torch.int64, device=code.device)
        real = torch.zeros(len(code), longest, dtype=torch.bool, device=code.device)
        for item, own in enumerate(chosen):
            index[item, : len(own)], real[item, : len(own)] = own, True
        rows = code.flatten(2).gather(2, index[:, None].expand(-1, code.shape[1], -1)).transpose(1, 2).float()
        places = torch.stack(torch.unravel_index(index, tuple(shape)), dim=-1) * self.recipe.spacing
        tokens = Tokens(rows[..., : self.recipe.width], places, rows[..., self.recipe.width :], real)
        strides = torch.tensor([math.prod(shape[axis + 1 :]) for axis in range(len(shape))], device=code.device)
        flat = (clicks[..., :-1] * strides).sum(-1)
        where = torch.zeros_like(flat)
        for item, own in enumerate(chosen):
            where[item] = torch.searchsorted(own, flat[item]).clamp_max(len(own) - 1)
        return tokens, ClickTokens(where, torch.where(clicks[..., -1] == PADDING, -1, clicks[..., -1]))
