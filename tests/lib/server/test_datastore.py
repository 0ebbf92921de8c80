import shutil

import pytest
from fastapi import HTTPException

from lib.server.datastore import only_plain_names

PATHS = ["../outside", "/etc/outside", "sub/outside", ".."]


@pytest.fixture
def careful(datastore):
    return only_plain_names(datastore)


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
    assert careful.save_label("a", image, "final", {}) == "a"
    assert careful.get_label_uri("a", "final").endswith("labels/final/a.nii.gz")
    assert sorted(careful.list_images()) == ["a", "b", "c", "new"]
    assert isinstance(careful, type(datastore))


def test_what_is_no_folder_of_files_is_left_alone():
    other = object()
    assert only_plain_names(other) is other
