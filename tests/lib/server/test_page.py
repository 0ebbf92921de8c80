"""The page's own requests, answered in process by an app with two small studies."""

import gzip
import json
import shutil
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from monailabel.datastore.local import LocalDatastore

from clickseg.sessions import SessionCache
from lib.server import page
from lib.server.careful import CarefulRequests
from lib.server.datastore import careful, label_version
from lib.trainers.click import ClickTrainTask

AFFINE = np.array([[0, 0, -2.0, 30], [3.0, 0, 0, -40], [0, 5.0, 0, 12], [0, 0, 0, 1]])  # slices along the second axis


class App(CarefulRequests):
    def __init__(self, datastore, weights):
        self._datastore = datastore
        self.models = [SimpleNamespace(weights=weights)]
        self.cache = SessionCache()
        self._trainers = {"unet2d": ClickTrainTask("unet2d", "unet2d", weights)}

    def datastore(self):
        return self._datastore


@pytest.fixture
def app(datastore, weights):
    return App(careful(datastore), weights)


@pytest.fixture
def client(app, monkeypatch):
    monkeypatch.setattr(page, "app_instance", lambda: app)
    server = FastAPI()
    server.include_router(page.page_router)
    server.mount("/clickseg", page.PageFiles())
    return TestClient(server)


def nifti(content):
    return nib.Nifti1Image.from_bytes(content)


def save(app, tmp_path, image, label, **info):
    nib.save(label, tmp_path / "label.nii.gz")
    app.datastore().save_label(image, str(tmp_path / "label.nii.gz"), "final", info)


def test_studies_are_listed_with_what_is_labelled(client, app, tmp_path):
    image = nib.load(app.datastore().get_image_uri("b"))
    save(app, tmp_path, "b", nib.Nifti1Image(np.ones(image.shape, np.uint8), image.affine))
    found = [(study["image"], study["labelled"]) for study in client.get("/clickseg/api/studies").json()]
    assert found == [("a", False), ("b", True)]


def test_a_dicom_series_is_listed_with_its_patient_and_date(client, app):
    said = {"PatientName": "Doe^Jane^", "PatientID": "17", "StudyDate": "20240131", "SeriesDescription": "UNK"}
    app.datastore().update_image_info("a", {**said, "Modality": "CT"})
    studies = client.get("/clickseg/api/studies").json()
    assert [(study["patient"], study["description"]) for study in studies] == [
        ("Doe Jane · 17", "2024-01-31 · CT"),
        ("", ""),
    ]


def test_an_image_keeps_its_voxels_and_its_frame(client, app):
    response = client.get("/clickseg/api/image", params={"image": "a"})
    stored = nib.load(app.datastore().get_image_uri("a"))
    found = nifti(response.content)
    assert response.headers["X-Clickseg-Axis"] == "2"
    assert found.get_data_dtype() == np.int16
    np.testing.assert_array_equal(np.asanyarray(found.dataobj), np.asanyarray(stored.dataobj))
    for affine in (found.affine, found.get_qform()):
        np.testing.assert_allclose(affine, stored.affine, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.uint32])
def test_numbers_that_viewers_do_not_draw_are_sent_as_float32_and_the_axial_axis_is_named(client, app, tmp_path, dtype):
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "studies/c.nii.gz")
    app.datastore().refresh()
    response = client.get("/clickseg/api/image", params={"image": "c"})
    found = nifti(response.content)
    assert response.headers["X-Clickseg-Axis"] == "1"
    assert found.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asanyarray(found.dataobj), values)


def test_a_label_comes_on_the_grid_of_its_image_with_its_names(client, app, tmp_path):
    image = nib.load(app.datastore().get_image_uri("a"))
    values = np.zeros(image.shape, np.uint8)
    values[2:5, 3:6, 1:3] = 7
    names = [{"name": "Leber ä", "idx": 7}]
    save(app, tmp_path, "a", nib.Nifti1Image(values, image.affine), label_info=names)
    response = client.get("/clickseg/api/label", params={"image": "a"})
    assert json.loads(response.headers["X-Clickseg-Labels"]) == {"Leber ä": 7}
    np.testing.assert_array_equal(np.asanyarray(nifti(gzip.decompress(response.content)).dataobj), values)


def test_a_label_comes_with_its_version(client, app, tmp_path):
    image = nib.load(app.datastore().get_image_uri("a"))
    versions = []
    for value in (1, 1, 2):
        save(app, tmp_path, "a", nib.Nifti1Image(np.full(image.shape, value, np.uint8), image.affine))
        versions.append(client.get("/clickseg/api/label", params={"image": "a"}).headers["ETag"])
        assert versions[-1] == f'"{label_version(app.datastore(), "a")}"'
    assert versions[0] == versions[1] != versions[2]


