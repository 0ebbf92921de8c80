import shutil

import nibabel as nib
import numpy as np
import pytest
from fastapi import HTTPException
from monailabel.datastore.local import LocalDatastore

from lib.server import datastore as careful_datastore

PATHS = ["../outside", "/etc/outside", "sub/outside", ".."]


@pytest.fixture
def careful(datastore):
    return careful_datastore.careful(datastore)


def labelled(datastore, folder, value):
    """A label map of image a, of one value."""
    image = nib.load(datastore.get_image_uri("a"))
    path = folder / f"label{value}.nii.gz"
    nib.save(nib.Nifti1Image(np.full(image.shape, value, np.uint8), image.affine), path)
    return str(path)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_no_name_for_an_image_a_label_or_a_tag(careful, tmp_path, path):
    image = careful.get_image_uri("a")
    before = sorted(tmp_path.rglob("*"))
    for refused in (
        lambda: careful.get_image_uri(path),
        lambda: careful.add_image(path, image, {}),
        lambda: careful.save_label(path, image, "final", {}),
        lambda: careful.save_label("a", image, path, {}),
        lambda: careful.get_label_uri(path, "final"),
        lambda: careful.get_label_uri("a", path),
        lambda: careful.remove_label(path, "final"),
    ):
        with pytest.raises(HTTPException) as caught:
            refused()
        assert caught.value.status_code == 404
    assert sorted(tmp_path.rglob("*")) == before


def test_a_label_for_an_image_that_is_not_there_is_refused(careful, tmp_path):
    with pytest.raises(HTTPException, match="'nobody' is not in the datastore"):
        careful.save_label("nobody", careful.get_image_uri("a"), "final", {})
    assert not list(tmp_path.rglob("*nobody*"))


def test_names_work_as_before(careful, datastore, tmp_path):
    image = shutil.copy(careful.get_image_uri("a"), tmp_path / "new.nii.gz")
    assert careful.add_image("c", image, {}) == "c"
    assert careful.add_image("", image, {}) == "new"
    assert careful.save_label("a", labelled(careful, tmp_path, 1), "final", {}) == "a"
    assert careful.get_label_uri("a", "final").endswith("labels/final/a.nii.gz")
    assert sorted(careful.list_images()) == ["a", "b", "c", "new"]
    assert isinstance(careful, type(datastore))


def test_what_is_no_folder_of_files_is_left_alone():
    other = object()
    assert careful_datastore.careful(other) is other


def test_another_image_under_a_name_that_is_taken_is_refused_and_the_label_stays(careful, tmp_path):
    info = {"label_info": [{"name": "liver", "idx": 1}]}
    careful.save_label("a", labelled(careful, tmp_path, 1), "final", info)
    image = nib.load(careful.get_image_uri("a"))
    other = tmp_path / "other.nii.gz"
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj) + 1, image.affine), other)
    with pytest.raises(HTTPException, match="there is another image 'a'") as caught:
        careful.add_image("a", str(other), {})
    assert caught.value.status_code == 409
    again = tmp_path / "again.nii"
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine), again)
    assert careful.add_image("a", str(again), {}) == "a", "the same voxels in another file"
    assert careful.get_labeled_images() == ["a"]
    assert careful.get_label_info("a", "final")["label_info"] == info["label_info"]


@pytest.mark.parametrize(
    ("content", "names", "complaint"),
    [
        (b"nothing", [], "not a readable NIfTI file"),
        (np.ones((3, 3, 3), np.uint8), [], "has shape"),
        (None, {"liver": 1}, "label_info must be a list of"),
        (None, ["liver"], "label_info must be a list of"),
        (None, [{"name": "liver", "idx": "one"}], "must number its names"),
    ],
)
def test_a_final_label_that_nobody_could_train_on_is_refused_and_the_earlier_one_stays(
    careful, tmp_path, content, names, complaint
):
    careful.save_label("a", labelled(careful, tmp_path, 1), "final", {"label_info": [{"name": "liver", "idx": 1}]})
    path = tmp_path / "label.nii.gz"
    if content is None:
        path = labelled(careful, tmp_path, 2)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        nib.save(nib.Nifti1Image(content, np.eye(4)), path)
    with pytest.raises(HTTPException, match=complaint) as caught:
        careful.save_label("a", str(path), "final", {"label_info": names})
    assert caught.value.status_code == 400
    assert np.asanyarray(nib.load(careful.get_label_uri("a", "final")).dataobj).max() == 1
    assert careful.get_label_info("a", "final")["label_info"] == [{"name": "liver", "idx": 1}]


def test_what_one_process_saves_another_does_not_write_over(careful, tmp_path):
    """Images are scored in a process of its own, which has read the datastore before somebody saves."""
    scoring = careful_datastore.careful(LocalDatastore(careful._datastore_path, auto_reload=False))
    names = [{"name": "liver", "idx": 1}]
    careful.save_label("a", labelled(careful, tmp_path, 1), "final", {"label_info": names})
    scoring.update_image_info("b", {"score": 0.5})
    careful.refresh()
    assert careful.get_label_info("a", "final")["label_info"] == names
    assert careful.get_image_info("b")["score"] == 0.5
    assert scoring.get_labeled_images() == ["a"]
