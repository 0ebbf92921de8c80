"""Simulated clicks: where a user would click, given what is still wrong (Sakinis 2019, III-B)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import cv2
import numpy as np
import torch
from monai.transforms import Transform
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from .click import PADDING, append_clicks

Metric = Literal["chessboard", "taxicab", "chamfer"]

# Cost of a step by the number of axes it moves along. "chamfer" is Borgefors' optimal 3x3 mask, extended to 3D.
STEP_COSTS: dict[str, tuple[float, ...]] = {
    "chessboard": (1.0, 1.0, 1.0),
    "taxicab": (1.0, 2.0, 3.0),
    "chamfer": (0.955, 1.3693, 1.654),
}
_CV2 = {
    "chessboard": (cv2.DIST_C, 3),
    "taxicab": (cv2.DIST_L1, 3),
    "chamfer": (cv2.DIST_L2, 3),
}


class SimulatedUser(Protocol):
    """Whoever clicks: a batch of predictions in, one click per image out.

    logits: (B, C, *S), or None before the first prediction. label: (B, *S) bool. clicks: (B, N, D+1) so far.
    generators: one per image. Returns rows (B, D+1) int64; label -1 means satisfied.
    """

    def __call__(
        self, logits: Tensor | None, label: Tensor, clicks: Tensor, generators: Sequence[torch.Generator]
    ) -> Tensor: ...


def check_metric(metric: str) -> None:
    """ValueError for a metric that is not in STEP_COSTS."""
    if metric not in STEP_COSTS:
        raise ValueError(f"unknown distance metric {metric!r}; choose one of {', '.join(STEP_COSTS)}")


def chamfer_distance(mask: Tensor, metric: Metric = "chessboard") -> Tensor:
    """Chamfer distance of every marked voxel to the nearest unmarked one, in voxel steps; 0 outside the mask.

    What lies outside the grid counts as unmarked. mask: (B, *S) bool, any device -> (B, *S) float32.
    On a GPU by relaxation (as many sweeps as the largest distance); on a CPU by OpenCV (2D) or SciPy (3D).
    """
    check_metric(metric)
    if mask.device.type == "cpu":
        return torch.from_numpy(np.stack([_chamfer_numpy(item, metric) for item in mask.numpy()]))
    return _chamfer_relaxation(mask, metric)


def _chamfer_numpy(mask: NDArray[np.bool_], metric: Metric) -> NDArray[np.float32]:
    """`chamfer_distance` of one mask by a library; the ring of zeros makes the outside unmarked."""
    ring = np.pad(mask, 1)
    inner = (slice(1, -1),) * mask.ndim
    if mask.ndim == 2:
        return np.asarray(cv2.distanceTransform(ring.view(np.uint8), *_CV2[metric])[inner], np.float32)
    if metric == "chamfer":  # SciPy has no weighted steps
        return _chamfer_relaxation(torch.from_numpy(mask)[None], metric)[0].numpy()
    return ndimage.distance_transform_cdt(ring, metric=metric)[inner].astype(np.float32)


def _chamfer_relaxation(mask: Tensor, metric: Metric) -> Tensor:
    dimension = mask.ndim - 1
    steps = [step for step in itertools.product((-1, 0, 1), repeat=dimension) if any(step)]
    costs = [STEP_COSTS[metric][sum(map(abs, step)) - 1] for step in steps]
    ring = torch.nn.functional.pad(mask, (1, 1) * dimension)
    distance = torch.where(ring, torch.inf, 0.0)
    while True:
        relaxed = distance
        for step, cost in zip(steps, costs, strict=True):
            shifted = torch.roll(distance, step, dims=tuple(range(1, dimension + 1)))  # wraps from ring to ring: zeros
            relaxed = torch.minimum(relaxed, shifted + cost)
        relaxed = torch.where(ring, relaxed, 0.0)
        if torch.equal(relaxed, distance):
            return relaxed[(slice(None), *[slice(1, -1)] * dimension)]
        distance = relaxed


def log_click_weights(distance: Tensor) -> Tensor:
    """log(exp(d) - 1), which does not overflow where exp(d) would (float32: d > 88); -inf where d = 0."""
    return distance + torch.log(-torch.expm1(-distance))


def simulate_click(
    prediction: Tensor,
    label: Tensor,
    generators: Sequence[torch.Generator],
    *,
    metric: Metric = "chessboard",
    scale: float = 1.0,
) -> Tensor:
    """One corrective click per image, drawn with probability proportional to exp(d) - 1 (Sakinis 2019, III-B).

    The larger by area of the false negatives (-> click inside, label 1) and the false positives (-> click outside,
    label 0; a tie goes to the false negatives) is clicked; d is the chamfer distance to that error's edge.

    Args:
        prediction, label: (B, *S) bool on one device.
        generators: one CPU generator per image; each is advanced by exactly one number, so that the click is the
            same on every device and does not depend on the rest of the batch.
        metric: of the distance. scale: its unit per voxel step (1: voxels; the spacing: mm).

    Returns:
        rows (B, D+1) int64 (voxel index, label); label -1 where prediction and label agree.
    """
    check_metric(metric)
    if prediction.shape != label.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and label {tuple(label.shape)} differ in shape")
    check_generators(generators, label)
    draws = [float(torch.rand((), generator=generator, dtype=torch.float64)) for generator in generators]
    if label.device.type != "cpu":
        return _click_torch(prediction, label, draws, metric, scale)
    pairs = zip(prediction.numpy(), label.numpy(), draws, strict=True)
    return torch.from_numpy(np.stack([_click_numpy(*pair, metric, scale) for pair in pairs]))


def _click_torch(prediction: Tensor, label: Tensor, draws: Sequence[float], metric: Metric, scale: float) -> Tensor:
    """Inverse-CDF draw over the whole grids of a batch at once."""
    missed, spilled = label & ~prediction, prediction & ~label
    inside = missed.flatten(1).sum(1) >= spilled.flatten(1).sum(1)
    error = torch.where(inside.view(-1, *[1] * (label.ndim - 1)), missed, spilled)
    wrong = error.flatten(1).any(1)
    weights = log_click_weights(chamfer_distance(error, metric).double() * scale).flatten(1)
    top = weights.amax(1, keepdim=True)
    cumulative = torch.exp(weights - torch.where(wrong[:, None], top, 0.0)).cumsum(1)
    target = torch.tensor(draws, dtype=torch.float64, device=error.device)[:, None] * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, target, right=True).squeeze(1).clamp_max(cumulative.shape[1] - 1)
    rows = torch.stack([*torch.unravel_index(index, error.shape[1:]), inside.long()], dim=1)
    return torch.where(wrong[:, None], rows, PADDING)


def _click_numpy(
    prediction: NDArray[np.bool_], label: NDArray[np.bool_], draw: float, metric: Metric, scale: float
) -> NDArray[np.int64]:
    """The same draw for one image, on its error's bounding box alone: exact, because all outside it is unmarked."""
    difference = prediction != label
    missed = difference & label
    missed_size, wrong_size = np.count_nonzero(missed), np.count_nonzero(difference)
    if wrong_size == 0:
        return np.full(label.ndim + 1, PADDING)
    inside = 2 * missed_size >= wrong_size
    error = missed if inside else difference & prediction
    box = bounding_box(error)
    assert box is not None, "an error that was counted has a bounding box"
    part = error[box]
    marked = np.flatnonzero(part)
    depth = _chamfer_numpy(part, metric).ravel()[marked].astype(np.float64) * scale
    weights = depth + np.log(-np.expm1(-depth))
    cumulative = np.exp(weights - weights.max()).cumsum()
    chosen = min(int(np.searchsorted(cumulative, draw * cumulative[-1], side="right")), len(marked) - 1)
    position = np.add([axis.start for axis in box], np.unravel_index(marked[chosen], part.shape))
    return np.array([*position, int(inside)])


