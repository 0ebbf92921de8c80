import json
import os
import resource
import shutil
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fastapi import HTTPException
from monailabel.datastore.local import LocalDatastore

from lib.server import datastore as careful_datastore

PATHS = ["../outside", "/etc/outside", "sub/outside", ".."]


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


def test_a_label_that_finds_no_room_on_the_disk_leaves_everything_as_it_was(careful, tmp_path):
    """Before, the list of all images with all names was cut off, and the server did not start again."""
    names = [{"name": "liver", "idx": 1}]
    careful.save_label("a", labelled(careful, tmp_path, 1), "final", {"label_info": names})
    voxels = np.random.default_rng(0).integers(0, 9, nib.load(careful.get_image_uri("a")).shape).astype(np.uint8)
    large = tmp_path / "large.nii.gz"
    nib.save(nib.Nifti1Image(voxels, nib.load(careful.get_image_uri("a")).affine), large)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for path, room in ((large, 700), (labelled(careful, tmp_path, 2), 300)):
        assert room < Path(careful._datastore_config_path).stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                careful.save_label("a", str(path), "final", {"label_info": []})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert np.asanyarray(nib.load(careful.get_label_uri("a", "final")).dataobj).max() == 1
        assert json.loads(Path(careful._datastore_config_path).read_text())["objects"].keys() == {"a", "b"}
        assert careful.get_label_info("a", "final")["label_info"] == names
    again = LocalDatastore(careful._datastore_path, auto_reload=False)
    assert again.get_label_info("a", "final")["label_info"] == names
    assert not list(Path(careful._datastore_path).rglob(".*.nii.gz.*[!n]")), "nothing half written is left"


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_kill_during_a_save_leaves_a_whole_label_and_nothing_of_it_after_the_next_save(careful, tmp_path, steps):
    """Killed before the first, the second, the third of the files that belong to a label takes its place."""
    careful.save_label("a", labelled(careful, tmp_path, 1), "final", {"label_info": [{"name": "liver", "idx": 1}]})
    second = labelled(careful, tmp_path, 2)
    child = os.fork()
    if child == 0:
        replace, done = Path.replace, []

        def killed(path, target):
            if len(done) == steps:
                os._exit(9)
            done.append(target)
            return replace(path, target)

        Path.replace = killed
        try:
            store = careful_datastore.careful(LocalDatastore(careful._datastore_path, auto_reload=False))
            store.save_label("a", second, "final", {"label_info": []})
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    again = careful_datastore.careful(LocalDatastore(careful._datastore_path, auto_reload=False))
    assert again.get_labeled_images() == ["a"]
    folder = Path(again.get_label_uri("a", "final")).parent
    assert np.unique(np.asanyarray(nib.load(folder / "a.nii.gz").dataobj)).tolist() == [1 if steps == 0 else 2]
    again.save_label("a", labelled(again, tmp_path, 3), "final", {})
    assert sorted(path.name for path in folder.iterdir()) == [".notes", "a.nii.gz"]


def test_a_label_in_another_format_takes_the_place_of_the_one_before(careful, tmp_path):
    careful._extensions = ("*.nii.gz", "*.nii")
    careful.save_label("a", labelled(careful, tmp_path, 1), "final", {})
    plain = tmp_path / "plain.nii"
    nib.save(nib.load(labelled(careful, tmp_path, 2)), plain)
    careful.save_label("a", str(plain), "final", {})
    folder = Path(careful.get_label_uri("a", "final")).parent
    assert sorted(path.name for path in folder.iterdir()) == [".notes", "a.nii"]
    assert [path.name for path in (folder / ".notes").iterdir()] == ["a.nii.json"]
    careful.remove_label("a", "final")
    careful.refresh()
    assert careful.get_labeled_images() == [], "the deleted label's predecessor does not come back"


