"""The routes of saved labels, put before the stock ones of the same path."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, File, Form, HTTPException, Request, Response, UploadFile
from monailabel.config import settings
from monailabel.endpoints import datastore as stock_datastore
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.utils.app import app_instance

from .archived import ArchivedLabels
from .checks import same_label
from .datastore import FINAL, label_version
from .refusals import json_object, refusing, tidied
from .temporary import as_file

datastore_router = APIRouter(prefix=f"{settings.MONAI_LABEL_API_STR}/datastore", tags=["Datastore"])

# The stock routes are served by the event loop, one at a time, and rely on it: so do ours, in the thread pool.
SAVING = threading.Lock()


@datastore_router.put("/label", dependencies=[Depends(tidied)])
def save_label(
    background_tasks: BackgroundTasks,
    request: Request,
    response: Response,
    image: str,
    params: str = Form("{}"),
    tag: str = FINAL,
    *,
    label: Annotated[UploadFile, File()],
    user: Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))],
) -> dict:
    """As the stock route, but in the thread pool: that one stores in the event loop, where an archive takes seconds.

    A final label has a version, the ETag of the reply and of GET /clickseg/api/label. Sent as If-Match, it is the only
    one whose place is taken; with `If-None-Match: *` there may be none yet. Else the save is refused with 412, unless
    the label that is there is the one that is sent: whoever lost the answer to a save sends it again.
    """
    names = json_object(params).get("label_info")
    with SAVING:
        final, datastore = (tag or FINAL) == FINAL, app_instance().datastore()
        try:
            if final:
                _check_version(datastore, image, request.headers)
            saved = stock_datastore.save_label(background_tasks, image, params, tag, label, user.username)
        except Outdated:
            if not _is_stored(datastore, image, label, names):
                raise
            saved = {"image": image, "label": image}
        if final and (version := label_version(datastore, image)):
            response.headers["ETag"] = f'"{version}"'
    return saved


@datastore_router.delete("/label")
def remove_label(
    request: Request,
    id: str,
    tag: str,
    *,
    user: Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))],
) -> dict:
    """Remove a label. With If-Match, as in a save, a final one of another version is not removed, and that is a 412."""
    with SAVING:
        datastore = app_instance().datastore()
        if tag == FINAL and isinstance(datastore, ArchivedLabels):
            raise HTTPException(400, "the label is a segmentation in the DICOM archive, and stays there")
        if tag == FINAL and label_version(datastore, id):
            _check_version(datastore, id, request.headers)
        return stock_datastore.remove_label(id, tag, user.username)


class Outdated(HTTPException):
    """An image's final label is another one than the client says, who would take it away."""

    def __init__(self, image: str) -> None:
        super().__init__(412, f"The label of {image} was saved by somebody else since it was opened here.")


def _check_version(datastore: Datastore, image: str, headers: Mapping[str, str]) -> None:
    """Raise Outdated if an image's final label is another one than the client says."""
    match, none = headers.get("if-match"), headers.get("if-none-match") == "*"
    if match is None and not none:
        return
    with refusing():
        datastore.get_label_uri(image, FINAL)  # so that the copy here is that of the archive
    version = label_version(datastore, image)
    known = [part.strip().removeprefix("W/") for part in (match or "").split(",")]
    if (none and version) or (match is not None and (version is None or not {"*", f'"{version}"'} & set(known))):
        raise Outdated(image)


def _is_stored(datastore: Datastore, image: str, label: UploadFile, names: Any) -> bool:
    """Whether the final label of an image is this one, by its voxels and their names."""
    stored = datastore.get_label_uri(image, FINAL)
    if not stored:
        return False
    with refusing(), as_file(label, "".join(Path(label.filename or "").suffixes)) as sent:
        known = datastore.get_label_info(image, FINAL).get("label_info")
        return same_label(datastore.get_image_uri(image), (stored, known), (sent, names))
