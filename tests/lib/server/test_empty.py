"""A server whose folder has no study says why when it starts."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore

from clickseg import cli
from clickseg.phantom.dicom import dicom_series
from lib.server.datastore import careful
from lib.server.empty import tell_if_empty, why_empty


def written(folder, count=3):
    folder.mkdir(parents=True)
    for number, content in enumerate(dicom_series(np.zeros((6, 5, count), np.int16), (2.0, 2.0, 5.0))):
        (folder / f"IM{number}").write_bytes(content)
    return folder


def started(folder, caplog):
    """What the log says when a server starts with the folder."""
    caplog.clear()
    store = careful(LocalDatastore(str(folder), extensions=("*.nii.gz", "*.nii", "*.nrrd", "*.png", "*.xml")))
    return store, [record.getMessage() for record in caplog.records if record.name == "lib.server.empty"]


def test_a_folder_with_a_dicom_series_is_told_how_it_can_be_served(tmp_path, caplog):
    folder = written(tmp_path / "series")
    _, (said,) = started(folder, caplog)
    assert said.startswith(f"no studies in {folder}: DICOM files such as IM0 become a folder of studies by `clickseg ")
    assert f"`clickseg import {folder} --output STUDIES`; or they need a DICOMweb server (--studies http://" in said
    assert f"`clickseg demo-ohif --dicom {folder}`" in said


def test_the_command_that_a_folder_of_dicom_is_told_makes_one_that_can_be_served(tmp_path, caplog):
    folder = written(tmp_path / "of a hospital", count=6)
    _, (said,) = started(folder, caplog)
    (command,) = re.findall(r"`(clickseg import [^`]*)`", said)
    *arguments, name = shlex.split(command)[1:]
    assert name == "STUDIES"
    assert cli.main([*arguments, str(tmp_path / name)]) == 0
    store, said = started(tmp_path / name, caplog)
    assert store.list_images() == ["0_20240101_1"]
    assert said == []


def test_a_folder_of_folders_of_series_is_told_so_too(tmp_path, caplog):
    written(tmp_path / "archive/patient/study/series")
    _, (said,) = started(tmp_path / "archive", caplog)
    assert "DICOM files such as patient/study/series/IM0 become" in said


def test_the_root_of_a_data_set_is_told_where_its_images_are(phantom_study, tmp_path, caplog):
    root = shutil.copytree(phantom_study, tmp_path / "data")
    shutil.copytree(phantom_study / "imagesTr", root / "imagesTe")
    _, (said,) = started(root, caplog)
    assert said == f"no studies in {root}: did you mean {root}/imagesTr?"
    _, (said,) = started(tmp_path, caplog)
    assert said == f"no studies in {tmp_path}: did you mean {root}/imagesTr?"


def test_both_are_said_of_a_folder_that_has_both(phantom_study, tmp_path, caplog):
    shutil.copytree(phantom_study, tmp_path / "data")
    written(tmp_path / "dicom")
    _, (said,) = started(tmp_path, caplog)
    assert f"did you mean {tmp_path}/data/imagesTr?; DICOM files such as dicom/IM0 become" in said


def test_an_empty_folder_is_told_which_files_are_listed(tmp_path, caplog):
    (tmp_path / "notes.txt").write_text("to come")
    _, (said,) = started(tmp_path, caplog)
    assert said.endswith("files that end in .nii.gz, .nii, .nrrd are listed, and those that clients send")


def test_a_folder_with_a_study_says_nothing_nor_does_it_later(phantom_study, tmp_path, caplog):
    folder = shutil.copytree(phantom_study / "imagesTr", tmp_path / "studies")
    written(folder / "dicom")
    store, said = started(folder, caplog)
    assert said == []
    for path in folder.glob("*.nii.gz"):
        path.unlink()
    store.refresh()
    assert store.list_images() == []
    assert not [record for record in caplog.records if record.name == "lib.server.empty"]


def test_what_may_not_be_read_is_passed_over(tmp_path, monkeypatch):
    def refusing(name, method):
        def refused(path, *given):
            if path.name in ("closed", "IM0"):
                raise PermissionError(path)
            return method(path, *given)

        monkeypatch.setattr(Path, name, refused)

    written(tmp_path / "closed")
    written(tmp_path / "open", count=2)
    refusing("iterdir", Path.iterdir)
    refusing("open", Path.open)
    assert why_empty(tmp_path).startswith("DICOM files such as open/IM1 become")


def test_an_archive_may_be_empty():
    tell_if_empty(object.__new__(DICOMWebDatastore))


def test_folders_of_labels_and_hidden_ones_are_no_answer(phantom_study, tmp_path):
    for name in ("labels/final", "labelsTr", ".trash"):
        shutil.copytree(phantom_study / "labelsTr", tmp_path / name)
    (tmp_path / "gone.dcm").symlink_to(Path("nowhere"))
    assert why_empty(tmp_path).startswith("files that end in")
