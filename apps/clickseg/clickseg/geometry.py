"""Frames: the only place where a click or a mask changes from one grid to another."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar, cast

import nibabel as nib
import numpy as np
import torch
from nibabel import orientations
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

Scalar = TypeVar("Scalar", bound=np.generic)

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def ras_affine(origin: ArrayLike, spacing: ArrayLike, directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """4x4, voxel index -> RAS mm, by what ITK says of an image: LPS mm of its first voxel, mm, and unit columns."""
    lps = np.eye(4)
    lps[:3, :3] = np.multiply(directions, spacing)
    lps[:3, 3] = origin
    return np.matmul(LPS_TO_RAS, lps)


@dataclass(frozen=True, eq=False)
class Forms:
    """The sform and the qform of a NIfTI file, each 4x4, voxel index -> RAS mm, and their codes.

    They differ where an image was registered: one leads to the scanner, the other to a template, say.
    """

    sform: NDArray[np.float64]
    qform: NDArray[np.float64]
    codes: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Grid:
    """A voxel grid in space. shape: three voxel counts; affine: 4x4, voxel index (array-axis order) -> RAS mm.

    forms: of a NIfTI file that says two different things of where it lies.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    forms: Forms | None = None

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or any(count < 1 for count in self.shape):
            raise ValueError(f"a grid has three axes of at least one voxel, got shape {tuple(self.shape)}")
        affine = np.asarray(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-9:
            raise ValueError(f"a grid's affine is an invertible 4x4 matrix, got {affine.tolist()}")
        object.__setattr__(self, "affine", affine)

    @cached_property
    def spacing(self) -> tuple[float, float, float]:
        """mm per voxel step along each array axis."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def axcodes(self) -> tuple[str, str, str]:
        """The anatomical direction each array axis runs nearest to, such as ('L', 'A', 'S')."""
        return nib.aff2axcodes(self.affine)

    @property
    def lps_affine(self) -> NDArray[np.float64]:
        """4x4, voxel index -> LPS mm, the frame of DICOM, ITK and NRRD."""
        return np.matmul(LPS_TO_RAS, self.affine)

    def to_ras(self, points: ArrayLike) -> NDArray[np.float64]:
        """(N, 3) voxel index -> (N, 3) RAS mm."""
        return nib.affines.apply_affine(self.affine, points)

    def from_ras(self, points: ArrayLike) -> NDArray[np.float64]:
        """(N, 3) RAS mm -> (N, 3) voxel index, not rounded."""
        return nib.affines.apply_affine(np.linalg.inv(self.affine), points)

    def contains(self, position: Sequence[int]) -> bool:
        """Whether a voxel index (3 integers) lies in the grid."""
        return len(position) == 3 and all(0 <= index < count for index, count in zip(position, self.shape, strict=True))

    def coincides(self, other: Grid) -> bool:
        """Whether both have the same voxels in the same places: no corner further apart than half a voxel."""
        corners = list(itertools.product(*((0, count - 1) for count in self.shape)))
        apart = np.abs(self.to_ras(corners) - other.to_ras(corners)).max()
        return self.shape == other.shape and bool(apart < min(self.spacing) / 2)

    def bears(self, other: Grid) -> bool:
        """Whether another one coincides with this, or with what a form of this says instead."""
        forms = (self.forms.sform, self.forms.qform) if self.forms else ()
        return any(Grid(self.shape, affine).coincides(other) for affine in (self.affine, *forms))


@dataclass(frozen=True)
class UprightVolume:
    """A source grid with its axes turned towards R, A and S, whole axes only: nothing is interpolated.

    What is called upright here has that order.
    """

    grid: Grid

    @cached_property
    def _turn(self) -> NDArray[np.float64]:
        return orientations.io_orientation(self.grid.affine)

    @cached_property
    def axes(self) -> tuple[int, int, int]:
        """The source axis that runs nearest to R/L, A/P and S/I."""
        x, y, z = (int(np.flatnonzero(self._turn[:, 0] == anatomical)[0]) for anatomical in range(3))
        return x, y, z

    @cached_property
    def _flipped(self) -> list[bool]:
        """Whether that axis runs backwards."""
        return [bool(self._turn[axis, 1] < 0) for axis in self.axes]

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along R, A, S."""
        return tuple(self.grid.shape[axis] for axis in self.axes)

    @property
    def spacing(self) -> tuple[float, ...]:
        """mm per voxel step along R, A, S."""
        return tuple(self.grid.spacing[axis] for axis in self.axes)

    def view(self, volume: NDArray[Scalar]) -> NDArray[Scalar]:
        """A volume on the source grid as a writable upright view."""
        return volume.transpose(self.axes)[tuple(slice(None, None, -1 if flip else 1) for flip in self._flipped)]

    def locate(self, position: Sequence[int]) -> tuple[int, ...]:
        """A voxel of the source grid -> its upright index."""
        return tuple(
            self.grid.shape[axis] - 1 - position[axis] if flip else position[axis]
            for axis, flip in zip(self.axes, self._flipped, strict=True)
        )


@dataclass(frozen=True)
class AxialSlices:
    """A source grid seen as slices along the axis nearest to the patient's long axis, each in (R, A) order.

    Turning the axes moves whole voxels, so nothing is interpolated and oblique grids keep their own planes.
    """

    grid: Grid

    @cached_property
    def _upright(self) -> UprightVolume:
        return UprightVolume(self.grid)

    @property
    def axis(self) -> int:
        """The source axis that numbers the slices."""
        return self._upright.axes[2]

    @property
    def shape(self) -> tuple[int, int]:
        """Voxels of one slice, (R, A) order."""
        right, front, _ = self._upright.shape
        return right, front

    @property
    def spacing(self) -> tuple[float, float]:
        """mm per voxel step in plane, (R, A) order."""
        right, front, _ = self._upright.spacing
        return right, front

    @property
    def slice_spacing(self) -> float:
        """mm from slice to slice."""
        return self.grid.spacing[self.axis]

    def view(self, volume: NDArray[Scalar], index: int) -> NDArray[Scalar]:
        """Slice `index` (along `axis`) of a volume on the source grid, as a writable (R, A) view."""
        return self._upright.view(volume[(slice(None),) * self.axis + (index, None)])[..., 0]

    def locate(self, position: Sequence[int]) -> tuple[int, tuple[int, int]]:
        """A voxel of the source grid -> (slice number, (R, A) index in that slice)."""
        right, front, _ = self._upright.locate(position)
        return position[self.axis], (right, front)


def axes_order(axes: Sequence[str]) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """For axes that run as these codes say, such as ("S", "P", "L"): which upright axis each is, and if it is reversed.

    Raises ValueError for codes that do not name three different axes.
    """
    try:
        turn = orientations.axcodes2ornt(tuple(axes))
    except (ValueError, TypeError):
        turn = np.full((3, 2), np.nan)
    if turn.shape != (3, 2) or np.isnan(turn).any() or len(set(turn[:, 0])) != 3:
        raise ValueError(f"axes are three of R/L, A/P and S/I in some order, not {axes!r}")
    return tuple(int(axis) for axis in turn[:, 0]), tuple(bool(sign < 0) for sign in turn[:, 1])


def resized_shape(
    shape: Sequence[int], spacing: Sequence[float], target_spacing: float | Sequence[float]
) -> tuple[int, ...]:
    """The shape that covers the same extent with voxels nearest to `target_spacing` mm (of each axis, or of all)."""
    targets = [target_spacing] * len(shape) if isinstance(target_spacing, int | float) else target_spacing
    return tuple(
        max(1, round(count * step / target)) for count, step, target in zip(shape, spacing, targets, strict=True)
    )


def resample_labels(labels: NDArray[Scalar], source: Grid, target: Grid) -> NDArray[Scalar]:
    """A label map on `source`, on `target`: each voxel there gets the value of the one whose centre is nearest.

    Zero outside the source.
    """
    step = np.linalg.inv(source.affine) @ target.affine
    return ndimage.affine_transform(
        labels, step[:3, :3], step[:3, 3], output_shape=target.shape, order=0, mode="grid-constant"
    )


def pad_far(image: Tensor, shape: Sequence[int]) -> Tensor:
    """(..., *S) with zeros after the end of each axis, up to `shape`; axes that are longer stay."""
    missing = [max(new - old, 0) for new, old in zip(shape, image.shape[-len(shape) :], strict=True)]
    return functional.pad(image, [amount for count in reversed(missing) for amount in (0, count)])


def resize(image: Tensor, shape: Sequence[int]) -> Tensor:
    """(B, C, *S), 2D or 3D, onto another grid of the same extent (edges aligned), linear.

    Where it shrinks it is smoothed first: in 2D by a triangle, in 3D by the mean over the voxels that become one.
    """
    if tuple(image.shape[2:]) == tuple(shape):
        return image
    shrinks = any(new < old for new, old in zip(shape, image.shape[2:], strict=True))
    if image.ndim == 5:
        if shrinks:
            x, y, z = (min(new, old) for new, old in zip(shape, image.shape[2:], strict=True))
            image = functional.adaptive_avg_pool3d(image, (x, y, z))
        return functional.interpolate(image, size=tuple(shape), mode="trilinear", align_corners=False)
    return functional.interpolate(image, size=tuple(shape), mode="bilinear", align_corners=False, antialias=shrinks)


def between(count: int, target: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Of which of `count` voxels along an axis each of `target` of the same extent is made, as `resize` does in 3D.

    The numbers (target,) of the first and of the last, and the share of the last where they are two at most; None where
    it is the mean of all of them.
    """
    if target < count:
        number = torch.arange(target)
        return number * count // target, ((number + 1) * count - 1) // target, None
    places = ((torch.arange(target, dtype=torch.float64) + 0.5) * count / target - 0.5).clamp(0, count - 1)
    low = places.long()
    return low, places.ceil().long(), (places - low).float()


class FineSlices:
    """The slices, along the last axis, of a grid over another, coarser one of the same extent.

    What is computed of a slice is the part that depends on the coarse voxels `marked`, bool (X, Y, Z).
    """

    def __init__(self, marked: Tensor, fine: Sequence[int]) -> None:
        self._marked = marked
        (x, y), (fine_x, fine_y) = marked.shape[:2], fine[:2]
        self._shape = min(x, fine_x), min(y, fine_y)
        in_plane = [between(count, target) for count, target in zip(self._shape, fine[:2], strict=True)]
        self._in_plane = [tuple(cast(Tensor, part).to(marked.device) for part in axis) for axis in in_plane]
        low, high, share = between(marked.shape[2], fine[2])
        shares = [None] * fine[2] if share is None else share.tolist()
        self._planes = [_Planes(*place) for place in zip(low.tolist(), high.tolist(), shares, strict=True)]

    def concerned(self) -> list[int]:
        """The slices that have such a part."""
        marked = self._marked.any(0).any(0).tolist()
        return [number for number, planes in enumerate(self._planes) if any(marked[planes.first : planes.last + 1])]

    def part(self, number: int) -> FinePart:
        """That of one of those slices."""
        planes = self._planes[number]
        marked = self._marked[..., planes.first : planes.last + 1].any(-1)
        if marked.shape != self._shape:
            marked = functional.adaptive_max_pool2d(marked[None].float(), self._shape)[0] > 0
        return FinePart(_over_corners(marked, torch.logical_or), self._in_plane, planes)


class _Planes(NamedTuple):
    """Of which coarse slices a fine one is made, as `between`."""

    first: int
    last: int
    share: float | None


class FinePart:
    """Pixels of a slice of the fine grid: those of the rectangle `box` that are true in `inside`.

    Made from the cells (X, Y) of a coarse slice, each between a voxel and the next ones, that they are to lie in.
    """

    def __init__(self, cells: Tensor, axes: Sequence[tuple[Tensor, ...]], planes: _Planes) -> None:
        (x, y), self._planes = cells.shape, planes
        self._shape = x, y
        self._places: list[tuple[Tensor, ...]] = []
        box, coarse = [], []
        for axis, (low, high, share) in enumerate(axes):
            needed = cells.any(1 - axis)[low].nonzero()
            fine = slice(int(needed[0]), int(needed[-1]) + 1)
            first, last = int(low[fine][0]), int(high[fine][-1])
            self._places.append((low[fine] - first, high[fine] - first, share[fine]))
            coarse.append(slice(first, last + 1))
            box.append(fine)
        self._coarse, self.box = tuple(coarse), tuple(box)
        self.inside = self._spread(cells[self._coarse])

    def labels(self, logits: Tensor) -> Tensor:
        """Logits (C, X, Y, Z) of the coarse grid -> uint8 label map of the box, right where it is `inside`.

        Those of `resize`, but for rounding. Where all voxels of a cell have one label it is taken without more ado.
        """
        plane = self._plane(logits)
        own = plane.argmax(-1).to(torch.uint8)
        found = self._spread(own)
        border = _over_corners(own, torch.maximum) != _over_corners(own, torch.minimum)
        pixels = (self.inside & self._spread(border)).nonzero()
        found[tuple(pixels.T)] = self._between(plane, pixels).argmax(-1).to(torch.uint8)
        return found

    def logits(self, logits: Tensor) -> Tensor:
        """Logits (C, X, Y, Z) of the coarse grid -> (N, C) of the pixels inside, in their order; as of `resize`."""
        return self._between(self._plane(logits), self.inside.nonzero())

    def _plane(self, logits: Tensor) -> Tensor:
        """(X, Y, C): the coarse voxels that are needed, at the height of the slice."""
        first, last, share = self._planes
        as_they_are, needed = logits.shape[1:3] == self._shape, (slice(None), *self._coarse)
        near = logits[needed] if as_they_are else logits
        if share is None:
            plane = near[..., first : last + 1].mean(-1)
        else:
            plane = torch.lerp(near[..., first], near[..., last], share)
        if not as_they_are:
            plane = functional.adaptive_avg_pool2d(plane, self._shape)[needed]
        return plane.permute(1, 2, 0).contiguous()

    def _between(self, plane: Tensor, pixels: Tensor) -> Tensor:
        """(X, Y, C) and pixels (N, 2) of the box -> (N, C)."""
        (left, right, x), (front, back, y) = (
            (low[index], high[index], share[index, None])
            for (low, high, share), index in zip(self._places, pixels.T, strict=True)
        )
        rows, width = plane.flatten(0, 1), plane.shape[1]
        near, far = (
            torch.lerp(rows[left * width + column], rows[right * width + column], x) for column in (front, back)
        )
        return torch.lerp(near, far, y)

    def _spread(self, cells: Tensor) -> Tensor:
        """To each pixel of the box what its cell has."""
        (x, *_), (y, *_) = self._places
        return cells.index_select(1, y).index_select(0, x)  # several times faster than cells[x[:, None], y]


def _over_corners(plane: Tensor, choose: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """For each voxel of (X, Y) the choice among it, the next along each axis and the one across; the last has none."""
    for axis in range(2):
        after = plane.index_select(
            axis, torch.arange(1, plane.shape[axis] + 1, device=plane.device).clamp_max(plane.shape[axis] - 1)
        )
        plane = choose(plane, after)
    return plane


def resize_labels(label: Tensor, shape: Sequence[int]) -> Tensor:
    """(B, *S) uint8 label map onto another grid of the same extent; a voxel takes the class that covers it most."""
    if tuple(label.shape[1:]) == tuple(shape):
        return label
    best = torch.full((len(label), *shape), -1.0)
    result = torch.zeros((len(label), *shape), dtype=label.dtype)
    for value in torch.unique(label).tolist():
        share = resize((label == value).float()[:, None], shape)[:, 0]
        result[share > best] = value
        best = torch.maximum(best, share)
    return result


def rescale_clicks(clicks: Tensor, source_shape: Sequence[int], target_shape: Sequence[int]) -> Tensor:
    """Click tensor (B, N, D+1) onto another grid of the same extent: to the voxel that holds the click's centre."""
    source = torch.tensor(tuple(source_shape), device=clicks.device)
    target = torch.tensor(tuple(target_shape), device=clicks.device)
    positions = torch.floor((clicks[..., :-1] + 0.5) * (target / source)).long()
    positions = torch.minimum(positions.clamp_min(0), target - 1)
    return torch.cat([positions, clicks[..., -1:]], dim=-1)
