"""What lies in the temporary folder while it is received or sent, and no longer: it is of patients."""

from __future__ import annotations

import contextlib
import errno
import lzma
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from fastapi import UploadFile
from fastapi.responses import FileResponse
from monailabel.utils.others.generic import remove_file
from starlette.types import Receive, Scope, Send

from .checks import new_name
from .refusals import refusing

DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
)
FULL = (errno.ENOSPC, errno.EDQUOT)  # of an OSError that is not the archive's fault


class SentOnce(FileResponse):
    """A file that goes when it has been sent, or when whoever asked for it has hung up."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            remove_file(str(self.path))


@contextlib.contextmanager
def received(files: Sequence[UploadFile], uncompress: bool) -> Iterator[Path]:
    """What a client sends, for as long as this lasts, unless it is moved: a file, or a folder of several.

    With `uncompress` the files are archives, and the folder holds what is in them. HTTPException 400 for one that
    cannot be unpacked, or would write elsewhere.
    """
    with tempfile.TemporaryDirectory(prefix="clickseg-session-") as temporary:
        sent, unpacked = Path(temporary) / "sent", Path(temporary) / "unpacked"
        for folder in (sent, unpacked):
            folder.mkdir()
        paths = [sent / new_name(Path(file.filename or "").name or "image") for file in files]
        for path, file in zip(paths, files, strict=True):
            with path.open("wb") as copy:
                shutil.copyfileobj(file.file, copy)
        if uncompress:
            for path in paths:
                with refusing():
                    _unpack(path, unpacked)
        yield unpacked if uncompress else sent if len(paths) > 1 else paths[0]


@contextlib.contextmanager
def as_file(sent: UploadFile, suffix: str) -> Iterator[str]:
    """What a client sends as a file of its own, for as long as this lasts."""
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        shutil.copyfileobj(sent.file, file)
        file.flush()
        sent.file.seek(0)
        yield file.name


def _unpack(archive: Path, folder: Path) -> None:
    """Write the files of an archive into a folder. ValueError if one lies elsewhere, or if it is no archive."""
    try:
        for name, content in _files(archive):
            place = folder / name
            if not place.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"{name!r} lies outside of it")
            place.parent.mkdir(parents=True, exist_ok=True)
            with content, place.open("wb") as file:
                shutil.copyfileobj(content, file)
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        raise ValueError(f"{archive.name} cannot be unpacked: {error}") from error


def _files(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each file in a .zip or .tar, compressed or not. ValueError for links: they lead anywhere."""
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for member in tar:
                if content := tar.extractfile(member) if member.isfile() else None:
                    yield member.name, content
                elif not member.isdir():
                    raise ValueError(f"{member.name!r} is neither a file nor a folder")
    else:
        with zipfile.ZipFile(archive) as files:
            for name in files.namelist():
                if not name.endswith("/"):
                    yield name, files.open(name)