def test_segments_of_one_name_are_one_label(client, app, tmp_path):
    image = nib.load(app.datastore().get_image_uri("a"))
    values = np.zeros(image.shape, np.uint8)
    values[0, 0, :3] = 4, 5, 6
    names = [{"name": "lesion", "idx": 4}, {"name": "liver", "idx": 5}, {"name": "lesion", "idx": 6}]
    save(app, tmp_path, "a", nib.Nifti1Image(values, image.affine), label_info=names)
    response = client.get("/clickseg/api/label", params={"image": "a"})
    assert json.loads(response.headers["X-Clickseg-Labels"]) == {"lesion": 4, "liver": 5}
    found = np.asanyarray(nifti(gzip.decompress(response.content)).dataobj)
    assert found[0, 0, :3].tolist() == [4, 5, 4]


def test_without_names_a_value_means_what_the_first_model_says(client, app, tmp_path):
    image = nib.load(app.datastore().get_image_uri("a"))
    values = np.zeros(image.shape, np.uint8)
    values[0, 0, :2] = 1, 2
    save(app, tmp_path, "a", nib.Nifti1Image(values, image.affine))
    response = client.get("/clickseg/api/label", params={"image": "a"})
    assert json.loads(response.headers["X-Clickseg-Labels"]) == {"spleen": 1, "liver": 2}


def test_a_label_that_does_not_fit_its_image_is_refused_in_words_and_a_missing_one_is_no_error(client, app, tmp_path):
    assert client.get("/clickseg/api/label", params={"image": "a"}).status_code == 204
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)), tmp_path / "label.nii.gz")
    LocalDatastore.save_label(app.datastore(), "a", str(tmp_path / "label.nii.gz"), "final", {})  # past all checks
    response = client.get("/clickseg/api/label", params={"image": "a"})
    assert response.status_code == 400
    assert "has shape (3, 3, 3)" in response.json()["detail"]


@pytest.mark.parametrize("path", ["image", "label"])
@pytest.mark.parametrize("image", ["nobody", "../a", "/etc/passwd", ""])
def test_what_is_not_in_the_datastore_is_not_found(client, path, image):
    response = client.get(f"/clickseg/api/{path}", params={"image": image})
    assert response.status_code == 404
    assert response.json()["detail"]


def test_a_file_that_is_no_image_is_refused_in_words(client, app):
    shutil.copy(__file__, app.datastore().get_image_uri("b"))
    response = client.get("/clickseg/api/image", params={"image": "b"})
    assert response.status_code == 400
    assert "not a readable NIfTI" in response.json()["detail"]


def test_an_image_that_cannot_be_read_is_proposed_to_nobody_until_its_file_is_another_one(client, app):
    path = app.datastore().get_image_uri("a")
    image = nib.load(path)
    series = np.stack([np.asanyarray(image.dataobj)] * 2, axis=-1)
    nib.save(nib.Nifti1Image(series, image.affine), path)
    assert sorted(app.datastore().get_unlabeled_images()) == ["a", "b"]
    for _ in range(2):
        refused = client.get("/clickseg/api/image", params={"image": "a"})
        assert refused.status_code == 400
        assert "a 3D image" in refused.json()["detail"]
    assert app.datastore().get_unlabeled_images() == ["b"]
    assert "a" in app.datastore().list_images()
    nib.save(nib.Nifti1Image(series[..., 0], image.affine), path)
    assert sorted(app.datastore().get_unlabeled_images()) == ["a", "b"]


def test_the_curve_of_the_last_training_is_told(client, app, tmp_path, monkeypatch):
    none = client.get("/clickseg/api/training/unet2d").json()
    assert none == {"status": "none", "problem": "", "total_epochs": 0, "epochs": []}
    run = tmp_path / "run"
    run.mkdir()
    (run / "log.csv").write_text("epoch,step,loss,dice@5\n1,2,0.5,\n2,4,0.25,0.9\n")
    weights = app.models[0].weights
    weights.trained.with_suffix(".stats.json").write_text(json.dumps({"total_epochs": 3, "output": str(run)}))
    tasks = [
        {"status": "DONE", "request": {"model": "other"}},
        {"status": "ERROR", "request": {"model": "unet2d"}, "details": ["Traceback", "ValueError: no labels"]},
    ]
    monkeypatch.setattr(page.AsyncTask, "status", lambda method, all: (tasks, None))
    assert client.get("/clickseg/api/training/unet2d").json() == {
        "status": "ERROR",
        "problem": "ValueError: no labels",
        "total_epochs": 3,
        "epochs": [{"epoch": 1, "step": 2, "loss": 0.5}, {"epoch": 2, "step": 4, "loss": 0.25, "dice@5": 0.9}],
    }
    assert client.get("/clickseg/api/training/nobody").status_code == 404


def test_the_page_and_all_it_needs_are_served_and_checked_for_changes(client):
    for path, start in {"": b"<!doctype html>", "page.js": b"", "style.css": b"", "LICENSES.txt": b"The page"}.items():
        response = client.get(f"/clickseg/{path}")
        assert response.status_code == 200
        assert response.content.startswith(start)
        assert response.headers["Cache-Control"] == "no-cache"
    assert client.get("/clickseg/../lib/weights.py").status_code == 404
