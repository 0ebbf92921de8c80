"""Which structures are played on, and what they are called."""

import shutil

import nibabel as nib
import numpy as np
import pytest

from clickseg.evaluation import Protocol, evaluate
from clickseg.phantom import LABELS


@pytest.fixture
def nameless(study, tmp_path):
    """A data folder without dataset.json, so that nobody names its values."""
    folder = shutil.copytree(study, tmp_path / "data")
    (folder / "dataset.json").unlink()
    return folder


def labels(data, weights, output, **protocol):
    method = "disc" if weights is None else "unet2d"
    done = evaluate(method, weights, data, output, Protocol(clicks=(1,), limit=1, **protocol))
    return [*done.report["labels"]]


def change_label(data, change):
    path = data / "labelsTr/phantom_000.nii.gz"
    stored = nib.load(path)
    nib.save(nib.Nifti1Image(change(stored.get_fdata()).astype(np.float32), stored.affine), path)


def test_values_without_names_get_those_of_the_weights_and_that_is_said(nameless, weights, tmp_path, caplog):
    found = labels(nameless, weights, tmp_path / "out")
    assert found
    assert set(found) <= set(LABELS)
    assert f"the data names no labels; by the weights: liver ({LABELS['liver']})" in caplog.text
    assert labels(nameless, weights, tmp_path / "one", labels=("lump",), values={"lump": 6}) == ["lump"]


def test_values_that_the_weights_do_not_know_are_none_of_their_structures(nameless, weights, tmp_path):
    change_label(nameless, lambda values: values + 100 * (values > 0))
    found = labels(nameless, weights, tmp_path / "out")
    assert found
    assert all(name.startswith("label ") for name in found)
    with pytest.raises(ValueError, match="unknown label liver"):
        labels(nameless, weights, tmp_path / "two", labels=("liver",))


def test_a_name_with_another_value_than_the_datas_is_refused(study, nameless, tmp_path):
    with pytest.raises(ValueError, match=f"liver has the value {LABELS['liver']} in the data, not 9"):
        labels(study, None, tmp_path / "out", labels=("liver",), values={"liver": 9})
    with pytest.raises(ValueError, match="label 6 has the value 6 in the data, not 9"):
        labels(nameless, None, tmp_path / "out", labels=("label 6",), values={"label 6": 9})


@pytest.mark.parametrize(("change"), [lambda values: values / 2, lambda values: values * 100], ids=["half", "hundred"])
def test_a_label_file_that_a_training_refuses_is_refused(nameless, tmp_path, change):
    change_label(nameless, change)
    with pytest.raises(ValueError, match=r"label phantom_000.nii.gz has values outside 0..255, or that are not whole"):
        labels(nameless, None, tmp_path / "out")
    assert not (tmp_path / "out").exists(), "before the games"


def test_a_case_without_any_of_the_labels_is_named(study, tmp_path, caplog):
    data = shutil.copytree(study, tmp_path / "data")
    change_label(data, lambda values: values * (values != LABELS["liver"]))
    labels(data, None, tmp_path / "out", labels=("liver",))
    assert caplog.messages == ["left out, for none of the labels is there: phantom_000"]
    caplog.clear()
    labels(data, None, tmp_path / "all")
    assert caplog.messages == []
