"""DeepEdit of MONAI Label 0.8.5, to compare with: MONAI's DynUNet, transforms and Interaction, on our data (3D)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from monai.apps.deepedit.interaction import Interaction
from monai.apps.deepedit.transforms import (
    AddGuidanceSignalDeepEditd,
    AddInitialSeedPointMissingLabelsd,
    AddRandomGuidanceDeepEditd,
    FindAllValidSlicesMissingLabelsd,
    FindDiscrepancyRegionsDeepEditd,
)
from monai.data import list_data_collate
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet
from monai.transforms import Activationsd, AsDiscreted, Compose, SelectItemsd, ToNumpyd, ToTensord
from torch import Tensor

from ..clicks import unstack_clicks
from ..geometry import pad_far
from ..machine import single_precision
from ..networks.encoder3d import MOST_CHANNELS, plan_strides
from .protocol import Method, Segmenter
from .tis import TisRecipe, standardise

BACKGROUND = "background"
CLICKING = 0.5  # of the training's samples: the share with a simulated correction; the others see the image alone


@dataclass(frozen=True)
class DeepeditRecipe(TisRecipe):
    """The image as `tis` sees it, patch for patch; of the other fields, those of the refiner have no effect.

    The learning rate is ten times MONAI Label's: at that of MONAI Label, minutes of training are not enough.
    """

    method: ClassVar[str] = "deepedit"

    @classmethod
    def beside(cls, recipe: TisRecipe) -> DeepeditRecipe:
        """The recipe of a training to be compared with `recipe`: same image, same size of network, same schedule."""
        return cls.from_dict({**replace(recipe, stage="encoder").to_dict(), "method": cls.method})


class Deepedit3d(Segmenter):
    """Image (B, 1, X, Y, Z) and clicks (B, N, 4) -> logits (B, C, X, Y, Z), background first, then `recipe.labels`.

    The code is the standardised image. Called as a module it is the bare network on image and guidance of all classes,
    (B, 1 + C, *patch): that is what MONAI's loop trains.
    """

    dimension = 3
    answers_first = True

    def __init__(self, recipe: DeepeditRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.label_names = label_names(recipe)
        strides = plan_strides(recipe.patch)
        classes = len(self.label_names)
        self.network = DynUNet(
            spatial_dims=3,
            in_channels=1 + classes,
            out_channels=classes,
            kernel_size=[3] * len(strides),
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=[min(recipe.width * 2**stage, MOST_CHANNELS) for stage in range(len(strides))],
            norm_name="instance",
            res_block=True,
        )
        self.draw = AddGuidanceSignalDeepEditd(keys="image", guidance="guidance")

    def encode(self, image: Tensor) -> Tensor:
        return standardise(image, self.recipe)

    def decode(self, code: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        if previous is not None:
            raise ValueError("deepedit has no input for an initial mask")
        drawn = []
        for image, rows in zip(code, unstack_clicks(clicks), strict=True):
            guidance = {
                name: [list(click.position) for click in rows if click.label == number]
                for name, number in self.label_names.items()
            }
            data: Any = {"image": image.cpu().numpy(), "guidance": guidance}
            with single_precision():  # that MONAI's transforms are written for
                drawn.append(torch.as_tensor(self.draw(data)["image"]))
        inputs = torch.stack(drawn).to(code)
        slide = SlidingWindowInferer(self.recipe.patch, overlap=self.recipe.overlap, mode="gaussian")
        x, y, z = code.shape[2:]
        return cast(Tensor, slide(pad_far(inputs, self.recipe.patch), self.network))[..., :x, :y, :z].float()

    def forward(self, image: Tensor, clicks: Tensor | None = None, previous: Tensor | None = None) -> Tensor:
        return cast(Tensor, self.network(image))


def label_names(recipe: TisRecipe) -> dict[str, int]:
    """As MONAI's transforms want them: background first, then 1, 2, ..."""
    return {BACKGROUND: 0, **{name: number for number, name in enumerate(recipe.labels, start=1)}}


class Step:
    """MONAI's Interaction with the transforms of MONAI Label, seeded by the samples of the batch."""

    def __init__(self, recipe: DeepeditRecipe) -> None:
        self.names = label_names(recipe)
        draw = AddGuidanceSignalDeepEditd(keys="image", guidance="guidance")
        self.begin = Compose(
            [
                FindAllValidSlicesMissingLabelsd(keys="label", sids="sids"),
                AddInitialSeedPointMissingLabelsd(keys="label", guidance="guidance", sids="sids"),
                draw,
                ToTensord(keys=("image", "label")),
                SelectItemsd(keys=("image", "label", "guidance", "label_names")),
            ]
        )
        self.correct = Compose(
            [
                Activationsd(keys="pred", softmax=True),
                AsDiscreted(keys="pred", argmax=True),
                ToNumpyd(keys=("image", "label", "pred")),
                FindDiscrepancyRegionsDeepEditd(keys="label", pred="pred", discrepancy="discrepancy"),
                AddRandomGuidanceDeepEditd(keys="label", discrepancy="discrepancy", probability="probability"),
                draw,
                ToTensord(keys=("image", "label")),
            ]
        )
        self.loop = Interaction(CLICKING, self.correct, train=True, label_names=self.names)

    def __call__(self, engine: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        seed = int(batch["seed"][0])
        for transforms in (self.begin, self.correct):
            transforms.set_random_state(seed=seed)
        # MONAI's loop and transforms draw from the global generators, too.
        np.random.seed(seed)  # noqa: NPY002, TID251
        random.seed(seed)
        samples = [
            self.begin({"image": image.numpy(), "label": label.numpy(), "label_names": self.names})
            for image, label in zip(batch["image"], batch["label"], strict=True)
        ]
        return {"loss": self.loop(engine, list_data_collate(samples))["loss"].item()}


METHOD = Method(
    recipe=DeepeditRecipe,
    build=Deepedit3d,
    loss=lambda recipe: DiceCELoss(to_onehot_y=True, softmax=True),
    step=Step,
)
