"""Simulated users beside Sakinis' own: examiners that click by other published rules, and control arms.

Coordinates are voxels in array-axis order. `spacing` is mm per voxel, one number per array axis or one for all.
All of them work on the CPU, image by image, and draw from each image's generator alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from .click import PADDING
from .simulate import (
    Metric,
    SimulatedUser,
    bounding_box,
    check_generators,
    check_metric,
    check_one_structure,
    most_probable,
    simulate_click,
)

Mask = NDArray[np.bool_]
Voxels = NDArray[np.int64]
Spacing = float | tuple[float, ...]

# How often a trembling hand tries to hit the right side of the boundary before it is held still.
TRIES = 10


class _OneByOne:
    """A user that looks at one image after the other: a SimulatedUser out of `_pick`."""

    def _pick(
        self, prediction: NDArray[Any], truth: NDArray[Any], clicked: Voxels, generator: torch.Generator
    ) -> tuple[Voxels, int] | None:
        """Voxel and label of the next click, or None for no click. clicked: voxels (N, D)."""
        raise NotImplementedError

    def __call__(
        self, logits: Tensor | None, label: Tensor, clicks: Tensor, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Rows (B, D+1); label -1 where no click is picked."""
        if logits is not None and logits.shape[2:] != label.shape[1:]:
            raise ValueError(f"logits {tuple(logits.shape)} and label {tuple(label.shape)} differ in shape")
        check_generators(generators, label)
        predictions = torch.zeros_like(label) if logits is None else most_probable(logits).to(label.dtype)
        rows = np.full((len(label), label.ndim), PADDING, np.int64)
        images = zip(predictions.cpu().numpy(), label.cpu().numpy(), clicks.cpu().numpy(), generators, strict=True)
        for row, (prediction, truth, before, generator) in zip(rows, images, strict=True):
            picked = self._pick(prediction, truth, before[before[:, -1] != PADDING, :-1], generator)
            if picked is not None:
                row[:-1], row[-1] = picked
        return torch.from_numpy(rows).to(label.device)


@dataclass(frozen=True)
class DeterministicUser(_OneByOne):
    """The innermost point of the largest error (RITM's evaluation user: Sofiiuk 2021, isegm/inference/clicker.py).

    Of all wrong voxels it clicks the one farthest (Euclidean) from the edge of its error: the false negatives are one
    error, the false positives another, or, for an integer label map (B, *S), there is one per true class. What lies
    outside the image counts as unmarked. A tie goes to the structure before the background, then to the first voxel in
    array order. No voxel is clicked twice; if all that is wrong has been clicked, there is nothing left to say: label
    -1. RITM gives the tie to the background; here it goes as in `simulate_click`.

    spacing: only the ratio of its axes matters. Raises ValueError if it is not positive or does not fit the axes.
    """

    spacing: Spacing = 1.0

    def __post_init__(self) -> None:
        _check_spacing(self.spacing)

    def _pick(
        self, prediction: NDArray[Any], truth: NDArray[Any], clicked: Voxels, generator: torch.Generator
    ) -> tuple[Voxels, int] | None:
        best, chosen = 0.0, None
        for value, start, error in _errors(prediction, truth):
            depth = euclidean_depth(error, self.spacing)
            shifted = clicked - start
            depth[tuple(shifted[((shifted >= 0) & (shifted < error.shape)).all(1)].T)] = 0
            deepest = np.unravel_index(depth.argmax(), depth.shape)
            if depth[deepest] > best:
                best, chosen = float(depth[deepest]), (start + deepest, value)
        return chosen


@dataclass(frozen=True)
class LiuUser(_OneByOne):
    """The middle of the largest mis-segmented region, disturbed (Liu et al., MICCAI 2022, section 4.1).

    Regions are the connected components of the error among voxels of one true class, so that each has one label: 1 and
    0 for a bool label, the class for an integer label map (B, *S). Of the largest by voxels (a tie goes to the
    structure before the background) the rounded centroid is clicked, or, if that is not in the region, a random one of
    its voxels that have no face on its boundary (of all, if all have one). It is then shifted along each axis by up to
    `disturbance` voxels, every shift alike, and back again if that leaves the region.

    disturbance: voxels (the paper's 10), but never more than half the radius of the disc or ball of the region's size,
        or the shift would leave small structures. Raises ValueError if it is negative.
    corners: whether voxels that share no more than a corner or an edge touch. Where they do, the fringes of a structure
        are one large region without a middle; where they do not, what is clicked is rather a lump (docs/adr/0019).
    """

    disturbance: float = 10.0
    corners: bool = True

    def __post_init__(self) -> None:
        if not self.disturbance >= 0:
            raise ValueError(f"a disturbance is a number of voxels from 0 up, got {self.disturbance}")

    def _pick(
        self, prediction: NDArray[Any], truth: NDArray[Any], clicked: Voxels, generator: torch.Generator
    ) -> tuple[Voxels, int] | None:
        errors = _errors(prediction, truth)
        regions = [(value, start, largest_component(error, self.corners)) for value, start, error in errors]
        if not regions:
            return None
        value, start, region = max(regions, key=lambda found: np.count_nonzero(found[2]))  # the first of equals
        position = _middle(region, generator)
        reach = int(min(self.disturbance, equivalent_radius(np.count_nonzero(region), region.ndim) / 2))
        shift = torch.randint(-reach, reach + 1, (region.ndim,), generator=generator).numpy()
        shifted = position + shift
        inside = ((shifted >= 0) & (shifted < region.shape)).all() and region[tuple(shifted)]
        return start + (shifted if inside else position), value


