"""A patient from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .anatomy import ANATOMY
from .canvas import FIELD_OF_VIEW, LABELS, Patient


@dataclass(frozen=True, eq=False)
class Phantom:
    """image: int16 HU (X, Y, Z). label: uint8 (X, Y, Z), 0 outside. affine: (4, 4), voxel index -> RAS mm."""

    image: np.ndarray
    label: np.ndarray
    affine: np.ndarray
    labels: dict[str, int]


def _largest_pieces(label: np.ndarray) -> None:
    """Clear, in place, the crumbs that noise has cut off an organ; ribs are many pieces by nature."""
    for value, box in enumerate(ndimage.find_objects(label), start=1):
        if box is not None and value != LABELS["ribs"]:
            organ = label[box] == value
            pieces, _ = ndimage.label(organ)
            label[box][organ & (pieces != np.bincount(pieces[organ]).argmax())] = 0


def phantom(
    seed: int = 0, shape: tuple[int, int, int] = (192, 192, 96), spacing: tuple[float, float, float] | None = None
) -> Phantom:
    """A synthetic abdomen. shape: (X, Y, Z) voxels. spacing: mm; None fits the field of view (384 x 384 x 288 mm) in.

    Another seed is another patient; the same seed is the same patient at any shape.
    Raises ValueError for an impossible shape or spacing.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape {shape} is not three positive numbers of voxels")
    fitting = (FIELD_OF_VIEW[0] / shape[0], FIELD_OF_VIEW[1] / shape[1], FIELD_OF_VIEW[2] / shape[2])
    spacing = fitting if spacing is None else spacing
    if len(spacing) != 3 or not all(0 < length < np.inf for length in spacing):
        raise ValueError(f"spacing {spacing} is not three positive lengths in mm")
    p = Patient(np.random.default_rng(seed), shape, spacing)
    for draw in ANATOMY:
        draw(p)
    _largest_pieces(p.label)
    # CT noise: band-pass within a slice, as a reconstruction kernel leaves it, and strongest in the middle of the body.
    grain = p.rng.standard_normal(shape, dtype=np.float32)
    grain = ndimage.gaussian_filter(grain, (0.8, 0.8, 0)) - ndimage.gaussian_filter(grain, (2.2, 2.2, 0))
    image = ndimage.gaussian_filter(p.image, 0.45) + (18 + 0.28 * np.clip(p.cavity, -40, 70)) * grain
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [axis[0] for axis in p.axes]
    return Phantom(np.rint(np.clip(image, -1024, 3071)).astype(np.int16), p.label, affine, dict(LABELS))
