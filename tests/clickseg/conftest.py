"""Data that tests of training and evaluation share."""

import pytest

from clickseg.datasets import CaseFolder
from clickseg.methods.tis import TisRecipe
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


@pytest.fixture(scope="session")
def tis(tmp_path_factory, tiny_tis_weights):
    """A weights file of `tis` that knows a liver and a spleen by name, and nothing of how they look."""
    path = tmp_path_factory.mktemp("tis") / "tis.pt"
    labels = {"liver": 1, "spleen": 4}
    recipe = TisRecipe(labels=labels, spacing=16.0, patch=(8, 8, 8), width=2, tokens=4, heads=2, layers=1, reach=1)
    tiny_tis_weights(path, recipe)
    return path
