"""Sessions of networks that are easy to foresee."""

import pytest
import torch
from scipy import ndimage

from clickseg.geometry import Grid
from clickseg.methods import Model, Segmenter, UNet2dRecipe
from clickseg.sessions import Session


class FloodFill(Segmenter):
    """Inside is whatever is bright and connected to a click inside, and not what is connected to one outside."""

    dimension = 2

    def encode(self, image):
        return image

    def decode(self, code, clicks, previous=None):
        inside = torch.zeros_like(code)
        pieces, _ = ndimage.label(code[0, 0] > 50)
        for i, j, label in sorted(clicks[0].tolist(), key=lambda row: -row[2]):
            if pieces[i, j]:
                inside[0, 0][torch.from_numpy(pieces == pieces[i, j])] = label
        return torch.cat([1 - inside, inside], dim=1) * 9


class Rooted(FloodFill):
    """FloodFill that, once it reads an answer, marks nothing beyond the pixels beside it."""

    feedback = True

    def __init__(self):
        super().__init__()
        self.asked = 0

    def decode(self, code, clicks, previous=None):
        self.asked += 1
        logits = super().decode(code, clicks)
        if previous is not None and previous.any():
            near = torch.from_numpy(ndimage.binary_dilation(previous[0, 0].numpy() > 0.5))
            logits[:, 1] = torch.where(near, logits[:, 1], -99.0)
        return logits


@pytest.fixture
def rooted():
    return Rooted()


@pytest.fixture
def session_with():
    """session_with(segmenter, volume, affine, spacing=2.0): it works at so many mm, and its labels matter to nobody."""

    def session_with(segmenter, volume, affine, spacing=2.0):
        recipe = UNet2dRecipe(labels={"liver": 1}, spacing=spacing, width=1)
        return Session(volume, Grid(volume.shape, affine), Model(segmenter, recipe), "cpu")

    return session_with


@pytest.fixture
def flooded(session_with):
    """flooded(volume, affine, spacing=2.0): a session of FloodFill."""
    return lambda *given, **more: session_with(FloodFill(), *given, **more)
