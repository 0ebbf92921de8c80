from pathlib import Path

import itk
import nibabel as nib
import nrrd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickseg.clicks.wire import DTYPES, Reply
from clickseg.geometry import Grid
from clickseg.images import read_volume
from lib.infers.reply import write_reply

OBLIQUE = np.array([[-0.9, 0.3, 0.1, 40.0], [0.25, 1.1, -0.2, -70.5], [0.05, 0.2, 2.5, 1000.25], [0, 0, 0, 1]])
REPLIES = [Reply(".nrrd", "uint8", False), Reply(".nrrd", "uint8", True), Reply(".nii.gz", "uint8", False)]
REPLIES += [Reply(".nii", "uint8", False)]


def written(mask, grid, reply, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return write_reply(mask, grid, reply)


def some_mask(shape=(5, 6, 7), order="C"):
    return np.asarray(np.random.default_rng(0).integers(0, 4, shape), dtype=np.uint8, order=order)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("reply", REPLIES, ids=str)
def test_a_mask_is_read_back_on_the_grid_it_was_written_on(reply, order, tmp_path, monkeypatch):
    mask, grid = some_mask(order=order), Grid((5, 6, 7), np.diag([1.5, 2.0, -3.0, 1.0]))
    values, read_grid = read_volume(written(mask, grid, reply, tmp_path, monkeypatch))
    assert np.array_equal(values, mask)
    assert np.allclose(read_grid.affine, grid.affine)


def test_an_oblique_nrrd_has_the_space_directions_that_other_readers_expect(tmp_path, monkeypatch):
    mask, grid = some_mask(), Grid((5, 6, 7), OBLIQUE)
    path = written(mask, grid, REPLIES[0], tmp_path, monkeypatch)
    values, header = nrrd.read(path)
    assert np.array_equal(values, mask)
    assert header["space"] == "left-posterior-superior"
    assert np.array_equal(header["space directions"].T, grid.lps_affine[:3, :3])
    assert np.array_equal(header["space origin"], grid.lps_affine[:3, 3])


def test_itk_and_nibabel_find_an_oblique_nifti_at_the_same_place(tmp_path, monkeypatch):
    turned = np.linalg.qr(OBLIQUE[:3, :3])[0] * [1, 2, 3]  # NIfTI as ITK reads it has no shear
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turned, OBLIQUE[:3, 3]
    path = written(some_mask(), Grid((5, 6, 7), affine), REPLIES[3], tmp_path, monkeypatch)
    image = itk.imread(path)
    assert np.allclose(nib.load(path).affine, affine)
    assert np.allclose(np.array(image.GetOrigin()) * [-1, -1, 1], affine[:3, 3], atol=1e-3)
    directions = itk.array_from_matrix(image.GetDirection()) * np.array(image.GetSpacing())
    assert np.allclose(np.diag([-1, -1, 1]) @ directions, turned, atol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz"])
def test_every_number_type_is_written(dtype, extension, tmp_path, monkeypatch):
    mask, grid = some_mask(), Grid((5, 6, 7), np.eye(4))
    path = written(mask, grid, Reply(extension, dtype, False), tmp_path, monkeypatch)
    values = nrrd.read(path)[0] if extension == ".nrrd" else np.asarray(nib.load(path).dataobj)
    assert values.dtype == np.dtype(dtype)
    assert np.array_equal(values, mask)


@settings(max_examples=20)
@given(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)))
def test_any_shape_survives(shape):
    mask = some_mask(shape)
    path = Path(write_reply(mask, Grid(shape, np.eye(4)), REPLIES[1]))
    assert np.array_equal(read_volume(path)[0], mask)
    path.unlink()
