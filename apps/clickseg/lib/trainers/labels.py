"""The datastore's labels as a data folder that `clickseg train` understands."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from clickseg.clicks.wire import RESERVED
from clickseg.datasets import case_id
from clickseg.images import read_grid, read_volume, write_mask
from clickseg.machine import present_values

logger = logging.getLogger(__name__)

ABSENT = 0.2
LONGEST = 190  # bytes of a case's id; the files that trainings call after it have up to 61 more, of the 255 of a name
LEFT_OUT = 3  # segments of 3D Slicer that are no labels: the background, and scribbles of two kinds


@dataclass(frozen=True)
class LabelledImage:
    """An image with a final label. names: what the client that saved it said about its label, in its own form."""

    id: str
    image: Path
    label: Path
    names: Sequence[Mapping[str, Any]] = ()


@runtime_checkable
class Held(Protocol):
    """A datastore that can be kept as it is: whoever saves waits for the end."""

    def held(self) -> AbstractContextManager[None]:
        """For as long as this lasts."""


def labelled_images(datastore: Datastore) -> list[LabelledImage]:
    """Every image with a final label.

    ValueError if there is none, if one has another shape than its image, or a name that no label can have.
    """
    return _checked(_listed(datastore))


def pinned_images(datastore: Datastore, folder: Path) -> list[LabelledImage]:
    """The same, with every label map in a new folder as it is now, beside the names that were saved with it.

    The last voxels are read minutes later. What is saved until then is another label map, maybe of other structures.
    """
    folder.mkdir(parents=True)
    pinned = (_pinned(datastore, item, folder) for item in _listed(datastore))
    return _checked([item for item in pinned if item])


def _listed(datastore: Datastore) -> list[LabelledImage]:
    found = []
    for pair in datastore.datalist():
        image, label = Path(pair["image"]), Path(pair["label"])
        name = case_id(label) or label.stem
        found.append(LabelledImage(name, image, label, _names(datastore, name)))
    return found


def _names(datastore: Datastore, image_id: str) -> Sequence[Mapping[str, Any]]:
    return (datastore.get_label_info(image_id, DefaultLabelTag.FINAL) or {}).get("label_info") or ()


def _pinned(datastore: Datastore, item: LabelledImage, folder: Path) -> LabelledImage | None:
    """An image with its label of this moment, which lies in `folder`; None if it has none any more.

    A save puts another file in a label's place: a link, or whoever has opened it, keeps the one of before.
    """
    with contextlib.ExitStack() as opened:
        with datastore.held() if isinstance(datastore, Held) else contextlib.nullcontext():
            label, names = _label(datastore, item), _names(datastore, item.id)
            if not label.exists():
                logger.warning("the label of %s was removed this moment, and is not trained on", item.id)
                return None
            case = _case(item.id)
            pin = folder / f"{case}{_suffix(label)}"
            source = None if _linked(label, pin) else opened.enter_context(label.open("rb"))
        if source:  # copied when nobody waits for it any more
            with pin.open("xb") as copy:
                shutil.copyfileobj(source, copy)
            stats = os.fstat(source.fileno())  # a run that is resumed knows by them what it has prepared
            os.utime(pin, ns=(stats.st_atime_ns, stats.st_mtime_ns))
    return LabelledImage(case, item.image, pin, names)


def _case(image_id: str) -> str:
    """What trainings call an image: its id, or where that is too long its beginning and a digest of it."""
    name = image_id.encode()
    if len(name) <= LONGEST:
        return image_id
    key = f"-{hashlib.sha256(name).hexdigest()[:16]}"
    return name[: LONGEST - len(key)].decode(errors="ignore") + key


def _label(datastore: Datastore, item: LabelledImage) -> Path:
    """Where an image's label lies now; it may have come in another format since it was listed."""
    if not isinstance(datastore, LocalDatastore):
        return item.label
    return Path(LocalDatastore.get_label_uri(datastore, item.id, DefaultLabelTag.FINAL) or item.label)


def _linked(file: Path, name: Path) -> bool:
    """Give a file a further name, if the disks allow it."""
    try:
        os.link(file, name)
    except OSError:  # it lies on another disk, or on one without links
        return False
    return True


def _checked(items: list[LabelledImage]) -> list[LabelledImage]:
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
