"""Own routes of the server, put before the stock ones of the same path."""

from __future__ import annotations

import sys
import threading
from typing import Annotated

from fastapi import APIRouter, Depends, UploadFile
from fastapi.responses import FileResponse
from monailabel.config import settings
from monailabel.endpoints import activelearning as stock_activelearning
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import file_checksum

from .archive_client import SILENT, say_silent
from .infer_routes import infer_router
from .label_routes import datastore_router
from .origins import keep_to_own_pages
from .page import PageFiles, page_router
from .pooled import pooled_router
from .preview import preview_router
from .progress import progress_router
from .proxy import proxy_router
from .train_routes import train_router
from .uploads import uploads_router

model_router = APIRouter(
    prefix=f"{settings.MONAI_LABEL_API_STR}/model",
    tags=["Model"],
    dependencies=[Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))],
)
activelearning_router = APIRouter(prefix=f"{settings.MONAI_LABEL_API_STR}/activelearning", tags=["ActiveLearning"])

# The stock route is served by the event loop, one at a time, and relies on it: so does ours, in the thread pool.
CHOOSING = threading.Lock()

REPLY_CHUNK = 2**20  # bytes; each is a trip to the thread pool, and a raw mask took 400 of the stock size (60 ms)


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
    own += (pooled_router, proxy_router, preview_router, progress_router, page_router, uploads_router)
    for router in own:
        server.app.include_router(router)
    server.app.mount("/clickseg", PageFiles(), name="clickseg")
    routes[:] = [*routes[stock:], *routes[:stock]]
    keep_to_own_pages(server.app)
    for silence in SILENT:
        server.app.add_exception_handler(silence, say_silent)
    FileResponse.chunk_size = REPLY_CHUNK
    server.app.state.clickseg = True
