"""Dictionary transforms for training: files -> slices on the model grid -> crops -> augmented crops.

`preprocess(recipe)` is the one list; training appends `augment(recipe)` to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    AsDiscreted,
    RandAffined,
    RandGaussianNoised,
    Randomizable,
    RandScaleIntensityd,
    RandShiftIntensityd,
    Transform,
)

from .clicks import SimulateClickd
from .geometry import AxialSlices, resize, resize_labels, resized_shape
from .images import class_numbers, read_labelled
from .methods import UNet2dRecipe, find_method
from .synthetic import RandSuperpixeld

__all__ = [
    "CropAroundLabeld",
    "PickSliced",
    "SimulateClickd",
    "SlicesOnModelGridd",
    "augment",
    "preprocess",
]


class SlicesOnModelGridd(Transform):
    """Read `image` and `label` files and lay their axial slices on the model grid.

    image: path -> (Z, H, W) in the image's own units, int16 if `whole` and it has no larger values, else float32;
    label: path -> (Z, H, W) uint8.
    Raises ValueError as `read_labelled`.
    """

    def __init__(self, spacing: float, whole: bool = True) -> None:
        self.spacing, self.whole = spacing, whole

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        image, label, grid = read_labelled(data["image"], data["label"])
        slices = AxialSlices(grid)
        shape = resized_shape(slices.shape, slices.spacing, self.spacing)
        numbers = range(grid.shape[slices.axis])
        whole = self.whole and bool(np.abs(image).max() <= np.iinfo(np.int16).max)
        images = np.stack([_resized(slices.view(image, k), shape, whole) for k in numbers])
        labels = np.stack([_resized_label(slices.view(label, k), shape) for k in numbers])
        return {**data, "image": images, "label": labels}


def _resized(plane: np.ndarray, shape: tuple[int, ...], whole: bool) -> np.ndarray:
    values = torch.from_numpy(np.ascontiguousarray(plane, dtype=np.float32))
    resized = resize(values[None, None], shape)[0, 0].numpy()
    return np.rint(resized).astype(np.int16) if whole else resized


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
            rows, columns = (
                torch.arange(first, first + self.size).clamp(max=count - 1)
                for first, count in zip((top, left), data[key].shape[1:], strict=True)
            )
            result[key] = data[key][:, rows][:, :, columns]
        return result


def turn(
    classes: int, size: Sequence[int], prob: float, rotation: Sequence[float], scale: Sequence[float]
) -> list[Transform]:
    """Random turns and scales of `image` and `label`, class numbers below `classes`, both (1, *S), onto `size`.

    rotation: the most radians round each axis. scale: the largest share by which each axis grows or shrinks; those left
    out stay. Labels are interpolated class by class, as nnU-Net does it: the nearest voxel's would fray the borders of
    all structures, and a network would learn that errors are fringes (docs/adr/0016).
    """
    affine = RandAffined(
        ("image", "label"),
        prob=prob,
        rotate_range=rotation,
        scale_range=scale,
        mode="bilinear",
        padding_mode="border",  # of labels as of images: what a crop cuts through goes on in both
        cache_grid=True,
        spatial_size=tuple(size),
    )
    return [AsDiscreted("label", to_onehot=classes), affine, AsDiscreted("label", argmax=True)]


def preprocess(recipe: UNet2dRecipe) -> list[Transform]:
    """Files -> slices on the model grid, in the image's own units (`encode` clips and standardises)."""
    return [SlicesOnModelGridd(recipe.spacing, recipe.whole_numbers)]


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
        *turn(1 + max(1, len(pick.classes)), (recipe.size, recipe.size), prob=0.5, rotation=(0.26,), scale=(0.2,)),
        *superpixels,
        RandScaleIntensityd("image", factors=0.2, prob=0.3),
        RandShiftIntensityd("image", offsets=0.3 * units, prob=0.3),
        RandGaussianNoised("image", prob=0.2, std=0.2 * units),
    ]
