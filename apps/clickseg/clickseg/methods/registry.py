"""The methods, by name. A new one is a module and a line here."""

from . import unet2d
from .protocol import Method

METHODS: dict[str, Method] = {"unet2d": unet2d.METHOD}


def find_method(name: str) -> Method:
    """The method of that name; ValueError naming the known ones if there is none."""
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
    return METHODS[name]
