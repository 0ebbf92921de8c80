"""A slice of an answer, as it is sent while the mouse moves and while an answer is on its way."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from clickseg.runs import encode_runs


class SliceRuns(BaseModel):
    """One axial slice, as runs of equal values."""

    axis: int = Field(description="the axis of the image's array that numbers axial slices")
    slice: int
    shape: tuple[int, int] = Field(description="of the slice: the other two axes, in the array's order")
    values: list[int] = Field(description="of the runs, row by row of `shape`: the last axis fastest")
    lengths: list[int] = Field(description="of the runs, in voxels; they add up to the size of the slice")


def as_runs(axis: int, number: int, plane: NDArray[np.uint8]) -> dict[str, Any]:
    """The fields of `SliceRuns` for slice `number` along an axis; plane: the other two axes, in array order."""
    values, lengths = encode_runs(plane)
    return {"axis": axis, "slice": number, "shape": plane.shape, "values": values, "lengths": lengths}
