import hashlib
import http.server
import tarfile
import threading
from functools import partial

import pytest
from monai.apps import DecathlonDataset

from clickseg.datasets import CaseFolder, download_task
from clickseg.phantom import write_phantoms

TASK = "Task09_Spleen"


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A web server on this machine that offers the task: a phantom under its name."""
    write_phantoms(tmp_path / TASK, cases=1, shape=(16, 16, 8))
    (tmp_path / "www").mkdir()
    archive = tmp_path / f"www/{TASK}.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / TASK, TASK)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "www"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setitem(DecathlonDataset.resource, TASK, f"http://127.0.0.1:{server.server_port}/{TASK}.tar")
    monkeypatch.setitem(DecathlonDataset.md5, TASK, hashlib.md5(archive.read_bytes()).hexdigest())
    yield server
    server.shutdown()
    server.server_close()


def test_a_task_is_fetched_once_and_is_a_data_folder_then(mirror, tmp_path):
    folder = tmp_path / "data" / TASK
    download_task(folder)
    assert [case.id for case in CaseFolder.read(folder).cases] == ["phantom_000"]
    mirror.shutdown()
    download_task(folder)  # it is there: nobody is asked


def test_a_download_that_fails_is_said_in_a_sentence(mirror, tmp_path, monkeypatch):
    monkeypatch.setitem(DecathlonDataset.md5, TASK, "0" * 32)
    with pytest.raises(ValueError, match=f"{TASK} could not be downloaded"):
        download_task(tmp_path / "data" / TASK)
    monkeypatch.setitem(DecathlonDataset.resource, TASK, f"http://127.0.0.1:1/{TASK}.tar")
    with pytest.raises(ValueError, match=f"{TASK} could not be downloaded"):
        download_task(tmp_path / "elsewhere" / TASK)
    assert not (tmp_path / "data" / TASK).exists()


def test_what_is_no_task_cannot_be_downloaded(tmp_path):
    with pytest.raises(ValueError, match=r"only tasks of the Medical Segmentation Decathlon.*Task09_Spleen"):
        download_task(tmp_path / "my_data")
