import errno
import io
import shutil
import tarfile
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import anyio
import nibabel as nib
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from monailabel.config import settings
from monailabel.interfaces.utils import app as loaded
from monailabel.utils.sessions import Sessions

from clickseg.images import read_volume
from clickseg.phantom.dicom import dicom_series
from lib.server import pooled
from lib.server.datastore import careful


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A temporary folder of the server's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def app(datastore, tmp_path, monkeypatch):
    """What the routes find: a folder of studies, and sessions."""
    store, sessions = careful(datastore), Sessions(str(tmp_path / "sessions"))
    app = SimpleNamespace(datastore=lambda: store, sessions=lambda: sessions)
    monkeypatch.setitem(loaded.apps, f"{settings.MONAI_LABEL_APP_DIR}{settings.MONAI_LABEL_STUDIES}", app)
    return app


@pytest.fixture
def client(app, temporary):
    server = FastAPI()
    server.include_router(pooled.pooled_router)
    return TestClient(server, raise_server_exceptions=False)


def tar_of(mode="w", **members):
    """An archive of files with these names and contents; a name for a content is a link to it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def send(client, *files, uncompress=False):
    return client.put("/session/", params={"uncompress": uncompress}, files=[("files", file) for file in files])


def image_of(app, reply):
    assert reply.status_code == 200, reply.text
    return app.sessions().get_session(reply.json()["session_id"]).image


@pytest.mark.parametrize("way", ["../../evil", "sub/../../../evil", "{folder}/evil"])
@pytest.mark.parametrize(("name", "pack"), [("a.tar", tar_of), ("a.zip", zip_of)])
def test_what_an_archive_would_write_outside_its_folder_is_refused_and_not_written(
    client, tmp_path, temporary, name, pack, way
):
    content = pack(**{"good.dcm": b"image", way.format(folder=tmp_path): b"evil"})
    reply = send(client, (name, content), uncompress=True)
    assert reply.status_code == 400
    assert reply.json()["detail"].startswith(f"{name} cannot be unpacked: ")
    assert not list(tmp_path.rglob("evil"))
    assert not list(temporary.iterdir())


def test_a_link_in_an_archive_is_refused_and_nothing_is_written_through_it(client, tmp_path):
    (tmp_path / "outside").mkdir()
    reply = send(client, ("a.tar", tar_of(**{"way": f"{tmp_path}/outside", "way/evil": b"evil"})), uncompress=True)
    assert (reply.status_code, reply.json()["detail"]) == (
        400,
        "a.tar cannot be unpacked: 'way' is neither a file nor a folder",
    )
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
def test_a_series_in_an_archive_is_a_session(client, app, temporary, kind):
    values = np.random.default_rng(0).integers(-100, 200, (8, 6, 4)).astype(np.int16)
    slices = {f"{number}.dcm": content for number, content in enumerate(dicom_series(values, (2.0, 1.5, 5.0)))}
    pack = {"zip": zip_of, "tar": tar_of}.get(kind, lambda **members: tar_of(f"w:{kind[4:]}", **members))
    volume, grid = read_volume(image_of(app, send(client, (f"series.{kind}", pack(**slices)), uncompress=True)))
    assert grid.shape == values.shape
    assert np.array_equal(np.sort(volume.ravel()), np.sort(values.ravel()))
    assert not list(temporary.iterdir())


def test_a_file_is_a_session_under_its_name_and_several_are_one_in_a_folder(client, app, datastore, temporary):
    path = datastore.get_image_uri("a")
    with Path(path).open("rb") as file:
        image = image_of(app, send(client, ("study.1.nii.gz", file)))
    assert image.endswith("/study.1.nii.gz")
    assert np.array_equal(nib.load(image).dataobj, nib.load(path).dataobj)
    values = np.zeros((8, 6, 4), np.int16)
    slices = [(f"{number}.dcm", content) for number, content in enumerate(dicom_series(values, (2.0, 1.5, 5.0)))]
    assert read_volume(image_of(app, send(client, *slices)))[1].shape == values.shape
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    "content",
    [b"", b"rubbish", tar_of("w:gz", a=bytes(10000))[:60], zip_of(a=b"b")[:-9]],
    ids=["nothing", "rubbish", "half a tar", "half a zip"],
)
def test_what_is_no_archive_is_refused_in_words_and_nothing_stays_of_it(client, app, temporary, tmp_path, content):
    for name in ("a.zip", "a.tar.gz", "a.dcm"):
        reply = send(client, (name, content), uncompress=True)
        assert reply.status_code == 400
        assert reply.json()["detail"].startswith(f"{name} cannot be unpacked: ")
    assert not list(temporary.iterdir())
    assert not (tmp_path / "sessions").exists()


@pytest.mark.parametrize("full", [errno.ENOSPC, errno.EDQUOT])
def test_that_the_disk_is_full_is_not_said_to_be_the_archives_fault(client, temporary, monkeypatch, full):
    copy = shutil.copyfileobj

    def copy_until_full(source, target):
        if "/unpacked/" in target.name:
            raise OSError(full, "no space left")
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfileobj", copy_until_full)
    assert send(client, ("a.zip", zip_of(a=b"image")), uncompress=True).status_code == 500
    assert not list(temporary.iterdir())


def test_of_a_session_that_cannot_be_kept_nothing_stays_in_the_temporary_folder(client, app, temporary, tmp_path):
    (tmp_path / "sessions").write_text("no folder")
    assert send(client, ("a.nii.gz", b"image")).status_code == 500
    assert send(client, ("a" * 300, b"image")).status_code == 400
    app.sessions = lambda: None
    assert send(client, ("a.nii.gz", b"image")).status_code == 406
    assert not list(temporary.iterdir())


@pytest.fixture
def labelled(app, tmp_path):
    image = nib.load(app.datastore().get_image_uri("a"))
    nib.save(nib.Nifti1Image(np.ones(image.shape, np.uint8), image.affine), tmp_path / "label.nii.gz")
    app.datastore().save_label("a", str(tmp_path / "label.nii.gz"), "final", {})
    return app


@pytest.mark.usefixtures("labelled")
def test_a_dataset_is_downloaded_whole_and_leaves_nothing_behind(client, temporary):
    for _ in range(2):
        reply = client.get("/datastore/dataset")
        assert reply.status_code == 200
        assert reply.headers["content-disposition"] == 'attachment; filename="dataset.zip"'
        with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
            assert archive.testzip() is None
            assert sorted(archive.namelist()) == ["image/a.nii.gz", "label/a.nii.gz", "metadata.json"]
    assert client.get("/datastore/dataset", headers={"Range": "bytes=0-3"}).content == b"PK\3\4"
    assert not list(temporary.iterdir())


@pytest.mark.usefixtures("labelled")
def test_a_dataset_whose_download_is_given_up_leaves_nothing_behind(client, temporary):
    async def hang_up(message):
        raise OSError("the client has gone")

    async def begin():
        scope = {"type": "http", "asgi": {"spec_version": "2.4"}, "method": "GET", "path": "/datastore/dataset"}
        with pytest.raises(OSError, match="has gone"):
            await client.app({**scope, "query_string": b"", "headers": []}, lambda: None, hang_up)

    with ThreadPoolExecutor(1) as thread:  # in this one a loop may be running, of a browser that others drive
        thread.submit(anyio.run, begin).result()
    assert not list(temporary.iterdir())
