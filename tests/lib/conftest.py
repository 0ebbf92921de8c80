"""A served model small enough to answer at once, and a datastore with two images."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monailabel.datastore.local import LocalDatastore

from clickseg.methods import METHODS, UNet2dRecipe, save_weights
from lib.weights import Weights

SHAPE = (24, 20, 12)


def save_weights_of(path, seed=0, **fields):
    fields = {"labels": {"spleen": 1, "liver": 4}, "width": 2, "size": 16, "batch": 2, "steps_per_epoch": 2, **fields}
    recipe = UNet2dRecipe(spacing=2.5, mean=50.0, deviation=80.0, augment=False, **fields)
    torch.manual_seed(seed)
    save_weights(path, METHODS["unet2d"].build(recipe), recipe)


@pytest.fixture
def write_weights():
    return save_weights_of


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Weights in a model folder of their own; the shipped ones are out of sight."""
    monkeypatch.setenv("CLICKSEG_MODEL_DIR", str(tmp_path / "model"))
    save_weights_of(tmp_path / "model/test.pt")
    return Weights("test.pt")


@pytest.fixture
def datastore(tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        values = generator.normal(50, 80, SHAPE).astype(np.int16)
        nib.save(nib.Nifti1Image(values, np.diag([3, 2, 5, 1])), studies / f"{name}.nii.gz")
    return LocalDatastore(str(studies), extensions=("*.nii.gz",))
