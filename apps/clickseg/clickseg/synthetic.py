"""Structures for training that nobody has drawn: parts of an image, and lesions drawn into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, Transform
from scipy import ndimage
from skimage.segmentation import felzenszwalb

from .clicks.users import largest_component

__all__ = ["RandLesiond", "RandSuperpixeld"]


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


class RandLesiond(Randomizable, Transform):
    """With a probability, the structure of a sample is a lesion that is drawn into its image: `image`, `label` changed.

    Superpixels have clear borders or are small; a tumour is often large and little brighter or darker than what it
    grows in. A blob with a random outline, centred where the image is brighter than the recipe's mean (fat and air are
    not), partly replaces the image by a random grey near that of its place, with a texture and a soft border.
    """

    RADII = (8.0, 0.35)  # pixels, share of the image's side
    CONTRAST = (0.15, 0.8)  # brighter or darker than its place, in units of the recipe's deviation
    SOLID = (0.3, 1.0)  # how much of the image it replaces
    WAVES = 5  # of the outline

    def __init__(self, prob: float, mean: float, deviation: float) -> None:
        self.prob, self.mean, self.deviation = prob, mean, deviation

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        if self.R.random_sample() >= self.prob:
            return dict(data)
        image = np.asarray(data["image"][0], np.float32)
        places = np.argwhere(image > self.mean)
        if len(places) == 0:
            return dict(data)
        row, column = places[self.R.randint(len(places))]
        mask = self.outline(image.shape, int(row), int(column))
        soft = ndimage.gaussian_filter(mask.astype(np.float32), self.R.uniform(0.5, 1.5)) * self.R.uniform(*self.SOLID)
        contrast = self.R.choice((-1, 1)) * self.R.uniform(*self.CONTRAST)
        texture = ndimage.gaussian_filter(self.R.standard_normal(image.shape), self.R.uniform(0.7, 4.0))
        texture *= self.R.uniform(0.0, 0.3) / max(float(texture.std()), 1e-6)
        grey = np.median(image[mask]) + self.deviation * (contrast + texture)
        changed = torch.from_numpy(image + soft * (grey - image))[None].to(data["image"].dtype)
        return {**data, "image": changed, "label": torch.from_numpy(mask)[None].to(data["label"].dtype)}

    def outline(self, shape: tuple[int, ...], row: int, column: int) -> np.ndarray:
        """(H, W) bool: a blob round a pixel, which is in it."""
        least, most = self.RADII[0], self.RADII[1] * min(shape)
        radius = self.R.uniform(least, max(least, most))
        flatness, turned = self.R.uniform(0.5, 1.0), self.R.uniform(0, np.pi)
        down, right = np.ogrid[: shape[0], : shape[1]]
        along = (right - column) * np.cos(turned) + (down - row) * np.sin(turned)
        across = ((down - row) * np.cos(turned) - (right - column) * np.sin(turned)) / flatness
        angle = np.arctan2(across, along)
        waves = np.arange(1, self.WAVES + 1)
        sizes, phases = self.R.uniform(0, 0.35, self.WAVES) / waves, self.R.uniform(0, 2 * np.pi, self.WAVES)
        edge = np.ones(shape)
        for wave, size, phase in zip(waves, sizes, phases, strict=True):
            edge += size * np.cos(wave * angle + phase)
        return np.asarray(np.hypot(along, across) <= radius * np.maximum(edge, 0.3))
