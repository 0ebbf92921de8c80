"""Bad input is the client's, and is told so."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator

from fastapi import BackgroundTasks, HTTPException

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """A ValueError, which the library raises for bad input, becomes 400 with its sentence."""
    try:
        yield
    except ValueError as error:
        logger.warning("refused: %s", error)
        raise HTTPException(status_code=400, detail=str(error)) from error


def json_object(text: str, field: str = "params") -> dict:
    """What a form's field holds. HTTPException 400 if that is no JSON object."""
    try:
        content = json.loads(text or "{}")
    except ValueError as error:
        raise HTTPException(400, f"{field} is not JSON: {error}") from error
    except RecursionError as error:
        raise HTTPException(400, f"{field} holds lists or objects too deep in one another") from error
    if not isinstance(content, dict):
        raise HTTPException(400, f"{field} must be a JSON object, not {text[:40]!r}")
    return content


def tidied(background_tasks: BackgroundTasks) -> Iterator[None]:
    """A dependency of routes that take files: the copies in the temporary folder go when the request is refused, too.

    The stock functions leave their removal to background tasks, which belong to an answer: a refusal has none, and a
    patient's image would stay.
    """
    try:
        yield
    except BaseException:
        for task in background_tasks.tasks:
            task.func(*task.args, **task.kwargs)
        raise
