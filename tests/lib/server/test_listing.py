import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from monailabel.datastore.local import LocalDatastore

from lib.server import label_routes, pooled
from lib.server.datastore import careful as made_careful

NAMES = [{"name": "liver", "idx": 1}]


def nested(depth):
    return [nested(depth - 1)] if depth else "liver"


# What JSON may hold, and the reader of the list of studies does not take.
SPOILT = {
    "half of a surrogate pair": {"note": "liver \ud83d"},
    "the same in a key": {"\ud83d": "liver"},
    "too deep": {"note": nested(300)},
    "just too deep beside the rest of the list": {"note": nested(195)},
    "too many digits": {"note": 10**5000},
}


@pytest.mark.parametrize("info", SPOILT.values(), ids=SPOILT)
def test_what_the_list_of_studies_could_not_be_read_with_is_refused_and_the_server_starts_again(
    careful, label_map, tmp_path, info
):
    careful.save_label("a", label_map(1), "final", {"label_info": NAMES})
    new = shutil.copy(careful.get_image_uri("a"), tmp_path / "new.nii.gz")
    before = Path(careful._datastore_config_path).read_bytes()
    for save in (
        lambda: careful.save_label("a", label_map(2), "final", {"label_info": [], **info}),
        lambda: careful.save_label("b", label_map(2, "b"), "original", info),
        lambda: careful.update_label_info("a", "final", info),
        lambda: careful.update_image_info("a", info),
        lambda: careful.add_image("new", new, info),
    ):
        with pytest.raises(HTTPException, match="what is said of the image or the label cannot be kept") as refused:
            save()
        assert refused.value.status_code == 400
    assert Path(careful._datastore_config_path).read_bytes() == before
    careful.update_image_info("b", {"note": "\U0001f600", "deep": nested(100)})  # others are not kept from saving
    for store in (careful, made_careful(LocalDatastore(careful._datastore_path))):
        store.refresh()
        assert sorted(store.list_images()) == ["a", "b"]
        assert store.get_label_info("a", "final")["label_info"] == NAMES
        assert store.get_labels_by_image_id("b") == {}
        assert store.get_image_info("b")["note"] == "\U0001f600"


def test_who_sends_it_is_told_so(careful, label_map, monkeypatch):
    careful.save_label("a", label_map(1), "final", {})
    app = SimpleNamespace(datastore=lambda: careful, on_save_label=lambda *given: {})
    for module in (label_routes, label_routes.stock_datastore):
        monkeypatch.setattr(module, "app_instance", lambda: app)
    server = FastAPI()
    for router in (label_routes.datastore_router, pooled.pooled_router):
        server.include_router(router)
    client, text = TestClient(server), json.dumps({"label_info": [{"name": "liver \ud83d", "idx": 1}]})
    file = {"label": ("a.nii.gz", Path(label_map(2)).read_bytes())}
    for reply in (
        client.put("/datastore/label", params={"image": "a"}, data={"params": text}, files=file),
        client.put("/datastore/label/info", params={"label": "a", "tag": "final"}, data={"info": text}),
        client.put("/datastore/image/info", params={"image": "a"}, data={"info": text}),
    ):
        assert reply.status_code == 400
        assert "cannot be kept: texts must be whole" in reply.json()["detail"]
    assert LocalDatastore(careful._datastore_path).get_labeled_images() == ["a"]


def test_half_of_a_surrogate_pair_is_no_name_for_an_image_or_a_tag(careful, label_map):
    image = careful.get_image_uri("a")
    for save in (
        lambda: careful.add_image("liver \ud83d", image, {}),
        lambda: careful.save_label("a", label_map(1), "\ud83d", {}),
    ):
        with pytest.raises(HTTPException, match=r"\\ud83d' is no name") as refused:
            save()
        assert refused.value.status_code == 400


def test_a_file_whose_name_is_not_utf_8_is_left_out_and_the_server_starts_again(datastore, caplog):
    """The names of old archives are latin-1."""
    folder = Path(datastore._datastore_path)
    shutil.copy(folder / "a.nii.gz", os.fsencode(folder) + b"/M\xfcller.nii.gz")
    for _ in range(3):
        careful = made_careful(LocalDatastore(str(folder)))
        careful.refresh()
        assert sorted(careful.list_images()) == ["a", "b"]
        assert sorted(json.loads(Path(careful._datastore_config_path).read_text())["objects"]) == ["a", "b"]
    assert "'M\\udcfcller.nii.gz' is left out: its name is not written in UTF-8, rename it" in caplog.text


def test_an_image_whose_name_has_an_ending_inside_is_another_one_than_that_without(datastore, caplog):
    folder = Path(datastore._datastore_path)
    shutil.copy(folder / "b.nii.gz", folder / "a.nii.gz.nii.gz")  # as an upload could call it
    shutil.copy(folder / "b.nii.gz", folder / "x.nii.gz_y.nii.gz")
    careful = made_careful(LocalDatastore(str(folder), extensions=("*.nii.gz", "*.nii")))
    assert sorted(careful.list_images()) == ["a", "a.nii.gz", "b", "x.nii.gz_y"]
    assert "left out" not in caplog.text
    for name in ("a.nii.gz", "x.nii.gz_y", "a"):
        careful.save_label(name, careful.get_image_uri(name), "original", {"of": name})
    careful.refresh()
    for name in ("a.nii.gz", "x.nii.gz_y", "a"):
        assert careful.get_label_info(name, "original")["of"] == name
        assert Path(careful.get_label_uri(name, "original")).name == f"{name}.nii.gz"
    careful.remove_label("a", "original")
    assert Path(careful.get_label_uri("a.nii.gz", "original")).is_file()


@pytest.mark.parametrize("name", ["new.nii.gz", "new.nii", "new.nrrd", ".nii.gz"])
def test_an_id_that_ends_as_a_file_does_is_refused(careful, name):
    image = careful.get_image_uri("a")
    with pytest.raises(HTTPException, match=f"'{name}' ends as the name of a file does") as refused:
        careful.add_image(name, image, {})
    assert refused.value.status_code == 400
    assert sorted(careful.list_images()) == ["a", "b"]
    assert careful.add_image("1.2.840.113619.7", image, {}) == "1.2.840.113619.7"


def test_an_image_whose_name_leaves_no_room_for_a_label_is_not_proposed_and_saving_says_what_to_do(datastore):
    """A file of 250 bytes can be there, and be opened."""
    folder, long = Path(datastore._datastore_path), "腹" * 81
    shutil.copy(folder / "a.nii.gz", folder / f"{long}.nii.gz")
    shutil.copy(folder / "a.nii.gz", folder / f"{'腹' * 77}.nii.gz")
    careful = made_careful(LocalDatastore(str(folder)))
    assert long in careful.list_images()
    assert sorted(careful.get_unlabeled_images()) == ["a", "b", "腹" * 77]
    for tag in ("final", "original"):
        with pytest.raises(HTTPException, match="rename its file, 233 bytes without the ending are taken") as refused:
            careful.save_label(long, careful.get_image_uri(long), tag, {})
        assert refused.value.status_code == 400
    careful.save_label("腹" * 77, careful.get_image_uri("a"), "original", {})
    assert careful.get_labels_by_image_id("腹" * 77) == {"original": "腹" * 77}
