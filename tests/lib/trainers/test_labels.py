import json
import os
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import DefaultLabelTag

from clickseg.clicks.wire import RESERVED
from clickseg.datasets import CaseFolder
from clickseg.labelled import read_studies, write_data_folder
from clickseg.samples import kept_arrays
from lib.server.datastore import careful
from lib.trainers.labels import labelled_images, pinned_images

SERVED = {"liver": 1, "spleen": 2}


@pytest.fixture
def datastore(tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    for name in ("a", "b"):
        save(studies / f"{name}.nii.gz", np.arange(4 * 5 * 6).reshape(4, 5, 6))
    return LocalDatastore(str(studies), extensions=("*.nii.gz",))


def save(path, values):
    nib.save(nib.Nifti1Image(np.asarray(values, dtype=np.int16), np.diag([1, 2, 3, 1])), path)
    return str(path)


def label_of(datastore, tmp_path, image, values, label_info=None):
    path = save(tmp_path / "label.nii.gz", values)
    datastore.save_label(image, path, DefaultLabelTag.FINAL.value, {"label_info": label_info} if label_info else {})


def values_with(*present, shape=(4, 5, 6)):
    values = np.zeros(shape)
    values.flat[: len(present)] = present
    return values


def test_no_labels_at_all_are_refused(datastore):
    with pytest.raises(ValueError, match="no labels to train on"):
        labelled_images(datastore)


def test_a_label_of_another_shape_is_refused_by_name(datastore, tmp_path):
    label_of(datastore, tmp_path, "a", values_with(1))
    label_of(datastore, tmp_path, "b", values_with(1, shape=(4, 5, 7)))
    with pytest.raises(ValueError, match=r"label b.nii.gz has shape \(4, 5, 7\), its image b.nii.gz \(4, 5, 6\)"):
        labelled_images(datastore)


def test_a_damaged_label_is_refused_by_name(datastore, tmp_path):
    label_of(datastore, tmp_path, "a", values_with(1))
    label = labelled_images(datastore)[0].label
    label.write_bytes(label.read_bytes()[:30])
    with pytest.raises(ValueError, match=r"a\.nii\.gz"):
        labelled_images(datastore)


def test_labels_that_agree_are_linked_as_they_are(datastore, tmp_path):
    label_of(datastore, tmp_path, "a", values_with(1, 2))
    labels = write_data_folder(labelled_images(datastore), tmp_path / "data", SERVED, SERVED)
    folder = CaseFolder.read(tmp_path / "data")
    assert labels == folder.labels == SERVED
    assert [case.id for case in folder.cases] == ["a"]
    assert folder.cases[0].label.is_symlink()


def test_a_new_structure_gets_a_value_of_its_own_in_every_label_map(datastore, tmp_path):
    label_of(
        datastore, tmp_path, "a", values_with(1, 1, 2), [{"name": "tumour", "idx": 1}, {"name": "liver", "idx": 2}]
    )
    label_of(datastore, tmp_path, "b", values_with(1), [{"name": "spleen", "idx": 1}])
    labels = write_data_folder(labelled_images(datastore), tmp_path / "data", SERVED, SERVED)
    assert labels == {**SERVED, "tumour": 3}
    rewritten = {case.id: nib.load(case.label) for case in CaseFolder.read(tmp_path / "data").cases}
    assert np.asarray(rewritten["a"].dataobj).ravel()[:4].tolist() == [3, 3, 1, 0]
    assert np.asarray(rewritten["b"].dataobj).ravel()[:2].tolist() == [2, 0]
    assert np.array_equal(rewritten["a"].affine, np.diag([1, 2, 3, 1]))


def test_dataset_json_names_the_values(datastore, tmp_path):
    label_of(datastore, tmp_path, "a", values_with(1))
    write_data_folder(labelled_images(datastore), tmp_path / "data", SERVED, SERVED)
    assert json.loads((tmp_path / "data/dataset.json").read_text()) == {"labels": {"1": "liver", "2": "spleen"}}


def test_an_image_with_a_fourth_axis_of_one_can_be_trained_on(datastore, tmp_path):
    image = datastore.get_image_uri("a")
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6, 1), np.int16), np.diag([1, 2, 3, 1])), image)
    label_of(datastore, tmp_path, "a", values_with(1))
    assert [item.id for item in labelled_images(datastore)] == ["a"]


def voxels(path):
    return np.asarray(nib.load(path).dataobj).ravel()[:2].tolist()


@pytest.mark.parametrize("links", [True, False])
def test_a_pinned_label_is_the_one_that_was_there_whatever_is_saved_afterwards(datastore, tmp_path, monkeypatch, links):
    def refuse(*given):
        raise OSError(18, "Invalid cross-device link")

    store = careful(datastore)
    label_of(store, tmp_path, "a", values_with(1, 1), [{"name": "spleen", "idx": 1}])
    stored = Path(store.get_label_uri("a", "final")).stat()
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    (item,) = pinned_images(store, tmp_path / "pins")
    label_of(store, tmp_path, "a", values_with(1, 2), [{"name": "liver", "idx": 1}, {"name": "tumour", "idx": 2}])
    assert write_data_folder([item], tmp_path / "data", SERVED, SERVED) == SERVED
    (case,) = CaseFolder.read(tmp_path / "data").cases
    assert voxels(case.label) == [2, 2]
    assert item.label.parent == tmp_path / "pins"
    assert item.label.stat().st_mtime_ns == stored.st_mtime_ns, "by which a resumed run knows it"
    assert (item.label.stat().st_ino == stored.st_ino) == links


