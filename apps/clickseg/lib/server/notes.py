"""What is known of a label, kept beside its file: the list of studies forgets it once the image's file is away."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clickseg.files import file_digest

IMAGE = "image_identity"  # in what is said of a label: the `identity` of the image that it was saved for
SAMPLE = 2**16  # bytes
GZIP = b"\x1f\x8b"  # how a file begins that gzip has compressed
REMEMBERED = 4096  # files, whose digests are computed once


def identity(path: Path | str) -> str:
    """What tells a file from another one of its name: its size, and a digest of all of it.

    Images of one size may have the same empty borders. Of what gzip has compressed the first and last bytes do, for
    the last are a checksum of all of it: thousands of studies are looked through at once. Raises OSError if there is
    no such file.
    """
    with Path(path).open("rb") as file:
        compressed = file.read(len(GZIP)) == GZIP
    return _of_borders(path) if compressed else _of_all(path)


def belongs(said: str, path: Path | str) -> bool:
    """Whether an identity is a file's. Earlier versions wrote that of the borders, whatever the file."""
    return said == _of_borders(path) or said == identity(path)


def note_path(label: Path | str) -> Path:
    """Where the note of a label's file lies: a folder that is no list of labels."""
    return Path(label).parent / ".notes" / f"{Path(label).name}.json"


def note(content: Path | str, info: Mapping[str, Any]) -> bytes:
    """The note of a label. content: its file, or a copy. info: what is said of it, with the image's identity."""
    return json.dumps({"label": identity(content), "info": info}, default=str).encode()


def read_note(label: Path | str) -> dict[str, Any] | None:
    """What was said of a label; None if nothing was, or of another file of that name."""
    try:
        said = json.loads(note_path(label).read_text())
        return dict(said["info"]) if belongs(said["label"], label) and said["info"][IMAGE] else None
    except (OSError, ValueError, KeyError, TypeError):  # none, or one that a hand has spoilt
        return None


def _of_borders(path: Path | str) -> str:
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        for place in (0, max(size - SAMPLE, 0)):
            file.seek(place)
            digest.update(file.read(SAMPLE))
    return f"{size}:{digest.hexdigest()[:32]}"


def _of_all(path: Path | str) -> str:
    stats = Path(path).stat()
    return _digest(str(path), stats.st_size, (stats.st_ino, stats.st_mtime_ns, stats.st_ctime_ns))


@functools.lru_cache(REMEMBERED)
def _digest(path: str, size: int, state: tuple[int, ...]) -> str:
    """state: what changes when somebody writes into the file or puts another in its place."""
    return f"{size}:all:{file_digest(path)[:32]}"
