import hashlib
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monailabel.datastore.local import LocalDatastore

from lib.server import notes
from lib.server.datastore import careful as made_careful

NAMES = [{"name": "cyst", "idx": 1, "color": [1, 2, 3]}]
SHAPE = (64, 64, 80)


def patient(number):
    """Voxels of an image with empty borders, as those of most MR."""
    values = np.zeros(SHAPE, np.int16)
    values[16:48, 16:48, 16:64] = np.random.default_rng(number).integers(0, 1000, (32, 32, 48))
    return values


def write(path, values):
    nib.save(nib.Nifti1Image(values, np.diag([2, 2, 2, 1])), path)
    return path


def identity_of_before(path):
    """As earlier versions wrote it."""
    content = path.read_bytes()
    return f"{len(content)}:{hashlib.sha256(content[: 2**16] + content[-(2**16) :]).hexdigest()[:32]}"


@pytest.fixture
def plain(tmp_path):
    """A datastore with one uncompressed image and a label of it, and the folder."""
    folder = tmp_path / "plain"
    folder.mkdir()
    write(folder / "a.nii", patient(1))
    store = made_careful(LocalDatastore(str(folder)))
    store.save_label("a", str(write(tmp_path / "label.nii", np.ones(SHAPE, np.uint8))), "final", {"label_info": NAMES})
    return store, folder


def away(store, folder, meanwhile=lambda: None):
    """The image is away when somebody looks, and then one of its name is there again."""
    (folder / "a.nii").rename(folder.parent / "away.nii")
    store.refresh()
    assert store.get_labeled_images() == []
    (folder.parent / "away.nii").rename(folder / "a.nii")
    meanwhile()
    store.refresh()


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_images_of_one_size_with_the_same_borders_are_not_the_same(tmp_path, ending):
    one, other = (write(tmp_path / f"{number}{ending}", patient(number)) for number in (1, 2))
    assert notes.identity(one) != notes.identity(other)
    assert not notes.belongs(notes.identity(one), other)
    copy = tmp_path / f"copy{ending}"
    copy.write_bytes(one.read_bytes())
    assert notes.belongs(notes.identity(one), copy)


def test_an_uncompressed_label_does_not_go_to_another_patients_image_of_the_name(plain, caplog):
    store, folder = plain
    away(store, folder, lambda: write(folder / "a.nii", patient(2)))
    assert store.get_labeled_images() == []
    assert "label of another image" in caplog.text


def test_an_uncompressed_label_has_its_names_again_when_its_image_was_away(plain):
    store, folder = plain
    away(store, folder)
    assert store.get_label_info("a", "final")["label_info"] == NAMES


def test_what_an_earlier_version_noted_holds_still(plain):
    store, folder = plain
    label, image = folder / "labels/final/a.nii", folder / "a.nii"
    said = {"label_info": NAMES, notes.IMAGE: identity_of_before(image)}
    content = json.dumps({"label": identity_of_before(label), "info": said})
    notes.note_path(label).write_text(content)
    away(store, folder)
    assert store.get_label_info("a", "final")["label_info"] == NAMES


def test_what_is_compressed_is_noted_as_before(tmp_path):
    image = write(tmp_path / "a.nii.gz", patient(1))
    assert image.stat().st_size > 2**16
    assert notes.identity(image) == identity_of_before(image)


def test_a_large_file_is_read_once_until_it_is_another_one(tmp_path, monkeypatch):
    read, digest = [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: read.append(1) or digest(*given))
    image = write(tmp_path / "a.nii", patient(1))
    first = [notes.identity(image) for _ in range(3)]
    assert (len(set(first)), len(read)) == (1, 1)
    stats = image.stat()
    write(image, patient(2))
    os.utime(image, ns=(stats.st_atime_ns, stats.st_mtime_ns))  # as some programs copy
    assert notes.identity(image) != first[0]
    assert len(read) == 2


def test_a_note_that_a_hand_has_spoilt_is_none(plain):
    label = plain[1] / "labels/final/a.nii"
    for spoilt in ("", "[1]", '{"label": 7, "info": {}}', '{"label": [], "info": []}'):
        notes.note_path(label).write_text(spoilt)
        assert notes.read_note(label) is None
    assert Path(label).is_file()
