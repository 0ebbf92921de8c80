"""What training and scoring, processes of their own beside the server, leave to those who click."""

from __future__ import annotations

import os
import sys

BACKGROUND_MODULE = "monailabel.interfaces.utils.app"  # that MONAI Label runs for a task in the background
NICENESS = 10  # at which a process gets about a tenth of a processor that another one wants


def in_background() -> bool:
    """Whether this is such a process, and not the server's."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name == BACKGROUND_MODULE


def give_way() -> None:
    """Let the server go first, wherever both want a processor."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
