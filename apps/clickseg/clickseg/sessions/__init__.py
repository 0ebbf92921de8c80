"""Sessions: an image is read once, encoded once, and every click after that costs what the network costs."""

from .cache import SessionCache
from .slices import Session
from .turns import compute_in_one_thread
from .volume import VolumeSession

__all__ = ["Session", "SessionCache", "VolumeSession", "compute_in_one_thread"]
