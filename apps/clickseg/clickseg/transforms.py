"""Dictionary transforms for training: files -> slices on the model grid -> crops -> augmented crops.

`preprocess(recipe)` is the one list; training appends `augment(recipe)` to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
import torch
from monai.transforms import (
    CenterSpatialCrop,
    Lambdad,
    RandAdjustContrastd,
    RandAffineGrid,
    RandBiasFieldd,
    RandGaussianNoised,
    Randomizable,
    RandomizableTransform,
    RandScaleIntensityd,
    RandShiftIntensityd,
    Transform,
)
from numpy.typing import NDArray
from torch.nn import functional

from .clicks import SimulateClickd
from .geometry import AxialSlices, resize, resize_labels, resized_shape
from .images import class_numbers, read_labelled
from .methods import UNet2dRecipe, find_method
from .synthetic import RandSuperpixeld

__all__ = [
    "CropAroundLabeld",
    "PickSliced",
    "RandTurnd",
    "SimulateClickd",
    "SlicesOnModelGridd",
    "augment",
    "preprocess",
    "shades",
]

AnyArray = TypeVar("AnyArray", np.ndarray, torch.Tensor)


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
    number of the structure. `seed` and `name` are kept.
    """

    def __init__(self, classes: Sequence[int] = ()) -> None:
        self.classes = tuple(classes)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        number, value = data["slice"], data["value"]
        image = torch.from_numpy(np.asarray(data["image"][number], dtype=np.float32))[None]
        values = self.classes or (value,)
        label = torch.from_numpy(class_numbers(data["label"][number], values)).float()[None]
        kept = {key: data[key] for key in ("seed", "name") if key in data}
        return {"image": image, "label": label, "class": values.index(value) + 1, **kept}


class CropAroundLabeld(Randomizable, Transform):
    """A square of `size` pixels that holds a random pixel of the structure at a random place.

    The square stays inside the slice where the slice is large enough. With it comes what is within `margin` pixels of
    it. What lies outside of the slice is filled by repetition.
    """

    def __init__(self, size: int, margin: int = 0) -> None:
        self.size, self.margin = size, margin
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
        box = (self.corner, (self.size,) * 2, (self.margin,) * 2)
        return {**data, **{key: cut(data[key], *box) for key in ("image", "label")}}


def cut(whole: AnyArray, corner: Sequence[int], size: Sequence[int], margin: Sequence[int]) -> AnyArray:
    """Of `whole` (C, *S) the box of `size` at `corner` and what is within `margin` of it, each of them voxels.

    What lies outside of `whole` is filled by repetition. Of a mapped array no more than the box is read.
    """
    boxes = zip(whole.shape[1:], corner, size, margin, strict=True)
    numbers: list[NDArray[np.int64]] = [
        np.arange(c - more, c + side + more).clip(0, count - 1) for count, c, side, more in boxes
    ]
    part: Any = whole[(slice(None), *(slice(own[0], own[-1] + 1) for own in numbers))]
    for axis, own in enumerate(numbers, start=1):
        part = part[(slice(None),) * axis + (own - own[0],)]
    return cast(AnyArray, part)


