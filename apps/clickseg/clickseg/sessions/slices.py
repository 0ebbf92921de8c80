"""A session of a 2D method: slice by slice, each encoded when it is first clicked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest

import numpy as np
import torch
from cachetools import LRUCache
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ..clicks import INSIDE, OUTSIDE, Click, stack_clicks
from ..clicks.users import innermost
from ..geometry import AxialSlices, Grid, resize, resized_shape
from ..methods import Model
from ..methods.rescaled import Rescaled
from ..methods.unet2d import plain_spelling
from ..progress import tell_slice
from ..stopwatch import stage
from .claims import KEY_BYTES, Claim, Probability, fingerprint
from .open_image import OpenImage, Position
from .propagate import agreed, propagate


class Session(OpenImage):
    """One image opened with one model: clicks in, masks out, on the source grid.

    It holds only what can be recomputed, so an evicted and reopened session answers the same. Safe to share among
    threads. `unet2d` works slice by slice: a slice is encoded when it is first clicked.
    """

    method, dimension = "unet2d", 2
    remembered_answers = 48  # whole, to go on from
    remembered_claims = 48  # as many bytes as so many whole answers take: mostly hundreds of claims

    def __init__(self, volume: NDArray[np.generic], grid: Grid, model: Model, device: torch.device | str) -> None:
        super().__init__(volume, grid, model, device)
        self.slices = AxialSlices(grid)
        self.axis = self.slices.axis
        model_shape = resized_shape(self.slices.shape, self.slices.spacing, self.recipe.spacing)
        self._segmenter = Rescaled(model.segmenter, self.slices.shape, model_shape)
        self._nothing = np.zeros(self.slices.shape, np.float32)  # the answer before the first click
        self._codes: dict[int, Tensor] = {}
        pixels, model_pixels = int(np.prod(self.slices.shape)), int(np.prod(model_shape))
        claims = self.remembered_claims * (4 * pixels + KEY_BYTES)
        self._answers: LRUCache[Hashable, Probability] = LRUCache(self.remembered_answers)
        self._claims: LRUCache[Hashable, Claim] = LRUCache(claims, lambda claim: claim.bytes)
        codes, answers = grid.shape[self.slices.axis] * model_pixels, self.remembered_answers * pixels
        self.bytes = volume.nbytes + 4 * (codes + answers) + claims  # float32; what it may come to hold

    def predict(
        self,
        clicks: Sequence[Click],
        start: NDArray[np.uint8] | None = None,
        reach: int = 0,
        only: int | None = None,
        name: str = "",
    ) -> NDArray[np.uint8]:
        """Clicks of one structure (label 1 inside, 0 outside; source voxels) -> uint8 mask (X, Y, Z) of 0 and 1.

        Every slice with a click inside is predicted from its own clicks, and up to `reach` slices on either side of it
        by `propagate`. All others are 0, or as in `start`, a mask (X, Y, Z) of 0 and 1, which clicks outside correct
        where they lie in it. With `only`, the number of an axial slice, no other is asked about. `name` is what the
        structure is called, for weights that know it. Raises ValueError for a click outside the image or with another
        label, or a bad start.
        """
        for click in clicks:
            self.check(click.position)
            if click.label not in (INSIDE, OUTSIDE):
                raise ValueError(f"click {click.position}: the label is 1 (inside) or 0 (outside), not {click.label}")
        mask = self.new_mask(start, [INSIDE])
        asked = self._in_slice(only, clicks)
        for number, claim in self._claims_of(asked, asked, start, INSIDE, reach, self._known(name)):
            plane = self.slices.view(mask, number)
            if start is not None:
                plane[:] = 0
            plane[claim.box] = claim.inside > 0
            tell_slice(self.axis, number, self.plane(mask, number))
        return mask

    def predict_labels(
        self,
        clicks: Mapping[str, Sequence[Position]],
        labels: Mapping[str, int],
        frozen: Collection[str] = (),
        start: NDArray[np.uint8] | None = None,
        reach: int = 0,
        only: int | None = None,
    ) -> NDArray[np.uint8]:
        """Clicks by label name, and under "background" -> uint8 label map (X, Y, Z) with the values of `labels`.

        A label's clicks are inside for it; every other label's and the background's are outside. In a slice with a
        click inside it, a label is where the network says; where two labels claim a voxel the more probable one has
        it. Everywhere else the answer is 0, or that of `start`, which the background's clicks correct where they lie
        in a label.

        Args:
            frozen: names of labels that stay, voxel by voxel, as they are in `start`.
            start: a label map (X, Y, Z) with the values of `labels` that is to be corrected.
            reach: slices on either side of a clicked one that a label may go on to (`propagate`).
            only: number of the one axial slice that is asked about.

        Raises:
            ValueError: an unknown name, a click outside the image, or a start of another shape or with other values.
        """
        self.check_names(clicks, frozen, labels)
        for positions in clicks.values():
            for position in positions:
                self.check(position)
        mask = self.new_mask(start, labels.values())
        kept_values = [labels[name] for name in frozen]
        denying = [Click(tuple(position), OUTSIDE) for position in clicks.get("background", ())]
        best: dict[int, Probability] = {}
        for name, value in labels.items():
            if name == "background" or name in frozen:
                continue
            # Its own clicks last: a network that reads its answer before the last click then replays no others.
            others = [position for other, positions in clicks.items() if other != name for position in positions]
            signed = [Click(tuple(position), OUTSIDE) for position in others]
            signed += [Click(tuple(position), INSIDE) for position in clicks.get(name, ())]
            asked, denied = self._in_slice(only, signed), self._in_slice(only, denying)
            for number, claim in self._claims_of(asked, denied, start, value, reach, self._known(name)):
                plane = self.slices.view(mask, number)
                if number not in best:
                    best[number] = np.zeros(claim.shape, np.float32, order="F")
                rival = best[number][claim.box]
                claimed = claim.inside > rival
                if start is not None:
                    plane[plane == value] = 0
                    claimed &= ~np.isin(plane[claim.box], kept_values)
                np.copyto(plane[claim.box], value, where=claimed)
                np.maximum(rival, claim.inside, out=rival)
                tell_slice(self.axis, number, self.plane(mask, number))
        return mask

    def reached(
        self, positions: Iterable[Position], start: NDArray[np.uint8] | None = None, reach: int = 0
    ) -> Collection[int] | None:
        """Those with a click, if there is no start and nothing is propagated."""
        return None if reach or start is not None else {position[self.axis] for position in positions}

    def _known(self, name: str) -> str:
        """A structure's name as the weights know it, or nothing."""
        spelling = plain_spelling(name)
        return spelling if spelling in self.recipe.names else ""

    def _claims_of(
        self,
        clicks: Sequence[Click],
        denying: Sequence[Click],
        start: NDArray[np.uint8] | None,
        value: int,
        reach: int,
        name: str,
    ) -> Iterator[tuple[int, Claim]]:
        """Of each slice that clicks of a structure concern, as soon as it is known, what is claimed there.

        denying: clicks outside, which correct the mask of `value` in `start` where no click inside decides.
        """
        answered = set()
        for number, claim in self._answers_to(clicks, reach, name):
            answered.add(number)
            yield number, claim
        if start is not None:
            left = [click for click in denying if click.position[self.axis] not in answered]
            yield from self._corrections(left, start, value, name)

    def _answers_to(self, clicks: Sequence[Click], reach: int, name: str) -> Iterator[tuple[int, Claim]]:
        """Slice number and what is claimed there, of slices with a click inside, and then of those they reach.

        Between two clicked slices each goes half the way; all of them go on in turn.
        """
        by_slice = self._by_slice(clicks)
        clicked = sorted(number for number, group in by_slice.items() if any(click.label == INSIDE for click in group))
        answers = {}
        for number in clicked:
            answers[number] = self._claim(number, by_slice[number], name)
            yield number, answers[number]

        def ask(number: int, more: Sequence[Click], read: Probability, follows: bool) -> Probability:
            return self._claim_reading(number, [*by_slice.get(number, []), *more], name, read, follows).whole()

        def look(number: int) -> NDArray[np.generic]:
            return self.slices.view(self._volume, number)

        ways = []
        for place, number in enumerate(clicked if reach else ()):
            below = (clicked[place - 1] + number) // 2 if place else -1
            above = (number + clicked[place + 1]) // 2 if place + 1 < len(clicked) else self.grid.shape[self.axis] - 1
            down = range(number - 1, max(below, number - 1 - reach), -1)
            up = range(number + 1, min(above, number + reach) + 1)
            begin = answers[number].whole()
            ways += [propagate(number, begin, numbers, ask, look, self.slices.spacing) for numbers in (down, up)]
        for step in zip_longest(*ways):  # who watches sees the nearest slices first
            yield from ((number, Claim.of(inside)) for number, inside in filter(None, step))

    def _corrections(
        self, clicks: Sequence[Click], start: NDArray[np.uint8], value: int, name: str
    ) -> Iterator[tuple[int, Claim]]:
        """Slice number and what clicks outside leave of a label in `start`, of slices without a click inside.

        The network corrects the label's mask there as if it were its own answer to a click in the middle of it. Pieces
        that no such click lies in stay, and none grows.
        """
        for number, group in self._by_slice(clicks).items():
            plane = self.slices.view(start, number) == value
            if any(click.label == INSIDE for click in group) or not any(plane[click.position] for click in group):
                continue
            pieces, _ = ndimage.label(plane, np.ones((3, 3)))
            denied = np.isin(pieces, [pieces[click.position] for click in group if plane[click.position]])
            middle = Click(innermost(plane), INSIDE)
            given = self._nothing + plane
            answer = given
            if any(click.position == middle.position for click in group):
                answer = self._nothing  # its very middle is not inside, so that nothing of the piece is
            else:
                for count in range(1, len(group) + 1):
                    answer = self._answer(number, [middle, *group[:count]], answer, name, fingerprint(plane))
            yield number, Claim.of(np.where(denied, answer, given) * plane)

    def _in_slice(self, number: int | None, clicks: Sequence[Click]) -> Sequence[Click]:
        """Those in an axial slice, or all; slices know nothing of each other."""
        return [click for click in clicks if number is None or click.position[self.axis] == number]

    def _by_slice(self, clicks: Sequence[Click]) -> dict[int, list[Click]]:
        """Slice number -> its clicks, in (R, A) index of that slice."""
        grouped: dict[int, list[Click]] = {}
        for click in clicks:
            number, position = self.slices.locate(click.position)
            grouped.setdefault(number, []).append(Click(position, click.label))
        return grouped

    def _claim(self, number: int, clicks: Sequence[Click], name: str) -> Claim:
        """What clicks in a slice claim there, on the source grid, for a structure of a name that the weights know.

        One slice at a time: a batch of several would round differently, and answers must not depend on history.
        """
        return self._kept((number, tuple(clicks), name), lambda: self._inside(number, clicks, name))

    def _claim_reading(
        self, number: int, clicks: Sequence[Click], name: str, read: Probability, follows: bool
    ) -> Claim:
        """The same by a network that reads an answer: what the last click corrects, or the answer in the slice before.

        follows: it is the latter, and what the clicks claim counts as far as its reader agrees.
        """
        if not self._segmenter.feedback:
            return self._claim(number, clicks, name)

        def compute() -> Probability:
            answer = self._in_turn(number, clicks, read, name)
            return agreed(self._claim(number, clicks, name).whole(), answer) if follows else answer

        return self._kept((number, tuple(clicks), name, follows, fingerprint(read)), compute)

    def _kept(self, key: Hashable, compute: Callable[[], Probability]) -> Claim:
        with self._lock:
            known = self._claims.get(key)
        if known is None:
            known = Claim.of(compute())
            with self._lock:
                self._claims[key] = known
        return known

    def _inside(self, number: int, clicks: Sequence[Click], name: str) -> Probability:
        """Probability (R, A) of being inside, for one slice on the source grid."""
        previous = None
        if self._segmenter.feedback:
            before = self._nothing
            first = next(index for index, click in enumerate(clicks) if click.label == INSIDE)
            for count in range(first + 1, len(clicks)):  # those that are remembered cost nothing
                before = self._answer(number, clicks[:count], before, name)
            previous = before
        return self._answer(number, clicks, previous, name)

    def _answer(
        self, number: int, clicks: Sequence[Click], previous: Probability | None, name: str, start: bytes = b""
    ) -> Probability:
        """start: the fingerprint of the mask that was corrected from the first click on, if any."""
        key = (number, tuple(clicks), name, start)
        with self._lock:
            if key not in self._answers:
                self._answers[key] = self._in_turn(number, clicks, previous, name)
            return self._answers[key]

    def _in_turn(self, number: int, clicks: Sequence[Click], previous: Probability | None, name: str) -> Probability:
        return self._turns.take(lambda: self._compute(number, clicks, previous, name))

    def _compute(self, number: int, clicks: Sequence[Click], previous: Probability | None, name: str) -> Probability:
        rows = stack_clicks([clicks], dimension=2).to(self._device)
        before = None
        if previous is not None and self._segmenter.feedback:
            before = torch.from_numpy(previous)[None, None].to(self._device)
        code = self._segmenter.called(self._code(number), [name])
        logits = self._segmenter.decode_on_model(code, rows, before)
        # The softmax of two is the sigmoid of their difference: one channel to enlarge instead of two.
        lead = resize(logits[:, INSIDE, None] - logits[:, OUTSIDE, None], self.slices.shape)
        return lead.sigmoid()[0, 0].cpu().numpy()

    def _code(self, number: int) -> Tensor:
        if number not in self._codes:
            with stage("preprocess"):
                plane = np.ascontiguousarray(self.slices.view(self._volume, number), dtype=np.float32)
            self._codes[number] = self._segmenter.encode(torch.from_numpy(plane)[None, None].to(self._device))
        return self._codes[number]
