"""Studies that are sent to the server, by a page or a script: what is kept of them, and what is refused."""

import errno
import gzip
import inspect
import io
import re
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pydicom
import pytest
from enhanced import enhanced_file, frames_of
from fastapi import FastAPI
from fastapi.testclient import TestClient
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.endpoints.user import auth
from pydicom.uid import generate_uid

from clickseg.images import read_volume
from clickseg.phantom.dicom import dicom_series
from lib.server import receiving, uploads
from lib.server.datastore import careful

SHAPE, SPACING = (16, 12, 6), (2.0, 1.5, 5.0)
MIB = 2**20


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A temporary folder of the server's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir()), "it is of patients"


@pytest.fixture
def store(datastore):
    return careful(datastore)


@pytest.fixture
def app(store, monkeypatch):
    app = SimpleNamespace(datastore=lambda: store, upload_limit=64 * MIB)
    monkeypatch.setattr(uploads, "app_instance", lambda: app)
    return app


@pytest.fixture
def client(app, temporary):
    server = FastAPI()
    server.include_router(uploads.uploads_router)
    return TestClient(server, raise_server_exceptions=False)


def nifti(values, affine=None):
    content = nib.Nifti1Image(values, np.diag([2, 3, 4, 1]) if affine is None else affine).to_bytes()
    return gzip.compress(content)


def volume(seed=0):
    return np.random.default_rng(seed).normal(50, 80, SHAPE).astype(np.int16)


def series(seed=0, **said):
    """The files of a DICOM series, as a folder has them. said: what is said in each."""
    files = []
    for number, content in enumerate(dicom_series(volume(seed), SPACING)):
        data = pydicom.dcmread(io.BytesIO(content))
        for name, value in said.items():
            setattr(data, name, value)
        buffer = io.BytesIO()
        data.save_as(buffer)
        files.append((f"IM{number}.dcm", buffer.getvalue()))
    return files


def send(client, *files, **options):
    return client.post("/clickseg/api/studies", files=[("files", file) for file in files], **options)


def refusal(response):
    return response.status_code, response.json()["detail"]


def test_a_nifti_file_is_added_under_its_name(client, store):
    values = volume()
    reply = send(client, ("some/folder/new.study.nii.gz", nifti(values)))
    assert reply.json() == {"studies": ["new.study"], "refused": [], "left_out": []}
    kept, _ = read_volume(store.get_image_uri("new.study"))
    assert np.array_equal(kept, values)
    assert store.get_image_info("new.study")["user"] == "admin"


@pytest.mark.parametrize("ending", [".nii", ".NII.GZ", ".nrrd"])
def test_files_of_other_endings_are_added_too_and_found_again(client, store, tmp_path, ending):
    values = volume()
    content = nifti(values)
    if ending == ".nii":
        content = gzip.decompress(content)
    if ending == ".nrrd":
        nrrd = pytest.importorskip("nrrd")
        nrrd.write(str(tmp_path / "a.nrrd"), values)
        content = (tmp_path / "a.nrrd").read_bytes()
    store._extensions = ["*.nii.gz", "*.nii", "*.nrrd"]  # as the server has them
    assert send(client, (f"new{ending}", content)).json()["studies"] == ["new"]
    store.refresh()
    assert Path(store.get_image_uri("new")).name == f"new{ending.lower()}"
    assert np.array_equal(read_volume(store.get_image_uri("new"))[0], values)


def test_a_series_is_added_with_its_place_and_without_its_patient(client, store, tmp_path):
    files = series(PatientName="Doe^Jane", PatientID="K4711", SeriesDescription="Abdomen of Jane", SeriesNumber=4)
    (name,) = send(client, *files).json()["studies"]
    assert re.fullmatch("study-[0-9a-f]{8}_4", name)
    folder = tmp_path / "dicom"
    folder.mkdir()
    for file, content in files:
        (folder / file).write_bytes(content)
    wanted, grid = read_volume(folder)
    kept, own = read_volume(store.get_image_uri(name))
    assert np.array_equal(kept, wanted)
    assert own.coincides(grid)
    info = store.get_image_info(name)
    assert (info["Modality"], info["SeriesDescription"]) == ("CT", "Abdomen of ***")
    listed = Path(store._datastore_config_path).read_text()
    assert not [word for word in ("Doe", "Jane", "K4711", "20240101") if word in listed]
    assert send(client, *files[::-1]).json()["studies"] == [name], "the same again"


