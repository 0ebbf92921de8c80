"""The models that this app serves. A new one is a module and a line here."""

import contextlib
import math

from . import tis, unet2d
from .base import ServedModel

CONFIGS: dict[str, tuple[ServedModel, ...]] = {"unet2d": unet2d.MODELS, "tis": tis.MODELS}

__all__ = ["CONFIGS", "ServedModel", "cache_bytes", "select"]


def select(names: str) -> list[ServedModel]:
    """The models of "all", or of a comma-separated list of keys of CONFIGS. ValueError for an unknown or empty one."""
    keys = list(CONFIGS) if names == "all" else [name.strip() for name in names.split(",") if name.strip()]
    unknown = [key for key in keys if key not in CONFIGS]
    if unknown or not keys:
        raise ValueError(
            f"--conf models {names}: unknown model {', '.join(unknown)!r}; known: all, {', '.join(CONFIGS)}"
        )
    models = [model for key in keys for model in CONFIGS[key]]
    if not models:
        raise ValueError(f"--conf models {names}: there are no weights of that kind yet")
    return models


def cache_bytes(gigabytes: str) -> int:
    """How much memory open images may take together: GB (2^30 bytes) as text, 0 for none that outlives its request.

    ValueError for what is no such number.
    """
    with contextlib.suppress(ValueError):
        number = float(gigabytes)
        if number >= 0 and math.isfinite(number):
            return int(number * 2**30)
    raise ValueError(f"--conf cache_gb {gigabytes}: a number of gigabytes is needed, such as 2 or 0.5")
