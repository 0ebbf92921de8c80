"""A segmenter seen from another grid of the same extent: the server and the benchmark click on the source grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..geometry import FineSlices, rescale_clicks, resize
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

    def called(self, code: Tensor, names: Sequence[str]) -> Tensor:
        return self.segmenter.called(code, names)

    def decode(self, code: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        return resize(self.decode_on_model(code, clicks, previous), self.source)

    def decode_on_model(self, code: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        """The same, with the logits left on the model grid."""
        clicks_model = rescale_clicks(clicks, self.source, self.model)
        previous_model = None if previous is None else resize(previous.float(), self.model)
        with stage("decode"):
            return self.segmenter.decode(code, clicks_model, previous_model).float()


class FineLabels:
    """The classes that a 3D segmenter finds in one image (its code, a batch of 1), voxel by voxel of the source grid.

    As the argmax of `Rescaled.decode`, but for rounding; after clicks only what they concern is looked at anew.
    """

    def __init__(self, segmenter: Rescaled, code: Tensor, nothing: Tensor) -> None:
        self._segmenter, self._code = segmenter, code
        self._automatic = segmenter.decode_on_model(code, nothing)[0]
        self._labels = torch.empty(segmenter.source, dtype=torch.uint8, device=code.device)
        self._set(self._labels, self._automatic, torch.ones_like(self._automatic[0], dtype=torch.bool))

    def after(self, clicks: Tensor) -> Tensor:
        """Clicks (1, N, 4) on the source grid -> uint8 (X, Y, Z)."""
        logits, labels = self._segmenter.decode_on_model(self._code, clicks)[0], self._labels.clone()
        self._set(labels, logits, (logits != self._automatic).any(0))
        return labels

    def _set(self, labels: Tensor, logits: Tensor, marked: Tensor) -> None:
        slices = FineSlices(marked, self._segmenter.source)
        for number in slices.concerned():
            part = slices.part(number)
            rectangle = labels[..., number][part.box]
            rectangle[part.inside] = part.labels(logits)[part.inside]
