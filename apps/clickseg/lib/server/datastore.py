"""A datastore that takes names and not paths, refuses what would spoil it, and is written by one at a time."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from fastapi import HTTPException
from filelock import FileLock
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from clickseg.files import file_digest, whole_file
from clickseg.images import file_identity, read_grid

from .checks import check_label, check_room, has_room, known, new_id, new_name, plain_name, same_image, with_head
from .empty import tell_if_empty
from .listing import Listed, check_said, listing
from .notes import IMAGE, belongs, identity, note, note_path, read_note
from .refusals import refusing

logger = logging.getLogger(__name__)

AnyDatastore = TypeVar("AnyDatastore")

FINAL = DefaultLabelTag.FINAL.value
HALF_WRITTEN = re.compile(r"\.(.+)\.\w{8}")  # as `whole_file` calls it until it is whole


class Careful(Listed):
    """Mixin before a LocalDatastore, with five things that the stock one lacks beside a list that is safe (`Listed`).

    Ids and tags that climb out of its folder are refused: they are joined to paths. So is what would spoil it: another
    image under a name that is taken, a final label that nobody could train on, words that its list cannot hold. What
    cannot be written, to a full disk or because of a kill, leaves what was there. And a label knows its image
    (`notes`): it has its names again when the image's file was away for a while, and goes to no other image of that
    name. An image that could not be read, or whose label could not be kept, is proposed to nobody.
    """

    _unreadable: dict[str, tuple[str, int, int]]  # images that could not be read, and which files they were then

    def get_image_uri(self, image_id: str) -> str:
        return super().get_image_uri(plain_name(image_id))

    def add_image(self, image_id: str, image_filename: str, image_info: Mapping[str, Any]) -> str:
        name = new_id(image_id or self._to_id(Path(image_filename).name)[0])
        check_said(image_info)
        with refusing():
            read_grid(image_filename)  # what is no image would fail at the first click
        with self._writing():
            there = Path(LocalDatastore.get_image_uri(self, name)) if name in self._datastore.objects else None
            if there is not None and there.is_file():
                if same_image(there, Path(image_filename)):
                    return name  # with its labels
                raise HTTPException(409, f"there is another image {name!r}: give this one a name of its own")
            return self._keep(name, Path(image_filename), image_info)

    def _keep(self, image_id: str, image: Path, said: Mapping[str, Any]) -> str:
        """Keep an image in the folder, whole or not at all: the stock method leaves half of it on a full disk."""
        ext = self._to_id(image.name)[1]
        file = Path(self._datastore.image_path()).resolve() / self._filename(image_id, ext)
        info = {**said, "ts": int(time.time()), "name": file.name}
        with FileLock(self._lock_file):
            with whole_file(file) as copy, image.open("rb") as source:
                shutil.copyfileobj(source, copy)
            self._datastore.objects[image_id] = ImageLabelModel(image=DataModel(info=info, ext=ext))
            self._update_datastore_file(lock=False)
        return image_id

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: Mapping[str, Any], *rest: Any
    ) -> str:
        uri = self.get_image_uri(image_id)
        if not uri:
            raise HTTPException(status_code=404, detail=f"image {image_id!r} is not in the datastore")
        tag, info = new_name(label_tag), dict(label_info or {})
        check_room(image_id)
        check_said(info)
        with with_head(uri, str(label_filename)) as file:
            if tag == FINAL:
                check_label(uri, file, info.get("label_info"))
                if isinstance(self, DICOMWebDatastore):  # takes seconds, and nobody else waits for them
                    return super().save_label(image_id, file, tag, info, *rest)
            with contextlib.suppress(OSError):
                identity(uri)  # of a large file it takes seconds, and is remembered: nobody else waits for them either
            return self._store(image_id, file, tag, info)

    def _store(self, image_id: str, label_filename: str, tag: str, info: Mapping[str, Any]) -> str:
        """Keep a label in the folder. Whenever this is killed, there is the label of before or this one."""
        folder, ext = Path(self._datastore.label_path(tag)), self._to_id(Path(label_filename).name)[1]
        file = folder / self._filename(image_id, ext)
        with self._writing():
            if image_id not in self._datastore.objects:
                raise HTTPException(404, f"image {image_id!r} is not in the datastore")
            labels = self._datastore.objects[image_id].labels
            of = {IMAGE: identity(LocalDatastore.get_image_uri(self, image_id))}
            said = {**info, **of, "ts": int(time.time()), "name": file.name}
            before = dict(labels)
            labels[tag] = DataModel(info=said, ext=ext)
            try:
                self._replace(file, Path(label_filename), said)
            except BaseException:
                labels.clear()
                labels.update(before)
                raise
            for old in self._files(folder, image_id):
                if old != file:
                    old.unlink()
                    note_path(old).unlink(missing_ok=True)
        return image_id

    def _replace(self, file: Path, content: Path, said: Mapping[str, Any]) -> None:
        """The file of a label, its note and the list take their places one after the other, once all are written."""
        with (
            FileLock(self._lock_file),
            whole_file(self._datastore_config_path) as listed,
            whole_file(note_path(file)) as beside,
            whole_file(file) as label,
            content.open("rb") as source,
        ):
            _put(listed, listing(self._datastore))
            _put(beside, note(content, said))
            shutil.copyfileobj(source, label)
        self._config_ts = Path(self._datastore_config_path).stat().st_mtime

    def _files(self, folder: Path, image_id: str) -> list[Path]:
        """The files of an image's label, and those that a kill has left half written."""
        names = {file: HALF_WRITTEN.sub(r"\1", file.name) for file in folder.iterdir() if file.is_file()}
        return [file for file, name in names.items() if self._to_id(name)[0] == image_id]

    def _add_non_existing_labels(self, tag: str) -> int:
        return super()._add_non_existing_labels(tag) + self._recall(tag)

    def _recall(self, tag: str) -> int:
        """Labels that were found again have their names again, or are left out if they are of another image.

        Returns how many of them there were. Those without a note were put there by hand, or by an earlier version.
        """
        found = 0
        for image_id, item in self._datastore.objects.items():
            image = Path(LocalDatastore.get_image_uri(self, image_id))
            if tag not in item.labels or IMAGE in item.labels[tag].info or not image.is_file():
                continue
            file = Path(self._datastore.label_path(tag), self._filename(image_id, item.labels[tag].ext))
            said = read_note(file)
            if said is None:
                continue
            found += 1
            if belongs(said[IMAGE], image):
                item.labels[tag].info = said
            else:
                logger.warning("%s is left out: it is the label of another image of that name", file)
                del item.labels[tag]
        return found

    def remove_image(self, image_id: str) -> None:
        with known():
            super().remove_image(image_id)
        self.refresh()

    def remove_label(self, label_id: str, label_tag: str) -> None:
        file = self.get_label_uri(label_id, label_tag)
        if not file:
            raise HTTPException(404, f"image {label_id!r} has no such label")
        super().remove_label(label_id, label_tag)
        note_path(file).unlink(missing_ok=True)
        self.refresh()  # the stock one leaves it to the watcher, and whoever asks before that is told of it still

    def get_unlabeled_images(self, *given: Any, **more: Any) -> list[str]:
        """As the stock method, without images that could not be read, as long as their files are the same.

        And without those whose labels could not be kept.
        """
        images: list[str] = super().get_unlabeled_images(*given, **more)
        return [image for image in images if has_room(image) and not self._still_unreadable(image)]

    def _still_unreadable(self, image_id: str) -> bool:
        if image_id not in self._unreadable:
            return False
        try:
            return file_identity(LocalDatastore.get_image_uri(self, image_id)) == self._unreadable[image_id]
        except ValueError:  # it has gone
            return False

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        check_said(info)
        with self._writing(), known():
            super().update_image_info(image_id, info)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        check_said(info)
        with self._writing(), known():
            super().update_label_info(label_id, label_tag, info)
            file = LocalDatastore.get_label_uri(self, label_id, label_tag)
            said = self.get_label_info(label_id, label_tag)
            if IMAGE in said:
                with whole_file(note_path(file)) as beside:
                    beside.write(note(file, said))

    def get_label_uri(self, label_id: str, label_tag: str, *rest: Any, **more: Any) -> str:
        return super().get_label_uri(plain_name(label_id), plain_name(label_tag), *rest, **more)


