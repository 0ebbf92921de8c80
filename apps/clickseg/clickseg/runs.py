"""Label maps as runs of equal values: small enough to send while the mouse moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def encode_runs(labels: NDArray[np.integer]) -> tuple[list[int], list[int]]:
    """A label map of any shape -> the values and the lengths of its runs, last axis fastest."""
    flat = np.ascontiguousarray(labels).ravel()
    if not flat.size:
        return [], []
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return flat[starts].tolist(), np.diff(starts, append=flat.size).tolist()


def decode_runs(values: Sequence[int], lengths: Sequence[int], shape: Sequence[int]) -> NDArray[np.uint8]:
    """What `encode_runs` was given, as uint8. Raises ValueError for runs that do not fill the shape."""
    if len(values) != len(lengths) or sum(lengths) != int(np.prod(shape)):
        raise ValueError(f"{len(values)} values in runs of {sum(lengths)} voxels in all do not fill {tuple(shape)}")
    return np.repeat(np.asarray(values, np.uint8), lengths).reshape(tuple(shape))
