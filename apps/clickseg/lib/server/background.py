"""What training and scoring, processes of their own beside the server, leave to those who click."""

from __future__ import annotations

import os
import sys

BACKGROUND_MODULE = "monailabel.interfaces.utils.app"  # that MONAI Label runs for a task in the background
NICENESS = 10  # at which a process gets about a tenth of a processor that another one wants


def give_way() -> None:
    """In such a process: let the server go first, wherever both want a processor. In any other it does nothing."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None and spec.name == BACKGROUND_MODULE and hasattr(os, "nice"):
        os.nice(NICENESS)
