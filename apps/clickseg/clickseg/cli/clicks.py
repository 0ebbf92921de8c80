"""`--click x,y,z[:label]`, as `predict` and `preview` take it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds to import: help and mistakes are answered without it
    from ..geometry import Grid

FOREGROUND = "foreground"
STRUCTURE = {"background": 0, FOREGROUND: 1}


def add_click(parser: argparse.ArgumentParser, required: bool = True, more: str = "") -> None:
    """The option --click. more: what its help ends with."""
    parser.add_argument(
        "--click",
        action="append",
        required=required,
        metavar="x,y,z[:label]",
        help="a voxel, and foreground (default), background or a label of the model, by its name or value; 0 and 1 are "
        f"background and foreground where no click has a label of the model; may be given several times{more}",
    )


def have_labels(texts: Iterable[str], values: Mapping[str, int]) -> bool:
    """Whether a click has a label of the model, by its name or value; 0 and 1 alone are background and foreground."""
    known = {*values, *map(str, values.values())} - {str(value) for value in STRUCTURE.values()}
    return any(text.partition(":")[2] in known for text in texts)


def named_clicks(
    texts: Iterable[str], values: Mapping[str, int], ras: Grid | None = None, others: Mapping[str, int] | None = None
) -> dict[str, list[list[int]]]:
    """Clicks by name, in the form of a request (`clicks.wire`).

    values: names that a click may have -> the values that may stand for them. ras: the image's grid, if clicks are RAS
    mm, which go to the nearest voxel. others: what the model would know beside them, for the message alone.
    Raises ValueError for a click that is not of the form, or has another label.
    """
    named: dict[str, list[list[int]]] = {}
    for text in texts:
        position, _, label = text.partition(":")
        named.setdefault(_name(text, label, values, others or {}), []).append(_voxel(text, position, ras))
    return named


def _name(text: str, label: str, values: Mapping[str, int], others: Mapping[str, int]) -> str:
    names = {**{str(value): name for name, value in values.items()}, **{name: name for name in values}}
    if not label and FOREGROUND in values:
        return FOREGROUND
    if label not in names:
        known = ", ".join(f"{name} ({value})" for name, value in [*values.items(), *others.items()])
        raise ValueError(
            f"click {text!r} has {f'the unknown label {label!r}' if label else 'no label'}; known: {known}"
        )
    return names[label]


def _voxel(text: str, position: str, ras: Grid | None) -> list[int]:
    try:
        numbers = [float(number) for number in position.split(",")]
    except ValueError as error:
        raise ValueError(f"click {text!r} is not of the form x,y,z or x,y,z:label") from error
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"click {text!r} needs three finite numbers x,y,z")
    if ras is not None:
        return [round(index) for index in ras.from_ras([numbers])[0]]
    if any(number != int(number) for number in numbers):
        raise ValueError(f"click {text!r}: voxel indices are whole numbers")
    return [int(number) for number in numbers]
