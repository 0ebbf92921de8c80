"""Files that are there whole or not at all, and what tells them apart."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def check_apart(output: Path | str, source: Path | str) -> None:
    """ValueError for a file to write that is what is read from, or lies in a folder that is."""
    place, read = Path(output).resolve(), Path(source).resolve()
    if place == read or (read.is_dir() and place.is_relative_to(read)):
        raise ValueError(f"{output} would be written over {source}, which is read: name another output")


def plain_name(text: str) -> str:
    """A name, of a structure say, as a part of a file's: letters, digits and hyphens, underscores for all else."""
    return re.sub(r"[^\w-]+", "_", text)


def file_digest(path: Path | str) -> str:
    """The SHA-256 of what a file holds, in hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def whole_file(path: Path | str) -> Iterator[BinaryIO]:
    """What is written into this takes its place at the end: readers see the old file or the new one, never a part.

    So it is if the process is killed half-way or the disk is full, too; then nothing is left of it, and OSError raised.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: Path | str, text: str) -> None:
    """A text file, by `whole_file`."""
    with whole_file(path) as file:
        file.write(text.encode())
