"""Dictionary transforms for training: files -> slices on the model grid -> crops -> augmented crops.

`preprocess(recipe)` is the one list; training appends `augment(recipe)` to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    RandAffined,
    RandGaussianNoised,
    Randomizable,
    RandScaleIntensityd,
    RandShiftIntensityd,
    Transform,
)
from scipy import ndimage
from skimage.segmentation import felzenszwalb

from .clicks import SimulateClickd
from .clicks.users import largest_component
from .geometry import AxialSlices, resize, resize_labels, resized_shape
from .images import class_numbers, read_labelled
from .methods import UNet2dRecipe, find_method

__all__ = [
    "CropAroundLabeld",
    "PickSliced",
    "RandSuperpixeld",
    "SimulateClickd",
    "SlicesOnModelGridd",
    "augment",
    "preprocess",
]


class SlicesOnModelGridd(Transform):
    """Read `image` and `label` files and lay their axial slices on the model grid.

    image: path -> (Z, H, W) int16 in the image's own units; label: path -> (Z, H, W) uint8.
    Raises ValueError as `read_labelled`.
    """

    def __init__(self, spacing: float) -> None:
        self.spacing = spacing

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        image, label, grid = read_labelled(data["image"], data["label"])
        slices = AxialSlices(grid)
        shape = resized_shape(slices.shape, slices.spacing, self.spacing)
        numbers = range(grid.shape[slices.axis])
        images = np.stack([_resized(slices.view(image, k), shape) for k in numbers])
        labels = np.stack([_resized_label(slices.view(label, k), shape) for k in numbers])
        return {**data, "image": images, "label": labels}


def _resized(plane: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    values = torch.from_numpy(np.ascontiguousarray(plane, dtype=np.float32))
    resized = resize(values[None, None], shape)[0, 0].numpy()
    return np.clip(np.rint(resized), -32768, 32767).astype(np.int16)


def _resized_label(plane: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return resize_labels(torch.from_numpy(np.ascontiguousarray(plane, dtype=np.uint8))[None], shape)[0].numpy()


class PickSliced(Transform):
    """One structure of one slice: `image` (1, H, W) float32, `label` (1, H, W) float32 of 0 and `class`, which is 1.

    With `classes`, label values, the label has all of them, numbered 1, 2, ... in that order, and `class` is the
    number of the structure.
    """

    def __init__(self, classes: Sequence[int] = ()) -> None:
        self.classes = tuple(classes)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        number, value = data["slice"], data["value"]
        image = torch.from_numpy(np.asarray(data["image"][number], dtype=np.float32))[None]
        values = self.classes or (value,)
        label = torch.from_numpy(class_numbers(data["label"][number], values)).float()[None]
        return {"image": image, "label": label, "class": values.index(value) + 1, "seed": data["seed"]}


class CropAroundLabeld(Randomizable, Transform):
    """A square of `size` pixels that holds a random pixel of the structure at a random place.

    The square stays inside the slice where the slice is large enough, and is padded by repetition where not.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.corner: list[int] = []

    def randomize(self, structure: torch.Tensor) -> None:
        pixels = structure[0].nonzero()
        chosen = pixels[self.R.randint(len(pixels))].tolist()
        self.corner = []
        for index, count in zip(chosen, structure.shape[1:], strict=True):
            start = index - self.R.randint(self.size)
            self.corner.append(min(max(start, 0), max(count - self.size, 0)))

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        self.randomize(data["label"] == data["class"])
        top, left = self.corner
        result = dict(data)
        for key in ("image", "label"):
            part = data[key][:, top : top + self.size, left : left + self.size]
            padding = (0, self.size - part.shape[2], 0, self.size - part.shape[1])
            mode = "replicate" if key == "image" else "constant"
            result[key] = torch.nn.functional.pad(part[None], padding, mode=mode)[0] if any(padding) else part
        return result


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


def preprocess(recipe: UNet2dRecipe) -> list[Transform]:
    """Files -> slices on the model grid, in the image's own units (`encode` clips and standardises)."""
    return [SlicesOnModelGridd(recipe.spacing)]


def augment(recipe: UNet2dRecipe) -> list[Transform]:
    """What training adds after `preprocess`: a structure of a slice, a crop, and random changes if it says so."""
    pick = PickSliced(getattr(recipe, "classes", ()))
    samples = find_method(recipe.method).samples
    if samples is not None:
        return [pick, *samples(recipe)]
    crop = CropAroundLabeld(recipe.size)
    drawn = recipe.superpixels
    superpixels = [RandSuperpixeld(drawn, recipe.mean, recipe.deviation)] if drawn else []
    if not recipe.augment:
        return [pick, crop, *superpixels]
    units = recipe.deviation
    return [
        pick,
        crop,
        RandAffined(
            ("image", "label"),
            prob=0.5,
            rotate_range=0.26,
            scale_range=0.2,
            mode=("bilinear", "nearest"),
            padding_mode=("border", "zeros"),
            cache_grid=True,
            spatial_size=(recipe.size, recipe.size),
        ),
        *superpixels,
        RandScaleIntensityd("image", factors=0.2, prob=0.3),
        RandShiftIntensityd("image", offsets=0.3 * units, prob=0.3),
        RandGaussianNoised("image", prob=0.2, std=0.2 * units),
    ]
