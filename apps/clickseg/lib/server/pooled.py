"""Stock routes that read files or ask an archive, in the thread pool: the stock ones stop the event loop meanwhile."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, File, Form, Response, UploadFile
from monailabel.config import settings
from monailabel.endpoints import datastore as stock_datastore
from monailabel.endpoints import info as stock_info
from monailabel.endpoints import session as stock_session
from monailabel.endpoints.user.auth import RBAC, User

from .refusals import tidied

pooled_router = APIRouter(prefix=settings.MONAI_LABEL_API_STR)
USER = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))


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
    user: Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))],
) -> dict[str, Any]:
    """Upload an image."""
    return stock_datastore.add_image(background_tasks, image, params, file, user.username)


@pooled_router.put("/session/", tags=["Session"], dependencies=[USER, Depends(tidied)])
def create_session(
    background_tasks: BackgroundTasks,
    uncompress: bool = False,
    expiry: int = 0,
    *,
    files: Annotated[list[UploadFile], File()],
) -> dict[str, Any]:
    """Upload an image for a session."""
    return stock_session.create_session(background_tasks, uncompress, expiry, files)