def test_a_label_that_is_voxels_alone_is_stored_as_an_image(careful, tmp_path):
    image = nib.load(careful.get_image_uri("a"))
    voxels = np.arange(np.prod(image.shape), dtype=np.uint32).astype(np.uint8).reshape(image.shape, order="F")
    raw = tmp_path / "label.bin"
    voxels.ravel(order="F").tofile(raw)
    careful.save_label("a", str(raw), "final", {})
    stored = nib.load(careful.get_label_uri("a", "final"))
    np.testing.assert_array_equal(np.asanyarray(stored.dataobj), voxels)
    np.testing.assert_allclose(stored.affine, image.affine)
    raw.write_bytes(b"abc")
    with pytest.raises(HTTPException, match="3 voxels of one byte, its image") as caught:
        careful.save_label("a", str(raw), "final", {})
    assert caught.value.status_code == 400
    assert careful.get_label_uri("a", "final").endswith("a.nii.gz")


def test_what_another_process_writes_is_read_though_the_file_is_another_one(datastore, tmp_path):
    """A server watches its folder."""
    server = careful_datastore.careful(LocalDatastore(datastore._datastore_path, auto_reload=True))
    scoring = careful_datastore.careful(LocalDatastore(datastore._datastore_path, auto_reload=False))
    try:
        scoring.update_image_info("b", {"score": 0.5})
        for _ in range(100):
            if server.get_image_info("b").get("score"):
                break
            time.sleep(0.05)
        assert server.get_image_info("b")["score"] == 0.5
    finally:
        server._observer.stop()


def eventually(condition):
    for _ in range(200):
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def watching(datastore):
    """A datastore that watches its folder, as that of a server does."""
    server = careful_datastore.careful(LocalDatastore(datastore._datastore_path, ".", auto_reload=True))
    yield server
    server._observer.stop()
    server._observer.join()


def test_a_study_that_comes_by_a_new_name_as_rsync_sends_it_is_seen(watching):
    folder = Path(watching._datastore_path)
    shutil.copy(folder / "a.nii.gz", folder / ".c.nii.gz.Xy12Ab")
    (folder / ".c.nii.gz.Xy12Ab").rename(folder / "c.nii.gz")
    assert eventually(lambda: "c" in watching.list_images())
    (folder / "c.nii.gz").rename(folder / "d.nii.gz")
    assert eventually(lambda: sorted(watching.list_images()) == ["a", "b", "d"])


def test_a_disk_that_is_full_for_a_moment_does_not_end_the_watching(watching, monkeypatch, caplog):
    folder = Path(watching._datastore_path)

    def full(path):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lib.server.listing.whole_file", full)
        shutil.copy(folder / "a.nii.gz", folder / "c.nii.gz")
        assert eventually(lambda: "No space left on device" in caplog.text)
    shutil.copy(folder / "a.nii.gz", folder / "d.nii.gz")
    listing = Path(watching._datastore_config_path)
    assert eventually(lambda: sorted(json.loads(listing.read_text())["objects"]) == ["a", "b", "c", "d"])
    assert sorted(watching.list_images()) == ["a", "b", "c", "d"]


NAMES = [{"name": "cyst", "idx": 1, "color": [1, 2, 3]}]


def test_a_label_has_its_names_again_when_its_image_was_away_for_a_while(careful, tmp_path):
    careful.save_label("a", labelled(careful, tmp_path, 1), "final", {"label_info": NAMES})
    careful.update_label_info("a", "final", {"reviewed": True})
    image, away = Path(careful.get_image_uri("a")), tmp_path / "away.nii.gz"
    for look in (careful.refresh, lambda: LocalDatastore(careful._datastore_path)):
        image.rename(away)
        look()  # a server that runs, or one that starts while a share is not mounted
        away.rename(image)
        again = careful_datastore.careful(LocalDatastore(careful._datastore_path))
        careful.refresh()
        for store in (careful, again):
            assert store.get_labeled_images() == ["a"]
            assert store.get_label_info("a", "final")["label_info"] == NAMES
            assert store.get_label_info("a", "final")["reviewed"]


