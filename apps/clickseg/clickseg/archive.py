"""A DICOM archive of one's own: Orthanc on the loopback interface, for the demo and the tests."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
SETTINGS = Path(__file__).with_name("orthanc.json")
INSTALL = "Debian and Ubuntu have it: apt-get install orthanc orthanc-dicomweb"
START_S = 60


def check_port(who: str, host: str, port: int) -> None:
    """ValueError for a port of an address of this machine that somebody else has, or that this user may not have."""
    with contextlib.closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(f"{who} cannot have port {port} of {host}: {error}") from error


@contextlib.contextmanager
def orthanc(folder: Path, port: int) -> Iterator[str]:
    """The URL of an Orthanc that keeps its studies in `folder`, and ends with the context.

    Its settings are those of orthanc.json beside this file: nobody but this machine reaches it. Raises ValueError where
    Orthanc or its DICOMweb plugin is not installed, if the port is taken, and if it does not start.
    """
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None or not PLUGIN.exists():
        raise ValueError(f"{'Orthanc' if program is None else f'{PLUGIN}'} is not installed. {INSTALL}")
    check_port("the archive", "127.0.0.1", port)
    folder.mkdir(parents=True, exist_ok=True)
    content = json.loads(SETTINGS.read_text())
    places = {"HttpPort": port, "StorageDirectory": str(folder / "studies"), "IndexDirectory": str(folder / "studies")}
    own, log = folder / "orthanc.json", folder / "orthanc.log"
    own.write_text(json.dumps({**content, **places, "Plugins": [str(PLUGIN)]}, indent=1))
    url = f"http://127.0.0.1:{port}"
    with log.open("w") as file:
        process = subprocess.Popen([program, str(own)], stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + START_S
        while not _answers(f"{url}/system"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ValueError(
                    f"Orthanc does not start on port {port}; the end of its log:\n{log.read_text()[-2000:]}"
                )
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def store(url: str, instances: Iterable[bytes]) -> None:
    """Put DICOM files into an Orthanc. Raises ValueError for one that it refuses."""
    for number, content in enumerate(instances, start=1):
        request = urllib.request.Request(f"{url}/instances", content, {"Content-Type": "application/dicom"})
        try:
            urllib.request.urlopen(request, timeout=60).close()
        except urllib.error.HTTPError as error:
            raise ValueError(f"Orthanc refuses file {number}: {error}") from error


def studies(url: str) -> list[str]:
    """The StudyInstanceUIDs that an Orthanc holds."""
    with urllib.request.urlopen(f"{url}/studies?expand", timeout=60) as response:
        return [study["MainDicomTags"]["StudyInstanceUID"] for study in json.load(response)]


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True
