"""Areas and volumes of a mask, for the reply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from clickseg.geometry import AxialSlices, Grid

from .pieces import pieces


def measure(
    mask: NDArray[np.uint8],
    grid: Grid,
    values: Mapping[str, int],
    positions: Iterable[Sequence[int]],
    planes: Iterable[int] | None = None,
) -> dict[str, dict]:
    """Areas (mm2) in the clicked slices and volumes (ml) of the labels in a mask.

    mask: (X, Y, Z) label map on `grid`. values: label name -> voxel value. positions: clicked voxels.
    planes: numbers along Z outside of which all is 0, where that is known.
    Returns {"area_mm2": {name: {slice number as text: area}}, "volume_ml": {name: volume}}; a slice is numbered along
    the array axis nearest to the patient's long axis.
    """
    slices = AxialSlices(grid)
    pixel_mm2 = slices.spacing[0] * slices.spacing[1]
    clicked = sorted({slices.locate(position)[0] for position in positions})
    voxels = _counts(mask, values, planes)
    pixels = {number: _counts(slices.view(mask, number), values) for number in clicked}
    return {
        "area_mm2": {
            name: {str(number): round(counts[name] * pixel_mm2, 3) for number, counts in pixels.items()}
            for name in values
        },
        "volume_ml": {name: round(voxels[name] * pixel_mm2 * slices.slice_spacing / 1000, 4) for name in values},
    }


def _counts(mask: NDArray[np.uint8], values: Mapping[str, int], planes: Iterable[int] | None = None) -> dict[str, int]:
    """How many voxels hold each value, by name."""
    filled = [piece for piece, filled in pieces(mask.T, planes) if filled]
    return {name: sum(int(np.count_nonzero(piece == value)) for piece in filled) for name, value in values.items()}
