"""A datastore that takes names and not paths, refuses what would spoil it, and is written by one at a time."""

from __future__ import annotations

import contextlib
import filecmp
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from fastapi import HTTPException
from filelock import FileLock
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import DefaultLabelTag

from clickseg.images import read_grid, read_label, read_volume
from lib.trainers.labels import value_names

from .refusals import refusing

AnyDatastore = TypeVar("AnyDatastore")

FINAL = DefaultLabelTag.FINAL
RAW = ".bin"  # a label map as OHIF may send it: voxels without a head


class Careful:
    """Mixin before a LocalDatastore, with three things that the stock one lacks.

    Ids and tags that climb out of its folder are refused: they are joined to paths. So is what would spoil it: another
    image under a name that is taken, a final label that nobody could train on. And whoever writes, in this process or
    another (images are scored in one), has the newest state of the datastore before and is alone with it.
    """

    _alone: threading.RLock  # among threads
    _together: FileLock  # among processes

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._alone, self._together:
            self._init_from_datastore_file()  # what other processes have written
            yield

    def refresh(self) -> None:
        with self._writing():
            super().refresh()

    def get_image_uri(self, image_id: str) -> str:
        return super().get_image_uri(_plain(image_id))

    def add_image(self, image_id: str, image_filename: str, image_info: Mapping[str, Any]) -> str:
        name = _plain(image_id) or self._to_id(Path(image_filename).name)[0]
        with self._writing():
            there = Path(LocalDatastore.get_image_uri(self, name)) if name in self._datastore.objects else None
            if there is not None and there.is_file():
                if _same_image(there, Path(image_filename)):
                    return name  # with its labels
                raise HTTPException(409, f"there is another image {name!r}: give this one a name of its own")
            return super().add_image(name, image_filename, dict(image_info))

    def save_label(self, image_id: str, label_filename: str, label_tag: str, *rest: Any, **more: Any) -> str:
        uri = self.get_image_uri(image_id)
        if not uri:
            raise HTTPException(status_code=404, detail=f"image {image_id!r} is not in the datastore")
        if _plain(label_tag) == FINAL:
            info = rest[0] if rest else more.get("label_info") or {}
            _check_label(uri, str(label_filename), info.get("label_info"))
        with self._writing():
            return super().save_label(image_id, label_filename, label_tag, *rest, **more)

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        with self._writing():
            super().update_image_info(image_id, info)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        with self._writing():
            super().update_label_info(label_id, label_tag, info)

    def get_label_uri(self, label_id: str, label_tag: str, *rest: Any, **more: Any) -> str:
        return super().get_label_uri(_plain(label_id), _plain(label_tag), *rest, **more)


def careful(datastore: AnyDatastore) -> AnyDatastore:
    """The same datastore, `Careful`. Those that are not folders with files (XNAT, DSA) are returned as they are."""
    if isinstance(datastore, LocalDatastore):
        datastore._alone = threading.RLock()
        datastore._together = FileLock(Path(datastore._datastore_path) / ".clickseg.lock")
        datastore.__class__ = type("CarefulDatastore", (Careful, type(datastore)), {})
    return datastore


def _plain(name: str) -> str:
    if name and (Path(name).name != name or name == ".."):
        raise HTTPException(status_code=404, detail=f"{str(name)!r} is not in the datastore: it is a path, not a name")
    return name


def _same_image(one: Path, other: Path) -> bool:
    """Whether two files hold the same voxels in the same place."""
    if filecmp.cmp(one, other, shallow=False):
        return True
    try:
        (voxels, grid), (others, elsewhere) = read_volume(one), read_volume(other)
    except ValueError:
        return False
    return grid.shape == elsewhere.shape and grid.coincides(elsewhere) and np.array_equal(voxels, others)


def _check_label(image: str, label: str, names: Any) -> None:
    """HTTPException 400 for a label map that does not fit its image, or names of its values that are no such list."""
    with refusing():
        present: list[int] = []
        if not label.endswith(RAW):
            present = [int(value) for value in np.unique(read_label(label, read_grid(image))) if value]
        value_names(present, names or (), {})
