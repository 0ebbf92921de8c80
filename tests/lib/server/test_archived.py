"""Series of a DICOM archive, fetched once and whole; the archive's client is played."""

import io
import os
import socket
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client import DICOMwebClient
from enhanced import enhanced_file, frames_of
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from monailabel.datastore.local import LocalDatastore

from clickseg.images import read_volume, write_mask
from clickseg.phantom.dicom import dicom_series
from clickseg.sessions import SessionCache
from lib.server import archive_client, archived
from lib.server.archived import ArchivedLabels
from lib.server.careful import CarefulRequests
from lib.server.datastore import careful, label_version
from lib.server.segmentations import write_segmentation

STUDY, SERIES = "1.2.3", "1.2.3.4"


class Client:
    """An archive of one series, which may hold back files, or fail."""

    def __init__(self):
        volume = np.arange(6 * 5 * 12, dtype=np.int16).reshape(6, 5, 12)
        files = dicom_series(volume, (2.0, 2.0, 5.0), uids=(STUDY, SERIES))
        self.slices = [pydicom.dcmread(io.BytesIO(content)) for content in files]
        self.held_back, self.said, self.fetched, self.segmentations, self.asked = (), 12, 0, {}, 0
        self.stored = {}  # the SEGs whose files there are
        self.page = 100  # series that a search gives out at a time

    def search_for_series(self, search_filters, fields=None, offset=0):
        if search_filters.get("Modality") == "SEG" and not offset:
            self.asked += 1
        return self.series(search_filters)[offset : offset + self.page]

    def series(self, search_filters):
        if search_filters.get("Modality") == "SEG":
            return [self.described(uid) for uid in self.segmentations]
        uid = search_filters.get("SeriesInstanceUID", SERIES)
        return [self.described(uid)] if uid in (SERIES, *self.stored) else []

    def described(self, uid):
        described = pydicom.Dataset()
        described.StudyInstanceUID, described.SeriesInstanceUID = STUDY, uid
        described.NumberOfSeriesRelatedInstances = self.said
        return described.to_json_dict()

    def retrieve_series(self, study, series):
        if series in self.stored:
            return [self.stored[series]]
        self.fetched += 1
        return [data for number, data in enumerate(self.slices) if number not in self.held_back]

    def retrieve_series_metadata(self, study, series):
        if self.segmentations[series] is None:
            raise OSError("broken")
        segmentation = pydicom.Dataset()
        segmentation.ContentDate, segmentation.ContentTime = "20240101", f"1200{len(series):02}"
        segmentation.ReferencedSeriesSequence = [pydicom.Dataset()]
        segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID = self.segmentations[series]
        return [segmentation.to_json_dict()]


@pytest.fixture
def client():
    return Client()


@pytest.fixture
def archive(tmp_path, client, monkeypatch):
    for name in ("_made", "_uneven", "_failed", "_expected", "_told"):
        monkeypatch.setattr(ArchivedLabels, name, {})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "studies").mkdir()
    store = LocalDatastore(str(tmp_path / "studies"), extensions=("*.nii.gz",), auto_reload=False)
    store.__class__ = ArchivedLabels
    store._client, store._fetch_by_frame, store._search_filter = client, False, {"Modality": "CT"}
    return careful(store)


def test_a_series_is_fetched_once_and_stays_where_it_is(archive, client, tmp_path):
    path = archive.get_image_uri(SERIES)
    assert archive.get_image_uri(SERIES) == path == str(tmp_path / f"studies/{SERIES}.nii.gz")
    assert client.fetched == 1
    assert read_volume(path)[1].shape == (6, 5, 12)
    assert len(list(archive.series_folder(SERIES).iterdir())) == 12
    assert list((tmp_path / "temporary").iterdir()) == [], "no copy of the patient is left behind"
    assert {file.name for file in (tmp_path / "studies").iterdir() if file.is_dir()} == {SERIES, "labels"}


def of_frames(frames):
    """The files of an enhanced series."""
    return [pydicom.dcmread(io.BytesIO(enhanced_file(frames, uids=(STUDY, SERIES))))]


def test_the_frames_of_an_enhanced_series_are_put_in_order_and_scaled(archive, client):
    values = np.arange(6 * 5 * 12, dtype=np.int16).reshape(6, 5, 12)
    frames = frames_of(values, (2.0, 2.0, 5.0))
    for number, frame in enumerate(frames):
        frame.groups["PixelValueTransformationSequence"] = {"RescaleSlope": 1, "RescaleIntercept": number}
    client.slices, client.said = of_frames(frames[::-1]), 1
    found, grid = read_volume(archive.get_image_uri(SERIES))
    np.testing.assert_array_equal(found, values + np.arange(12))
    assert grid.spacing == pytest.approx((2, 2, 5))


