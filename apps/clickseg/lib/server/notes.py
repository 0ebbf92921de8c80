"""What is known of a label, kept beside its file: the list of studies forgets it once the image's file is away."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

IMAGE = "image_identity"  # in what is said of a label: the `identity` of the image that it was saved for
SAMPLE = 2**16  # bytes


def identity(path: Path | str) -> str:
    """What tells a file from another one of its name: its size, and a digest of its first and last bytes.

    The last bytes of a .gz are a checksum of all of it. Raises OSError if there is no such file.
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        for place in (0, max(size - SAMPLE, 0)):
            file.seek(place)
            digest.update(file.read(SAMPLE))
    return f"{size}:{digest.hexdigest()[:32]}"


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
        return dict(said["info"]) if said["label"] == identity(label) and said["info"][IMAGE] else None
    except (OSError, ValueError, KeyError, TypeError):  # none, or one that a hand has spoilt
        return None
