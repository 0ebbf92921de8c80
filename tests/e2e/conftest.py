"""The real server as a subprocess, and what the clients in these tests share."""

import contextlib
import io
import json
import os
import signal
import socket
import time
from pathlib import Path

import nrrd
import pytest
import requests
import torch

from clickseg.archive import PLUGIN, orthanc, store
from clickseg.methods import METHODS, save_weights
from clickseg.methods.tis import TisRecipe

CHROMIUM = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--use-gl=angle",  # software rendering: no GPU is needed
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
]


def any_free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(url, process, log, seconds=300):
    """Until it answers (within seconds, on a busy machine within minutes)."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return requests.get(url, timeout=30).raise_for_status()
        except requests.RequestException:
            time.sleep(0.1)
    return pytest.fail(f"nothing answers at {url}:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def free_port():
    """free_port(): one of the loopback interface that nobody listens on."""
    return any_free_port


@pytest.fixture(scope="session")
def tiny_tis_weights():
    """tiny_tis_weights(path, labels, modality): weights of `tis` that answer at once."""

    def write(path, labels, modality):
        torch.manual_seed(0)
        recipe = TisRecipe(labels=labels, modality=modality, patch=(16, 16, 16), width=4, tokens=8, heads=2, layers=2)
        save_weights(path, METHODS["tis"].build(recipe), recipe)

    return write


@pytest.fixture(scope="session")
def archive():
    """archive(folder, instances): the url of a DICOM server on the loopback interface that holds these DICOM files."""
    if not PLUGIN.exists():
        pytest.skip("Orthanc's DICOMweb plugin is not installed")

    @contextlib.contextmanager
    def archive(folder, instances):
        with orthanc(folder / "archive", any_free_port()) as url:
            store(url, instances)
            yield url

    return archive


@pytest.fixture(scope="session")
def serve(repository, starter):
    """serve(folder, studies, *conf): the app's url while it runs; everything it writes is in `folder`.

    It uses the weights in folder/model, and the shipped ones where there are none.
    """

    @contextlib.contextmanager
    def serve(folder, studies, *conf):
        environment = {
            **os.environ,
            "CLICKSEG_MODEL_DIR": str(folder / "model"),
            "MONAI_LABEL_SESSION_PATH": str(folder / "sessions"),
            "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(folder / "dicom"),
            "TMPDIR": str(folder / "temporary"),
            "OMP_NUM_THREADS": "1",  # tiny tensors: more threads would only wait for each other
        }
        (folder / "temporary").mkdir(exist_ok=True)
        port = any_free_port()
        command = ["-m", "monailabel.main", "start_server", "--app", repository / "apps/clickseg"]
        command += ["--studies", studies, "--host", "127.0.0.1", "--port", port, *conf]
        url, log = f"http://127.0.0.1:{port}", folder / "server.log"
        server = starter.start(command, environment, folder, log)
        try:
            wait_for(f"{url}/info/", server, log)
            yield url
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)

    return serve


@pytest.fixture(scope="module")
def url(folder, serve):
    """The app with the studies and models in the `folder` of a file of tests."""
    with serve(folder, str(folder / "studies")) as url:
        yield url


@pytest.fixture(scope="session")
def ask():
    """ask(url, model, image, **params): the response to a request in OHIF's form."""

    def ask(url, model, image, /, output="image", **params):
        fields = {"params": (None, json.dumps(params))}
        query = {"image": image, "output": output}
        return requests.post(f"{url}/infer/{model}", params=query, files=fields, timeout=120)

    return ask


@pytest.fixture(scope="session")
def mask_in():
    """mask_in(response): voxels and header of the NRRD in it."""

    def mask_in(response):
        file = io.BytesIO(response.content)
        header = nrrd.read_header(file)
        return nrrd.read_data(header, file), header

    return mask_in


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, driven by playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def keep():
    """keep(picture, name): into the folder that CLICKSEG_SCREENSHOTS names, for people to look at."""

    def keep(picture, name):
        if folder := os.environ.get("CLICKSEG_SCREENSHOTS"):
            (Path(folder) / name).write_bytes(picture)

    return keep
