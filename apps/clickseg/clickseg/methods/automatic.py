"""The U-Net of `unet2d` without clicks, to measure what they add: it knows the organs, a click says which is meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from monai.losses import DiceCELoss
from torch import Tensor

from ..clicks import INSIDE
from ..networks import UNet
from .protocol import Method
from .unet2d import UNet2d, UNet2dRecipe

LEAST = 1e-6  # of a probability, so that its logarithm is finite


@dataclass(frozen=True)
class AutomaticRecipe(UNet2dRecipe):
    """The recipe of `unet2d`, trained alike but for the clicks: K = 0."""

    method: ClassVar[str] = "automatic"
    least_clicks: ClassVar[int] = 0

    max_clicks: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.feedback or self.named:
            raise ValueError(
                "an automatic segmentation reads neither its last answer nor a name: set no feedback, no named"
            )

    @classmethod
    def beside(cls, recipe: UNet2dRecipe) -> AutomaticRecipe:
        """The recipe of a training that is to be compared with one of `recipe`: the same but for the clicks."""
        # A superpixel is none of its organs, and it names them itself.
        without = {"max_clicks": 0, "feedback": False, "looks": 1, "overview": 0.0, "superpixels": 0.0, "named": 0.0}
        return cls.from_dict({**recipe.to_dict(), "method": cls.method, **without})

    @property
    def classes(self) -> tuple[int, ...]:
        """The label values that the network tells apart, in the order of its channels 1, 2, ..."""
        return tuple(self.labels.values())


class Automatic2d(UNet2d):
    """Image (B, 1, H, W) and clicks (B, N, 3) -> logits (B, 2, H, W): outside, inside the organ that is clicked on.

    The organ is the one that has the most probability at the inside clicks; nothing else of a click is used. The code
    is the probability of background and of each organ, (B, C + 1, H, W). Called as a module it ignores clicks and
    returns the logits of all classes, (B, C + 1, H, W): that is what is trained.
    """

    def __init__(self, recipe: AutomaticRecipe) -> None:
        if not recipe.labels:
            raise ValueError("an automatic segmentation needs the labels of its organs in the recipe")
        super().__init__(recipe)
        self.network = UNet(inputs=1, outputs=1 + len(recipe.labels), width=recipe.width)

    def encode(self, image: Tensor) -> Tensor:
        return self(image).float().softmax(1)

    def decode(self, code: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        if previous is not None:
            raise ValueError("an automatic segmentation has no input for an initial mask")
        inside = torch.stack([_clicked_organ(*pair) for pair in zip(code, clicks.to(code.device), strict=True)])
        inside = inside.clamp(LEAST, 1 - LEAST)
        return torch.stack([1 - inside, inside], dim=1).log()

    def forward(
        self,
        image: Tensor,
        clicks: Tensor | None = None,
        previous: Tensor | None = None,
        names: Sequence[str] = (),
    ) -> Tensor:
        return self.run_network(super().encode(image))


def _clicked_organ(classes: Tensor, clicks: Tensor) -> Tensor:
    """Probabilities (C + 1, H, W), clicks (N, 3) -> that of the clicked organ (H, W); 0 without an inside click."""
    rows, columns, labels = clicks.unbind(-1)
    inside = labels == INSIDE
    if not bool(inside.any()):
        return torch.zeros_like(classes[0])
    organs = classes[1:]
    return organs[organs[:, rows[inside], columns[inside]].sum(1).argmax()]


METHOD = Method(
    recipe=AutomaticRecipe,
    build=Automatic2d,
    # The usual loss of automatic segmentation (Isensee 2021): cross-entropy, and Dice over the organs of the batch.
    loss=lambda recipe: DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, squared_pred=True, batch=True
    ),
)
