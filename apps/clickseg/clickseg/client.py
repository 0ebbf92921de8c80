"""The server's own routes from Python."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .runs import decode_runs


@dataclass(frozen=True)
class Preview:
    """mask: uint8, the image's axes but `axis`, in array order. number: of the slice. labels: name -> value."""

    mask: NDArray[np.uint8]
    axis: int
    number: int
    labels: Mapping[str, int]


class PreviewClient:
    """Somebody who drags a click over an image of a running server.

    server: URL. headers: for each request, such as an authorisation. timeout_s: of each request. Raises ValueError for
    a server that is no http(s) address.
    """

    def __init__(
        self, server: str, model: str, image: str, headers: Mapping[str, str] | None = None, timeout_s: float = 60
    ) -> None:
        if not server.startswith(("http://", "https://")):
            raise ValueError(f"{server!r} is no http(s) address of a server, such as http://127.0.0.1:8000")
        self._server = server.rstrip("/")
        self._fixed = {"model": model, "image": image, "client": uuid.uuid4().hex}
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self._timeout_s = timeout_s

    def preview(self, clicks: Mapping[str, Sequence[Sequence[int]]], number: int | None = None) -> Preview | None:
        """Clicks by name (source voxels), as `clicks.wire` writes them -> the answer in one axial slice.

        number: of the slice; it may be left out where all clicks lie in one. None if another thread has asked this
        client for a newer one meanwhile. Raises ValueError for what the server refuses, OSError if it does not answer.
        """
        body = {**self._fixed, "params": clicks, "slice": number}
        reply = self._ask("/clickseg/api/preview", json.dumps(body).encode())
        if reply is None:
            return None
        mask = decode_runs(reply["values"], reply["lengths"], reply["shape"])
        return Preview(mask, reply["axis"], reply["slice"], reply["labels"])

    def labels(self) -> dict[str, int]:
        """The names that clicks may have, with their values in the mask; empty for a model of any one structure.

        Raises ValueError if there is no such model, or what answers is another kind of server; OSError if none answers.
        """
        info, name = self._ask("/info/"), self._fixed["model"]
        models = info.get("models") if isinstance(info, dict) else None
        if not isinstance(models, dict):
            raise ValueError(f"what answers at {self._server} is no MONAI Label server: it names no models")
        if name not in models:
            raise ValueError(f"there is no model {name!r}; known: {', '.join(models)}")
        labels = models[name]["labels"]
        return labels if isinstance(labels, dict) else {}

    def _ask(self, path: str, body: bytes | None = None) -> Any:
        """The server's JSON; None for an answer without content."""
        request = urllib.request.Request(self._server + path, body, self._headers)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as response:
                return None if response.status == 204 else _json(response.read())
        except urllib.error.HTTPError as error:
            raise ValueError(_detail(error)) from error
        except http.client.HTTPException as error:
            raise OSError(f"what answers is no HTTP server, or broke off: {error!r}") from error


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise ValueError(f"the server answers with no JSON, but with {content[:60]!r}") from error


def _detail(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        content: Any = json.loads(text)
        return str(content["detail"])
    except (ValueError, KeyError, TypeError):
        return f"status {error.code}: {text[:200]}"
