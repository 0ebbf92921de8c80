"""The datastore's labels as a data folder that `clickseg train` understands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from clickseg.datasets import case_id
from clickseg.images import read_grid, read_volume, write_mask
from clickseg.machine import present_values

ABSENT = 0.2
LEFT_OUT = 3  # segments of 3D Slicer that are no labels: the background, and scribbles of two kinds


@dataclass(frozen=True)
class LabelledImage:
    """An image with a final label. names: what the client that saved it said about its label, in its own form."""

    id: str
    image: Path
    label: Path
    names: Sequence[Mapping[str, Any]] = ()


def labelled_images(datastore: Datastore) -> list[LabelledImage]:
    """Every image with a final label. ValueError if there is none, or if one has another shape than its image."""
    found = []
    for pair in datastore.datalist():
        image, label = Path(pair["image"]), Path(pair["label"])
        name = case_id(label) or label.stem
        info = datastore.get_label_info(name, DefaultLabelTag.FINAL) or {}
        found.append(LabelledImage(name, image, label, info.get("label_info") or ()))
    if not found:
        raise ValueError("there are no labels to train on: save the label of at least one image as final first")
    wrong = []
    for item in found:
        shapes = read_grid(item.image).shape, read_grid(item.label).shape
        if shapes[0] != shapes[1]:
            wrong.append(f"label {item.label.name} has shape {shapes[1]}, its image {item.image.name} {shapes[0]}")
    if wrong:
        raise ValueError("; ".join(wrong))
    return found


def write_data_folder(
    items: Sequence[LabelledImage], folder: Path, known: Mapping[str, int], served: Mapping[str, int]
) -> dict[str, int]:
    """Lay out imagesTr/, labelsTr/ and dataset.json; returns the labels, name -> value: `known` first, new ones after.

    Images are linked, and so are label maps, unless their values mean something else than the same value elsewhere.
    known: labels of the model that learns on. served: what a value means in a label map without names of its own.
    """
    labels = dict(known)
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for item in items:
        (folder / "imagesTr" / f"{item.id}{_suffix(item.image)}").symlink_to(item.image)
        values, grid = read_volume(item.label)
        present = present_values(values)
        table = np.arange(256, dtype=np.uint8)
        for value, name in value_names(present, item.names, served).items():
            table[value] = labels.setdefault(name, max(labels.values(), default=0) + 1)
        if all(table[value] == value for value in present):
            (folder / "labelsTr" / f"{item.id}{_suffix(item.label)}").symlink_to(item.label)
        else:
            write_mask(folder / "labelsTr" / f"{item.id}.nii.gz", table[values.astype(np.uint8)], grid)
    content = {"labels": {str(value): name for name, value in labels.items()}}
    (folder / "dataset.json").write_text(json.dumps(content, indent=2))
    return labels


def whole_studies(
    items: Sequence[LabelledImage], model: str, wanted: Mapping[str, int], served: Mapping[str, int]
) -> list[LabelledImage]:
    """Those that may teach a model which knows all of its labels (`wanted`) at once: nearly all of them are there.

    In the others what nobody has marked would be learnt as background. A share ABSENT of the labels may be missing, for
    not everybody has a gallbladder. Raises ValueError, saying how many there are at most, if none is left, and for a
    label that is none of `wanted`.
    """
    most, whole = 0, []
    for item in items:
        values, _ = read_volume(item.label)
        named = set(value_names(present_values(values), item.names, served).values())
        strange = sorted(named - set(wanted))
        if strange:
            raise ValueError(
                f"{model} knows {', '.join(wanted)} and cannot learn {', '.join(strange)} as well (study {item.id}): "
                "train a model of its own for that (clickseg train), or leave those labels out"
            )
        most = max(most, len(named))
        if len(wanted) - len(named) <= ABSENT * len(wanted):
            whole.append(item)
    if not whole:
        raise ValueError(
            f"{model} learns its {len(wanted)} labels together, and no study has more than {most} of them: what is "
            "not labelled there would be learnt as background. Label (nearly) all of them in one study at least"
        )
    return whole


def value_names(
    present: Sequence[int], names: Sequence[Mapping[str, Any]], served: Mapping[str, int]
) -> dict[int, str]:
    """What the values in a label map mean.

    names: [{"name": ..., "idx": value}, ...] as clients save it; those without a number are counted through, and what
    has the number 0 is the background. 3D Slicer numbers a segment by its place in its list, but exports the values
    1, 2, ... without the segments (background, scribbles) that it leaves out: when a value is no `idx` at all, or
    the numbers begin with 1 and leave some out, as many as it may, the names are counted through, too, if there are
    enough of them, unless one has a colour, which Slicer does not send. Values without a name become "label 7".

    Raises ValueError for names in another form, and for values that are none of 0 ... 255.
    """
    if not isinstance(names, Sequence) or not all(isinstance(item, Mapping) for item in names):
        raise ValueError(f'label_info must be a list of {{"name": ..., "idx": value}}, got {str(names)[:80]}')
    if any(not 0 < value < 256 for value in present):
        raise ValueError(f"a label map holds values {min(present)} ... {max(present)}; only 0 ... 255 are labels")
    try:
        named = [item for item in names if item.get("name") and _number(item) != 0]
        said = {_number(item, place): str(item["name"]) for place, item in enumerate(named, start=1)}
    except (TypeError, ValueError) as error:
        raise ValueError(f"label_info must number its names by whole numbers, got {str(names)[:80]}") from error
    left_out = 1 in said and 0 < max(said) - len(said) <= LEFT_OUT and not any(item.get("color") for item in named)
    if max(present, default=0) <= len(said) and (left_out or not set(present) <= set(said)):
        said = dict(enumerate((said[index] for index in sorted(said)), start=1))
    if not said:
        said = {value: name for name, value in served.items()}
    return {value: said.get(value, f"label {value}") for value in present}


def _number(item: Mapping[str, Any], place: int | None = None) -> int | None:
    """The value that a name belongs to: its `idx`, or its `id`, or else its place."""
    said = [item[key] for key in ("idx", "id") if item.get(key) is not None]
    return int(said[0]) if said else place


def _suffix(path: Path) -> str:
    return path.name.removeprefix(case_id(path)) if case_id(path) else path.suffix
