"""A segmenter seen from another grid of the same extent: the server and the benchmark click on the source grid."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..geometry import rescale_clicks, resize, shrink
from ..stopwatch import stage
from .protocol import Segmenter


class Rescaled(Segmenter):
    """Images, clicks and logits on a source grid of shape `source`, the segmenter inside on its model grid `model`."""

    def __init__(self, segmenter: Segmenter, source: Sequence[int], model: Sequence[int]) -> None:
        super().__init__()
        self.dimension = segmenter.dimension
        self.feedback = segmenter.feedback
        self.answers_first = segmenter.answers_first
        self.segmenter = segmenter
        self.source = tuple(source)
        self.model = tuple(model)

    def encode(self, image: Tensor) -> Tensor:
        with stage("preprocess"):
            scaled = resize(image.float(), self.model)
        with stage("encode"):
            return self.segmenter.encode(scaled)

    def decode(self, code: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        return resize(self._decode(code, clicks, previous), self.source)

    def _decode(self, code: Tensor, clicks: Tensor, previous: Tensor | None) -> Tensor:
        clicks_model = rescale_clicks(clicks, self.source, self.model)
        previous_model = None if previous is None else resize(previous.float(), self.model)
        with stage("decode"):
            return self.segmenter.decode(code, clicks_model, previous_model).float()

    def decode_coarsely(self, code: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        """3D logits on a grid no finer than the source (`FineSlices`). Arguments as of `decode`."""
        return shrink(self._decode(code, clicks, previous), self.source)
