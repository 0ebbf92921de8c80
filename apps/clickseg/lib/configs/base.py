"""What a model as served consists of: a type that clients understand, a method, and weights."""

from __future__ import annotations

from dataclasses import dataclass

from monailabel.interfaces.tasks.infer_v2 import InferType

from clickseg.sessions import SessionCache
from lib.activelearning.uncertainty import ForegroundEntropy
from lib.infers.click import ClickInfer
from lib.trainers.click import ClickTrainTask
from lib.weights import Weights


@dataclass(frozen=True)
class ServedModel:
    """One entry of /info.

    trains: whether it also takes part in training (once per weights file). slicewise: whether it can go on from slice
    to slice, which clients then offer among its options.
    """

    name: str
    method: str
    type: InferType
    weights: Weights
    description: str
    trains: bool = False
    slicewise: bool = False

    def infer(self, cache: SessionCache) -> ClickInfer:
        """The task that answers its clicks."""
        options = {"propagate": False} if self.slicewise else {}
        return ClickInfer(self.type, self.weights, self.description, cache, options)

    def trainer(self) -> ClickTrainTask:
        """The task that trains its weights."""
        return ClickTrainTask(self.name, self.method, self.weights)

    def scoring(self) -> ForegroundEntropy:
        """The task that scores images by how unsure it is about them."""
        return ForegroundEntropy(self.weights)
