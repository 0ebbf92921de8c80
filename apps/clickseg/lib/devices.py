"""The device that a client asks for."""

from __future__ import annotations

from typing import Any

import torch
from monailabel.utils.others.generic import name_to_device

from clickseg.machine import pick_device


def asked_device(asked: Any) -> torch.device:
    """By its name or, as /info lists them, several, of which the first is meant; None: a GPU if there is one.

    ValueError for anything else, and for a device that is not there.
    """
    if asked and not (isinstance(asked, str) or (isinstance(asked, list) and isinstance(asked[0], str))):
        raise ValueError(f"device must be a name such as cpu or cuda, not {asked!r}")
    return pick_device(name_to_device(asked))