@dataclass(frozen=True)
class AnyUser:
    """Several users in one: each click of each image is one of theirs, by chance, all alike.

    Raises ValueError without any.
    """

    users: tuple[SimulatedUser, ...]

    def __post_init__(self) -> None:
        if not self.users:
            raise ValueError("who clicks? At least one user is needed")

    def __call__(
        self, logits: Tensor | None, label: Tensor, clicks: Tensor, generators: Sequence[torch.Generator]
    ) -> Tensor:
        check_generators(generators, label)
        rows = []
        for item, generator in enumerate(generators):
            own = slice(item, item + 1)
            user = self.users[int(_draw(generator) * len(self.users))]
            rows.append(user(None if logits is None else logits[own], label[own], clicks[own], [generator]))
        return torch.cat(rows)


@dataclass(frozen=True)
class JitteredUser:
    """Another user, whose hand trembles: each click is moved by a Gaussian and rounded to a voxel of the image.

    The moved click may miss the error that it meant, never the truth: where the truth is not of the click's label, the
    hand tries again, TRIES times in all, and then stays where it was. So mistakes go around a tremble
    (`WrongUser(JitteredUser(...))`), not into it.

    radius: standard deviation along each axis, mm (voxels with the default spacing). Raises ValueError if it is
    negative, or if the spacing is not positive or does not fit the axes.
    """

    user: SimulatedUser
    radius: float
    spacing: Spacing = 1.0

    def __post_init__(self) -> None:
        _check_spacing(self.spacing)
        if not self.radius >= 0:
            raise ValueError(f"a radius is a length from 0 up, got {self.radius}")

    def __call__(
        self, logits: Tensor | None, label: Tensor, clicks: Tensor, generators: Sequence[torch.Generator]
    ) -> Tensor:
        rows = self.user(logits, label, clicks, generators).cpu().numpy().copy()
        deviation = self.radius / _sizes(self.spacing, label.ndim - 1)
        for row, truth, generator in zip(rows, label.cpu().numpy(), generators, strict=True):
            moves = torch.randn(TRIES, truth.ndim, generator=generator, dtype=torch.float64).numpy() * deviation
            if row[-1] == PADDING:
                continue
            places = np.clip(np.rint(row[:-1] + moves), 0, np.subtract(truth.shape, 1)).astype(np.int64)
            right = np.flatnonzero(truth[tuple(places.T)] == row[-1])
            if len(right):
                row[:-1] = places[right[0]]
        return torch.from_numpy(rows).to(label.device)


@dataclass(frozen=True)
class StaticUser:
    """A control arm: clicks of the truth alone, blind to every prediction, hence never satisfied.

    An image's first click is `SakinisUser`'s. Each later one is, with equal chance, inside (drawn from the whole
    structure as Sakinis 2019, III-B draws from an error) or outside (any voxel of the band around the structure, all
    alike; inside after all if the structure leaves no room for one). No structure: label -1.

    metric, scale: SakinisUser's. band: width of the band (Euclidean), in the unit of `scale` (10 mm with a spacing in
    mm). Raises ValueError for an unknown metric, lengths that are not positive, or a label that is not bool.
    """

    metric: Metric = "chessboard"
    scale: float = 1.0
    band: float = 10.0

    def __post_init__(self) -> None:
        check_metric(self.metric)
        if not (self.scale > 0 and self.band > 0):
            raise ValueError(f"scale and band must be positive lengths, got {self.scale} and {self.band}")

    def __call__(
        self, logits: Tensor | None, label: Tensor, clicks: Tensor, generators: Sequence[torch.Generator]
    ) -> Tensor:
        check_one_structure(label)
        rows = simulate_click(torch.zeros_like(label), label, generators, metric=self.metric, scale=self.scale)
        for row, truth, first, generator in zip(rows, label, _without_click(clicks), generators, strict=True):
            if not first and row[-1] != PADDING and _draw(generator) < 0.5:
                around = voxels_around(truth.cpu().numpy(), self.band / self.scale)
                if len(around):
                    row[:-1] = torch.from_numpy(around[int(_draw(generator) * len(around))])
                    row[-1] = 0
        return rows


@dataclass(frozen=True)
class WrongUser:
    """A control arm: another user, who errs. After an image's first click each says the opposite with chance `rate`.

    For one structure at a time: 1 and 0 are swapped. Raises ValueError for a label that is not bool, and for a rate
    that is not in [0, 1].
    """

    user: SimulatedUser
    rate: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate must be in [0, 1], got {self.rate}")

    def __call__(
        self, logits: Tensor | None, label: Tensor, clicks: Tensor, generators: Sequence[torch.Generator]
    ) -> Tensor:
        check_one_structure(label)
        rows = self.user(logits, label, clicks, generators)
        slips = torch.tensor([_draw(generator) < self.rate for generator in generators], device=rows.device)
        swapped = slips & ~_without_click(clicks).to(rows.device) & (rows[:, -1] != PADDING)
        return torch.cat([rows[:, :-1], torch.where(swapped, 1 - rows[:, -1], rows[:, -1])[:, None]], dim=1)


