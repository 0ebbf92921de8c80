"""Sessions: an image is read once, encoded once, and every click after that costs what the network costs."""

from .cache import SessionCache
from .slices import Session
from .volume import VolumeSession

__all__ = ["Session", "SessionCache", "VolumeSession"]
