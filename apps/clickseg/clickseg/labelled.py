"""Labels as clients save them, each with names of its own: checked, and laid out as a data folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .clicks.wire import RESERVED
from .datasets import CaseFolder, case_id, files_by_case
from .images import read_grid, read_volume, write_mask
from .machine import present_values
from .methods.unet2d import plain_spelling

LEFT_OUT = 3  # segments of 3D Slicer that are no labels: the background, and scribbles of two kinds
LIST, FINAL = "datastore_v2.json", "labels/final"  # of a MONAI Label server's folder of studies

Put = Callable[[Path, Path], object]  # (a file, where it is to be as well)


@dataclass(frozen=True)
class LabelledImage:
    """An image with a final label. names: what the client that saved it said about its label, in its own form."""

    id: str
    image: Path
    label: Path
    names: Sequence[Mapping[str, Any]] = ()


def check_labelled(items: list[LabelledImage]) -> list[LabelledImage]:
    """These images, if one can learn from them.

    ValueError if there is none, if a label has another shape than its image, or a name that no label can have.
    """
    if not items:
        raise ValueError("there are no labels to train on: save the label of at least one image as final first")
    wrong = []
    for item in items:
        shapes = read_grid(item.image).shape, read_grid(item.label).shape
        if shapes[0] != shapes[1]:
            wrong.append(f"label {item.label.name} has shape {shapes[1]}, its image {item.image.name} {shapes[0]}")
        elif reserved := _reserved(item):
            wrong.append(
                f"the label of {item.id} has the name {', '.join(reserved)}, which means something else in a request, "
                "so that nobody could click with the model: give it another name and save the label again"
            )
    if wrong:
        raise ValueError("; ".join(wrong))
    return items


def _reserved(item: LabelledImage) -> list[str]:
    """The names of values in a label map that no label can have; it is read only if there may be any."""
    names = item.names if isinstance(item.names, Sequence) else ()
    if RESERVED.isdisjoint(str(said.get("name")) for said in names if isinstance(said, Mapping)):
        return []
    present = present_values(read_volume(item.label)[0])
    return sorted(RESERVED.intersection(value_names(present, names, {}).values()))


def read_studies(folder: Path | str) -> tuple[list[LabelledImage], list[str]]:
    """A server's folder of studies -> its images with a final label, and the ids of those that have none.

    Raises ValueError if it is none, for two images or two labels of one id, and for a list that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"no folder of studies at {folder}")
    images = files_by_case(folder)
    if not images:
        raise ValueError(f"{folder} holds no images: the folder that the server's --studies names is needed")
    labels = files_by_case(folder / FINAL) if (folder / FINAL).is_dir() else {}
    names = _saved_names(folder / LIST)
    labelled = [LabelledImage(id, images[id], labels[id], names.get(id, ())) for id in images if id in labels]
    return labelled, [id for id in images if id not in labels]


def _saved_names(path: Path) -> dict[str, Any]:
    """What was said of the final label of each image when it was saved, by the server's list."""
    if not path.exists():
        return {}
    try:
        objects = json.loads(path.read_text())["objects"]
        final = {id: item["labels"].get("final") or {} for id, item in objects.items()}
        return {id: (label.get("info") or {}).get("label_info") or () for id, label in final.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no list of a MONAI Label server: {error!r}") from error


def collect(
    items: Sequence[LabelledImage], folder: Path | str, known: Mapping[str, int], copy_images: bool = False
) -> dict[str, tuple[int, int]]:
    """A data folder of these images, for trainings elsewhere: label -> its value, and how many of the images have it.

    Label maps are copied, so that a training learns from what was saved by now; images are linked, or with
    `copy_images` copied. known: labels that keep their values; they are also what values without names mean. Nothing is
    left of a folder that could not be finished. Raises ValueError as `check_labelled`, and for a folder that holds
    something.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder} is there already: name a new folder")
    items = check_labelled(list(items))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        made = Path(temporary) / "data"
        bar = tqdm(items, desc="collecting", unit="image")
        values = write_data_folder(bar, made, known, known, shutil.copyfile if copy_images else link, shutil.copyfile)
        maps = [set(present_values(read_volume(case.label)[0])) for case in CaseFolder.read(made).cases]
        made.replace(folder)
    return {name: (value, sum(value in present for present in maps)) for name, value in values.items()}


def link(file: Path, place: Path) -> None:
    """A symbolic link to a file, wherever it lies."""
    place.symlink_to(file.resolve())


def write_data_folder(
    items: Iterable[LabelledImage],
    folder: Path,
    known: Mapping[str, int],
    served: Mapping[str, int],
    put_image: Put = link,
    put_label: Put = link,
) -> dict[str, int]:
    """Lay out imagesTr/, labelsTr/ and dataset.json; returns the labels, name -> value: `known` first, new ones after.

    Label maps are put there as they are, unless their values mean something else than the same value elsewhere.
    known: labels of the model that learns on. served: what a value means in a label map without names of its own.
    Names that are spelt alike, such as `Left_Kidney` and `left kidney`, are one label.
    """
    labels = dict(known)
    spelt = {plain_spelling(name) or name: value for name, value in reversed(labels.items())}
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for item in items:
        put_image(item.image, folder / "imagesTr" / f"{item.id}{file_suffix(item.image)}")
        values, grid = read_volume(item.label)
        present = present_values(values)
        table = np.arange(256, dtype=np.uint8)
        for value, name in value_names(present, item.names, served).items():
            spelling = plain_spelling(name) or name
            if spelling not in spelt:
                spelt[spelling] = labels[name] = max(labels.values(), default=0) + 1
            table[value] = labels.get(name, spelt[spelling])
        if all(table[value] == value for value in present):
            put_label(item.label, folder / "labelsTr" / f"{item.id}{file_suffix(item.label)}")
        else:
            write_mask(folder / "labelsTr" / f"{item.id}.nii.gz", table[values.astype(np.uint8)], grid)
    content = {"labels": {str(value): name for name, value in labels.items()}}
    (folder / "dataset.json").write_text(json.dumps(content, indent=2))
    return labels


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
        said = {_number(item) or place: str(item["name"]) for place, item in enumerate(named, start=1)}
    except (TypeError, ValueError) as error:
        raise ValueError(f"label_info must number its names by whole numbers, got {str(names)[:80]}") from error
    left_out = 1 in said and 0 < max(said) - len(said) <= LEFT_OUT and not any(item.get("color") for item in named)
    if max(present, default=0) <= len(said) and (left_out or not set(present) <= set(said)):
        said = dict(enumerate((said[index] for index in sorted(said)), start=1))
    if not said:
        said = {value: name for name, value in served.items()}
    return {value: said.get(value, f"label {value}") for value in present}


def _number(item: Mapping[str, Any]) -> int | None:
    """The value that a name belongs to: its `idx`, or its `id`; None if it has neither."""
    said = [item[key] for key in ("idx", "id") if item.get(key) is not None]
    return int(said[0]) if said else None


def file_suffix(path: Path) -> str:
    """The ending of a file's name, as long as that of an image may be: `.nii.gz`."""
    return path.name.removeprefix(case_id(path)) if case_id(path) else path.suffix
