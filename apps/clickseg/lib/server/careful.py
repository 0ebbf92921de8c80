"""Requests are checked before they are answered: bad input is refused with a 4xx and a sentence."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from fastapi import HTTPException
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.utils.async_tasks.task import AsyncTask
from monailabel.utils.others.generic import remove_file
from numpy.typing import NDArray

from clickseg.clicks.wire import RESERVED
from clickseg.geometry import Grid
from clickseg.methods import load_model
from lib.infers.click import Slice
from lib.trainers.click import TrainingLog
from lib.weights import publish, put_away

from .archived import labels_in_the_archive
from .datastore import careful, pass_over
from .progress import watched
from .refusals import refusing

logger = logging.getLogger(__name__)

# The label map that came with the request of this thread. A path in the request itself would be the client's word.
START: ContextVar[str | None] = ContextVar("start", default=None)

UPLOAD = "send it to the datastore (PUT /datastore/image) or open a session with it (PUT /session/)"


def label_names(params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the values of an answer mean, in the form in which clients save it. params: those of the reply."""
    return [{"name": name, "idx": value} for name, value in params["label_names"].items() if value]


class CarefulRequests:
    """Mixin before MONAILabelApp, whose own `infer` opens any file on the server's disk that a client names."""

    def init_datastore(self) -> Datastore:
        """As MONAILabelApp.init_datastore; it refuses what would spoil it, and archives labels of DICOM series."""
        return careful(labels_in_the_archive(super().init_datastore()))

    def info(self) -> dict[str, Any]:
        """As MONAILabelApp.info, with the background as the last label, and the names that no label can have.

        3D Slicer makes a segment of each in this order, and does not save that of the background: all after it would
        get other values than the numbers it says.
        """
        info = super().info()
        labels = [name for name in info["labels"] if name != "background"]
        labels += ["background"] if "background" in info["labels"] else []
        return {**info, "labels": labels, "reserved": sorted(RESERVED)}

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """As MONAILabelApp.infer, for images of the datastore and of sessions only.

        Raises HTTPException: 404 for an unknown model or image, 400 for whatever else is wrong with the request.
        """
        datastore = datastore or self.datastore()
        task = self._known(self._infers, "model", request.get("model"))
        image_id = request.get("image")
        request = {**self._located(request, datastore), "start": START.get()}
        with refusing(), watched(request.get("progress")):
            if self._infers_threadpool:
                timeout = request.get("timeout", settings.MONAI_LABEL_INFER_TIMEOUT)
                run = functools.partial(contextvars.copy_context().run, task, request)
                path, params = self._infers_threadpool.submit(run).result(timeout)
            else:
                path, params = task(request)
        tag = request.get("label_tag", DefaultLabelTag.ORIGINAL)
        label = path
        if request.get("save_label") and not request.get("session"):
            info = {"model": request["model"], "params": params, "label_info": label_names(params)}
            try:
                label = datastore.save_label(image_id, path, tag, info)
            except BaseException:
                remove_file(path)  # nobody else will: who asked gets no answer that names it
                raise
        return {"label": label, "tag": DefaultLabelTag.ORIGINAL, "file": path, "params": params}

    def preview(self, request: Mapping[str, Any], number: int | None) -> Slice:
        """The answer in one axial slice of an image of the datastore. Raises HTTPException as `infer` does."""
        task = self._known(self._infers, "model", request.get("model"))
        located = self._located(request, self.datastore())
        with refusing():
            return task.preview(located, number)

    def volume(self, image: str) -> tuple[NDArray[np.generic], Grid]:
        """An image of the datastore and its grid. Raises HTTPException: 404 if it is not there, 400 if unreadable.

        What is unreadable is proposed to nobody from then on.
        """
        path = self._image_path({"image": image}, self.datastore())
        try:
            with refusing():
                return self.cache.read(path)
        except HTTPException:
            pass_over(self.datastore(), image)
            raise

    def served_labels(self) -> dict[str, int]:
        """Name -> value of the first model: what a value means in a label map without names of its own."""
        return self.models[0].weights.label_values

    def delete_trained(self, model: str) -> None:
        """Put away the weights that a training has published, so that the shipped ones answer again.

        The stock route would put the shipped ones away. Raises HTTPException 404 where nothing was trained.
        """
        trained = Path(self._known(self._infers, "model", model).get_path(validate=False))
        if not trained.exists():
            raise HTTPException(404, f"there are no trained weights of {model}: the shipped ones answer, and they stay")
        put_away(trained)

    def replace_weights(self, model: str, content: BinaryIO) -> Path:
        """Let a file of weights answer from now on, in the place of those that a training publishes; returns its path.

        Those that are there already stay beside them. The stock route lets anything answer. Raises HTTPException: 404
        for an unknown model, 400 for what is no file of weights of its method.
        """
        method = self._known({served.name: served.method for served in self.models}, "model", model)
        target = Path(self._infers[model].get_path(validate=False))
        with tempfile.NamedTemporaryFile(suffix=".pt") as file, refusing():
            shutil.copyfileobj(content, file)
            file.flush()
            found = load_model(file.name).recipe.method
            if found != method:
                raise ValueError(f"these are weights of {found}, and {model} needs those of {method}")
            publish(Path(file.name), target)
        return target

    def cleanup_sessions(self) -> None:
        """As the stock method, which ends at a session that a killed server left half written, and begins late."""
        sessions = self.sessions()
        for folder in Path(sessions.store_path).glob("*/") if sessions is not None else ():
            with contextlib.suppress(FileNotFoundError):  # another server may clean up, too
                end = folder.stat().st_mtime + sessions.expiry
                with contextlib.suppress(ValueError):
                    if known := sessions.get_session(folder.name, update_ts=False, fetch_cache=False):
                        end = known.last_access_ts + known.expiry
                if end < time.time():
                    logger.info("session %s is over", folder.name)
                    sessions.remove_session(folder.name)

    def infer_wsi(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Refused: the stock method, too, opens any file."""
        raise HTTPException(status_code=404, detail="this app has no models for whole-slide images")

    def train(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """As MONAILabelApp.train; bad labels are refused."""
        self._known(self._trainers, "model to train", request.get("model"))
        with refusing():
            return super().train(request)

    def check_training(self, model: str) -> None:
        """Raise the HTTPException that training this model would end in, without training it."""
        task = self._known(self._trainers, "model to train", model)
        with refusing():
            task.check(self.datastore())

    def training_log(self, model: str) -> TrainingLog:
        """The epochs of a model's last training."""
        return self._known(self._trainers, "model to train", model).log()

    def next_sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """As MONAILabelApp.next_sample; images that a strategy would like to have scored are scored meanwhile.

        One that an archive does not give out is passed over: the datastore does not propose it again for a while.
        """
        name = request.get("strategy") or "random"
        strategy = self._known(self._strategies, "strategy", name)
        scoring = getattr(strategy, "scoring", None)
        if self._server_mode and scoring in self._scoring_methods:
            running, _ = AsyncTask.status("scoring", check_if_running=True)
            if not running and self._scoring_methods[scoring].waiting(self.datastore()):
                self.async_scoring(scoring)
        result = self._choose({**request, "strategy": name})
        if result.get("id"):
            threading.Thread(target=self._read_ahead, args=(result["id"],), daemon=True).start()
        return result

    def _choose(self, request: Mapping[str, Any]) -> dict[str, Any]:
        left: set[str] | None = None
        while True:
            try:
                with refusing():
                    return super().next_sample(request)
            except HTTPException:
                before, left = left, set(self.datastore().get_unlabeled_images())
                if left == before:  # nothing more was passed over
                    raise

    def _read_ahead(self, image: str) -> None:
        """Whoever asked for this image will click on it: the first click need not wait for the disk."""
        try:
            self.volume(image)
        except HTTPException as error:
            logger.info("not read ahead: %s", error.detail)  # who clicks on it is told why

    def scoring(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """As MONAILabelApp.scoring."""
        self._known(self._scoring_methods, "scoring method", request.get("method"))
        with refusing():
            return super().scoring(request, datastore)

    @staticmethod
    def _known(tasks: Mapping[str, Any], kind: str, name: Any) -> Any:
        if not isinstance(name, str) or name not in tasks:
            raise HTTPException(status_code=404, detail=f"there is no {kind} {name!r}; known: {', '.join(tasks)}")
        return tasks[name]

    def _located(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """The request with its image as a path."""
        return {**request, "image": self._image_path(request, datastore)}

    def _image_path(self, request: Mapping[str, Any], datastore: Datastore) -> str:
        """Where the image that a request names lies; 404 unless it is in the datastore or in a session."""
        image = request.get("image")
        if request.get("session"):
            store = self.sessions()
            if store is not None and Path(str(image)).resolve().is_relative_to(Path(store.store_path).resolve()):
                return str(image)
        elif not image:
            raise HTTPException(status_code=404, detail="no image is named, and there is no such session")
        elif isinstance(datastore, DICOMWebDatastore):
            return datastore.get_image_uri(str(image))
        elif image in datastore.list_images():
            return datastore.get_image_uri(image)
        raise HTTPException(status_code=404, detail=f"image {image!r} is not in the datastore; {UPLOAD}")
