"""Stock routes that read files or ask an archive, in the thread pool: the stock ones stop the event loop meanwhile."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from fastapi import APIRouter, BackgroundTasks, Depends, File, Form, HTTPException, Response, UploadFile
from monailabel.config import settings
from monailabel.endpoints import batch_infer as stock_batch
from monailabel.endpoints import datastore as stock_datastore
from monailabel.endpoints import info as stock_info
from monailabel.endpoints import scoring as stock_scoring
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType
from monailabel.interfaces.utils.app import app_instance

from .checks import image_name
from .refusals import json_object, tidied
from .temporary import SentOnce, received

pooled_router = APIRouter(prefix=settings.MONAI_LABEL_API_STR)
USER = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))
Annotator = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))]
Admin = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))]


@pooled_router.get("/info/", tags=["App"], dependencies=[USER])
def info() -> dict[str, Any]:
    """What the app is and has."""
    return stock_info.app_info()


@pooled_router.get("/datastore/image", tags=["Datastore"], dependencies=[USER], response_model=None)
def image(image: str) -> Response:
    """Download an image."""
    return stock_datastore.download_image(image)


@pooled_router.get("/datastore/label", tags=["Datastore"], dependencies=[USER], response_model=None)
def label(label: str, tag: str) -> Response:
    """Download the label of an image."""
    return stock_datastore.download_label(label, tag)


@pooled_router.put("/datastore/", include_in_schema=False, dependencies=[Depends(tidied)])  # as the stock client asks
@pooled_router.put("/datastore/image", tags=["Datastore"], dependencies=[Depends(tidied)])
def add_image(
    background_tasks: BackgroundTasks,
    image: str | None = None,
    params: str = Form("{}"),
    *,
    file: Annotated[UploadFile, File()],
    user: Annotator,
) -> dict[str, Any]:
    """Upload an image. Without an id it has that of its file, dots and all; the stock route ends it at the first."""
    json_object(params)
    return stock_datastore.add_image(background_tasks, image or image_name(file), params, file, user.username)


@pooled_router.put("/datastore/image/info", tags=["Datastore"])
def update_image_info(image: str, info: str = Form("{}"), *, user: Annotator) -> None:
    """Say more of an image."""
    json_object(info, "info")
    stock_datastore.update_image_info(image, info, user.username)


@pooled_router.put("/datastore/label/info", tags=["Datastore"])
def update_label_info(label: str, tag: str, info: str = Form("{}"), *, user: Annotator) -> None:
    """Say more of a label."""
    json_object(info, "info")
    stock_datastore.update_label_info(label, tag, info, user.username)


@pooled_router.get("/datastore/", tags=["Datastore"], dependencies=[USER], response_model=None)
def datastore(output: stock_datastore.ResultType | None = None) -> Any:
    """What there is: figures, or a list."""
    return stock_datastore.datastore(output)


@pooled_router.head("/datastore/image", tags=["Datastore"], dependencies=[USER])
def check_image(image: str, check_sum: str | None = None) -> dict[str, Any]:
    """Whether there is an image."""
    return stock_datastore.download_image(image, check_only=True, check_sum=check_sum)


@pooled_router.head("/datastore/label", tags=["Datastore"], dependencies=[USER])
def check_label(image: str, tag: str) -> dict[str, Any]:
    """Whether an image has a label."""
    return stock_datastore.download_label(image, tag, check_only=True)


@pooled_router.delete("/datastore/", include_in_schema=False)
@pooled_router.delete("/datastore/image", tags=["Datastore"])
def remove_image(id: str, *, user: Admin) -> dict[str, Any]:
    """Remove an image and its labels."""
    return stock_datastore.remove_image(id, user.username)


@pooled_router.get("/datastore/dataset", tags=["Datastore"], response_model=None)
def dataset(limit_cases: int | None = None, *, user: Annotator) -> Response:
    """Download all labelled images and their labels. The stock route leaves the archive of them where it was made."""
    made = stock_datastore.download_dataset(limit_cases)
    return SentOnce(made.path, media_type=made.media_type, filename=made.filename)


@pooled_router.post("/batch/infer/{model}", tags=["Infer"], response_model=None)
def infer_batch(
    model: str,
    images: BatchInferImageType = BatchInferImageType.IMAGES_ALL,
    params: dict[str, Any] | None = None,
    run_sync: bool = False,
    *,
    user: Admin,
) -> Any:
    """Answer for many images, and save the answers."""
    wishes = {"max_workers": 1} if params is None else dict(params)
    if not torch.cuda.is_available():
        wishes["multi_gpu"] = False  # the stock task deals the images out to the GPUs, be there none
    return stock_batch.run(model, images, wishes, run_sync)


@pooled_router.post("/scoring/{method}", tags=["Scoring"], response_model=None)
def score(method: str, params: dict[str, Any] | None = None, run_sync: bool = False, *, user: Annotator) -> Any:
    """Score the images by a method."""
    return stock_scoring.run_method(method, params, run_sync)


@pooled_router.put("/session/", tags=["Session"], dependencies=[USER])
def create_session(
    uncompress: bool = False,
    expiry: int = 0,
    *,
    files: Annotated[list[UploadFile], File()],
) -> dict[str, Any]:
    """Upload an image for a session: a file, the files of a series, or with `uncompress` a .zip or .tar of them.

    The stock route writes what is in a .tar wherever it says, and leaves what it refuses in the temporary folder.
    """
    sessions = app_instance().sessions()
    if sessions is None:
        raise HTTPException(406, "sessions are switched off here (MONAI_LABEL_SESSIONS)")
    with received(files, uncompress) as image:
        session_id, session = sessions.add_session(str(image), expiry)
    return {"session_id": session_id, "session_info": session.to_json()}
