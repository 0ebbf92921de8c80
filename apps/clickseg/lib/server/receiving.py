"""Files of any size from a client: each goes to the disk as it comes, and none is taken that would not fit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import BinaryIO, NamedTuple

from fastapi import HTTPException, Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from .checks import new_name
from .temporary import FULL

BATCH = 2**20  # bytes that are written at a time: each is a trip to the thread pool
GB = 2**30
DEEPEST = 12  # folders of a path that are kept
SPARE = 2**28  # bytes of the disk that stay free


class Sent(NamedTuple):
    """A file that was sent: the folders that it was in there and its name, and where it lies here."""

    parts: tuple[str, ...]
    path: Path

    @property
    def name(self) -> str:
        return self.parts[-1]


class Receiver:
    """Takes a multipart form apart, piece by piece, and writes its files into a folder under numbers.

    Fields without a file are passed over, and so are hidden files, which systems leave in folders.
    """

    def __init__(self, boundary: bytes, folder: Path) -> None:
        self.files: list[Sent] = []
        self._folder = folder
        self._field, self._value = b"", b""  # the header that is being read
        self._disposition = b""
        self._file: BinaryIO | None = None
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self.close,
                "on_end": self._on_end,
            },
        )

    def write(self, content: bytes) -> None:
        """Go on with what has come. HTTPException: 400 for what is no such form, 507 for a full disk."""
        try:
            self._parser.write(content)
        except FormParserError as error:
            raise HTTPException(400, f"the request is no multipart form: {error}") from error
        except OSError as error:
            if error.errno in FULL:
                raise HTTPException(507, "the server's disk is full: nothing was added") from error
            raise

    def finish(self) -> None:
        """HTTPException 400 if the end of the form has not come."""
        if not self._ended:
            raise HTTPException(400, "the request is no multipart form, or was cut short")

    def close(self) -> None:
        """The end of a part."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field, self._value = b"", b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._disposition = b""
        path = options.get(b"filename", b"").decode(errors="replace").replace("\\", "/")
        parts = tuple(new_name(part) for part in path.split("/") if part not in ("", ".", ".."))[-DEEPEST:]
        if parts and not any(part.startswith(".") for part in parts):
            self.files.append(Sent(parts, self._folder / f"{len(self.files)}"))
            self._file = self.files[-1].path.open("wb")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])

    def _on_end(self) -> None:
        self._ended = True


def check_size(request: Request, limit: int, folder: Path) -> None:
    """HTTPException for a request that says how large it is, and is too large: 413, or 507 for the folder's disk."""
    size = int(request.headers.get("content-length") or 0)
    if size > limit:
        raise too_large(limit)
    if size and size + SPARE > (free := shutil.disk_usage(folder).free):
        raise HTTPException(
            507, f"the server's disk has no room: {_gigabytes(size)} were to come, and {_gigabytes(free)} are free"
        )


def too_large(limit: int) -> HTTPException:
    """What is said of a request of more bytes than the limit."""
    return HTTPException(
        413,
        f"the server takes {_gigabytes(limit)} at once: add fewer files, or let it be started with a larger "
        "--conf upload_gb",
    )


async def receive(request: Request, folder: Path, limit: int) -> list[Sent]:
    """The files of a request, written into a folder. limit: bytes. HTTPException as `Receiver`, and 413 beyond it."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise HTTPException(400, "a multipart form with the files is needed")
    receiver, size, batch = Receiver(options[b"boundary"], folder), 0, bytearray()
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > limit:
                raise too_large(limit)
            batch += piece
            if len(batch) >= BATCH:
                await run_in_threadpool(receiver.write, bytes(batch))
                batch.clear()
        await run_in_threadpool(receiver.write, bytes(batch))
        receiver.finish()
    finally:
        receiver.close()
    return receiver.files


def _gigabytes(size: int) -> str:
    return f"{size / GB:.1f} GB" if size >= GB / 20 else f"{size / 2**20:.0f} MB"
