"""What `tis` is compared with: other ways to put clicks to an automatic segmentation that is the same for all."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from ..clicks import PADDING
from .regions import balls, squared_distance
from .tis import Tis

BALL = 2  # voxels: the radius of what a click paints

# Of the untrained rule: how much a click adds to its class's logit where it is, how far that reaches (sigma, voxels),
# and how fast it fades with the angle between the features of a voxel and those of the click.
# Fitted to the 20 validation cases of the hippocampus (docs/adr/0008).
GAIN, REACH, ANGLE = 2.5, 4.0, 0.2


class PaintBall(Tis):
    """The automatic segmentation, with a ball of the clicked class painted at each click, the last one on top.

    A refiner that does not beat it has learnt nothing.
    """

    def decode(self, code: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        logits = self.automatic(code).clone()
        for item, rows in enumerate(clicks):
            for *position, label in rows[rows[:, -1] != PADDING].tolist():
                ball = balls(logits[item, 0], [position], BALL)
                logits[item, :, ball] = logits.min()
                logits[item, label, ball] = logits.max()
        return logits


class FeatureRule(Tis):
    """A rule with three constants in place of the refiner: voxels near a click and like it take on its class."""

    def decode(self, code: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        logits = self.automatic(code).clone()
        features = functional.normalize(code[:, : self.recipe.width].float(), dim=1)
        steps_mm = self.recipe.steps_mm
        sigma_mm = REACH * sum(steps_mm) / 3
        for item, rows in enumerate(clicks):
            given = rows[rows[:, -1] != PADDING].tolist()
            for i, j, k, label in given:
                position = [i, j, k]
                squared_mm = squared_distance(logits.shape[2:], position, logits.device, steps_mm)
                near = (-squared_mm / (2 * sigma_mm**2)).exp()
                alike = ((features[item] * features[item, :, i, j, k, None, None, None]).sum(0) - 1).div(ANGLE).exp()
                logits[item, label] += GAIN * near * alike
            low, high = logits[item].min(), logits[item].max()
            for i, j, k, label in given:
                logits[item, :, i, j, k] = low
                logits[item, label, i, j, k] = high
        return logits


TIS_BASELINES: dict[str, type[Tis]] = {"tis_ball": PaintBall, "tis_rule": FeatureRule}