def test_the_volumes_of_an_enhanced_file_are_added_each(client, store):
    frames = [
        frame
        for seed, time in enumerate((2.3, 4.6))
        for frame in frames_of(volume(seed), SPACING, said={"MREchoSequence": {"EffectiveEchoTime": time}})
    ]
    reply = send(client, ("IM0", enhanced_file(frames[::-1], SeriesNumber=4, SeriesDescription="T2 map"))).json()
    assert (len(reply["studies"]), reply["refused"], reply["left_out"]) == (2, [], [])
    for name, seed in zip(sorted(reply["studies"]), (0, 1), strict=True):
        kept, grid = read_volume(store.get_image_uri(name))
        assert np.array_equal(kept, volume(seed))
        assert grid.spacing == pytest.approx(SPACING)
    described = {store.get_image_info(name)["SeriesDescription"] for name in reply["studies"]}
    assert described == {"T2 map, EchoTime 2.3", "T2 map, EchoTime 4.6"}


def test_all_series_are_added_and_the_largest_is_named_first(client, store):
    small, large = series(1, SeriesNumber=1)[:4], series(2, SeriesNumber=2)
    reply = send(client, *small, *large).json()  # their files have the same names
    assert [name.partition("_")[2] for name in reply["studies"]] == ["2", "1"]
    shapes = [read_volume(store.get_image_uri(name))[1].shape for name in reply["studies"]]
    assert shapes == [SHAPE, (*SHAPE[:2], 4)]


def test_of_a_series_that_has_more_slices_than_before_a_second_study_is_made(client):
    files = series(SeriesInstanceUID=generate_uid())
    (few,) = send(client, *files[:4]).json()["studies"]
    (all_,) = send(client, *files).json()["studies"]
    assert all_ == f"{few}_2"
    assert send(client, *files).json()["studies"] == [all_]


def test_the_parts_of_a_series_are_studies_of_their_own(client, store):
    early = series(1, AcquisitionNumber=1)
    late = [(f"late{name}", content) for name, content in series(2, AcquisitionNumber=2)]
    uid = pydicom.dcmread(io.BytesIO(early[0][1]))
    late = [(name, _with_uids(content, uid)) for name, content in late]
    first, second = send(client, *early, *late).json()["studies"]
    assert second == f"{first}_2"
    told = {store.get_image_info(name)["SeriesDescription"] for name in (first, second)}
    assert told == {"AcquisitionNumber 1", "AcquisitionNumber 2"}
    assert send(client, *late, *early).json()["studies"] in ([first, second], [second, first])


def _with_uids(content, like):
    data = pydicom.dcmread(io.BytesIO(content))
    data.StudyInstanceUID, data.SeriesInstanceUID = like.StudyInstanceUID, like.SeriesInstanceUID
    buffer = io.BytesIO()
    data.save_as(buffer)
    return buffer.getvalue()


def test_a_file_at_which_a_reader_stumbles_keeps_no_other_out(client, monkeypatch):
    def odd(*_):
        raise KeyError("odd")

    monkeypatch.setattr(uploads, "read_slices", odd)
    reply = send(client, *series(SeriesDescription="Odd"), ("new.nii.gz", nifti(volume()))).json()
    assert reply["studies"] == ["new"]
    assert reply["refused"] == ["series 1, CT, Odd cannot be read: KeyError('odd')"]


def test_a_series_that_is_refused_keeps_no_other_out_and_is_told(client, store):
    gap = [file for number, file in enumerate(series(1, SeriesNumber=7, SeriesDescription="Thorax")) if number != 2]
    reply = send(client, *gap, *series(2)).json()
    assert len(reply["studies"]) == 1
    (sentence,) = reply["refused"]
    assert sentence.startswith("series 7, CT, Thorax: the slices of this series are not evenly spaced")
    assert len(store.list_images()) == 3


def test_a_slice_that_is_cut_short_is_not_left_out_in_silence(client, temporary):
    files = series()
    files[3] = (files[3][0], files[3][1][:300])
    status, sentence = refusal(send(client, *files))
    assert status == 400
    assert "no readable DICOM images (damaged, or cut short?): IM3.dcm" in sentence
    assert sentence.startswith("series 1, CT: ")
    assert str(temporary) not in sentence


def test_files_that_may_be_any_slices_and_cannot_be_read_are_told(client):
    cut = series()[0][1][:200]
    wanted = "files that are no readable DICOM images (damaged, or cut short?): IM0.dcm. "
    for place, begin in (("IM0.dcm", wanted), ("disk/IM0.dcm", f"disk: {wanted}")):
        status, sentence = refusal(send(client, (place, cut)))
        assert status == 400
        assert sentence.startswith(begin)
        reply = send(client, (place, cut), ("new.nii.gz", nifti(volume()))).json()
        assert reply["studies"] == ["new"]
        assert reply["refused"][0].startswith(begin)


