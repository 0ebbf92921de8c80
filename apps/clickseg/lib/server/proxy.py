"""OHIF's way to the archive: its DICOMweb requests, passed on."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import unquote

import requests
import urllib3
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance

from .archive_client import silent
from .archived import ArchivedLabels

proxy_router = APIRouter(
    prefix=f"{settings.MONAI_LABEL_API_STR}/proxy",
    tags=["Others"],
    dependencies=[Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))],
)

TIMEOUT = (10.0, 300.0)  # seconds to be connected, and between two packets
OF_THE_CONNECTION = ("connection", "keep-alive", "transfer-encoding")  # headers that are not the answer's
OF_THE_CONTENT = ("accept", "content-type")  # headers that the archive needs to understand what is sent to it

STORING = re.compile(r"((stow|wado)/)?studies(/[0-9.]+)?")  # where OHIF sends what is to be stored

DECODED = 5  # times, and more than by any chain of servers


async def _body(request: Request) -> bytes:
    return await request.body()


@proxy_router.get("/dicom/{path:path}", include_in_schema=False)
@proxy_router.post("/dicom/{path:path}", include_in_schema=False)
def proxy(request: Request, path: str, body: Annotated[bytes, Depends(_body)]) -> Response:
    """As the stock route, but in the thread pool, with the search that was asked for, and not waiting for ever.

    That one waits in the event loop, where nobody else is answered meanwhile, leaves out what follows the `?`, and
    follows a path out of the archive's DICOMweb, with the archive's password. Sent is only what is to be stored: some
    archives take orders below the same root (Orthanc forwards studies to other servers).
    """
    _stay_inside(path)
    if request.method == "POST" and not STORING.fullmatch(path):
        raise HTTPException(404, "nothing can be sent there: what is to be stored goes to studies, or studies/<uid>")
    datastore = app_instance().datastore()
    if not isinstance(datastore, ArchivedLabels):
        raise HTTPException(404, "this server has a folder of studies, and no DICOMweb server behind it")
    part, _, rest = path.partition("/")
    prefixes = {
        "wado": settings.MONAI_LABEL_WADO_PREFIX,
        "qido": settings.MONAI_LABEL_QIDO_PREFIX,
        "stow": settings.MONAI_LABEL_STOW_PREFIX,
    }
    if part in prefixes:
        # Some versions of OHIF ask for metadata as if they searched.
        part, path = ("wado" if part == "qido" and rest.endswith("metadata") else part), rest
    where = [settings.MONAI_LABEL_STUDIES.rstrip("/"), prefixes.get(part) or "", path]
    try:
        with datastore._client._session.request(
            request.method,
            "/".join(piece for piece in where if piece),
            params=request.query_params.multi_items(),
            data=body,
            headers={name: request.headers[name] for name in OF_THE_CONTENT if body and name in request.headers},
            stream=True,
            timeout=TIMEOUT,
        ) as answer:
            content = answer.raw.read()  # as it came, compressed or not
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise silent(error) from error
    headers = {name: value for name, value in answer.headers.items() if name.lower() not in OF_THE_CONNECTION}
    return Response(content, answer.status_code, headers)


def _stay_inside(path: str) -> None:
    """HTTPException 404 for a path with a step upwards, also an encoded one: who passes it on may decode it again.

    A step ends where a server may end it: some take a backslash for a slash, and leave out what follows a semicolon.
    """
    for _ in range(DECODED):
        path = unquote(path)
    if {".", ".."} & set(re.split(r"[/\\?#;]", path)):
        raise HTTPException(404, "there is nothing there: the path leads out of the archive's DICOMweb")
