"""Client JSON <-> clicks: the only file that knows the keys that OHIF, 3D Slicer and scripts send with a click.

A one-structure model (type deepgrow) is sent

    {"foreground": [[i, j, k], ...], "background": [...], "label": name}

(OHIF leaves out `label`, and a `foreground` without points), and a model of named labels (type deepedit)

    {"background": [[i, j, k], ...], "<label name>": [...], ..., "label": the one being edited}

Points are voxel indices of the image in array-axis order; all clicks so far come with every request. Beside them
travel the wishes for the reply: `result_extension`, `result_dtype`, `result_compress`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .click import INSIDE, OUTSIDE, Click

Position = tuple[int, int, int]

FOREGROUND, BACKGROUND, LABEL = "foreground", "background", "label"

# What stands in a request beside the clicks, by whoever puts it there. A label of such a name could not be clicked, and
# its model not even be asked for the others: its clicks would be looked for where something else stands.
RESERVED = frozenset({
    BACKGROUND, LABEL, "frozen", "progress", "propagate", "result_dtype", "result_extension", "result_compress",
    "client_id", "reset_state", "restore_label_idx", "roi", "slice",  # 3D Slicer and OHIF
    "device", "image", "label_info", "label_tag", "model", "save_label", "session", "start", "timeout",  # the server
    "_id", "_image_id", "gpus", "images", "labels", "logging", "max_batch_size", "max_workers", "multi_gpu",  # batches
})  # fmt: skip

EXTENSIONS = (".nrrd", ".nii", ".nii.gz")
DTYPES = ("uint8", "uint16", "int16", "uint32", "int32", "float32", "float64")

_LARGEST_INDEX = 2**31


@dataclass(frozen=True)
class Reply:
    """How the client wants its mask: one of EXTENSIONS, one of DTYPES, and whether an .nrrd is to be compressed."""

    extension: str
    dtype: str
    compress: bool


def parse_structure(request: Mapping[str, Any]) -> list[Click]:
    """The clicks of a one-structure request, label 1 inside and 0 outside, in the order sent, foreground first.

    Raises ValueError, with a sentence for the user, if there is no click, one is not three whole numbers, or one
    stands under another name.
    """
    named = _named_clicks(request, (FOREGROUND, BACKGROUND))
    labels = {FOREGROUND: INSIDE, BACKGROUND: OUTSIDE}
    return [Click(position, labels[name]) for name, positions in named.items() for position in positions]


def parse_labels(request: Mapping[str, Any], labels: Sequence[str], needed: bool = True) -> dict[str, list[Position]]:
    """The clicks of a request with named labels: name -> positions, `background` among the names, empty ones left out.

    labels: the names that the model knows, with or without `background`. needed: whether no click at all is an error.
    Raises ValueError as `parse_structure` does.
    """
    names = (BACKGROUND, *(name for name in labels if name != BACKGROUND))
    return {name: positions for name, positions in _named_clicks(request, names, needed).items() if positions}


def dump_structure(clicks: Sequence[Click]) -> dict[str, list[list[int]]]:
    """The request that `parse_structure` reads these clicks from."""
    return {
        name: [list(click.position) for click in clicks if click.label == label]
        for name, label in ((FOREGROUND, INSIDE), (BACKGROUND, OUTSIDE))
    }


def dump_labels(clicks: Mapping[str, Sequence[Sequence[int]]]) -> dict[str, list[list[int]]]:
    """The request that `parse_labels` reads these clicks from."""
    return {BACKGROUND: [], **{name: [list(position) for position in positions] for name, positions in clicks.items()}}


def parse_frozen(request: Mapping[str, Any], labels: Sequence[str]) -> list[str]:
    """The names under `frozen` of labels that must not change: a list, or as text, JSON. ValueError for others."""
    value = request.get("frozen") or []
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"frozen is not JSON: {value[:80]!r}") from error
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"frozen must be a list of label names, got {str(value)[:80]!r}")
    unknown = sorted(set(value) - set(labels))
    if unknown:
        raise ValueError(f"frozen: unknown label {', '.join(unknown)}; this model knows {', '.join(labels)}")
    return list(value)


def parse_reach(request: Mapping[str, Any]) -> int:
    """How many slices on either side of a clicked one a mask may go on to (`propagate`): none, N, or with true all."""
    value: Any = request.get("propagate") or False
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = json.loads(value.lower())
    if isinstance(value, bool):
        return _LARGEST_INDEX if value else 0
    if not _is_index(value) or value < 0:
        raise ValueError(f"propagate must be true, false or a number of slices, got {str(value)[:80]!r}")
    return int(value)


def structure_name(request: Mapping[str, Any]) -> str:
    """What the user calls the structure of a one-structure request (3D Slicer says so); "foreground" if unsaid."""
    name = request.get(LABEL)
    return name if isinstance(name, str) and name else FOREGROUND


def parse_reply(request: Mapping[str, Any]) -> Reply:
    """How the mask is wanted; by default .nii.gz of uint8. Raises ValueError for what we do not write."""
    extension = request.get("result_extension") or ".nii.gz"
    extension = extension if str(extension).startswith(".") else f".{extension}"
    if extension not in EXTENSIONS:
        raise ValueError(f"result_extension {extension!r} is not written here; known: {', '.join(EXTENSIONS)}")
    dtype = request.get("result_dtype") or "uint8"
    if dtype not in DTYPES:
        raise ValueError(f"result_dtype {dtype!r} is not written here; known: {', '.join(DTYPES)}")
    return Reply(extension, dtype, request.get("result_compress") in (True, 1, "true", "True"))


def _named_clicks(request: Mapping[str, Any], names: Sequence[str], needed: bool = True) -> dict[str, list[Position]]:
    """The positions under each of `names`; refuses clicks under any other name, and if `needed` no clicks at all."""
    for name, value in request.items():
        if name not in names and _looks_like_points(value):
            raise ValueError(f"unknown label {name!r}; this model knows {', '.join(names)}")
    named = {name: _positions(name, request.get(name)) for name in names}
    if needed and not any(named.values()):
        raise ValueError(f"no clicks: at least one point [i, j, k] is needed under one of {', '.join(names)}")
    return named


def _looks_like_points(value: Any) -> bool:
    """A non-empty list of lists. (3D Slicer sends empty lists under the labels of all other models, too.)"""
    if isinstance(value, str) and value.lstrip().startswith("[["):
        return True
    return isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(item, list | tuple) for item in value)


def _positions(name: str, value: Any) -> list[Position]:
    if isinstance(value, str) and value:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the clicks of {name!r} are not JSON: {value[:80]!r}") from error
    if value is None or value == "":
        return []
    if not isinstance(value, list | tuple):
        raise ValueError(f"the clicks of {name!r} must be a list of points [i, j, k], got {str(value)[:80]!r}")
    return [_position(name, point) for point in value]


def _position(name: str, point: Any) -> Position:
    """Three whole numbers; 3.0 counts as whole, 3.5, NaN and true do not."""
    if not isinstance(point, list | tuple) or len(point) != 3 or not all(_is_index(value) for value in point):
        raise ValueError(f"click {str(point)[:80]} of {name!r} is not a voxel index: three whole numbers [i, j, k]")
    i, j, k = (int(value) for value in point)
    return i, j, k


def _is_index(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < _LARGEST_INDEX and value == int(value)  # NaN and infinity are not below it
