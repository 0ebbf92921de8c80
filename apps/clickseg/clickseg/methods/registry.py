"""The methods, by name. A new one is a module and a line here."""

from . import automatic, deepedit, deepgrow, tis, unet2d
from .protocol import Method
from .tis_baselines import TIS_BASELINES

METHODS: dict[str, Method] = {"unet2d": unet2d.METHOD, "tis": tis.METHOD}

# Trained on the same data to be compared with; never served.
RIVALS: dict[str, Method] = {
    "automatic": automatic.METHOD,
    "deepgrow": deepgrow.METHOD,
    "deepedit": deepedit.METHOD,
}


def rivals_in(dimension: int) -> dict[str, Method]:
    """The rivals of methods of this dimension."""
    return {name: method for name, method in RIVALS.items() if method.recipe.dimension == dimension}


def dimension_of(name: str) -> int:
    """2 or 3: of a method, a rival or a baseline by name; 2 for a name that is none of them."""
    if name in TIS_BASELINES:
        return 3
    return (METHODS | RIVALS)[name].recipe.dimension if name in METHODS | RIVALS else 2


def find_method(name: str) -> Method:
    """The method or rival of that name; ValueError naming the known ones if there is none."""
    known = METHODS | RIVALS
    if name not in known:
        raise ValueError(f"unknown method {name!r}; known: {', '.join(known)}")
    return known[name]
