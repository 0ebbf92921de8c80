"""Who was given which image: two annotators should not label the same one."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

LEASE = 2 * 3600.0  # seconds; an annotator who went home is waited for no longer


class Leases:
    """The image that each client was given last, if that is not too long ago. Kept in memory: a hint, and no lock."""

    def __init__(self) -> None:
        self._given: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def of_others(self, client: str) -> set[str]:
        """The images that other clients have."""
        begun = time.monotonic() - LEASE
        with self._lock:
            return {image for other, (image, since) in self._given.items() if other != client and since > begun}

    def give(self, client: str, image: str) -> None:
        """Note that a client has an image, and none that it was given before."""
        with self._lock:
            self._given[client] = image, time.monotonic()


class Leased(Strategy):
    """A strategy that passes over images that others have and have not saved yet, as long as there are more.

    The client is who says so (`client_id` in the request: 3D Slicer and the page do), or the user who is logged in.
    """

    def __init__(self, strategy: Strategy, leases: Leases) -> None:
        super().__init__(strategy.description)
        self.strategy, self.leases = strategy, leases
        self.scoring = getattr(strategy, "scoring", None)

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """As the strategy itself."""
        client = str(request.get("client_id"))
        found = self.strategy(request, _Rest(datastore, self.leases.of_others(client)))
        if found and found.get("id"):
            self.leases.give(client, found["id"])
        return found


class _Rest:
    """A datastore, seen without some of its unlabeled images unless these are all."""

    def __init__(self, datastore: Datastore, without: set[str]) -> None:
        self._datastore, self._without = datastore, without

    def __getattr__(self, name: str) -> Any:
        return getattr(self._datastore, name)

    def get_unlabeled_images(self, *given: Any, **more: Any) -> list[str]:
        images = self._datastore.get_unlabeled_images(*given, **more)
        return [image for image in images if image not in self._without] or images