def test_an_enhanced_series_of_several_volumes_is_refused_in_words(archive, client):
    client.slices, client.said = of_frames(2 * frames_of(np.zeros((6, 5, 12), np.int16), (2.0, 2.0, 5.0))), 1
    with pytest.raises(HTTPException, match=r"are in the same place \(two phases or echoes\?\)") as caught:
        archive.get_image_uri(SERIES)
    assert caught.value.status_code == 400


def test_a_series_that_is_still_arriving_is_not_there_yet_and_fetched_again(archive, client):
    client.held_back = range(6, 12)
    with pytest.raises(HTTPException) as caught:
        archive.get_image_uri(SERIES)
    assert caught.value.status_code == 404
    client.held_back = ()
    assert read_volume(archive.get_image_uri(SERIES))[1].shape == (6, 5, 12)


def test_a_copy_without_its_slices_is_fetched_anew(archive, client):
    folder = Path(archive.get_image_uri(SERIES).removesuffix(".nii.gz"))
    folder.rename(folder.with_name("elsewhere"))
    archive.get_image_uri(SERIES)
    assert client.fetched == 2
    assert len(list(folder.iterdir())) == 12


def test_a_series_with_missing_slices_is_refused_at_the_first_request_and_every_other(archive, client):
    client.held_back, client.said = (4, 5), 10
    for _ in range(2):
        with pytest.raises(HTTPException, match="not evenly spaced") as caught:
            archive.get_image_uri(SERIES)
        assert caught.value.status_code == 400
    assert client.fetched == 1


def test_a_series_that_cannot_be_fetched_is_not_proposed_for_a_while(archive, client, monkeypatch):
    monkeypatch.setattr(archived.DICOMWebDatastore, "get_unlabeled_images", lambda *given: [SERIES, "9.9"])
    client.slices = client.slices[:6]
    with pytest.raises(HTTPException):
        archive.get_image_uri(SERIES)
    assert archive.get_unlabeled_images() == ["9.9"]
    monkeypatch.setattr(archived, "PATIENCE", 0.0)
    assert archive.get_unlabeled_images() == [SERIES, "9.9"]


def test_a_segmentation_that_cannot_be_read_keeps_nobody_from_the_others(archive, client):
    client.segmentations = {"1.1": None, "1.2": SERIES}
    archive.get_image_uri(SERIES)
    assert archive.get_labeled_images() == [SERIES]


def test_the_archive_is_not_searched_at_every_request(archive, client, monkeypatch):
    client.segmentations = {"1.2": SERIES}
    archive.get_image_uri(SERIES)
    for _ in range(3):
        assert archive.get_labeled_images() == [SERIES]
    assert client.asked == 1
    monkeypatch.setattr(archived, "FRESH", 0.0)
    client.segmentations = {}
    assert archive.get_labeled_images() == []


def test_why_a_series_was_refused_is_known_to_other_processes_until_more_of_it_comes(archive, client, monkeypatch):
    """Images are scored in a process of its own: it would fetch such a series again at every request."""
    monkeypatch.setattr(archived.DICOMWebDatastore, "get_unlabeled_images", lambda *given: [SERIES, "9.9"])
    client.held_back, client.said = (4, 5), 10
    with pytest.raises(HTTPException, match="not evenly spaced"):
        archive.get_image_uri(SERIES)
    monkeypatch.setattr(ArchivedLabels, "_uneven", {})
    monkeypatch.setattr(ArchivedLabels, "_failed", {})
    assert archive.get_unlabeled_images() == ["9.9"]
    with pytest.raises(HTTPException, match="not evenly spaced"):
        archive.get_image_uri(SERIES)
    assert client.fetched == 1
    client.held_back, client.said = (), 12
    assert read_volume(archive.get_image_uri(SERIES))[1].shape == (6, 5, 12)
    assert archive.get_unlabeled_images() == [SERIES, "9.9"]


def test_series_of_ct_and_mr_are_listed_soon_after_they_have_come(archive, client, monkeypatch):
    there = {"CT": [SERIES], "MR": ["1.2.3.5"]}
    monkeypatch.setattr(
        client, "series", lambda asked: [client.described(uid) for uid in there.get(asked["Modality"], [])]
    )
    assert archive.list_images() == [SERIES, "1.2.3.5"]
    there["CT"].append("1.2.3.6")
    assert archive.list_images() == [SERIES, "1.2.3.5"], "clients ask often"
    monkeypatch.setattr(archived, "FRESH", 0.0)
    assert archive.list_images() == [SERIES, "1.2.3.6", "1.2.3.5"]
    monkeypatch.setenv(archived.SEARCH_FILTER, '{"Modality": "MR"}')
    archive._search_filter = {"Modality": "MR"}
    assert archive.list_images() == ["1.2.3.5"]


