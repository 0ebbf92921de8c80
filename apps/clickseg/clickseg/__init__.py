"""clickseg: click-based segmentation of medical images (the library; it never imports monailabel).

What people use most can be imported from here, and is loaded when it is first used: torch takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clicks import Click
    from .geometry import Grid
    from .sessions import Session, VolumeSession

__version__ = "0.1.0"
__all__ = ["Click", "Grid", "Session", "VolumeSession", "__version__"]

_HOMES = {"Click": "clicks", "Grid": "geometry", "Session": "sessions", "VolumeSession": "sessions"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
