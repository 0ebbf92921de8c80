"""A segmenter seen from another grid of the same extent: the server and the benchmark click on the source grid."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..geometry import rescale_clicks, resize
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
        return resize(self.decode_on_model(code, clicks, previous), self.source)

    def decode_on_model(self, code: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        """The same, with the logits left on the model grid."""
        clicks_model = rescale_clicks(clicks, self.source, self.model)
        previous_model = None if previous is None else resize(previous.float(), self.model)
        with stage("decode"):
            return self.segmenter.decode(code, clicks_model, previous_model).float()