def test_a_label_does_not_go_to_another_image_of_the_name(careful, tmp_path, caplog):
    careful.save_label("a", labelled(careful, tmp_path, 1), "final", {"label_info": NAMES})
    other = Path(careful.get_image_uri("b")).read_bytes()
    Path(careful.get_image_uri("a")).unlink()
    careful.refresh()
    (tmp_path / "a.nii.gz").write_bytes(other)
    careful.add_image("a", str(tmp_path / "a.nii.gz"), {})
    for store in (careful, careful_datastore.careful(LocalDatastore(careful._datastore_path))):
        store.refresh()
        assert store.get_labeled_images() == []
        assert store.get_label_uri("a", "final") == ""
    assert "label of another image" in caplog.text
    careful.save_label("a", labelled(careful, tmp_path, 2), "final", {})
    careful.refresh()
    assert careful.get_labeled_images() == ["a"], "it can have one of its own"


def test_names_do_not_go_to_a_label_that_somebody_has_put_there_by_hand(careful, tmp_path):
    careful.save_label("a", labelled(careful, tmp_path, 1), "final", {"label_info": NAMES})
    file = Path(careful.get_label_uri("a", "final"))
    file.unlink()
    careful.refresh()
    shutil.copy(labelled(careful, tmp_path, 2), file)
    careful.refresh()
    assert careful.get_labeled_images() == ["a"]
    assert "label_info" not in careful.get_label_info("a", "final")


def test_what_is_not_there_is_not_found_and_a_name_that_no_file_can_have_is_refused(careful, tmp_path):
    image = careful.get_image_uri("a")
    for status, ask in (
        (404, lambda: careful.remove_image("nobody")),
        (404, lambda: careful.remove_label("a", "final")),
        (404, lambda: careful.update_image_info("nobody", {})),
        (404, lambda: careful.update_label_info("a", "final", {})),
        (400, lambda: careful.add_image("x" * 300, image, {})),
        (400, lambda: careful.save_label("a", labelled(careful, tmp_path, 1), "x" * 300, {})),
    ):
        with pytest.raises(HTTPException) as caught:
            ask()
        assert caught.value.status_code == status
        assert caught.value.detail


def test_the_version_of_a_label_is_another_one_after_each_save_of_another(careful, tmp_path):
    assert careful_datastore.label_version(careful, "a") is None
    versions = []
    for value in (1, 2, 1):
        careful.save_label("a", labelled(careful, tmp_path, value), "final", {})
        versions.append(careful_datastore.label_version(careful, "a"))
    assert versions[0] == versions[2] != versions[1]
    assert len(versions[0]) == 32
    assert careful_datastore.label_version(object(), "a") is None


def test_what_is_removed_is_gone_before_the_folder_s_watcher_has_seen_it(datastore, tmp_path):
    server = careful_datastore.careful(LocalDatastore(datastore._datastore_path, auto_reload=True))
    server._observer.stop()
    server._observer.join()
    server.save_label("a", labelled(server, tmp_path, 3), "final", {})
    assert server.get_labeled_images() == ["a"]
    server.remove_label("a", "final")
    assert server.get_labeled_images() == []
    server.remove_image("a")
    assert "a" not in server.list_images()


def test_of_two_files_of_one_name_the_one_that_is_left_out_is_told_of_once(datastore, tmp_path, caplog):
    image = tmp_path / "studies/b.nii.gz"
    careful = careful_datastore.careful(LocalDatastore(str(image.parent)))
    assert "left out" not in caplog.text
    nib.save(nib.load(image), image.with_name("b.nii"))
    for _ in range(2):
        careful.refresh()
    told = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert told == ["b.nii is left out: the image 'b' is b.nii.gz, rename one of them"]
    assert Path(careful.get_image_uri("b")) == image
