"""How good a mask is, and a row of clicks: overlap, surface distances in mm, clicks needed, intervals over patients.

Masks are numpy arrays of two or three axes, cast to bool. spacing: mm per voxel, one number per array axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

Mask = NDArray[np.bool_]


def dice(prediction: ArrayLike, truth: ArrayLike) -> float:
    """2 |A and B| / (|A| + |B|), in [0, 1]. Two empty masks agree: 1. One empty mask: 0."""
    a, b = _pair(prediction, truth)
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / total if total else 1.0


def iou(prediction: ArrayLike, truth: ArrayLike) -> float:
    """|A and B| / |A or B| (Jaccard), in [0, 1]. Two empty masks agree: 1. One empty mask: 0."""
    a, b = _pair(prediction, truth)
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def surface_distances_mm(
    prediction: ArrayLike, truth: ArrayLike, spacing: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """From every surface voxel of one mask to the nearest of the other, mm: (of the prediction, of the truth).

    The surface is the mask minus its erosion: its voxels that share a face with the outside, to which all beyond the
    image's border belongs. Exact, between voxel centres. If either mask is empty, both arrays are.
    HD and MAD are the maximum and the mean of the two together: whoever needs both calls this once.
    """
    a, b = _pair(prediction, truth)
    size = _spacing(spacing, a.ndim)
    if not a.any() or not b.any():
        return np.empty(0), np.empty(0)
    points_a, points_b = _surface(a) * size, _surface(b) * size
    return cKDTree(points_b).query(points_a)[0], cKDTree(points_a).query(points_b)[0]


def hd_mm(prediction: ArrayLike, truth: ArrayLike, spacing: Sequence[float]) -> float:
    """Symmetric Hausdorff distance between the surfaces, mm: the largest of the surface distances, both ways.

    Undefined, hence NaN, if either mask is empty (also if both are): leave it out of a mean, and count it.
    """
    of_prediction, of_truth = surface_distances_mm(prediction, truth, spacing)
    return float(max(of_prediction.max(), of_truth.max())) if of_truth.size else float("nan")


def mad_mm(prediction: ArrayLike, truth: ArrayLike, spacing: Sequence[float]) -> float:
    """Mean absolute (average symmetric) surface distance, mm: the mean over the surface voxels of both masks.

    Undefined, hence NaN, if either mask is empty (also if both are): leave it out of a mean, and count it.
    """
    distances = np.concatenate(surface_distances_mm(prediction, truth, spacing))
    return float(distances.mean()) if distances.size else float("nan")


def area_mm2(mask: ArrayLike, spacing: Sequence[float]) -> float:
    """Area of a 2D mask. An empty mask has none: 0."""
    return _measure(mask, spacing, 2)


def volume_ml(mask: ArrayLike, spacing: Sequence[float]) -> float:
    """Volume of a 3D mask in millilitres (1000 mm3). An empty mask has none: 0."""
    return _measure(mask, spacing, 3) / 1000


def noc(ious: Sequence[float], threshold: float, failure: int = 20) -> int:
    """Number of clicks (RITM): the first click, counted from 1, with IoU >= threshold.

    ious: the IoU after click 1, 2, ... If none of the first `failure` clicks reaches the threshold: `failure`.
    """
    reached = (click for click, value in enumerate(ious[:failure], start=1) if value >= threshold)
    return next(reached, failure)


def auc(dices: Sequence[float], clicks: Sequence[float] | None = None) -> float:
    """Area under the curve of Dice over clicks (trapezoids), divided by the range of clicks: at most 1.

    dices: the Dice after each of `clicks` (increasing; without them 1, 2, 3, ...). A single value is its own area.
    A NaN makes it NaN. Raises ValueError for no values, and for clicks that do not fit or do not increase.
    """
    y = np.asarray(dices, float)
    x = np.arange(1.0, len(y) + 1) if clicks is None else np.asarray(clicks, float)
    if not len(y) or x.shape != y.shape or not (np.diff(x) > 0).all():
        raise ValueError(f"{len(y)} Dice values for clicks {x.tolist()}: at least one is needed, at increasing clicks")
    if len(y) == 1:
        return float(y[0])
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / (x[-1] - x[0]))


def _pair(prediction: ArrayLike, truth: ArrayLike) -> tuple[Mask, Mask]:
    a, b = np.asarray(prediction).astype(bool, copy=False), np.asarray(truth).astype(bool, copy=False)
    if a.shape != b.shape:
        raise ValueError(f"prediction of shape {a.shape} and truth of shape {b.shape} do not lie on one grid")
    return a, b


def _spacing(spacing: Sequence[float], dimension: int) -> NDArray[np.float64]:
    size = np.asarray(spacing, float)
    if size.shape != (dimension,) or not (size > 0).all():
        raise ValueError(f"spacing {tuple(spacing)} is not {dimension} positive lengths in mm")
    return size


def _measure(mask: ArrayLike, spacing: Sequence[float], dimension: int) -> float:
    inside = np.asarray(mask)
    if inside.ndim != dimension:
        raise ValueError(f"mask of shape {inside.shape} has not {dimension} axes")
    return float(np.count_nonzero(inside) * _spacing(spacing, dimension).prod())


def _surface(mask: Mask) -> NDArray[np.int64]:
    """Voxel indices (N, D) of a mask's surface. Looks at the bounding box only: most of an image is empty."""
    box = []
    for axis in range(mask.ndim):
        occupied = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    padded = np.pad(mask[tuple(box)], 1)
    middle = (slice(1, -1),) * mask.ndim
    core = padded[middle].copy()
    for axis in range(mask.ndim):
        for neighbour in (slice(None, -2), slice(2, None)):
            core &= padded[(*middle[:axis], neighbour, *middle[axis + 1 :])]
    return np.argwhere(padded[middle] & ~core) + [side.start for side in box]
