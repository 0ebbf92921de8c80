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
    large ones rather than small ones.
    """

    LEAST = 80
    MOST = 0.25
    SCALES = (50.0, 1000.0)  # of felzenszwalb, for an image in units of its recipe's deviation

    def __init__(self, prob: float, mean: float, deviation: float) -> None:
        self.prob, self.mean, self.deviation = prob, mean, deviation

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        if self.R.random_sample() >= self.prob:
            return dict(data)
        low, high = np.log(self.SCALES)
        scale, choice = float(np.exp(self.R.uniform(low, high))), self.R.random_sample()
        image = (np.asarray(data["image"][0], np.float64) - self.mean) / self.deviation
        parts = felzenszwalb(image, scale=scale, sigma=1.5, min_size=self.LEAST)
        sizes = np.bincount(parts.ravel())
        chances = np.where(sizes <= self.MOST * parts.size, np.sqrt(sizes), 0.0).cumsum()
        chosen = parts == np.searchsorted(chances, choice * chances[-1], side="right")
        smooth = ndimage.binary_opening(ndimage.binary_fill_holes(chosen), iterations=2)
        part = largest_component(smooth, corners=False) if smooth.any() else smooth
        if not self.LEAST <= part.sum() <= self.MOST * parts.size:
            return dict(data)
        return {**data, "label": torch.from_numpy(part)[None].to(data["label"].dtype)}
