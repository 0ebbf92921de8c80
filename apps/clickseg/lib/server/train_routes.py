"""The routes of trainings, put before the stock ones of the same path."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from fastapi import APIRouter, Depends, HTTPException
from monailabel.config import settings
from monailabel.endpoints import train as stock_train
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance

from lib.trainers.wishes import Wishes

from .refusals import refusing
from .trainings import queueing, stop_trainings

train_router = APIRouter(
    prefix=f"{settings.MONAI_LABEL_API_STR}/train",
    tags=["Train"],
    dependencies=[Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))],
)


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
