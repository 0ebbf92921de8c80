"""The datastore's labels: as they are at one moment, and those that a model can learn from."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from clickseg.datasets import case_id
from clickseg.files import digest
from clickseg.images import read_volume
from clickseg.labelled import LabelledImage, check_labelled, file_suffix, value_names
from clickseg.machine import present_values
from clickseg.methods.unet2d import plain_spelling

logger = logging.getLogger(__name__)

ABSENT = 0.2
LONGEST = 190  # bytes of a case's id; the files that trainings call after it have up to 61 more, of the 255 of a name


@runtime_checkable
class Held(Protocol):
    """A datastore that can be kept as it is: whoever saves waits for the end."""

    def held(self) -> AbstractContextManager[None]:
        """For as long as this lasts."""


def labelled_images(datastore: Datastore) -> list[LabelledImage]:
    """Every image with a final label.

    ValueError if there is none, if one has another shape than its image, or a name that no label can have.
    """
    return check_labelled(_listed(datastore))


def pinned_images(datastore: Datastore, folder: Path) -> list[LabelledImage]:
    """The same, with every label map in a new folder as it is now, beside the names that were saved with it.

    The last voxels are read minutes later. What is saved until then is another label map, maybe of other structures.
    """
    folder.mkdir(parents=True)
    pinned = (_pinned(datastore, item, folder) for item in _listed(datastore))
    return check_labelled([item for item in pinned if item])


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
            pin = folder / f"{case}{file_suffix(label)}"
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
    key = f"-{digest(image_id, 16)}"
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


def whole_studies(
    items: Sequence[LabelledImage], model: str, wanted: Mapping[str, int], served: Mapping[str, int]
) -> list[LabelledImage]:
    """Those that may teach a model which knows all of its labels (`wanted`) at once: nearly all of them are there.

    In the others what nobody has marked would be learnt as background. A share ABSENT of the labels may be missing, for
    not everybody has a gallbladder. Raises ValueError, saying how many there are at most, if none is left, and for a
    label that is none of `wanted`.
    """
    most, whole = 0, []
    spellings = {plain_spelling(name) for name in wanted}
    for item in items:
        values, _ = read_volume(item.label)
        named = {
            plain_spelling(name): name for name in value_names(present_values(values), item.names, served).values()
        }
        strange = sorted(name for spelling, name in named.items() if spelling not in spellings)
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
