"""`clickseg demo-ohif`: archive, study and server come up together, and go together."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
import requests
from monailabel.client import MONAILabelClient

from clickseg import cli
from clickseg.archive import PLUGIN, orthanc, store, studies
from clickseg.phantom import phantom
from clickseg.phantom.dicom import phantom_series

pytestmark = pytest.mark.orthanc


@pytest.fixture(autouse=True)
def installed():
    if not PLUGIN.exists():
        pytest.skip("Orthanc's DICOMweb plugin is not installed")


@pytest.fixture
def port(free_port):
    return free_port()


def interruptible():
    """In a session of its own; and shells ignore Ctrl-C in what they start in the background, such as these tests."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def answers(url):
    try:
        return requests.get(url, timeout=10).ok
    except requests.RequestException:
        return False


def test_a_study_can_be_clicked_on_and_an_interrupt_ends_everything(tmp_path, free_port):
    series = phantom_series(phantom(seed=0, shape=(64, 64, 24)), seed=0)
    (tmp_path / "dicom").mkdir()
    for number, content in enumerate(series):
        (tmp_path / f"dicom/{number}.dcm").write_bytes(content)
    (tmp_path / "dicom/README").write_text("no DICOM")
    port, archive = free_port(), free_port()
    command = [sys.executable, "-m", "clickseg", "demo-ohif", "--dicom", str(tmp_path / "dicom"), "--port", str(port)]
    command += ["--archive-port", str(archive), "--folder", str(tmp_path / "archive")]
    log = tmp_path / "log"
    environment = {**os.environ, "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    with log.open("w") as file:
        demo = subprocess.Popen(
            command, stdout=file, stderr=file, env=environment, cwd=tmp_path, preexec_fn=interruptible
        )
    try:
        deadline = time.monotonic() + 300
        while not answers(f"http://127.0.0.1:{port}/info/"):
            assert demo.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        (address,) = re.findall(r"http\S+StudyInstanceUIDs=\S+", log.read_text())
        assert answers(address)
        client = MONAILabelClient(f"http://127.0.0.1:{port}", str(tmp_path))
        sample = client.next_sample("first", {})
        _, figures = client.infer("unet2d", sample["id"], {"foreground": [[32, 32, 12]]})
        assert figures["volume_ml"]["foreground"] > 0
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(120)
    assert not answers(f"http://127.0.0.1:{port}/info/")
    assert not answers(f"http://127.0.0.1:{archive}/system")


def test_a_phantom_is_the_same_study_every_time(tmp_path, port):
    series = phantom_series(phantom(seed=3, shape=(32, 32, 6)), seed=3)
    with orthanc(tmp_path, port) as url:
        store(url, series)
        store(url, phantom_series(phantom(seed=3, shape=(32, 32, 6)), seed=3))
        assert len(studies(url)) == 1
        with urllib.request.urlopen(f"{url}/statistics") as response:
            assert json.load(response)["CountInstances"] == 6


def test_a_taken_port_is_an_error(tmp_path, port):
    with (
        orthanc(tmp_path / "one", port),
        pytest.raises(ValueError, match=f"cannot have port {port}"),
        orthanc(tmp_path / "two", port),
    ):
        pytest.fail("it has started")


def test_a_folder_without_dicom_is_refused(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("no DICOM")
    assert cli.main(["demo-ohif", "--dicom", str(tmp_path)]) == 2
    assert "no DICOM file in" in capsys.readouterr().err
    assert cli.main(["demo-ohif", "--dicom", str(tmp_path / "nowhere")]) == 2
    assert "no folder" in capsys.readouterr().err
