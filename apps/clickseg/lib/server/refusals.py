"""Bad input is the client's, and is told so."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from fastapi import HTTPException

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """A ValueError, which the library raises for bad input, becomes 400 with its sentence."""
    try:
        yield
    except ValueError as error:
        logger.warning("refused: %s", error)
        raise HTTPException(status_code=400, detail=str(error)) from error
