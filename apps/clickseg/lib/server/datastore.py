"""A datastore that takes names for images, labels and tags, never paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from fastapi import HTTPException
from monailabel.datastore.local import LocalDatastore

AnyDatastore = TypeVar("AnyDatastore")


def only_plain_names(datastore: AnyDatastore) -> AnyDatastore:
    """The same datastore, refusing ids and tags that climb out of its folder: the stock ones are joined to paths.

    Datastores that are not folders with files (XNAT, DSA) are returned as they are.
    """
    if not isinstance(datastore, LocalDatastore):
        return datastore

    class PlainNames(type(datastore)):  # type: ignore[misc]
        def get_image_uri(self, image_id: str) -> str:
            return super().get_image_uri(_plain(image_id))

        def add_image(self, image_id: str, *rest: Any) -> str:
            return super().add_image(_plain(image_id), *rest)

        def save_label(self, image_id: str, label_filename: str, label_tag: str, *rest: Any, **more: Any) -> str:
            if not self.get_image_uri(image_id):
                raise HTTPException(status_code=404, detail=f"image {image_id!r} is not in the datastore")
            return super().save_label(image_id, label_filename, _plain(label_tag), *rest, **more)

        def get_label_uri(self, label_id: str, label_tag: str, *rest: Any, **more: Any) -> str:
            return super().get_label_uri(_plain(label_id), _plain(label_tag), *rest, **more)

    datastore.__class__ = PlainNames
    return datastore


def _plain(name: str) -> str:
    if name and (Path(name).name != name or name == ".."):
        raise HTTPException(status_code=404, detail=f"{str(name)!r} is not in the datastore: it is a path, not a name")
    return name