class RandTurnd(RandomizableTransform):
    """Random turns and scales of `image` and `label` of class numbers, both (1, *S), of which the middle is kept.

    Of a crop that is larger by `margin` on each side nothing has to be made up; what lies outside is filled by
    repetition. Labels are interpolated class by class, as nnU-Net does it: the nearest voxel's would fray the borders
    of all structures, and a network would learn that errors are fringes (docs/adr/0016).

    Args:
        size: what is kept, *S; it differs from the crop's by an even number of voxels.
        rotation: the most radians round each axis; in 2D one number.
        scale: the largest share by which each axis grows or shrinks; those left out stay.
    """

    def __init__(self, size: Sequence[int], prob: float, rotation: Sequence[float], scale: Sequence[float]) -> None:
        super().__init__(prob)
        self.size = tuple(size)
        self.grid = RandAffineGrid(rotate_range=rotation, scale_range=scale)
        self.margin = [self._reach(axis, rotation, max(scale)) for axis in range(len(size))]

    def _reach(self, axis: int, rotation: Sequence[float], scale: float) -> int:
        """From how many voxels beyond either end of an axis what is kept comes, at most."""
        others = [other for other in range(len(self.size)) if other != axis]
        turned = sum(math.sin(rotation[sum(others) - other]) * self.size[other] for other in others)
        return math.ceil(((1 + scale) * (self.size[axis] + turned) - self.size[axis]) / 2)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandTurnd:
        super().set_random_state(seed, state)
        # A seed of its own: with this one, the number that says whether to turn would also be the first angle's, and
        # all turns would go the same way (as MONAI's RandAffine has it).
        self.grid.set_random_state(seed=self.R.randint(2**31))
        return self

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        self.randomize(None)
        image, label = (torch.as_tensor(data[key]) for key in ("image", "label"))
        middle = CenterSpatialCrop(self.size)
        unturned = {**data, "image": middle(image), "label": middle(label)}
        if not self._do_transform:
            return unturned
        voxels = torch.as_tensor(self.grid(self.size), dtype=torch.float32)[:-1]  # from the middle
        halves = [(count - 1) / 2 for count in image.shape[1:]]
        shares = torch.stack([axis / half for axis, half in zip(voxels, halves, strict=True)][::-1], dim=-1)[None]
        turned = partial(functional.grid_sample, grid=shares, padding_mode="border", align_corners=True)
        likeliest, numbers = torch.zeros(1, *self.size), torch.zeros(1, *self.size)
        for number in label.flatten().long().bincount().nonzero()[:, 0].tolist():
            here = turned((label == number).float()[None])[0]
            numbers[here > likeliest] = number
            likeliest = torch.maximum(likeliest, here)
        if unturned["label"].any() and not numbers.any():
            return unturned  # nothing would be left to click on
        return {**data, "image": turned(image.float()[None])[0], "label": numbers}


def preprocess(recipe: UNet2dRecipe) -> list[Transform]:
    """Files -> slices on the model grid, in the image's own units (`encode` clips and standardises)."""
    return [SlicesOnModelGridd(recipe.spacing, recipe.whole_numbers)]


def augment(recipe: UNet2dRecipe, strained: bool = False) -> list[Transform]:
    """What training adds after `preprocess`: a structure of a slice, a crop, and random changes if it says so.

    strained: larger changes (docs/adr/0020).
    """
    pick = PickSliced(getattr(recipe, "classes", ()))
    samples = find_method(recipe.method).samples
    if samples is not None:
        return [pick, *samples(recipe)]
    drawn = recipe.superpixels
    superpixels = [RandSuperpixeld(drawn, recipe.mean, recipe.deviation)] if drawn else []
    if not recipe.augment:
        return [pick, CropAroundLabeld(recipe.size), *superpixels]
    prob, rotation, scale = (0.8, 0.5, 0.3) if strained else (0.5, 0.26, 0.2)
    turn = RandTurnd((recipe.size, recipe.size), prob, (rotation,), (scale, scale))
    crop = CropAroundLabeld(recipe.size, max(turn.margin))
    if not strained:
        return [pick, crop, turn, *superpixels, *shades(recipe.deviation)]
    # As the network will see it: of what the window hides, gamma and field would be of another size.
    see, show = (
        Lambdad("image", way) for way in (recipe.standardise, lambda image: image * recipe.deviation + recipe.mean)
    )
    return [pick, crop, turn, *superpixels, see, *shades(1.0, strained=True), show]


def shades(unit: float, strained: bool = False) -> list[Transform]:
    """Random changes of an `image`'s brightness, contrast and noise.

    unit: the standard deviation of its values. strained: changes beyond the usual ones (docs/adr/0020).
    """
    if strained:
        return [
            RandBiasFieldd("image", prob=0.5, degree=3, coeff_range=(0.0, 0.3)),
            RandAdjustContrastd("image", prob=0.3, gamma=(0.5, 1.5)),
            RandGaussianNoised("image", prob=0.3, std=0.8 * unit),
        ]
    return [
        RandScaleIntensityd("image", factors=0.2, prob=0.3),
        RandShiftIntensityd("image", offsets=0.3 * unit, prob=0.3),
        RandGaussianNoised("image", prob=0.2, std=0.2 * unit),
    ]
