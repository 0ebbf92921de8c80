"""Own routes of the server, put before the stock ones of the same path."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, File, Form, HTTPException, Request, Response, UploadFile
from fastapi.responses import FileResponse
from monailabel.config import settings
from monailabel.endpoints import activelearning as stock_activelearning
from monailabel.endpoints import datastore as stock_datastore
from monailabel.endpoints import infer as stock_infer
from monailabel.endpoints import train as stock_train
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import file_checksum, remove_file

from lib.trainers.wishes import Wishes

from .archive_client import SILENT, say_silent
from .archived import ArchivedLabels
from .careful import START, UPLOAD, label_names
from .checks import same_label
from .datastore import FINAL, label_version
from .origins import keep_to_own_pages
from .page import PageFiles, page_router
from .pooled import pooled_router
from .preview import preview_router
from .proxy import proxy_router
from .refusals import json_object, refusing, tidied
from .segmentations import write_segmentation
from .trainings import queueing, stop_trainings
from .uploads import uploads_router

infer_router = APIRouter(
    prefix=f"{settings.MONAI_LABEL_API_STR}/infer",
    tags=["Infer"],
    dependencies=[Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))],
)
train_router = APIRouter(
    prefix=f"{settings.MONAI_LABEL_API_STR}/train",
    tags=["Train"],
    dependencies=[Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))],
)

model_router = APIRouter(
    prefix=f"{settings.MONAI_LABEL_API_STR}/model",
    tags=["Model"],
    dependencies=[Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))],
)
datastore_router = APIRouter(prefix=f"{settings.MONAI_LABEL_API_STR}/datastore", tags=["Datastore"])
activelearning_router = APIRouter(prefix=f"{settings.MONAI_LABEL_API_STR}/activelearning", tags=["ActiveLearning"])

# The stock routes below are served by the event loop, one at a time, and rely on it: so do ours, in the thread pool.
SAVING, CHOOSING = threading.Lock(), threading.Lock()

LABEL_FILES = (".nii.gz", ".nii", ".nrrd")

REPLY_CHUNK = 2**20  # bytes; each is a trip to the thread pool, and a raw mask took 400 of the stock size (60 ms)


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
    with _as_file(label, suffix) as path:
        token = START.set(path)
        try:
            yield
        finally:
            START.reset(token)


@contextlib.contextmanager
def _as_file(sent: UploadFile, suffix: str) -> Iterator[str]:
    """What a client sends as a file of its own, for as long as this lasts."""
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        shutil.copyfileobj(sent.file, file)
        file.flush()
        sent.file.seek(0)
        yield file.name


@train_router.post("/")
def train_all(params: dict | None = None, run_sync: bool = False) -> dict:
    """Train every model for which the saved labels are fit, one after the other (OHIF's *Update Model*).

    {model: {"result": the task, "detail": None, or why it is not trained}}. Refused if none can be. What is asked of
    one model alone stands under its name.
    """
    app, params, refused = app_instance(), params or {}, {}
    models = [str(params["model"])] if params.get("model") else app.info()["trainers"]
    wishes = _wishes_of_each(models, params)
    for model in wishes:
        try:
            app.check_training(model)
        except HTTPException as error:
            refused[model] = error
    if refused and len(refused) == len(wishes):
        raise refused[model]
    result = {model: {"result": None, "detail": error.detail} for model, error in refused.items()}
    with queueing(run_sync):
        for model in (model for model in wishes if model not in refused):
            task = stock_train.run_model(model, wishes[model], run_sync, enqueue=True)
            result[model] = {"result": task, "detail": None}
    return result


@train_router.post("/{model}")
def train_model(model: str, params: dict | None = None, run_sync: bool = False, enqueue: bool = False) -> dict:
    """Train one model, unless its labels are not fit for it or the wishes do not work.

    The stock route says 200, and fails unseen.
    """
    wishes = _wishes(params or {})
    app_instance().check_training(model)
    with queueing(run_sync):
        return stock_train.run_model(model, wishes, run_sync, enqueue)


@train_router.delete("/")
def stop_training() -> dict | None:
    """Stop all trainings, those that wait, too: the stock route ends the one that runs, and the next begins."""
    return stop_trainings()


def _wishes_of_each(models: Collection[str], params: Mapping[str, Any]) -> dict[str, dict]:
    """Model -> what is asked of its training: what stands under its name goes before what is asked of all.

    Raises HTTPException 400 if one of them is asked what does not work: then none is trained.
    """
    shared = {key: value for key, value in params.items() if key not in models}
    wishes = {}
    for model in models:
        own = {} if params.get(model) is None else params[model]
        if not isinstance(own, dict):
            said = json.dumps(own)[:40]
            raise HTTPException(400, f'{model} must be an object such as {{"max_epochs": 20}}, not {said}')
        wishes[model] = _wishes({**shared, **own})
    return wishes


def _wishes(params: Mapping[str, Any]) -> dict:
    """What a client asks of a training, in the words in which the training is told of it.

    Raises HTTPException 400 for what would end the training before it begins, and unseen. The address names the model.
    """
    with refusing():
        Wishes.read(params)
    return _renumbered({key: value for key, value in params.items() if key != "model"})


def _renumbered(wishes: dict) -> dict:
    """Of the GPUs that a client names the first is the training's number 0."""
    device = wishes.get("device") or "cpu"
    if (wishes.get("gpus") or "all") == "all" or (device[0] if isinstance(device, list) else device) == "cpu":
        return wishes
    return {**wishes, "device": "cuda"}


@model_router.delete("/{model}")
def delete_model(model: str) -> dict:
    """Put away what was trained, never what came with the app."""
    app_instance().delete_trained(model)
    return {}


@model_router.put("/{model}")
def update_model(model: str, file: UploadFile) -> dict:
    """Let these weights answer, if they are weights; the stock route lets them do so anyway."""
    path = app_instance().replace_weights(model, file.file)
    return {"checksum": file_checksum(str(path)), "modified_time": int(path.stat().st_mtime)}


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
    with refusing(), _as_file(label, "".join(Path(label.filename or "").suffixes)) as sent:
        known = datastore.get_label_info(image, FINAL).get("label_info")
        return same_label(datastore.get_image_uri(image), (stored, known), (sent, names))


@activelearning_router.post("/{strategy}")
def next_sample(
    strategy: str,
    params: dict | None = None,
    *,
    user: Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))],
) -> dict:
    """As the stock route, but in the thread pool: an archive is searched series by series."""
    with CHOOSING:
        return stock_activelearning.sample(strategy, {"client_id": user.username, **(params or {})}, user.username)


def add_routes() -> None:
    """Put our routes before the stock ones, which else would match first, keep foreign pages out, send files faster.

    Does nothing outside the server.
    """
    server = sys.modules.get("monailabel.app")
    if server is None or getattr(server.app.state, "clickseg", False):
        return
    routes = server.app.router.routes
    stock = len(routes)
    own = (infer_router, train_router, model_router, datastore_router, activelearning_router)
    own += (pooled_router, proxy_router, preview_router, page_router, uploads_router)
    for router in own:
        server.app.include_router(router)
    server.app.mount("/clickseg", PageFiles(), name="clickseg")
    routes[:] = [*routes[stock:], *routes[:stock]]
    keep_to_own_pages(server.app)
    for silence in SILENT:
        server.app.add_exception_handler(silence, say_silent)
    FileResponse.chunk_size = REPLY_CHUNK
    server.app.state.clickseg = True