def most_probable(logits: Tensor) -> Tensor:
    """(B, C, *S) -> uint8 (B, *S): the class with the highest logit, the first of equals.

    As argmax, which is three to twenty times slower along an axis that is not the last.
    """
    best, found = logits[:, 0], torch.zeros_like(logits[:, 0], dtype=torch.uint8)
    for number in range(1, logits.shape[1]):
        found.masked_fill_(logits[:, number] > best, number)
        best = torch.maximum(best, logits[:, number])
    return found


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The smallest box of array slices that holds every marked voxel; None for an empty mask."""
    box = []
    for axis in range(mask.ndim):
        marked = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if len(marked) == 0:
            return None
        box.append(slice(int(marked[0]), int(marked[-1]) + 1))
    return tuple(box)


def check_generators(generators: Sequence[torch.Generator], label: Tensor) -> None:
    """ValueError unless each image of a batch (B, *S) has one."""
    if len(generators) != len(label):
        raise ValueError(f"{len(generators)} generators for a batch of {len(label)}")


def check_one_structure(label: Tensor) -> None:
    """ValueError for a label map of several classes, of users that know inside and outside alone."""
    if label.dtype != torch.bool:
        raise ValueError(f"this user clicks for one structure at a time: label must be bool, got {label.dtype}")


@dataclass(frozen=True)
class SakinisUser:
    """The paper's random clicker (III-B). Raises ValueError for a label that is not bool.

    first: its first click is drawn from the interior (III-B) or evenly from all of the structure (III-C).
    """

    metric: Metric = "chessboard"
    scale: float = 1.0
    first: Literal["interior", "anywhere"] = "interior"

    def __call__(
        self, logits: Tensor | None, label: Tensor, clicks: Tensor, generators: Sequence[torch.Generator]
    ) -> Tensor:
        check_one_structure(label)
        if logits is not None:
            return simulate_click(most_probable(logits).bool(), label, generators, metric=self.metric, scale=self.scale)
        if self.first == "interior":
            return simulate_click(torch.zeros_like(label), label, generators, metric=self.metric, scale=self.scale)
        return _click_anywhere(label, generators)


def _click_anywhere(label: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Rows (B, D+1): a voxel of the structure, all alike in probability; label -1 where there is none."""
    rows = torch.full((len(label), label.ndim), PADDING, dtype=torch.int64, device=label.device)
    for item, (mask, generator) in enumerate(zip(label, generators, strict=True)):
        voxels = mask.nonzero()
        draw = float(torch.rand((), generator=generator, dtype=torch.float64))
        if len(voxels):
            rows[item, :-1] = voxels[int(draw * len(voxels))]
            rows[item, -1] = 1
    return rows


