"""Islands that clicks deny: a click takes away the whole part of a class that it hits (docs/adr/0017)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ..clicks import PADDING, most_probable
from .regions import dilate

BRIDGE = 3  # voxels: parts less than twice as far from each other are one, an organ that was found in pieces
CORE = 0.5  # of the greatest depth of an island: a click at less corrects its border
REMAINDER = 0.1  # of an island's voxels: if no other island has as many, it may well be the organ


def without_denied(logits: Tensor, clicks: Tensor, least: float) -> Tensor:
    """Logits (C, X, Y, Z) of one volume in which voxels that clicks (N, 4) deny have their next likely class.

    least: the logit that their class is given.
    """
    found = most_probable(logits[None])[0]
    denied = denied_islands(found, clicks)
    if not bool(denied.any()):
        return logits
    refuted = logits.clone()
    refuted[found[denied].long(), *denied.nonzero(as_tuple=True)] = least
    return refuted


def denied_islands(found: Tensor, clicks: Tensor) -> Tensor:
    """What clicks (N, 4) deny of a segmentation (X, Y, Z) of class numbers, in one volume: bool (X, Y, Z).

    A click in the core of an island of another class denies the whole of it (one at its rim corrects a border), unless
    a click of that class is in it, or hardly any other island of the class is left: a click in a hole of the only liver
    is no click against the liver.
    """
    rows = clicks[clicks[:, -1] != PADDING].tolist()
    denied = torch.zeros_like(found, dtype=torch.bool)
    hit = [(tuple(place), int(found[tuple(place)]), label) for *place, label in rows]
    for wanted in sorted({there for _, there, label in hit if there not in (0, label)}):
        mask = found == wanted
        islands, _ = ndimage.label(dilate(mask, BRIDGE).cpu().numpy())
        islands *= mask.cpu().numpy()
        asserted = {islands[place] for place, there, label in hit if there == wanted == label}
        gone: set[int] = set()
        for place, there, label in hit:
            island = int(islands[place])
            if there == wanted != label and island not in asserted | gone and _is_denied(islands, place, gone):
                gone.add(island)
        denied |= torch.from_numpy(np.isin(islands, list(gone))).to(found.device)
    return denied


def _is_denied(islands: NDArray[np.int32], place: tuple[int, ...], gone: set[int]) -> bool:
    """Whether a click says no to all of its island, the others in `gone` being denied before."""
    sizes = np.bincount(islands.ravel())
    sizes[[0, *gone]] = 0
    own = int(islands[place])
    size, sizes[own] = sizes[own], 0
    if sizes.max() < REMAINDER * size:
        return False
    box = ndimage.find_objects(islands, own)[own - 1]
    depth = ndimage.distance_transform_edt(np.pad(islands[box] == own, 1))
    at_click = depth[tuple(index - side.start + 1 for index, side in zip(place, box, strict=True))]
    return bool(at_click >= CORE * depth.max())
