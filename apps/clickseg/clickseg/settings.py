"""What may be set for the server by `--conf`: read by the app when it starts, and by the command before that."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence

from .methods import METHODS

CONF = ("models", "cache_gb", "upload_gb")  # the app's own (main.py)
CONF_OF_MONAI_LABEL = ("auth_token", "preload", "server_mode", "zoo_repo", "zoo_source")


def check_conf(pairs: Sequence[tuple[str, str]]) -> None:
    """ValueError for settings that the server would end at, half a minute after its start."""
    known = [*CONF, *CONF_OF_MONAI_LABEL]
    unknown = [name for name, _ in pairs if name not in known]
    if unknown:
        raise ValueError(f"--conf {unknown[0]}: there is no such setting; known: {', '.join(known)}")
    conf = dict(pairs)
    method_names(conf.get("models", "all"))
    cache_bytes(conf)
    upload_bytes(conf)


def method_names(text: str) -> list[str]:
    """Those of "all", or of a comma-separated list. ValueError for an unknown or empty one."""
    names = list(METHODS) if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        raise ValueError(
            f"--conf models {text}: unknown model {', '.join(unknown)!r}; known: all, {', '.join(METHODS)}"
        )
    return names


def cache_bytes(conf: Mapping[str, str]) -> int:
    """How much memory open images may take together, 0 for none that outlives its request. ValueError as `_bytes`."""
    return _bytes(conf, "cache_gb", "2")


def upload_bytes(conf: Mapping[str, str]) -> int:
    """How much may be added to the studies at once, over the page. ValueError as `_bytes`."""
    return _bytes(conf, "upload_gb", "4")


def _bytes(conf: Mapping[str, str], name: str, default: str) -> int:
    """A setting in GB (2^30 bytes). ValueError for what is no such number."""
    text = conf.get(name, default)
    with contextlib.suppress(ValueError):
        number = float(text)
        if number >= 0 and math.isfinite(number):
            return int(number * 2**30)
    raise ValueError(f"--conf {name} {text}: a number of gigabytes is needed, such as {default} or 0.5")
