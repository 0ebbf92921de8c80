"""Islands: what is found far from all else is no structure (docs/adr/0018), and clicks deny others (0017)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ..clicks import PADDING, most_probable
from ..clicks.users import euclidean_depth
from .regions import dilate

GAP = 6  # voxels: pieces that are nearer to each other may well be one organ, found in parts
CORE = 0.5  # of the greatest depth of an island: a click at less corrects its border
CRUMB = 0.1  # of an island's voxels: pieces of fewer are crumbs, which may lie near it


def without_strays(logits: Tensor, gap: int) -> Tensor:
    """Logits (B, C, X, Y, Z) without what lies apart from the largest part of all that is found.

    Pieces of whatever structures with no more than `gap` voxels between them, along each axis, are one part. In voxels
    of the others the background and the class that was found change places. It is the first step of nnU-Net's
    post-processing (Isensee 2021), but for the gap.
    """
    kept = logits
    for item, found in enumerate(most_probable(logits) > 0):
        parts, count = ndimage.label(dilate(found, gap // 2, gap - gap // 2).cpu().numpy())
        if count < 2:
            continue
        marked = parts * found.cpu().numpy()
        sizes = np.bincount(marked.ravel())
        sizes[0] = 0
        stray = torch.from_numpy((marked > 0) & (marked != sizes.argmax())).to(logits.device)
        kept = logits.clone() if kept is logits else kept
        apart = kept[item][:, stray]
        top, number = apart.max(0)
        apart.scatter_(0, number[None], apart[:1].clone())
        apart[0] = top
        kept[item][:, stray] = apart
    return kept


def without_denied(logits: Tensor, clicks: Tensor, least: float) -> Tensor:
    """Logits (B, C, X, Y, Z) in which voxels that clicks (B, N, 4) deny have their next likely class.

    least: the logit that their class is given.
    """
    refuted = logits
    for item, rows in enumerate(clicks):
        x, y, z, labels = rows[rows[:, -1] != PADDING].unbind(1)
        there = most_probable(logits[item, :, x, y, z][None])[0]
        if not bool(((there != 0) & (there != labels)).any()):
            continue  # spares a pass over the whole volume
        found = most_probable(logits[item][None])[0]
        denied = denied_islands(found, rows)
        if bool(denied.any()):
            refuted = logits.clone() if refuted is logits else refuted
            refuted[item][found[denied].long(), *denied.nonzero(as_tuple=True)] = least
    return refuted


def denied_islands(found: Tensor, clicks: Tensor) -> Tensor:
    """What clicks (N, 4) deny of a segmentation (X, Y, Z) of class numbers, in one volume: bool (X, Y, Z).

    An island is what hangs together of a class, through faces, far from all else of it but crumbs. A click of another
    class in its core denies the whole of it (one at its rim corrects a border), unless a click of that class is in it,
    or no piece as large is left of the class: a click in a hole of the liver is no click against the liver.
    """
    rows = clicks[clicks[:, -1] != PADDING].tolist()
    denied = torch.zeros_like(found, dtype=torch.bool)
    hit = [(tuple(place), int(found[tuple(place)]), label) for *place, label in rows]
    for wanted in sorted({there for _, there, label in hit if there not in (0, label)}):
        pieces, _ = ndimage.label((found == wanted).cpu().numpy())
        asserted = {int(pieces[place]) for place, there, label in hit if there == wanted == label}
        gone: set[int] = set()
        for place, there, label in hit:
            piece = int(pieces[place])
            if there == wanted != label and piece not in asserted | gone and _is_denied(pieces, place, gone):
                gone.add(piece)
        denied |= torch.from_numpy(np.isin(pieces, list(gone))).to(found.device)
    return denied


def _is_denied(pieces: NDArray[np.int32], place: tuple[int, ...], gone: set[int]) -> bool:
    """Whether a click says no to the whole piece that it hits, those in `gone` being denied before."""
    sizes, own = np.bincount(pieces.ravel()), int(pieces[place])
    size = sizes[own]
    sizes[[0, own, *gone]] = 0
    if sizes.max() < size:
        return False
    box = ndimage.find_objects(pieces, own)[own - 1]
    wide = tuple(slice(max(side.start - GAP, 0), side.stop + GAP) for side in box)
    piece = pieces[wide] == own
    near = dilate(torch.from_numpy(piece), GAP).numpy()
    if ((sizes >= CRUMB * size)[pieces[wide]] & near).any():
        return False
    depth = euclidean_depth(piece)
    at_click = depth[tuple(index - side.start for index, side in zip(place, wide, strict=True))]
    return bool(at_click >= CORE * depth.max())