@pytest.mark.parametrize("page", [2, 100])
def test_an_archive_that_gives_out_few_series_at_a_time_is_asked_for_all_of_them(archive, client, page):
    client.page = page
    client.segmentations = {f"1.2.9.{number}": f"1.2.3.{number}" for number in range(7)}
    series = [f"1.2.3.{number}" for number in range(7)]
    client.series = lambda asked: [
        client.described(uid) for uid in (client.segmentations if asked["Modality"] == "SEG" else series)
    ]
    assert archive.list_images() == series
    assert archive.get_unlabeled_images() == []


def test_an_archive_that_gives_the_same_page_whatever_is_asked_for_is_not_asked_for_ever(archive, client):
    pages = []

    def same(search_filters, fields, offset):
        pages.append(offset)
        return [client.described(SERIES)]

    client.search_for_series = same
    assert archive.list_images() == [SERIES]
    assert pages == [0, 1, 0, 1], "of CT, then of MR"


def test_an_archive_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(archive_client, "TIMEOUT", (5.0, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = DICOMwebClient(f"http://127.0.0.1:{silent.getsockname()[1]}/dicom-web")
        archive_client.with_timeouts(client)
        asked, send = [], archive_client.Impatient.send
        monkeypatch.setattr(
            archive_client.Impatient, "send", lambda *given, **more: asked.append(given) or send(*given, **more)
        )
        with pytest.raises(requests.ReadTimeout):
            client.search_for_series()
    assert len(asked) == 2, "by itself the client asks five times, with pauses that grow"


def test_who_asks_for_what_only_a_silent_archive_has_is_told_so(archive, client, monkeypatch):
    def silent(*_, **__):
        raise requests.ReadTimeout("read timed out")

    monkeypatch.setattr(client, "search_for_series", silent)
    with pytest.raises(HTTPException) as refusal:
        archive.get_image_uri(SERIES)
    assert refusal.value.status_code == 502
    app = FastAPI()
    app.add_api_route("/list", archive.list_images)
    for silence in archive_client.SILENT:
        app.add_exception_handler(silence, archive_client.say_silent)
    answer = TestClient(app).get("/list")
    assert answer.status_code == 502
    assert "does not answer: read timed out" in answer.json()["detail"]


def test_whose_a_series_is_is_known_before_it_is_opened(archive, client, monkeypatch):
    def search(search_filters, fields, offset):
        series = pydicom.Dataset.from_json(client.described(SERIES))
        series.PatientName, series.PatientID, series.Modality = "Doe^Jane", "17", search_filters["Modality"]
        assert set(fields) >= {"PatientName", "StudyDate"}
        return [series.to_json_dict()]

    monkeypatch.setattr(client, "search_for_series", search)
    (series,) = archive.list_images()
    info = archive.get_image_info(series)
    assert (info["PatientName"], info["PatientID"], info["Modality"]) == ("Doe^Jane", "17", "MR")
    assert "SeriesDescription" not in info


def test_a_label_that_is_fetched_does_not_write_over_what_the_server_has_learnt_meanwhile(
    archive, client, tmp_path, monkeypatch
):
    """A training fetches labels in a process of its own."""
    image = archive.get_image_uri(SERIES)
    grid = read_volume(image)[1]
    training = careful(LocalDatastore(str(tmp_path / "studies"), extensions=("*.nii.gz",), auto_reload=False))
    archive.update_image_info(SERIES, {"score": 0.5})
    training.__class__ = type(archive)
    training._client, training._fetch_by_frame = client, False
    mask = np.zeros(grid.shape, np.uint8)
    mask[1:3, 1:3, 3:6] = 1
    write_mask(tmp_path / "mask.nii.gz", mask, grid)
    segmentation = write_segmentation(archive.series_folder(SERIES), tmp_path / "mask.nii.gz")
    client.slices = [pydicom.dcmread(segmentation)]
    monkeypatch.setattr(client, "series", lambda search_filters: [client.described("1.2.9")])
    archive.update_image_info(SERIES, {"score": 0.7})
    training._fetch(SERIES, "1.2.9", None)
    archive.refresh()
    assert archive.get_image_info(SERIES)["score"] == 0.7
    assert archive.get_label_info(SERIES, "final")["SeriesInstanceUID"] == "1.2.9"


@pytest.fixture
def saved(archive, client, tmp_path, monkeypatch):
    """saved(slices): the SEG series that a label of so many slices was stored as, newer than those before."""
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))

    def upload(file, _):
        uid = "1.9" + len(client.stored) * "9"
        client.stored[uid] = pydicom.dcmread(file)
        client.segmentations[uid] = SERIES
        return uid

    monkeypatch.setattr(archived, "dicom_web_upload_dcm", upload)

    def save(slices):
        grid = read_volume(archive.get_image_uri(SERIES))[1]
        mask = np.zeros(grid.shape, np.uint8)
        mask[1:3, 1:3, :slices] = 1
        write_mask(tmp_path / "saved.nii.gz", mask, grid)
        archive.save_label(SERIES, str(tmp_path / "saved.nii.gz"), "final", {"label_info": []})
        return list(client.stored)[-1]

    return save


