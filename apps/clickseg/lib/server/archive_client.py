"""How a DICOM archive is asked: to the last page, and without waiting for ever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import requests
from dicomweb_client import DICOMwebClient
from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse
from pydicom.dataset import Dataset
from requests.adapters import HTTPAdapter

SILENT = (requests.ConnectionError, requests.Timeout)  # what comes of an archive that does not answer
TIMEOUT = (10.0, 120.0)  # seconds to be connected, and between two packets


class Impatient(HTTPAdapter):
    """Gives up on an archive that does not answer: whoever asks holds locks and a thread that others wait for."""

    def send(self, request: Any, stream: bool = False, timeout: Any = None, **more: Any) -> requests.Response:
        return super().send(request, stream, timeout or TIMEOUT, **more)


def silent(error: Exception) -> HTTPException:
    """What is said of an archive that does not answer."""
    return HTTPException(502, f"the DICOM server does not answer: {error}")


def say_silent(request: Request, error: Exception) -> JSONResponse:
    """502 with a sentence, for whoever asked for what only the archive has."""
    refusal = silent(error)
    return JSONResponse({"detail": refusal.detail}, refusal.status_code)


def with_timeouts(client: DICOMwebClient) -> None:
    """Let a client wait no longer than TIMEOUT; requests with a timeout of their own keep it."""
    for scheme in ("http://", "https://"):
        client._session.mount(scheme, Impatient())
    client.set_http_retry_params(max_attempts=2, wait_exponential_multiplier=100)  # by itself it waits five times


def search_series(client: DICOMwebClient, wanted: Mapping[str, str], fields: Sequence[str] = ()) -> list[Dataset]:
    """All series that a search finds, however few of them the archive gives out at a time.

    The search ends with a page that brings nothing new, for some archives give the same page whatever is asked for.
    """
    found: dict[str, Dataset] = {}
    offset = 0
    while True:
        page = client.search_for_series(offset=offset, fields=list(fields) or None, search_filters=dict(wanted))
        series = [Dataset.from_json(item) for item in page]
        fresh = {str(item.SeriesInstanceUID): item for item in series if str(item.SeriesInstanceUID) not in found}
        if not fresh:
            return list(found.values())
        found |= fresh
        offset += len(page)
