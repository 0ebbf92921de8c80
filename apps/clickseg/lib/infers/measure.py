"""Areas and volumes of a mask, for the reply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from clickseg.geometry import AxialSlices, Grid

from .pieces import pieces


def measure(
    mask: NDArray[np.uint8], grid: Grid, values: Mapping[str, int], positions: Iterable[Sequence[int]]
) -> dict[str, dict]:
    """Areas (mm2) in the clicked slices and volumes (ml) of the labels in a mask.

    mask: (X, Y, Z) label map on `grid`. values: label name -> voxel value. positions: clicked voxels.
    Returns {"area_mm2": {name: {slice number as text: area}}, "volume_ml": {name: volume}}; a slice is numbered along
    the array axis nearest to the patient's long axis.
    """
    slices = AxialSlices(grid)
    pixel_mm2 = slices.spacing[0] * slices.spacing[1]
    clicked = sorted({slices.locate(position)[0] for position in positions})
    longest = max(values.values(), default=0) + 1
    voxels = _counts(mask, longest)
    pixels = {number: _counts(slices.view(mask, number), longest) for number in clicked}
    return {
        "area_mm2": {
            name: {str(number): round(float(counts[value]) * pixel_mm2, 3) for number, counts in pixels.items()}
            for name, value in values.items()
        },
        "volume_ml": {
            name: round(float(voxels[value]) * pixel_mm2 * slices.slice_spacing / 1000, 4)
            for name, value in values.items()
        },
    }


def _counts(mask: NDArray[np.uint8], length: int) -> NDArray[np.int64]:
    """How many voxels hold each value, zero left out."""
    counts = np.zeros(length, np.int64)
    for piece, filled in pieces(mask):
        if filled:
            counts += np.bincount(piece[piece != 0], minlength=length)
    return counts
