"""The one click loop: a segmenter predicts, somebody clicks where it is wrong, it predicts again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial

import torch
from torch import Tensor

from .clicks import PADDING, SimulateClickd, stack_clicks
from .methods import Segmenter

SURE = 50.0  # a logit


class Turn:
    """The clicks of the game so far, (B, N, D+1), and the segmenter's answer to them (computed when first read).

    previous: the logits (B, C, *S) that each image's last click was an answer to; None at the first turn.
    """

    def __init__(self, clicks: Tensor, previous: Tensor | None, predict: Callable[[], Tensor]) -> None:
        self.clicks = clicks
        self.previous = previous
        self._predict = predict

    @cached_property
    def logits(self) -> Tensor:
        """(B, C, *S)."""
        return self._predict()


def interact(
    segmenter: Segmenter,
    code: Tensor,
    label: Tensor,
    click: SimulateClickd,
    seeds: Tensor,
    turns: int,
    schedule: Tensor | None = None,
) -> Iterator[Turn]:
    """Play `turns` turns of the click game on a batch, without gradients.

    An image that gets no new click (its user is satisfied, or it sits out this turn) keeps its logits and is not
    predicted again. With a `schedule`, an image that clicks no more by it is not predicted for its last clicks either:
    its logits are of an earlier turn, or background. The last turn is predicted only if the caller reads its logits.

    Args:
        segmenter: the bare module (never a DistributedDataParallel wrapper, whose forward broadcasts buffers, so that
            ranks with different numbers of turns would wait for each other for ever).
        code: what `segmenter.encode` returned, (B, ...).
        label: (B, 1, *S), the truth that the user looks at.
        click: the simulated user as a transform. seeds: (B,), what each image's clicks grow from.
        schedule: (turns, B) bool, who may click at which turn (default: everybody always).
    """
    clicks: Tensor | None = None
    logits: Tensor | None = None
    if segmenter.answers_first:
        nothing = stack_clicks([[] for _ in label], label.ndim - 2).to(label.device)
        with torch.no_grad():
            logits = segmenter.decode(code, nothing)
    for number in range(turns):
        clicks = click({"label": label, "previous": logits, "clicks": clicks, "seed": seeds})["clicks"]
        if schedule is not None:
            clicks[~schedule[number], -1, -1] = PADDING
        wanted = clicks[:, -1, -1] != PADDING
        if schedule is not None and number + 1 < turns:
            wanted &= schedule[number + 1 :].any(0)
        turn = Turn(clicks, logits, partial(_predict, segmenter, code, clicks, logits, wanted))
        yield turn
        if number + 1 < turns:
            logits = turn.logits


@torch.no_grad()
def _predict(segmenter: Segmenter, code: Tensor, clicks: Tensor, logits: Tensor | None, wanted: Tensor) -> Tensor:
    """Predict again the images that are `wanted`; the others keep their `logits`."""
    previous = probabilities(logits) if segmenter.feedback and logits is not None else None
    if bool(wanted.all()):
        return segmenter.decode(code, clicks, previous)
    if logits is not None and not bool(wanted.any()):
        return logits
    fresh = None
    if bool(wanted.any()):
        fresh = segmenter.decode(code[wanted], clicks[wanted], None if previous is None else previous[wanted])
    if logits is None:
        # Nobody reads these: the images clicked nothing or never click again. Background is the honest filler.
        shape = fresh.shape[1:] if fresh is not None else (2, *code.shape[2:])
        logits = code.new_zeros(len(code), *shape)
        logits[:, 0] = SURE
    else:
        logits = logits.clone()
    if fresh is not None:
        logits[wanted] = fresh.to(logits.dtype)
    return logits


def probabilities(logits: Tensor) -> Tensor:
    """Logits (B, C, *S) -> what `decode` takes as `previous`, (B, C - 1, *S)."""
    return logits.float().softmax(1)[:, 1:]