def test_a_label_is_pinned_with_the_names_that_were_saved_with_it(datastore, tmp_path, monkeypatch):
    """Somebody saves another one in the very moment in which its names have been read."""
    store = careful(datastore)
    label_of(store, tmp_path, "a", values_with(1, 1), [{"name": "spleen", "idx": 1}])
    names = [{"name": "liver", "idx": 1}, {"name": "tumour", "idx": 2}]
    save = threading.Thread(target=label_of, args=(store, tmp_path, "a", values_with(1, 2), names))
    read, reads = store.get_label_info, []

    def slowly(*given):
        said = read(*given)
        reads.append(said)
        if len(reads) == 2:  # the first was that of the list
            save.start()
            save.join(0.5)
        return said

    monkeypatch.setattr(store, "get_label_info", slowly)
    (item,) = pinned_images(store, tmp_path / "pins")
    save.join()
    assert (item.names, voxels(item.label)) == ([{"name": "spleen", "idx": 1}], [1, 1])
    assert voxels(store.get_label_uri("a", "final")) == [1, 2]


def test_a_label_that_another_process_saves_in_another_format_or_removes_is_pinned_as_it_is_now(
    datastore, tmp_path, monkeypatch, caplog
):
    stores = [careful(LocalDatastore(datastore._datastore_path)) for _ in range(2)]
    for name in ("a", "b"):
        label_of(stores[0], tmp_path, name, values_with(1, 1), [{"name": "spleen", "idx": 1}])
    stores[1].refresh()
    listed = stores[1].datalist()
    monkeypatch.setattr(stores[1], "datalist", lambda: listed)
    plain = save(tmp_path / "label.nii", values_with(1, 2))
    stores[0].save_label("a", plain, "final", {"label_info": [{"name": "liver", "idx": 1}]})
    stores[0].remove_label("b", "final")
    (item,) = pinned_images(stores[1], tmp_path / "pins")
    assert (item.id, item.label.name, voxels(item.label)) == ("a", "a.nii", [1, 2])
    assert item.names == [{"name": "liver", "idx": 1}]
    assert "the label of b was removed this moment" in caplog.text


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_name_that_requests_use_otherwise_is_saved_and_not_learnt(datastore, tmp_path, name):
    """Nobody could click with a model of named labels that has learnt it."""
    store = careful(datastore)
    label_of(store, tmp_path, "a", values_with(1, 2), [{"name": "spleen", "idx": 1}, {"name": name, "idx": 2}])
    with pytest.raises(
        ValueError, match=f"the label of a has the name {name}, which means something else in a request"
    ):
        labelled_images(store)
    assert Path(store.get_label_uri("a", "final")).is_file(), "nothing that was drawn is lost"
    store.update_label_info("a", "final", {"label_info": [{"name": "spleen", "idx": 1}, {"name": "my own", "idx": 2}]})
    labels = write_data_folder(labelled_images(store), tmp_path / "data", SERVED, SERVED)
    assert labels == {**SERVED, "my own": 3}


def test_a_name_that_no_voxel_has_is_nobodys_concern(datastore, tmp_path):
    names = [{"name": "spleen", "idx": 1}, {"name": "background", "idx": 2}]
    label_of(datastore, tmp_path, "a", values_with(1), names)
    label_of(datastore, tmp_path, "b", values_with(1), [{"name": "background", "idx": 0}, {"name": "foreground"}])
    labels = write_data_folder(labelled_images(datastore), tmp_path / "data", SERVED, SERVED)
    assert labels == {**SERVED, "foreground": 3}


@pytest.mark.parametrize("names", [5, "device", {"name": "device"}, ["device"]])
def test_names_in_another_form_are_refused_in_words(datastore, tmp_path, names):
    label_of(datastore, tmp_path, "a", values_with(1), names)
    with pytest.raises(ValueError, match="label_info must be a list of"):
        write_data_folder(labelled_images(datastore), tmp_path / "data", SERVED, SERVED)


def test_names_that_leave_no_room_for_what_a_training_adds_are_cut_and_stay_apart(datastore, tmp_path):
    """A file may be called so, and its label be saved; before, it ended every training."""
    folder = Path(datastore._datastore_path)
    names = [f"{'腹' * 76}{number}" for number in (1, 2)]
    for name in names:
        (folder / f"{name}.nii.gz").write_bytes((folder / "a.nii.gz").read_bytes())
    store = careful(LocalDatastore(str(folder)))
    for image in ("a", *names):
        label_of(store, tmp_path, image, values_with(1))
    for turn in ("first", "again"):
        write_data_folder(pinned_images(store, tmp_path / turn), tmp_path / turn / "data", SERVED, SERVED)
    cases, again = (CaseFolder.read(tmp_path / turn / "data").cases for turn in ("first", "again"))
    assert [case.id for case in cases] == [case.id for case in again]
    assert len({case.id for case in cases}) == 3
    assert "a" in [case.id for case in cases], "short names stay"
    for case in cases:
        kept_arrays(tmp_path, f"{case.id}-{'f' * 16}-hard12-{'f' * 16}", ["label"], lambda: {"label": np.zeros(1)})


def test_a_folder_is_read_without_its_server_as_with_it(datastore, tmp_path):
    store = careful(datastore)
    label_of(store, tmp_path, "a", values_with(1, 2), [{"name": "tumour", "idx": 1}, {"name": "liver", "idx": 2}])
    labelled, others = read_studies(datastore._datastore_path)
    assert labelled == labelled_images(store)
    assert others == ["b"]
