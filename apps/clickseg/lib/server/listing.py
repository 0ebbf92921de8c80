"""The list of a folder's images and labels, on the disk: written by one at a time, and so that it can be read again."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from filelock import FileLock
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastoreModel
from watchdog.events import FileSystemEvent

from clickseg.files import whole_file

from .checks import is_text

logger = logging.getLogger(__name__)


def listing(datastore: LocalDatastoreModel) -> bytes:
    """A list as it is on the disk. HTTPException 400 if it could not be read again.

    It is read by a stricter reader than requests are, and the server does not start without it.
    """
    try:
        content = json.dumps(datastore.model_dump(exclude={"base_path"}), indent=2, default=str).encode()
        LocalDatastoreModel.model_validate_json(content)
    except (ValueError, RecursionError) as error:
        raise HTTPException(
            400,
            "what is said of the image or the label cannot be kept: texts must be whole (no half of a surrogate pair), "
            "numbers shorter than 4,300 digits, and lists lie in one another some 190 times at most",
        ) from error
    return content


def check_said(info: Mapping[str, Any]) -> None:
    """HTTPException 400 for what is said of an image or a label and would spoil the list."""
    item = ImageLabelModel(image=DataModel(), labels={"": DataModel(info=dict(info))})
    listing(LocalDatastoreModel(name="", description="", objects={"": item}))


class Listed:
    """Mixin before a LocalDatastore, whose list is never torn, out of date or unreadable.

    Whoever writes it, in this process or another (images are scored in one), has the newest state before and is alone
    with it. Files are listed by their names without the ending; those that can have no place in it are left out.
    """

    _alone: threading.RLock  # among threads
    _together: FileLock  # among processes
    _left_out: set[str]  # files that are no image of the list

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._alone, self._together:
            self._init_from_datastore_file()  # what other processes have written
            yield

    def held(self) -> contextlib.AbstractContextManager[None]:
        """The datastore as it is now and stays for as long as this lasts: everybody who saves waits for the end."""
        return self._writing()

    def _update_datastore_file(self, lock: bool = True) -> None:
        with FileLock(self._lock_file) if lock else contextlib.nullcontext():
            with whole_file(self._datastore_config_path) as file:
                file.write(listing(self._datastore))
            self._config_ts = Path(self._datastore_config_path).stat().st_mtime

    def refresh(self) -> None:
        with self._writing():
            super().refresh()

    def _seen(self, event: FileSystemEvent) -> None:
        """Something has happened in the folder, which is watched.

        What fails is tried again at the next event: an exception would end the watching thread, for good and unseen.
        """
        listed = self._datastore_config_path in (event.src_path, event.dest_path)
        try:
            if listed:
                self._init_from_datastore_file()
            elif event.event_type != "modified":
                self.refresh()
        except Exception as error:  # a full disk, a share that is away for a moment
            logger.warning("the folder of studies was not read again: %s", error)

    def _to_id(self, file: str) -> tuple[str, str]:
        """As the stock method, which cuts the ending out of the middle of a name, too: x.nii.gz.nii.gz is no x."""
        ext = super()._to_id(file)[1]
        return file.removesuffix(ext), ext

    def _list_files(self, path: str, patterns: Sequence[str]) -> dict[str, str]:
        """As the stock method, without names that are no text: a list that holds one cannot be read again."""
        return {name: file for name, file in super()._list_files(path, patterns).items() if is_text(name)}

    def _remove_non_existing(self) -> int:
        removed: int = super()._remove_non_existing()
        odd = [image_id for image_id in self._datastore.objects if not is_text(image_id)]  # the stock one lists them
        for image_id in odd:
            del self._datastore.objects[image_id]
        return removed + len(odd)

    def _add_non_existing_images(self) -> int:
        added: int = super()._add_non_existing_images()
        self._tell_left_out()
        return added

    def _tell_left_out(self) -> None:
        """Ids are names without .nii and .nii.gz: of two files that differ in that alone one is listed."""
        there = set(super()._list_files(self._datastore.image_path(), self._extensions))
        listed = {self._filename(image_id, item.image.ext) for image_id, item in self._datastore.objects.items()}
        before, self._left_out = self._left_out, there - listed
        for name in sorted(self._left_out - before):
            image_id = self._to_id(name)[0]
            if not is_text(name):
                logger.warning("%a is left out: its name is not written in UTF-8, rename it", name)
            elif image_id in self._datastore.objects:  # or it has come this moment
                other = self._filename(image_id, self._datastore.objects[image_id].image.ext)
                logger.warning("%s is left out: the image %r is %s, rename one of them", name, image_id, other)
