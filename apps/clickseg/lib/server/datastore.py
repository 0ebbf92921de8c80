"""A datastore that takes names and not paths, refuses what would spoil it, and is written by one at a time."""

from __future__ import annotations

import contextlib
import filecmp
import json
import math
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from fastapi import HTTPException
from filelock import FileLock
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import DefaultLabelTag

from clickseg.files import whole_file
from clickseg.images import read_grid, read_label, read_volume, write_mask
from lib.trainers.labels import value_names

from .refusals import refusing

AnyDatastore = TypeVar("AnyDatastore")

FINAL = DefaultLabelTag.FINAL
RAW = ".bin"  # a label map as OHIF may send it: voxels without a head


class Careful:
    """Mixin before a LocalDatastore, with four things that the stock one lacks.

    Ids and tags that climb out of its folder are refused: they are joined to paths. So is what would spoil it: another
    image under a name that is taken, a final label that nobody could train on. Whoever writes, in this process or
    another (images are scored in one), has the newest state of the datastore before and is alone with it. And what
    cannot be written, to a full disk for instance, leaves what was there.
    """

    _alone: threading.RLock  # among threads
    _together: FileLock  # among processes

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._alone, self._together:
            self._init_from_datastore_file()  # what other processes have written
            yield

    def _update_datastore_file(self, lock: bool = True) -> None:
        with FileLock(self._lock_file) if lock else contextlib.nullcontext():
            with whole_file(self._datastore_config_path) as file:
                content = self._datastore.model_dump(exclude={"base_path"})
                file.write(json.dumps(content, indent=2, default=str).encode())
            self._config_ts = Path(self._datastore_config_path).stat().st_mtime

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
        with contextlib.ExitStack() as stack:
            if _plain(label_tag) == FINAL:
                info = rest[0] if rest else more.get("label_info") or {}
                label_filename = stack.enter_context(_with_head(uri, str(label_filename)))
                _check_label(uri, label_filename, info.get("label_info"))
            stack.enter_context(self._writing())
            stack.enter_context(self._replacing(image_id, label_tag))
            return super().save_label(image_id, label_filename, label_tag, *rest, **more)

    @contextlib.contextmanager
    def _replacing(self, image_id: str, tag: str) -> Iterator[None]:
        """The label's file gives way to what is saved meanwhile, be it of another format; if that fails, it stays."""
        folder = Path(self._datastore.label_path(tag))
        with tempfile.TemporaryDirectory(prefix=".before-", dir=self._datastore_path) as before:
            old = [Path(shutil.copy2(file, before)) for file in self._files(folder, image_id)]
            try:
                yield
            except BaseException:
                for file in self._files(folder, image_id):
                    file.unlink()
                for file in old:
                    file.replace(folder / file.name)
                raise
            saved = self._datastore.objects[image_id].labels[tag].ext
            for file in self._files(folder, image_id):
                if file.name != self._filename(image_id, saved):
                    file.unlink()

    def _files(self, folder: Path, image_id: str) -> list[Path]:
        """The files of an image's label."""
        files = folder.iterdir() if folder.is_dir() else ()
        return [file for file in files if file.is_file() and self._to_id(file.name)[0] == image_id]

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
        if hasattr(datastore, "_handler"):  # watches the folder, and does not know that a whole file takes its place
            datastore._handler.on_moved = lambda event: datastore._init_from_datastore_file()
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
        present = [int(value) for value in np.unique(read_label(label, read_grid(image))) if value]
        value_names(present, names or (), {})


@contextlib.contextmanager
def _with_head(image: str, label: str) -> Iterator[str]:
    """A label map that is voxels alone as a file that says where they lie, for as long as this lasts.

    HTTPException 400 if there are more of them, or fewer, than the image has.
    """
    if not label.endswith(RAW):
        yield label
        return
    with tempfile.TemporaryDirectory(prefix="clickseg-label-") as folder:
        path = Path(folder) / "label.nii.gz"
        with refusing():
            grid, voxels = read_grid(image), np.fromfile(label, np.uint8)
            if voxels.size != math.prod(grid.shape):
                raise ValueError(f"the label map has {voxels.size} voxels of one byte, its image {grid.shape}")
            write_mask(path, voxels.reshape(grid.shape, order="F"), grid)
        yield str(path)
