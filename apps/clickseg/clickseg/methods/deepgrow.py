"""DeepGrow 2D of MONAI Label 0.8.5, to compare with: MONAI's network, transforms and Interaction, on our data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from monai.apps.deepgrow.interaction import Interaction
from monai.apps.deepgrow.transforms import (
    AddGuidanceSignald,
    AddInitialSeedPointd,
    AddRandomGuidanced,
    FindDiscrepancyRegionsd,
    ResizeGuidanced,
    SpatialCropForegroundd,
    SpatialCropGuidanced,
)
from monai.losses import DiceLoss
from monai.networks.nets import BasicUNet
from monai.transforms import Activationsd, Compose, NormalizeIntensityd, Resized, ToNumpyd, ToTensord, Transform
from torch import Tensor
from torch.nn import functional

from ..clicks import INSIDE, Click, unstack_clicks
from ..machine import single_precision
from .protocol import Method, Segmenter
from .unet2d import UNet2dRecipe

META = "image_meta_dict"  # where MONAI's transforms note what they cropped
FAR = -1e4  # logit of what lies beyond the crop


@dataclass(frozen=True)
class DeepgrowRecipe(UNet2dRecipe):
    """The settings of MONAI Label's app `radiology`; the other fields of `unet2d` have no effect."""

    method: ClassVar[str] = "deepgrow"
    growing: ClassVar[tuple[str, ...]] = ()

    spacing: float = 1.0
    window: tuple[float, float] | None = None
    mean: float = 208.0
    deviation: float = 388.0
    width: int = 32
    max_clicks: int = 10
    size: int = 256
    batch: int = 16
    learning_rate: float = 1e-4
    warmup: int = 0
    decay: float = 0.0
    label_balance: float = 0.0
    augment: bool = False

    @classmethod
    def beside(cls, recipe: UNet2dRecipe) -> DeepgrowRecipe:
        """The recipe of a training to be compared with one of `recipe`: its own settings, the same structures.

        But a learning rate ten times MONAI Label's, as for DeepEdit: with 1e-4 a training of an experiment's length
        comes to nothing (docs/reports/ablation).
        """
        rate = 10 * cls.learning_rate
        return cls(labels=recipe.labels, seed=recipe.seed, steps_per_epoch=recipe.steps_per_epoch, learning_rate=rate)


class Deepgrow2d(Segmenter):
    """Image (B, 1, H, W) and clicks (B, N, 3) -> logits (B, 2, H, W): outside, inside.

    The code is the image, scaled. Each answer sees a crop around the clicks, of `size` pixels or resized to that, and
    is background elsewhere and before the first click. Called as a module it is the bare network on image and
    guidance, (B, 3, H, W) -> (B, 1, H, W): that is what MONAI's loop trains.
    """

    dimension = 2

    def __init__(self, recipe: DeepgrowRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        features = [recipe.width * factor for factor in (1, 2, 4, 8, 16, 1)]
        self.network = BasicUNet(spatial_dims=2, in_channels=3, out_channels=1, features=features)
        size = (recipe.size, recipe.size)
        self.prepare = Compose(
            [
                SpatialCropGuidanced(keys="image", guidance="guidance", spatial_size=size),
                Resized(keys="image", spatial_size=size, mode="area"),
                ResizeGuidanced(guidance="guidance", ref_image="image"),
                AddGuidanceSignald(image="image", guidance="guidance"),
            ]
        )

    def encode(self, image: Tensor) -> Tensor:
        return (image.float() - self.recipe.mean) / self.recipe.deviation

    def decode(self, code: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        if previous is not None:
            raise ValueError("deepgrow has no input for an initial mask")
        inside = torch.stack([self._answer(*pair) for pair in zip(code, unstack_clicks(clicks), strict=True)])
        return torch.cat([torch.zeros_like(inside), inside], dim=1)

    def _answer(self, image: Tensor, clicks: list[Click]) -> Tensor:
        """(1, H, W) and its clicks -> the logit of inside, (1, H, W)."""
        logits = torch.full_like(image, FAR)
        guidance = [[list(c.position) for c in clicks if (c.label == INSIDE) == wanted] for wanted in (True, False)]
        if not guidance[0]:
            return logits
        with single_precision():  # that MONAI's transforms are written for
            ready = self.prepare({"image": image.cpu(), "guidance": guidance, META: {}})
        answer = self.network(torch.as_tensor(ready["image"])[None].to(image))
        top, left = ready[META]["foreground_start_coord"]
        height, width = ready[META]["foreground_cropped_shape"][1:]
        answer = functional.interpolate(answer.float(), (height, width), mode="bilinear")
        logits[:, top : top + height, left : left + width] = answer[0].to(logits)
        return logits

    def forward(self, image: Tensor, clicks: Tensor | None = None, previous: Tensor | None = None) -> Tensor:
        return self.network(image)


def samples(recipe: DeepgrowRecipe) -> list[Transform]:
    """MONAI Label's transforms of a training sample, after its slice and structure are picked."""
    both, size = ("image", "label"), (recipe.size, recipe.size)
    return [
        _WithMeta(),
        SpatialCropForegroundd(keys=both, source_key="label", spatial_size=size),
        Resized(keys=both, spatial_size=size, mode=("area", "nearest")),
        NormalizeIntensityd(keys="image", subtrahend=np.array(recipe.mean), divisor=np.array(recipe.deviation)),
        ToNumpyd(keys="label"),
        AddInitialSeedPointd(label="label", guidance="guidance", sids="sids"),
        AddGuidanceSignald(image="image", guidance="guidance"),
        ToTensord(keys=both),
        _WithoutMeta(),
    ]


class _WithMeta(Transform):
    """The place where SpatialCropForegroundd, of MONAI's time before MetaTensor, notes what it did."""

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return {**data, META: {}, "label_meta_dict": {}}


class _WithoutMeta(Transform):
    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return {key: data[key] for key in ("image", "label", "guidance", "seed")}


class Step:
    """MONAI's Interaction with the click transforms of MONAI Label, seeded by the samples of the batch."""

    def __init__(self, recipe: DeepgrowRecipe) -> None:
        self.transforms = Compose(
            [
                Activationsd(keys="pred", sigmoid=True),
                ToNumpyd(keys=("image", "label", "pred")),
                FindDiscrepancyRegionsd(label="label", pred="pred", discrepancy="discrepancy"),
                AddRandomGuidanced(guidance="guidance", discrepancy="discrepancy", probability="probability"),
                AddGuidanceSignald(image="image", guidance="guidance"),
                ToTensord(keys=("image", "label")),
            ]
        )
        self.loop = Interaction(self.transforms, recipe.max_clicks, train=True)

    def __call__(self, engine: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        self.transforms.set_random_state(seed=int(batch["seed"][0]))
        return {"loss": self.loop(engine, dict(batch))["loss"].item()}


METHOD = Method(
    recipe=DeepgrowRecipe,
    build=Deepgrow2d,
    loss=lambda recipe: DiceLoss(sigmoid=True, squared_pred=True),
    samples=samples,
    step=Step,
)
