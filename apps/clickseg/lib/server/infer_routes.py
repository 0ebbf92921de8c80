"""The routes of clicks, put before the stock ones of the same path."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from fastapi import APIRouter, BackgroundTasks, Depends, Form, HTTPException, Response, UploadFile
from fastapi.responses import FileResponse
from monailabel.config import settings
from monailabel.endpoints import infer as stock_infer
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import remove_file

from .archived import ArchivedLabels
from .careful import START, UPLOAD, label_names
from .refusals import json_object, refusing
from .segmentations import write_segmentation
from .temporary import as_file

infer_router = APIRouter(
    prefix=f"{settings.MONAI_LABEL_API_STR}/infer",
    tags=["Infer"],
    dependencies=[Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))],
)

LABEL_FILES = (".nii.gz", ".nii", ".nrrd")


@infer_router.post("/{model}", response_model=None)
def infer(
    background_tasks: BackgroundTasks,
    model: str,
    image: str = "",
    session_id: str = "",
    params: str = Form("{}"),
    file: UploadFile | None = None,
    label: UploadFile | None = None,
    output: stock_infer.ResultType | None = None,
) -> Response | dict:
    """As the stock route, but in the thread pool: that one computes in the event loop, and nobody else is answered.

    What the stock route answers with a 500 although the request is to blame is a 400 with a sentence. `label` is a
    label map on the image's grid, with the values of the model's labels, that is to be corrected.
    """
    if file or not (image or session_id):
        sent = f"an image cannot be sent along: {UPLOAD}, and" if file else "no image is named:"
        raise HTTPException(400, f"{sent} give image=<id> or session_id=<id>")
    content = json_object(params)
    with _start_from(label):
        request = {"model": model, "image": image, **content}
        if output == "dicom_seg":
            return _segmentation(background_tasks, {**content, "model": model, "image": image})
        # The stock route's own function asks for all of /info first, and so an archive for all its segmentations.
        app = app_instance()
        if session_id and (session := app.sessions().get_session(session_id)):
            request |= {"image": session.image, "session": session.to_json()}
        return stock_infer.send_response(app.datastore(), app.infer(request), output, background_tasks)


def _segmentation(background_tasks: BackgroundTasks, request: dict) -> FileResponse:
    """The answer as a DICOM segmentation, with the names that `label_info` gives, or else the model's.

    The stock route mistakes one label for another where some of the model's are not in the mask.
    """
    datastore = app_instance().datastore()
    if not isinstance(datastore, ArchivedLabels):
        raise HTTPException(400, "output=dicom_seg needs studies from a DICOMweb server; this server has a folder")
    answer = app_instance().infer(request)
    try:
        with refusing():
            series = datastore.series_folder(request["image"])
            path = write_segmentation(
                series, answer["file"], request.get("label_info") or label_names(answer["params"])
            )
    finally:
        remove_file(answer["file"])
    background_tasks.add_task(remove_file, path)
    return FileResponse(path, media_type="application/dicom", filename=Path(path).name)


@contextlib.contextmanager
def _start_from(label: UploadFile | None) -> Iterator[None]:
    """The label map that a client sends along is, for as long as this lasts, the one that is to be corrected.

    The stock route leaves it in `params` under a name that 3D Slicer uses for the name of the label.
    """
    if label is None:
        yield
        return
    suffix = next((end for end in LABEL_FILES if (label.filename or "").endswith(end)), None)
    if suffix is None:
        raise HTTPException(400, f"label {label.filename!r}: a file ending in {' or '.join(LABEL_FILES)} is needed")
    with as_file(label, suffix) as path:
        token = START.set(path)
        try:
            yield
        finally:
            START.reset(token)
