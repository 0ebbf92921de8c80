"""Files that are there whole or not at all, and what tells them apart."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

LONGEST = 200  # bytes of a name


def check_apart(output: Path | str, source: Path | str) -> None:
    """ValueError for a file to write that is what is read from, or lies in a folder that is."""
    place, read = Path(output).resolve(), Path(source).resolve()
    if place == read or (read.is_dir() and place.is_relative_to(read)):
        raise ValueError(f"{output} would be written over {source}, which is read: name another output")


def plain_name(text: str) -> str:
    """A name, of a structure say, as a part of a file's: letters, digits and hyphens, underscores for all else."""
    return re.sub(r"[^\w-]+", "_", text)


def readable(text: Path | str) -> str:
    """A path, or a sentence that names one, without bytes that are no UTF-8: they are read as Windows writes names."""
    content = os.fsencode(text)
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def digest(text: str, digits: int = 8) -> str:
    """Hexadecimal digits that stand for a text, the same ones every time."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:digits]


def unique_names(wishes: Sequence[Sequence[str]], taken: Collection[str] = ()) -> list[str]:
    """A name for each, of files that lie in one folder: the first of its wishes that nobody else has, or wishes too.

    taken: names that others have. Large and small letters do not count, nor what is too long for a file's name. Where
    no wish is left the last gets a number.
    """
    wishes = [[_short(wish) for wish in each] for each in wishes]
    there = {name.casefold() for name in taken}
    names: dict[int, str] = {}
    for turn in range(max(map(len, wishes), default=0)):
        wished = {at: each[min(turn, len(each) - 1)] for at, each in enumerate(wishes) if at not in names}
        folded = [name.casefold() for name in wished.values()]
        once = {at: name for at, name in wished.items() if folded.count(name.casefold()) == 1}
        names |= {at: name for at, name in once.items() if name.casefold() not in there}
        there |= {name.casefold() for name in names.values()}
    for at, each in enumerate(wishes):
        numbered = (f"{each[-1]}_{number}" for number in itertools.count(2))
        names.setdefault(at, next(name for name in numbered if name.casefold() not in there))
        there.add(names[at].casefold())
    return [names[at] for at in range(len(wishes))]


def _short(name: str) -> str:
    """A name that leaves room for endings: file systems take 255 bytes."""
    content = name.encode(errors="surrogateescape")
    if len(content) <= LONGEST:
        return name
    return f"{content[: LONGEST - 9].decode(errors='ignore')}_{digest(name)}"


def file_digest(path: Path | str) -> str:
    """The SHA-256 of what a file holds, in hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def numbered_links(files: Iterable[Path | str], folder: Path, ending: str) -> list[Path]:
    """Links to files, in their order, for programs that do not take their names; the folder is there or made."""
    folder.mkdir(exist_ok=True)
    links = []
    for number, file in enumerate(files):
        links.append(folder / f"{number:06}{ending}")
        links[-1].symlink_to(Path(file).resolve())
    return links


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


@contextlib.contextmanager
def held_alone(folder: Path | str, otherwise: str) -> Iterator[None]:
    """While this lasts a folder is one process's: another one that asks for it gets a ValueError saying `otherwise`.

    A process that ends, however it does, gives it back.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = Path(folder) / ".lock"
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ValueError(otherwise) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is still held
        lock.release()


def write_text(path: Path | str, text: str) -> None:
    """A text file, by `whole_file`."""
    with whole_file(path) as file:
        file.write(text.encode())
