"""The one infer task: clicks in, mask out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.utils.others.generic import device_list
from numpy.typing import NDArray

from clickseg.clicks import wire
from clickseg.images import read_label
from clickseg.sessions import Session, SessionCache, VolumeSession
from clickseg.stopwatch import stage, stopwatch
from lib.devices import asked_device
from lib.weights import Weights

from .asked import AskedLabels, AskedStructure, Position
from .measure import measure
from .reply import write_reply

logger = logging.getLogger(__name__)


class ClickInfer(InferTask):
    """Answers a click request from the session of its image.

    Clicks are of one structure (deepgrow) or of named labels (deepedit; segmentation, of which clients send none).

    Nothing of the stock BasicInferTask's per-click pipeline runs: the session keeps image, code and network.
    """

    def __init__(
        self,
        type: InferType,
        weights: Weights,
        description: str,
        cache: SessionCache,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        config = {"device": device_list(), **(options or {})}
        # Both types declare dimension 3, so that clients send the clicks of all slices every time.
        super().__init__(type, None, dimension=3, description=description, config=config)
        self.weights = weights
        self.cache = cache

    def info(self) -> dict[str, Any]:
        """As /info shows it, with the modality that the weights are for.

        The labels are those of the weights in use now, for deepedit 1..N without gaps.
        """
        values = self.weights.label_values
        labels = {"background": 0, **values} if self.type == InferType.DEEPEDIT else list(values)
        return {**super().info(), "labels": labels, "modality": self.weights.recipe.modality}

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

        request: the client's JSON, with `image` a path, and `start` that of a label map that is to be corrected, if
        there is one.
        """
        with stopwatch() as seconds:
            reply = wire.parse_reply(request)
            asked = self._read(request)
            with stage("read"):
                session = self._open(request)
                start = read_label(request["start"], session.grid) if request.get("start") else None
            with stage("map_back"):  # what is neither preprocessing nor the network
                mask = asked.answer(session, start)
                reached = session.reached(asked.positions, start, asked.reach)
                planes = reached if session.axis == mask.ndim - 1 else None
            with stage("measure"):
                measures = measure(mask, session.grid, asked.measured, asked.positions, planes)
            with stage("write"):
                path = write_reply(mask, session.grid, reply, planes)
        logger.info("clicks: %d; seconds: %s", len(asked.positions), seconds)
        if session.doubt:
            logger.warning("%s", session.doubt)
        said = {"warning": session.doubt} if session.doubt else {}
        return path, {"label_names": {"background": 0, **asked.values}, "latencies": seconds, **measures, **said}

    def preview(self, request: Mapping[str, Any], number: int | None = None) -> Slice:
        """The answer to a request in one axial slice, and nothing written. Raises ValueError as `__call__` does.

        number: of the slice; it may be left out where all clicks lie in one.
        """
        asked = self._read(request)
        session = self._open(request)
        for position in asked.positions:
            session.check(position)
        number = _only_slice(session.axis, asked.positions) if number is None else number
        session.check_slice(number)
        plane = session.plane(asked.answer_in(number, session), number)
        return Slice(session.axis, number, plane, {"background": 0, **asked.values})

    def _read(self, request: Mapping[str, Any]) -> AskedStructure | AskedLabels:
        known = self.weights.label_values  # of both types: it says what is wrong with the weights, if anything is
        if self.type == InferType.DEEPGROW:
            values = {wire.structure_name(request): 1}
            wire.parse_frozen(request, list(values))
            return AskedStructure(wire.parse_structure(request), values, wire.parse_reach(request))
        named = wire.parse_labels(request, list(known), needed=not self.weights.answers_first)
        everything = self.weights.answers_first or request.get("start")
        measured = {name: value for name, value in known.items() if everything or name in named}
        frozen, reach = wire.parse_frozen(request, list(known)), wire.parse_reach(request)
        return AskedLabels(named, known, frozen, measured, reach)

    def _open(self, request: Mapping[str, Any]) -> Session | VolumeSession:
        return self.cache.open(request["image"], self.weights.current, device=asked_device(request.get("device")))


@dataclass(frozen=True)
class Slice:
    """mask: the image's other two axes, in array order. axis, number: where it lies. labels: name -> value."""

    axis: int
    number: int
    mask: NDArray[np.uint8]
    labels: Mapping[str, int]


def _only_slice(axis: int, positions: Sequence[Position]) -> int:
    numbers = sorted({position[axis] for position in positions})
    if len(numbers) != 1:
        raise ValueError(f"the clicks lie in the slices {numbers} along axis {axis}: say which one is wanted")
    return numbers[0]
