"""The real server over a DICOM archive: what OHIF's users have."""

import io
import re
import time

import numpy as np
import pydicom
import pytest
import requests
import torch
from monailabel.client import MONAILabelClient

from clickseg.clicks import Click
from clickseg.geometry import LPS_TO_RAS, Grid
from clickseg.methods import load_model
from clickseg.phantom.dicom import dicom_series
from clickseg.sessions import Session

pytestmark = pytest.mark.orthanc

SHAPE, SPACING, ORIGIN = (32, 28, 12), (2.0, 1.5, 5.0), (-30.0, 12.5, 100.0)
INSIDE, OUTSIDE = [16, 14, 6], [3, 4, 6]
LABELS = {"spleen": 1, "liver": 2}


@pytest.fixture(scope="module")
def volume():
    return np.random.default_rng(0).normal(50, 80, SHAPE).astype(np.int16)


@pytest.fixture(scope="module")
def instances(volume):
    """A study with one series: its DICOM files."""
    return dicom_series(volume, SPACING, ORIGIN)


@pytest.fixture(scope="module")
def series(instances):
    return pydicom.dcmread(io.BytesIO(instances[0])).SeriesInstanceUID


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_weights):
    folder = tmp_path_factory.mktemp("dicom")
    (folder / "model").mkdir()
    tiny_weights(folder / "model/unet2d.pt", LABELS)
    return folder


@pytest.fixture(scope="module")
def archive_url(folder, archive, instances):
    """An archive that holds one series."""
    with archive(folder, instances) as url:
        yield url


@pytest.fixture(scope="module")
def url(folder, archive_url, serve):
    with serve(folder, f"{archive_url}/dicom-web/") as url:
        yield url


@pytest.fixture
def client(url, tmp_path):
    return MONAILabelClient(url, str(tmp_path))


@pytest.fixture(scope="module")
def session(folder, volume):
    """The library's own, on the array and the frame that the series was made of."""
    lps = np.diag([*SPACING, 1.0])
    lps[:3, 3] = ORIGIN
    return Session(volume, Grid(SHAPE, LPS_TO_RAS @ lps), load_model(folder / "model/unet2d.pt"), "cpu")


def test_a_click_on_a_series_lands_where_it_was_set(ask, url, series, session, mask_in):
    for position in (INSIDE, [8, 20, 2]):
        response = ask(url, "unet2d", series, foreground=[position], background=[OUTSIDE], result_extension=".nrrd")
        assert response.status_code == 200, response.text
        mask, header = mask_in(response)
        assert np.array_equal(mask, session.predict([Click(tuple(position), 1), Click(tuple(OUTSIDE), 0)]))
        assert 0 < mask[:, :, position[2]].mean() < 1  # else equality would mean little
        assert np.allclose(header["space directions"], np.diag(SPACING))
        assert np.allclose(header["space origin"], ORIGIN)


def test_the_answer_can_be_had_as_a_dicom_segmentation(ask, url, series, session):
    info = [{"name": "spleen", "model_name": "unet2d"}]
    response = ask(url, "unet2d", series, output="dicom_seg", foreground=[INSIDE], label_info=info)
    assert response.status_code == 200, response.text
    segmentation = pydicom.dcmread(io.BytesIO(response.content))
    assert segmentation.Modality == "SEG"
    assert segmentation.SegmentSequence[0].SegmentLabel == "spleen"
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == series
    assert segmentation.pixel_array.sum() == session.predict([Click(tuple(INSIDE), 1)]).sum()


def test_a_dicom_segmentation_of_nothing_is_refused(ask, url, folder, series):
    weights = folder / "model/unet2d.pt"
    good = weights.read_bytes()
    content = torch.load(weights, weights_only=True)
    content["state"]["network.head.bias"][1] -= 1000
    torch.save(content, weights)
    info = [{"name": "spleen", "model_name": "unet2d"}]
    response = ask(url, "unet2d", series, output="dicom_seg", foreground=[INSIDE], label_info=info)
    weights.write_bytes(good)
    assert response.status_code == 400, response.text
    assert "empty" in response.json()["detail"]


@pytest.mark.parametrize("image", ["1.2.3.4", "..", "../../outside", "/etc/passwd", "1.2/../..", "*"])
def test_what_is_no_series_of_the_archive_is_not_found(ask, url, image):
    response = ask(url, "unet2d", image, foreground=[INSIDE])
    assert response.status_code == 404
    assert re.search("no readable series|a path, not a name", response.json()["detail"])


def test_every_strategy_names_the_series(client, series):
    for strategy in ("random", "first", "uncertainty"):
        assert client.next_sample(strategy, {})["id"] == series


@pytest.mark.slow
def test_a_saved_label_is_archived_as_a_segmentation_and_trained_on(client, folder, archive_url, series, tmp_path):
    path, _ = client.infer("unet2d", series, {"foreground": [INSIDE], "result_extension": ".nii.gz"})
    client.save_label(series, path, params={"label_info": [{"name": "tumour", "idx": 1}]})
    archived = requests.get(f"{archive_url}/dicom-web/series?Modality=SEG", timeout=60).json()
    assert len(archived) == 1

    client.train_start("unet2d", {"max_epochs": 1})
    for _ in range(600):
        if (task := client.train_status())["status"] in ("DONE", "ERROR"):
            break
        time.sleep(0.5)
    assert task["status"] == "DONE", task["details"]
    assert load_model(folder / "model/unet2d.pt").recipe.labels == {**LABELS, "tumour": 3}
