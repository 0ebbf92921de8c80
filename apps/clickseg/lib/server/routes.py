"""Own routes of the server."""

from __future__ import annotations

import sys

from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse
from monailabel.config import settings
from monailabel.endpoints import train as stock
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance

router = APIRouter(
    prefix=f"{settings.MONAI_LABEL_API_STR}/train",
    tags=["Train"],
    dependencies=[Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))],
)

REPLY_CHUNK = 2**20  # bytes; each is a trip to the thread pool, and a raw mask took 400 of the stock size (60 ms)


@router.post("/")
def train_all(params: dict | None = None, run_sync: bool = False) -> dict:
    """Train every model that can be trained, unless their labels are not fit for it."""
    for model in app_instance().info()["trainers"]:
        app_instance().check_training(model)
    return stock.run(params, run_sync)


@router.post("/{model}")
def train_model(model: str, params: dict | None = None, run_sync: bool = False, enqueue: bool = False) -> dict:
    """Train one model, unless its labels are not fit for it (the stock route says 200, and fails unseen)."""
    app_instance().check_training(model)
    return stock.run_model(model, params, run_sync, enqueue)


def add_routes() -> None:
    """Put our routes before the stock ones, which else would match first, and send files faster.

    Does nothing outside the server.
    """
    server = sys.modules.get("monailabel.app")
    if server is None or getattr(server.app.state, "clickseg", False):
        return
    server.app.include_router(router)
    routes = server.app.router.routes
    routes.insert(0, routes.pop())
    FileResponse.chunk_size = REPLY_CHUNK
    server.app.state.clickseg = True