def slices_of(path):
    return int(read_volume(path)[0].any((0, 1)).sum())


def test_a_series_that_was_opened_while_it_was_still_arriving_is_whole_later(archive, client, monkeypatch):
    monkeypatch.setattr(archived, "FRESH", 0.0)
    app = CarefulRequests()
    app.datastore, app.cache = lambda: archive, SessionCache()
    client.held_back, client.said = range(6, 12), 6
    archive.list_images()
    assert app.volume(SERIES)[1].shape == (6, 5, 6)
    client.held_back, client.said = (), 12
    archive.list_images()
    for _ in range(2):
        assert app.volume(SERIES)[1].shape == (6, 5, 12)
    assert client.fetched == 2
    assert len(list(archive.series_folder(SERIES).iterdir())) == 12


def test_a_label_follows_its_series_when_more_of_that_has_come(archive, client, saved, monkeypatch):
    monkeypatch.setattr(archived, "FRESH", 0.0)
    client.held_back, client.said = range(6, 12), 6
    saved(3)
    client.held_back, client.said = (), 12
    archive.list_images()
    archive.get_image_uri(SERIES)
    (pair,) = archive.datalist()
    assert read_volume(pair["image"])[1].shape == read_volume(pair["label"])[1].shape == (6, 5, 12)
    assert slices_of(pair["label"]) == 3


def test_the_version_of_an_archived_label_is_its_series(archive, saved):
    for slices in (2, 4):
        assert saved(slices) == label_version(archive, SERIES)


def test_a_search_that_began_before_a_save_does_not_put_the_older_label_back(archive, client, saved, monkeypatch):
    saved(2)
    archive.get_label_uri(SERIES, "final")
    search, began, go_on = client.series, threading.Event(), threading.Event()

    def slow(search_filters):
        found = search(search_filters)
        if threading.current_thread().name == "slow" and search_filters.get("Modality") == "SEG":
            began.set()
            go_on.wait(30)
        return found

    monkeypatch.setattr(client, "series", slow)
    archive._found = ArchivedLabels._found
    thread = threading.Thread(target=archive.get_label_uri, args=(SERIES, "final"), name="slow")
    thread.start()
    assert began.wait(30)
    newest = saved(4)
    go_on.set()
    thread.join(30)
    assert LocalDatastore.get_label_info(archive, SERIES, "final")["SeriesInstanceUID"] == newest
    assert slices_of(archive.get_label_uri(SERIES, "final")) == 4


def test_nobody_waits_while_a_label_is_converted_and_sent_to_the_archive(archive, saved, monkeypatch):
    upload, done = archived.dicom_web_upload_dcm, []

    def meanwhile(file, client):
        other = threading.Thread(target=lambda: done.append(archive.update_image_info(SERIES, {"score": 0.5})))
        other.start()
        other.join(20)
        assert done, "it waited"
        return upload(file, client)

    archive.get_image_uri(SERIES)
    monkeypatch.setattr(archived, "dicom_web_upload_dcm", meanwhile)
    saved(2)
    assert archive.get_image_info(SERIES)["score"] == 0.5
    assert archive.get_labeled_images() == [SERIES]


def test_a_newest_label_that_cannot_be_decoded_is_left_out_of_training_and_refused_when_it_is_opened(
    archive, client, saved, monkeypatch
):
    monkeypatch.setattr(archived, "FRESH", 0.0)
    saved(2)
    assert len(archive.datalist()) == 1
    del client.stored[saved(4)].PixelData
    LocalDatastore.get_label_info(archive, SERIES, "final")["SeriesInstanceUID"] = "that of another day"
    assert archive.datalist() == []
    with pytest.raises(ValueError, match="is not a readable DICOM segmentation"):
        archive.get_label_uri(SERIES, "final")
