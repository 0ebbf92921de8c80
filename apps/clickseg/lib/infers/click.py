"""The one infer task: clicks in, mask out."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.utils.others.generic import device_list, name_to_device

from clickseg.clicks import wire
from clickseg.images import read_label
from clickseg.machine import pick_device
from clickseg.sessions import SessionCache
from lib.weights import Weights

from .measure import measure
from .reply import write_reply

logger = logging.getLogger(__name__)


class ClickInfer(InferTask):
    """Answers a click request from the session of its image, of one structure (deepgrow) or of named labels (deepedit).

    Nothing of the stock BasicInferTask's per-click pipeline runs: the session keeps image, code and network.
    """

    def __init__(self, type: InferType, weights: Weights, description: str, cache: SessionCache) -> None:
        # Both types declare dimension 3, so that clients send the clicks of all slices every time.
        super().__init__(type, None, dimension=3, description=description, config={"device": device_list()})
        self.weights = weights
        self.cache = cache

    def info(self) -> dict[str, Any]:
        """As /info shows it; the labels are those of the weights in use now, for deepedit 1..N without gaps."""
        values = self.weights.label_values
        labels = {"background": 0, **values} if self.type == InferType.DEEPEDIT else list(values)
        return {**super().info(), "labels": labels}

    def is_valid(self) -> bool:
        """Whether there are weights that load; a model without is not listed, and says why when it is asked."""
        try:
            return self.weights.recipe is not None
        except ValueError as error:
            logger.warning("%s", error)
            return False

    def get_path(self, validate: bool = True) -> str:
        """The weights file in use; without `validate`, where a client's upload goes (never over the shipped ones)."""
        return str(self.weights.current if validate else self.weights.trained)

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Path of the mask (the caller deletes it) and the reply's params. Raises ValueError for bad input.

        request: the client's JSON, with `image` a path, `identity` what names it if its path may change, and `start`
        the path of a label map that is to be corrected, if there is one.
        """
        clock = Clock()
        reply = wire.parse_reply(request)
        known = self.weights.label_values  # of both types: it says what is wrong with the weights, if anything is
        if self.type == InferType.DEEPEDIT:
            values = known
            named = wire.parse_labels(request, list(values), needed=not self.weights.answers_first)
            positions = [position for group in named.values() for position in group]
            everything = self.weights.answers_first or request.get("start")
            clicked = {name: value for name, value in values.items() if everything or name in named}
        else:
            clicks = wire.parse_structure(request)
            positions = [click.position for click in clicks]
            values = clicked = {wire.structure_name(request): 1}
        frozen = wire.parse_frozen(request, list(values))
        session = self.cache.open(
            request["image"],
            self.weights.current,
            device=pick_device(name_to_device(request.get("device"))),
            identity=request.get("identity"),
        )
        start = read_label(request["start"], session.grid) if request.get("start") else None
        clock.lap("open")
        if self.type == InferType.DEEPEDIT:
            mask = session.predict_labels(named, values, frozen, start)
        else:
            mask = session.predict(clicks, start)
        clock.lap("predict")
        measures = measure(mask, session.grid, clicked, positions)
        clock.lap("measure")
        path = write_reply(mask, session.grid, reply)
        clock.lap("write")
        logger.info("clicks: %d; seconds: %s", len(positions), clock.latencies)
        return path, {"label_names": {"background": 0, **values}, "latencies": clock.latencies, **measures}


class Clock:
    """Seconds per stage, and in total."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.latencies: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """The time since the last lap goes to `stage`."""
        now = time.perf_counter()
        self.latencies[stage] = round(now - self._last, 4)
        self.latencies["total"] = round(now - self._start, 4)
        self._last = now
