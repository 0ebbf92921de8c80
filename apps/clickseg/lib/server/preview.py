"""POST /clickseg/api/preview: the mask of one slice while the mouse moves, and nothing written."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Hashable, Iterator
from threading import Condition
from typing import Any

from fastapi import APIRouter, Depends, Response
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance
from pydantic import BaseModel, Field

from .slice_runs import SliceRuns, as_runs

preview_router = APIRouter(
    prefix="/clickseg/api", tags=["clickseg"], dependencies=[Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
)


class PreviewRequest(BaseModel):
    """What a preview is wanted of."""

    model: str = Field(description="as /info lists it")
    image: str = Field(description="id in the datastore")
    params: dict[str, Any] = Field(description="the clicks, as in the form field of that name of /infer")
    slice: int | None = Field(
        None, description="along `axis` of the reply; by default that of the clicks, if it is one"
    )
    client: str = Field(
        "", description="who asks: of one client and image, only the newest waiting preview is computed"
    )


class PreviewReply(SliceRuns):
    """The labels of one axial slice, as runs of equal values."""

    labels: dict[str, int] = Field(description="name -> value")
    seconds: float = Field(description="from the start of the computation to this reply")


class NewestOnly:
    """Lets one of each kind in at a time, and of those that wait the newest only."""

    def __init__(self) -> None:
        self._change = Condition()
        self._newest: dict[Hashable, object] = {}
        self._busy: set[Hashable] = set()

    @contextlib.contextmanager
    def turn(self, kind: Hashable) -> Iterator[bool]:
        """Wait; False if a newer one of the same kind has come meanwhile."""
        mine = object()
        with self._change:
            self._newest[kind] = mine
            self._change.notify_all()
            self._change.wait_for(lambda: self._newest.get(kind) is not mine or kind not in self._busy)
            wanted = self._newest.get(kind) is mine
            if wanted:
                self._busy.add(kind)
        try:
            yield wanted
        finally:
            if wanted:
                with self._change:
                    self._busy.discard(kind)
                    if self._newest.get(kind) is mine:
                        del self._newest[kind]
                    self._change.notify_all()


_turns = NewestOnly()


@preview_router.post(
    "/preview",
    response_model=PreviewReply,
    responses={204: {"description": "the same client has asked for a newer preview of the image; this one is dropped"}},
)
def preview(request: PreviewRequest) -> Any:
    """The answer to clicks in one axial slice, at once: nothing is saved, no other slice is computed or sent."""
    kind = (request.client, request.image) if request.client else object()
    with _turns.turn(kind) as wanted:
        if not wanted:
            return Response(status_code=204)
        begin = time.perf_counter()
        asked = {**request.params, "model": request.model, "image": request.image}
        found = app_instance().preview(asked, request.slice)
        return Response(
            PreviewReply(
                **as_runs(found.axis, found.number, found.mask),
                labels=dict(found.labels),
                seconds=round(time.perf_counter() - begin, 4),
            ).model_dump_json(),
            media_type="application/json",
        )