def careful(datastore: AnyDatastore) -> AnyDatastore:
    """The same datastore, `Careful`. Those that are not folders with files (XNAT, DSA) are returned as they are."""
    if isinstance(datastore, LocalDatastore):
        datastore._alone = threading.RLock()
        datastore._unreadable = {}
        datastore._left_out = set()
        datastore._together = FileLock(Path(datastore._datastore_path) / ".clickseg.lock")
        datastore.__class__ = type("CarefulDatastore", (Careful, type(datastore)), {})
        if handler := getattr(datastore, "_handler", None):  # watches the folder; files may come by a new name
            handler.on_created = handler.on_deleted = handler.on_moved = handler.on_modified = datastore._seen
        datastore.refresh()  # the stock one has looked already, and mistaken some names
        tell_if_empty(datastore)
    return datastore


def pass_over(datastore: Datastore, image: str) -> None:
    """Let an image of a folder that could not be read be proposed to nobody until its file is another one."""
    if isinstance(datastore, Careful):
        with contextlib.suppress(ValueError):  # it has gone
            datastore._unreadable[image] = file_identity(LocalDatastore.get_image_uri(datastore, image))


def label_version(datastore: Datastore, image: str) -> str | None:
    """Another text whenever the final label of an image is another one; None if there is none, or no way to tell.

    That of the local copy, which `get_label_uri` makes new: of a SEG its SeriesInstanceUID, else a digest of the file.
    """
    file = LocalDatastore.get_label_uri(datastore, image, FINAL) if isinstance(datastore, LocalDatastore) else ""
    if not Path(file).is_file():
        return None
    archived = LocalDatastore.get_label_info(datastore, image, FINAL).get("SeriesInstanceUID")
    return str(archived or file_digest(file)[:32])


def _put(file: BinaryIO, content: bytes) -> None:
    """Write it to the disk now, so that a full one is known before another file takes its place."""
    file.write(content)
    file.flush()
    os.fsync(file.fileno())
