"""Data that tests of training and evaluation share."""

import pytest

from clickseg.datasets import CaseFolder
from clickseg.phantom import LABELS, write_phantoms


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """A data folder with two phantoms, 24 x 24 x 12 voxels: small enough to train on. Copy it to change it."""
    folder = tmp_path_factory.mktemp("study")
    write_phantoms(folder, cases=2, seed=0, shape=(24, 24, 12))
    return folder


@pytest.fixture(scope="session")
def cases(study):
    return CaseFolder.read(study).cases


@pytest.fixture(scope="module")
def weights(tmp_path_factory, tiny_weights):
    """A weights file of `unet2d` that knows the phantom's labels, and nothing of how they look."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    tiny_weights(path, LABELS)
    return path
