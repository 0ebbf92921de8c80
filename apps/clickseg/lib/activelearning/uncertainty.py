"""The image that the model is least sure about."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import ImageNotFoundException
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy

from clickseg.active import click_entropies, volume_entropy
from clickseg.images import read_volume
from clickseg.methods import load_model
from lib.devices import asked_device
from lib.weights import Weights

logger = logging.getLogger(__name__)

SCORE = "foreground_entropy"  # keys of an image's info in the datastore
SCORED_BY = "foreground_entropy_weights"


class ForegroundEntropy(ScoringMethod):
    """Writes the foreground entropy of every unlabeled image into the datastore, once per image and weights.

    It runs in the background, costs some seconds per image on a CPU, and leaves out what it cannot read.
    """

    name = SCORE

    def __init__(self, weights: Weights) -> None:
        super().__init__("How unsure the model is about an image when clicked at fixed places")
        self.weights = weights

    def waiting(self, datastore: Datastore) -> list[str]:
        """The unlabeled images that have no score by the weights in use."""
        identity = self.weights.identity
        images = sorted(datastore.get_unlabeled_images())
        return [image for image in images if datastore.get_image_info(image).get(SCORED_BY) != identity]

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """{image: score}. request: `slices` (how many per image), `max_samples` (images), `device`."""
        device = asked_device(request.get("device"))
        identity = self.weights.identity
        model = load_model(self.weights.current, device)
        wanted = int(request.get("slices") or 5)
        result = {}
        for image in self.waiting(datastore)[: int(request.get("max_samples") or 0) or None]:
            score = None
            try:
                volume, grid = read_volume(datastore.get_image_uri(image))
                if model.segmenter.answers_first:
                    score = volume_entropy(model.segmenter, model.recipe.spacing, volume, grid)
                else:
                    found = click_entropies(model.segmenter, model.recipe.spacing, volume, grid, wanted)
                    score = sum(found.values()) / len(found)
            except (ValueError, HTTPException) as error:  # the latter where an archive does not give it out
                logger.warning("image %s gets no score: %s", image, error)
            with contextlib.suppress(ImageNotFoundException):  # a series that was never fetched is not listed here
                datastore.update_image_info(image, {SCORE: score, SCORED_BY: identity})
            result[image] = score
        return result


class Uncertainty(Strategy):
    """The unlabeled image with the highest score; those without one come last.

    Asking for it starts the scoring of what has no score by the current weights, so the first answer may be a guess.
    """

    scoring = ForegroundEntropy.name

    def __init__(self) -> None:
        super().__init__("The image that the model is least sure about")

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """{"id": image, "foreground_entropy": its score or None}, or None when everything is labeled."""
        datastore.refresh()  # scores are written by another process
        images = sorted(datastore.get_unlabeled_images())
        if not images:
            return None
        scores = {image: datastore.get_image_info(image).get(SCORE) for image in images}
        best = max(images, key=lambda image: -1.0 if scores[image] is None else scores[image])
        return {"id": best, SCORE: scores[best]}