def euclidean_depth(mask: Mask, spacing: Spacing = 1.0) -> NDArray[np.float64]:
    """Distance of every marked voxel to the nearest unmarked one, exact; 0 outside the mask.

    What lies outside the array counts as unmarked. In mm if the spacings of the axes differ, else in voxels, where
    equal distances are equal numbers on every machine.
    """
    sizes = _sizes(spacing, mask.ndim)
    ring = np.pad(mask, 1)
    inner = (slice(1, -1),) * mask.ndim
    if (sizes != sizes[0]).any():
        return np.asarray(ndimage.distance_transform_edt(ring, sampling=sizes)[inner])
    if mask.ndim != 2:
        return np.asarray(ndimage.distance_transform_edt(ring)[inner])
    rounded = cv2.distanceTransform(ring.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[inner]
    # OpenCV's float32 root, which processors may round differently, is of a whole number.
    return np.asarray(np.sqrt(np.rint(np.square(rounded, dtype=np.float64))))


def innermost(mask: Mask, spacing: Spacing = 1.0) -> tuple[int, ...]:
    """The marked voxel that lies deepest (`euclidean_depth`), the first in array order of equals."""
    depth = euclidean_depth(mask, spacing)
    return tuple(int(index) for index in np.unravel_index(depth.argmax(), depth.shape))


def equivalent_radius(count: int, dimension: int) -> float:
    """Radius of the disc (2D) or ball (3D) of so many voxels, in voxels."""
    return math.sqrt(count / math.pi) if dimension == 2 else math.cbrt(3 * count / (4 * math.pi))


def voxels_around(mask: Mask, width: float) -> Voxels:
    """(M, D): the voxels outside a mask that lie within `width` voxels (Euclidean) of it, in array order."""
    box = bounding_box(mask)
    if box is None:
        return np.empty((0, mask.ndim), np.int64)
    margin = math.ceil(width)
    grown = tuple(
        slice(max(side.start - margin, 0), min(side.stop + margin, length))
        for side, length in zip(box, mask.shape, strict=True)
    )
    distance = ndimage.distance_transform_edt(~mask[grown])
    return np.argwhere((distance > 0) & (distance <= width)) + [side.start for side in grown]


def _errors(prediction: NDArray[Any], truth: NDArray[Any]) -> Iterator[tuple[int, Voxels, Mask]]:
    """For each true class with wrong voxels, the background last: class, first voxel of their bounding box, the box."""
    wrong = prediction != truth
    box = bounding_box(wrong)
    if box is None:
        return
    wrong, truth = wrong[box], truth[box]
    for value in sorted(np.unique(truth[wrong]).tolist(), key=lambda value: (value == 0, value)):
        error = wrong & (truth == value)
        inner = bounding_box(error)
        assert inner is not None, "a class of wrong voxels has one"
        yield int(value), np.array([a.start + b.start for a, b in zip(box, inner, strict=True)]), error[inner]


def largest_component(mask: Mask, corners: bool = True) -> Mask:
    """The connected component with most voxels, the first of equals, of a mask that marks some.

    corners: whether voxels that share no more than a corner or an edge touch.
    """
    reach = mask.ndim if corners else 1
    components, _ = ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, reach))
    return np.asarray(components == np.bincount(components.ravel())[1:].argmax() + 1)


def _middle(region: Mask, generator: torch.Generator) -> Voxels:
    """The rounded centroid, or if it is not in the region a random voxel off the boundary, or of all if none is."""
    voxels = np.argwhere(region)
    centroid = np.rint(voxels.mean(0)).astype(np.int64)
    if region[tuple(centroid)]:
        return centroid
    core = np.argwhere(ndimage.binary_erosion(region))
    candidates = core if len(core) else voxels
    return np.asarray(candidates[int(_draw(generator) * len(candidates))])


def _draw(generator: torch.Generator) -> float:
    """One number from [0, 1)."""
    return float(torch.rand((), generator=generator, dtype=torch.float64))


def _without_click(clicks: Tensor) -> Tensor:
    """(B,) bool: the images that have no click yet. A row of padding is none."""
    return (clicks[..., -1] == PADDING).all(1)


def _check_spacing(spacing: Spacing) -> None:
    if not (np.asarray(spacing) > 0).all():
        raise ValueError(f"spacing must be positive lengths in mm, got {spacing}")


def _sizes(spacing: Spacing, dimension: int) -> NDArray[np.float64]:
    """mm per voxel, one number per array axis."""
    sizes = np.asarray(spacing, float)
    if sizes.shape not in ((), (dimension,)):
        raise ValueError(f"spacing {spacing} does not fit {dimension} axes")
    return np.broadcast_to(sizes, (dimension,))
