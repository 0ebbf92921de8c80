"""Which web pages may use the server: its own, and those that its setting names.

The stock server lets the pages of any web site read images and write over labels, with whoever opens them as courier.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from fastapi import FastAPI
from monailabel.config import settings
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

SETTING = "MONAI_LABEL_CORS_ORIGINS"


class OwnPages:
    """The outermost layer of the server: what foreign pages ask for gets no further, and they cannot frame ours.

    allowed: further origins, as browsers write them (https://example.org, without a slash).
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        self.app = app
        self.allowed = allowed
        machine = {socket.gethostname().lower(), socket.getfqdn().lower()}
        self.names = machine | {_name(_after_scheme(origin)) for origin in allowed}
        self.framing = " ".join(["frame-ancestors 'self'", *allowed])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_unframed(message: Message) -> None:
            if message["type"] == "http.response.start":
                # A header of its own: browsers obey each policy that an answer has.
                MutableHeaders(scope=message).append("Content-Security-Policy", self.framing)
            await send(message)

        if problem := self._problem(Headers(scope=scope), scope.get("server")):
            logger.warning("refused: %s", problem)
            await JSONResponse({"detail": problem}, 403)(scope, receive, send_unframed)
            return
        await self.app(scope, receive, send_unframed)

    def _problem(self, headers: Headers, server: tuple[str, int | None] | None) -> str:
        """Why a request is refused; empty for one that is not. server: the address here that it came to.

        Every request is looked at, not only those that change something: a browser asks no leave for simple ones.
        """
        host, origin = headers.get("host", ""), headers.get("origin")
        # Schemes are not compared: behind a proxy that encrypts, this server does not know that of its own pages.
        if origin is not None and origin not in self.allowed and (not host or _after_scheme(origin) != host.lower()):
            return (
                f"the page is of {origin} and not of this server ({host}), so it may not use it. If it may, or if that "
                f"is the server's address behind a proxy, start the server with it in {SETTING}"
            )
        # Images, scripts and frames name no origin. Whoever follows a link from another site may come.
        if origin is None and headers.get("sec-fetch-site") == "cross-site" and not _is_link(headers):
            return (
                "the page is of another site and does not say of which, so it may not use this server. "
                f"If {SETTING} names it, it must ask with its origin: by fetch, or with the attribute crossorigin"
            )
        # Whoever owns a name can let it mean this machine (DNS rebinding): then the page is as foreign as before.
        if host and server and _is_loopback(server[0]) and not self._is_ours(_name(host)):
            return (
                f"a request from this machine for {host}, which is no name of this machine. "
                f"If it is the server's name behind a proxy, start the server with its address in {SETTING}"
            )
        return ""

    def _is_ours(self, name: str) -> bool:
        """Whether nobody on the internet can own a name of a host; one without a dot has no owner."""
        return name in self.names or "." not in name or name.endswith(".localhost") or _address(name) is not None


def keep_to_own_pages(app: FastAPI) -> None:
    """Let only the server's own pages and those that MONAI_LABEL_CORS_ORIGINS names use it, also once it runs."""
    # Pydantic ends each with a slash, which no browser does: the stock server knows none of them again.
    named = [urlsplit(str(url)) for url in settings.MONAI_LABEL_CORS_ORIGINS]
    allowed = [f"{url.scheme}://{url.netloc}" for url in named]
    layers = [Middleware(OwnPages, allowed=allowed)]
    if allowed:
        granting = Middleware(
            CORSMiddleware, allow_origins=allowed, allow_credentials=True, allow_methods=["*"], allow_headers=["*"]
        )
        layers.append(granting)
    app.user_middleware = [*layers, *(layer for layer in app.user_middleware if layer.cls != CORSMiddleware)]
    app.middleware_stack = None  # the app is loaded while the server starts: it is built anew for the first request
    logger.info("pages that may use the server: %s", ", ".join(["its own", *allowed]))


def _is_link(headers: Headers) -> bool:
    """Whether the answer is shown on its own, under its own address, where no other page can read it."""
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _after_scheme(origin: str) -> str:
    """Host and port of an origin; empty for `null`, that of pages without an address."""
    return origin.partition("://")[2].lower()


def _name(host: str) -> str:
    """The name in `name:port`, or the address in numbers, without brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return host.lower()


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _is_loopback(name: str) -> bool:
    address = _address(name)
    return address is not None and address.is_loopback
