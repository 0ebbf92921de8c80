"""A served model small enough to answer at once, and a datastore with two images."""

import nibabel as nib
import numpy as np
import pytest
from monailabel.datastore.local import LocalDatastore

from lib.weights import Weights

SHAPE = (24, 20, 12)


@pytest.fixture
def weights(tmp_path, monkeypatch, tiny_weights):
    """Weights in a model folder of their own; the shipped ones are out of sight."""
    monkeypatch.setenv("CLICKSEG_MODEL_DIR", str(tmp_path / "model"))
    tiny_weights(tmp_path / "model/test.pt", {"spleen": 1, "liver": 4})
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
