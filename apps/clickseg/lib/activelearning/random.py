"""Any unlabeled image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy


class Random(Strategy):
    """Each unlabeled image with the same chance. (The stock strategy fails if all were served within this second.)"""

    def __init__(self) -> None:
        super().__init__("Any unlabeled image, each with the same chance")

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """{"id": image}, or None when everything is labeled. request: `seed` makes the draw repeatable."""
        images = sorted(datastore.get_unlabeled_images())
        if not images:
            return None
        try:
            generator = np.random.default_rng(request.get("seed"))
        except (TypeError, ValueError) as error:
            raise ValueError(f"seed must be a whole number from 0 up, not {request['seed']!r}") from error
        return {"id": images[generator.integers(len(images))]}
