"""What the anatomy is drawn with: solids in millimetres, and the canvas that they are painted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ORGANS = ("liver", "spleen", "right kidney", "left kidney", "aorta", "stomach", "spine", "ribs")
LABELS = {name: value for value, name in enumerate(ORGANS, start=1)}
FIELD_OF_VIEW = (384.0, 384.0, 288.0)  # mm
AIR, LUNG, FAT, FLUID, MUSCLE, GAS = -1000.0, -850.0, -103.0, 12.0, 56.0, -960.0  # HU

Box = tuple[slice, slice, slice]
EVERYWHERE: Box = (slice(None), slice(None), slice(None))


def norm(*parts: np.ndarray) -> np.ndarray:
    """Euclidean length of vectors, given by their components."""
    return np.sqrt(sum((part * part for part in parts[1:]), parts[0] * parts[0]))


@dataclass(frozen=True)
class Ellipsoid:
    """centre, radii: x, y, z in mm. lean: how far x and y move per mm upwards."""

    centre: Sequence[float]
    radii: Sequence[float]
    lean: tuple[float, float] = (0.0, 0.0)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        reach = np.array(self.radii) + np.abs([*self.lean, 0.0]) * self.radii[2]
        return self.centre - reach, self.centre + reach

    def depth(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        (x0, y0, z0), (a, b, c) = self.centre, self.radii
        u, v, w = (x - x0 - self.lean[0] * (z - z0)) / a, (y - y0 - self.lean[1] * (z - z0)) / b, (z - z0) / c
        level = norm(u, v, w)
        return level * (1 - level) / np.maximum(norm(u / a, v / b, w / c), 1e-4)


@dataclass(frozen=True)
class Tube:
    """A chain of cones with round joints. points: rows (x, y, z, radius), mm."""

    points: Sequence[Sequence[float]]

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        points = np.array(self.points)
        return (points[:, :3] - points[:, 3:]).min(0), (points[:, :3] + points[:, 3:]).max(0)

    def depth(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        deepest = np.full_like(x, -np.inf)
        for (x0, y0, z0, wide), (x1, y1, z1, narrow) in zip(self.points[:-1], self.points[1:], strict=True):
            a, b, c = x1 - x0, y1 - y0, z1 - z0
            u, v, w = x - x0, y - y0, z - z0
            along = np.clip((u * a + v * b + w * c) / (a * a + b * b + c * c), 0, 1)
            away = norm(u - along * a, v - along * b, w - along * c)
            np.maximum(deepest, wide + along * (narrow - wide) - away, out=deepest)
        return deepest


def _spline(position: np.ndarray, count: int) -> np.ndarray:
    """Weights (positions, count) of a uniform cubic B-spline; position in lattice steps."""
    u = np.abs(position[:, None] - np.arange(count))
    return np.where(u < 1, 2 / 3 - u**2 + u**3 / 2, np.clip(2 - u, 0, None) ** 3 / 6).astype(np.float32)


class Patient:
    """The canvas: warped coordinates, image and label so far, and the surfaces that organs are clipped by."""

    cavity: np.ndarray  # depth inside the wall of chest and abdomen
    diaphragm: np.ndarray  # mm below the diaphragm

    def __init__(self, rng: np.random.Generator, shape: Sequence[int], spacing: tuple[float, float, float]) -> None:
        self.rng, self.spacing = rng, spacing
        self.axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
        self.image = np.full(shape, AIR, np.float32)
        self.label = np.zeros(shape, np.uint8)
        scale = rng.uniform(0.95, (1.08, 1.08, 1.05))
        straight = [(axis / s).astype(np.float32) for axis, s in zip(self.axes, scale, strict=True)]
        self.x, self.y, self.z = (
            axis + np.clip(4.5 * self.noise(75), -14, 14) for axis in np.meshgrid(*straight, indexing="ij", sparse=True)
        )

    def noise(self, length: float, box: Box = EVERYWHERE) -> np.ndarray:
        """Smooth random field, variance about 1, the same at every resolution. length: mm between control points."""
        counts = [int(np.ceil(extent * 1.05 / length)) + 4 for extent in FIELD_OF_VIEW]
        field = self.rng.standard_normal(counts, dtype=np.float32)
        for axis, slab, count in zip(self.axes, box, counts, strict=True):
            position = np.clip(axis[slab] / length + (count - 1) / 2, 1, count - 2)
            field = np.tensordot(field, _spline(position, count), axes=(0, 1))
        return 3 * field

    def strands(self, length: float) -> np.ndarray:
        """How far (mm) the nearest of some random curves is: those on which two random fields vanish together."""
        return 0.55 * length * norm(self.noise(length), self.noise(length))

    def vary(self, values: Sequence[float], by: float) -> list[float]:
        return [v + float(self.rng.uniform(-by, by)) for v in values]

    def tube(self, *points: tuple[float, float, float, float], by: float = 0.0) -> Tube:
        """by: mm by which each point is moved at random."""
        return Tube([(*self.vary(at, by), radius) for *at, radius in points])

    def solid(self, *parts: Ellipsoid | Tube, rough: float = 0.0, blend: float = 14.0) -> tuple[Box, np.ndarray]:
        """Smooth union of the parts in its bounding box. rough: mm by which noise moves the surface. -> box, depth."""
        lows, highs = zip(*(part.bounds() for part in parts), strict=True)
        low, high = np.min(lows, 0) * 1.08 - 22, np.max(highs, 0) * 1.08 + 22  # room for scale, warp and roughness
        x, y, z = (slice(*np.searchsorted(axis, ends)) for axis, *ends in zip(self.axes, low, high, strict=True))
        box = (x, y, z)
        depth = parts[0].depth(self.x[box], self.y[box], self.z[box])
        for part in parts[1:]:
            other = part.depth(self.x[box], self.y[box], self.z[box])
            overlap = np.clip(blend - np.abs(depth - other), 0, None)
            depth = np.maximum(depth, other) + overlap * overlap / (4 * blend)
        return box, depth + rough * self.noise(32, box) if rough else depth

    def paint(self, box: Box, depth: np.ndarray, hu: float | np.ndarray, label: str = "", keep: bool = False) -> None:
        """Lay material over what is there, with partial volume. keep: the label below stays."""
        cover = np.clip(depth / (sum(self.spacing) / 3) + 0.5, 0, 1)
        self.image[box] += cover * (hu - self.image[box])
        if not keep:
            self.label[box][depth > 0] = LABELS.get(label, 0)

    def hollow(
        self, box: Box, depth: np.ndarray, wall: float, content: np.ndarray, gas: float, label: str = ""
    ) -> None:
        """Paint an organ with a wall (mm), content (HU), and gas in front of the plane y = gas."""
        self.paint(box, depth + 3, FAT)
        self.paint(box, depth, 82.0, label)
        self.paint(box, depth - wall, content, keep=True)
        self.paint(box, np.minimum(depth - wall, self.y[box] - gas), GAS, keep=True)