def test_what_comes_beside_a_series_is_left_out_and_of_dicom_that_is_told(client):
    beside = [(".DS_Store", b"x"), ("report.txt", b"All well."), ("a/.git/b.nii", b"x"), ("empty.json", b"")]
    scout = series(3, SeriesNumber=9, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    reply = send(client, *beside, *scout, *series()).json()
    assert len(reply["studies"]) == 1
    assert reply["refused"] == []
    assert reply["left_out"] == ["series 9, CT: a localizer"]
    assert refusal(send(client, *scout)) == (400, "series 9, CT: a localizer")


def test_series_in_folders_of_their_own_may_have_files_of_the_same_names(client):
    files = [(f"disk/s{seed}/{name}", content) for seed in (1, 2) for name, content in series(seed, SeriesNumber=seed)]
    assert len(send(client, *files).json()["studies"]) == 2


def test_names_that_clash_are_all_kept(client, store):
    one, other = nifti(volume(1)), nifti(volume(2))
    reply = send(client, ("x.nii.gz", one), ("x.nii.gz/y.nii.gz", other), ("z/x.nii.gz", one)).json()
    assert reply["studies"] == ["x", "y"]
    assert np.array_equal(read_volume(store.get_image_uri("y"))[0], volume(2))


def test_a_file_that_is_cut_short_is_refused_and_not_kept(client, store):
    status, sentence = refusal(send(client, ("new.nii.gz", nifti(volume())[:-500])))
    assert status == 400
    assert sentence.startswith("new.nii.gz is not a readable NIfTI file (damaged or cut short?)")
    assert sorted(store.list_images()) == ["a", "b"]


def test_an_image_of_four_dimensions_is_refused_in_words(client, store):
    status, sentence = refusal(send(client, ("new.nii.gz", nifti(np.zeros((4, 4, 4, 2), np.int16)))))
    assert (status, sentence) == (400, "new.nii.gz has shape (4, 4, 4, 2); a 3D image (one value per voxel) is needed")
    assert sorted(store.list_images()) == ["a", "b"]


@pytest.mark.parametrize("file", [("photo.jpg", b"\xff\xd8\xff\xe0"), (".hidden.nii.gz", b""), ("", b"x")])
def test_what_is_no_image_is_refused_in_words(client, file):
    status, sentence = refusal(send(client, file))
    assert status == 400
    assert sentence.startswith("no image is among the files: .nii.gz, .nii, .nrrd, or the files of a DICOM series,")


def test_the_same_image_again_is_no_error_and_keeps_its_label(client, store, label_of_a):
    content = Path(store.get_image_uri("a")).read_bytes()
    for again in (content, gzip.compress(gzip.decompress(content), 9)):
        assert send(client, ("a.nii.gz", again)).json() == {"studies": ["a"], "refused": [], "left_out": []}
    assert store.get_labeled_images() == ["a"]


def test_another_image_under_a_name_that_is_taken_is_refused_with_what_to_do(client, store, label_of_a):
    before = Path(store.get_image_uri("a")).read_bytes()
    reply = send(client, ("a.nii.gz", nifti(volume())))
    assert refusal(reply) == (409, "another image of that name is here already: rename a.nii.gz, and add it again")
    assert Path(store.get_image_uri("a")).read_bytes() == before
    assert store.get_labeled_images() == ["a"]


@pytest.fixture
def label_of_a(store, tmp_path):
    image = nib.load(store.get_image_uri("a"))
    nib.save(nib.Nifti1Image(np.ones(image.shape, np.uint8), image.affine), tmp_path / "label.nii.gz")
    store.save_label("a", str(tmp_path / "label.nii.gz"), "final", {})


def pieces(*sizes):
    """A body that does not say how long it is."""
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="new.nii"\r\n\r\n'
    yield head
    for size in sizes:
        yield bytes(size)
    yield b"\r\n--x--\r\n"


FORM = {"Content-Type": "multipart/form-data; boundary=x"}


def test_what_is_larger_than_the_bound_is_refused_before_it_is_received(client, app, monkeypatch):
    app.upload_limit = MIB
    monkeypatch.setattr(uploads, "receive", lambda *_: pytest.fail("it was received"))
    status, sentence = refusal(send(client, ("new.nii", bytes(2 * MIB))))
    assert status == 413
    assert sentence == (
        "the server takes 1 MB at once: add fewer files, or let it be started with a larger --conf upload_gb"
    )


def test_what_does_not_say_how_large_it_is_is_refused_as_soon_as_it_is_too_large(client, app):
    app.upload_limit = 3 * MIB
    reply = client.post("/clickseg/api/studies", content=pieces(*[MIB] * 4), headers=FORM)
    assert reply.status_code == 413


def test_what_the_disk_has_no_room_for_is_refused_before_it_is_received(client, monkeypatch):
    monkeypatch.setattr(receiving.shutil, "disk_usage", lambda folder: SimpleNamespace(free=MIB))
    monkeypatch.setattr(uploads, "receive", lambda *_: pytest.fail("it was received"))
    status, sentence = refusal(send(client, ("new.nii", bytes(100))))
    assert status == 507
    assert sentence.startswith("the server's disk has no room")


def fill(monkeypatch, module, name):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, name, full)


