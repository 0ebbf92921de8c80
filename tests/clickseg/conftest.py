"""Data that tests of training and evaluation share."""

import io

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from clickseg.datasets import CaseFolder
from clickseg.methods.tis import TisRecipe
from clickseg.phantom import LABELS, write_phantoms
from clickseg.phantom.dicom import dicom_series


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


@pytest.fixture
def write_ct():
    """write_ct(folder, slices=6, seed=0, name="IM{:06}", origin, directions, start=0, **fields) -> folder.

    Writes the slices of a CT series of 12 x 10 voxels of 2 x 2 x 5 mm, whose numbers depend on the seed; its files have
    these fields, and lack those that are None. start: number in the name of the first.
    """

    def write(folder, slices=6, seed=0, name="IM{:06}", origin=(0.0, 0.0, 0.0), directions=None, start=0, **fields):
        folder.mkdir(parents=True, exist_ok=True)
        numbers = np.random.default_rng(seed).integers(-1000, 2000, (12, 10, slices)).astype(np.int16)
        fields = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid(), **fields}
        for number, content in enumerate(dicom_series(numbers, (2.0, 2.0, 5.0), origin, directions=directions)):
            data = pydicom.dcmread(io.BytesIO(content))
            own = {"SOPInstanceUID": generate_uid(), **fields}
            for field, value in own.items():
                setattr(data, field, value)
                if value is None:
                    delattr(data, field)
            data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
            data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
            data.save_as(folder / name.format(number + start))
        return folder

    return write
