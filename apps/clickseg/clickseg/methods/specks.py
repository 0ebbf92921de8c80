"""Small pieces of an answer that nobody clicked on (docs/adr/0022)."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..clicks import INSIDE, OUTSIDE, most_probable

TOUCHING = np.ones((3, 3))  # pixels that share a corner hang together


def without_specks(logits: Tensor, clicks: Tensor, share: float) -> Tensor:
    """Logits (B, 2, H, W), outside and inside, without the specks of each slice.

    A speck is a piece of what is inside that holds no click inside and has fewer pixels than `share` of the largest
    piece that does. In its pixels outside and inside change places.

    Args:
        clicks: (B, N, 3), pixels of the grid of the logits; label 1 inside, 0 outside, -1 padding.
        share: 0 leaves all as it is.
    """
    kept = logits
    for item, found in enumerate((most_probable(logits) == INSIDE).cpu().numpy()):
        pieces, _ = ndimage.label(found, TOUCHING)
        rows, columns, labels = clicks[item].cpu().numpy().T
        clicked = pieces[rows[labels == INSIDE], columns[labels == INSIDE]]
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        is_speck = sizes < share * sizes[clicked].max(initial=0)
        is_speck[[0, *clicked]] = False
        if not is_speck.any():
            continue
        gone = torch.from_numpy(is_speck[pieces]).to(logits.device)
        kept = logits.clone() if kept is logits else kept
        kept[item][:, gone] = logits[item][[INSIDE, OUTSIDE]][:, gone]
    return kept
