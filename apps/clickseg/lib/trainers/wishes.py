"""What a client asks of a training: the server refuses what is wrong before it begins, and the training goes by it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monailabel.utils.others.generic import device_list, strtobool

from lib.devices import asked_device

GPUS = re.compile(r"all|\d+(,\d+)*")
LONGEST = 255  # bytes of a folder's name
OF_OTHERS = {"model", "client_id", "local_rank"}  # keys that clients and MONAI Label add to every request


@dataclasses.dataclass(frozen=True)
class Wishes:
    """The keys of a request, with their defaults.

    name: of the run's folder. pretrained: False: start from nothing. val_split: share of the images kept out of
    training and validated on afterwards, none that the start has learnt from. resume: continue the newest run of that
    name.
    """

    name: str = "train_01"
    max_epochs: int = 50
    device: str = dataclasses.field(default_factory=lambda: str(asked_device(None)))
    pretrained: bool = True
    val_split: float = 0.0
    multi_gpu: bool = True
    gpus: str = "all"
    resume: bool = False

    @classmethod
    def read(cls, request: Mapping[str, Any]) -> Wishes:
        """ValueError, saying what would be right, for a value that does not work, or a key that means nothing.

        A value that is null is the default's: OHIF sends it for a number whose field is empty.
        """
        if unknown := sorted(set(request) - set(_READERS) - OF_OTHERS):
            raise ValueError(f"a training has no {', '.join(unknown)[:80]}; it has {', '.join(_READERS)}")
        return cls(**{key: read(request[key]) for key, read in _READERS.items() if request.get(key) is not None})

    @classmethod
    def offered(cls) -> dict[str, Any]:
        """The keys with what clients offer: the defaults, and every device."""
        return {**dataclasses.asdict(cls()), "device": device_list()}


def finite(value: Any) -> float | None:
    """None for what is no finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _wrong(key: str, right: str, value: Any) -> ValueError:
    return ValueError(f"{key} must be {right}, not {json.dumps(value)[:40]}")


def _name(value: Any) -> str:
    """A run's folder lies beside others, whose names begin with a dot."""
    plain = isinstance(value, str) and value.isprintable() and Path(value).name == value and value[:1] not in ("", ".")
    if not plain or len(value.encode()) > LONGEST:
        raise _wrong("name", f"a plain name such as train_01, of {LONGEST} bytes at most", value)
    return value


def _epochs(value: Any) -> int:
    number = finite(value)
    if isinstance(value, bool) or number is None or number < 1 or not number.is_integer():
        raise _wrong("max_epochs", "a whole number from 1", value)
    return int(number)


def _share(value: Any) -> float:
    number = finite(value)
    if number is None or not 0 <= number < 1:
        raise _wrong("val_split", "a share of the images, from 0 to below 1", value)
    return number


def _gpus(value: Any) -> str:
    gpus = value or "all"
    if not isinstance(gpus, str) or not GPUS.fullmatch(gpus):
        raise _wrong("gpus", '"all" or numbers such as "0,1"', value)
    return gpus


def _switch(key: str) -> Callable[[Any], bool]:
    def read(value: Any) -> bool:
        try:
            return bool(strtobool(value))
        except (AttributeError, ValueError) as error:  # neither a bool nor a text
            raise _wrong(key, "true or false", value) from error

    return read


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "name": _name,
    "max_epochs": _epochs,
    "device": lambda value: str(asked_device(value)),
    "pretrained": _switch("pretrained"),
    "val_split": _share,
    "multi_gpu": _switch("multi_gpu"),
    "gpus": _gpus,
    "resume": _switch("resume"),
}