class SimulateClickd(Transform):
    """MONAI dictionary form of a simulated user: appends its next click to `clicks`.

    Reads `label` (B, 1, *S) of one structure, or of integers for classes, `previous`
    (logits (B, C, *S); absent or None: nothing predicted yet), `clicks`
    (B, N, D+1; absent: none) and `seed` (B,), the number that each image's stream of clicks grows from: the N-th
    click of an image is the same function of its seed wherever and in whatever batch it is drawn.
    """

    def __init__(self, user: SimulatedUser | None = None, **options: Any) -> None:
        if user is not None and options:
            raise ValueError(f"give a user or the options of SakinisUser, not both: {options}")
        self.user: SimulatedUser = user if user is not None else SakinisUser(**options)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        label = data["label"][:, 0]
        if label.is_floating_point():
            label = label.bool()
        clicks = data.get("clicks")
        if clicks is None:
            clicks = torch.empty(len(label), 0, label.ndim, dtype=torch.int64, device=label.device)
        generators = [click_generator(int(seed), clicks.shape[1]) for seed in data["seed"]]
        rows = self.user(data.get("previous"), label, clicks, generators)
        return {**data, "clicks": append_clicks(clicks, rows)}


def click_generator(seed: int, turn: int) -> torch.Generator:
    """The random stream of click number `turn` of the image with this seed (both non-negative)."""
    return torch.Generator().manual_seed((seed * 1_000_003 + turn * 7_919 + 1) % (2**63))