def test_a_disk_that_is_full_meanwhile_is_told_and_no_half_image_stays(client, store, monkeypatch, tmp_path):
    fill(monkeypatch, shutil, "copyfileobj")
    before = sorted((tmp_path / "studies").rglob("*"))
    status, sentence = refusal(send(client, ("new.nii.gz", nifti(volume()))))
    assert (status, sentence) == (507, "new.nii.gz is not added: the server's disk is full")
    assert sorted((tmp_path / "studies").rglob("*")) == before
    assert sorted(store.list_images()) == ["a", "b"]


def test_a_disk_that_is_full_while_files_come_is_told(client, monkeypatch):
    fill(monkeypatch, receiving.Receiver, "_on_part_data")
    status, sentence = refusal(send(client, ("new.nii.gz", nifti(volume()))))
    assert (status, sentence) == (507, "the server's disk is full: nothing was added")


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "multipart/form-data; boundary=y", ""])
def test_what_is_no_form_is_refused(client, kind):
    body = b"".join(pieces(10))
    reply = client.post("/clickseg/api/studies", content=body, headers={"Content-Type": kind})
    assert reply.status_code == 400
    assert "multipart form" in reply.json()["detail"]


def test_a_form_that_is_cut_short_is_refused(client):
    body = b"".join(pieces(10))[:-6]
    assert refusal(client.post("/clickseg/api/studies", content=body, headers=FORM)) == (
        400,
        "the request is no multipart form, or was cut short",
    )


def test_files_go_to_the_disk_as_they_come(tmp_path):
    receiver = receiving.Receiver(b"x", tmp_path)
    sizes = []
    for piece in pieces(*[MIB] * 4):
        receiver.write(piece)
        sizes.append((tmp_path / "0").stat().st_size if receiver.files else 0)
    receiver.finish()
    assert sizes[-1] == 4 * MIB
    assert sizes[2] >= MIB, "and not all of them at the end"


@pytest.mark.parametrize("name", ["../../evil.nii", "/etc/evil.nii", "..\\..\\evil.nii"])
def test_a_path_for_a_name_leads_nowhere(client, store, tmp_path, name):
    assert send(client, (name, gzip.decompress(nifti(volume())))).json()["studies"] == ["evil"]
    assert [path.parent.name for path in tmp_path.rglob("evil*")] == ["studies"]


@pytest.fixture
def archived(store):
    store.__class__ = type("Archive", (DICOMWebDatastore,), {})


@pytest.mark.usefixtures("archived")
def test_a_server_with_an_archive_takes_no_studies_and_says_so(client, monkeypatch):
    monkeypatch.setattr(uploads, "receive", lambda *_: pytest.fail("it was received"))
    assert client.get("/clickseg/api/adding").json()["possible"] is False
    status, sentence = refusal(send(client, ("new.nii.gz", nifti(volume()))))
    assert status == 400
    assert "DICOMweb server: store the study there" in sentence


def test_a_folder_takes_studies_up_to_a_bound(client, app):
    assert client.get("/clickseg/api/adding").json() == {"possible": True, "limit": app.upload_limit}


def test_adding_runs_in_the_thread_pool_so_that_others_are_answered_meanwhile():
    assert not inspect.iscoroutinefunction(uploads.add_studies)


def test_who_may_not_add_images_sends_them_in_vain(client, monkeypatch):
    monkeypatch.setattr(settings, "MONAI_LABEL_AUTH_ENABLE", True)
    monkeypatch.setattr(uploads, "receive", lambda *_: pytest.fail("it was received"))
    user = auth.User(username="u", roles=[settings.MONAI_LABEL_AUTH_ROLE_USER])
    client.app.dependency_overrides[auth.get_current_user] = lambda: user
    assert client.get("/clickseg/api/adding").status_code == 200
    assert send(client, ("new.nii.gz", nifti(volume()))).status_code in (401, 403)
