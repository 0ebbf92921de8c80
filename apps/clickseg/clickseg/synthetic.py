"""Structures for training that nobody has drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, Transform
from scipy import ndimage
from skimage.segmentation import felzenszwalb

from .clicks.users import largest_component

__all__ = ["RandSuperpixeld"]


class RandSuperpixeld(Randomizable, Transform):
    """With a probability, the structure of a sample is a superpixel of its image instead: `label` (1, H, W) of 0 and 1.

    A network that has to segment whatever a click lies in learns to look for borders, and not for a dozen organs alone
    (Wong et al. 2024, ScribblePrompt, who train on superpixels, too). Felzenszwalb and Huttenlocher's, of random
    coarseness, without their holes and fringes; one of those of at least LEAST pixels and at most MOST of the image,
    large ones rather than small ones. Image and superpixel are mirrored and turned by right angles, for what has no
    name has no upper end.
    """

    LEAST = 80
    MOST = 0.35
    SCALES = (100.0, 4000.0)  # of felzenszwalb, for an image in units of its recipe's deviation
    FAVOUR = 0.75  # a superpixel of n pixels is drawn with weight n ** FAVOUR

    def __init__(self, prob: float, mean: float, deviation: float) -> None:
        self.prob, self.mean, self.deviation = prob, mean, deviation

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        if self.R.random_sample() >= self.prob:
            return dict(data)
        low, high = np.log(self.SCALES)
        scale, choice = float(np.exp(self.R.uniform(low, high))), self.R.random_sample()
        mirrored, quarters = self.R.randint(2), int(self.R.randint(4))
        image = (np.asarray(data["image"][0], np.float64) - self.mean) / self.deviation
        parts = felzenszwalb(image, scale=scale, sigma=1.5, min_size=self.LEAST)
        sizes = np.bincount(parts.ravel())
        chances = np.where(sizes <= self.MOST * parts.size, sizes**self.FAVOUR, 0.0).cumsum()
        chosen = parts == np.searchsorted(chances, choice * chances[-1], side="right")
        smooth = ndimage.binary_opening(ndimage.binary_fill_holes(chosen), iterations=2)
        part = largest_component(smooth, corners=False) if smooth.any() else smooth
        if not self.LEAST <= part.sum() <= self.MOST * parts.size:
            return dict(data)
        result = {**data, "label": torch.from_numpy(part)[None].to(data["label"].dtype)}
        for key in ("image", "label"):
            upright = result[key].flip(2) if mirrored else result[key]
            result[key] = torch.rot90(upright, quarters, (1, 2)).contiguous()
        return {**result, "name": ""} if "name" in result else result
