"""The real server as a subprocess, and what the clients in these tests share."""

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import nrrd
import numpy as np
import pydicom
import pytest
import requests
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

ORTHANC_DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def any_free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(url, process, log, seconds=300):
    """Until it answers (the server imports for 15 s, for minutes on a busy machine)."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return requests.get(url, timeout=30).raise_for_status()
        except requests.RequestException:
            time.sleep(0.5)
    return pytest.fail(f"nothing answers at {url}:\n{log.read_text()[-3000:]}")


@contextlib.contextmanager
def run(command, url, log, **options):
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, **options)
    try:
        wait_for(url, process, log)
        yield
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="session")
def archive():
    """archive(folder, instances): the url of a DICOM server on the loopback interface that holds these DICOM files."""
    if not ORTHANC_DICOMWEB.exists():
        pytest.skip("Orthanc's DICOMweb plugin is not installed")

    @contextlib.contextmanager
    def archive(folder, instances):
        port = any_free_port()
        url = f"http://127.0.0.1:{port}"
        settings = {
            "HttpPort": port,
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "StorageDirectory": str(folder / "archive"),
            "IndexDirectory": str(folder / "archive"),
            "Plugins": [str(ORTHANC_DICOMWEB)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin")
        with run([program, str(folder / "orthanc.json")], f"{url}/system", folder / "orthanc.log"):
            for content in instances:
                requests.post(f"{url}/instances", data=content, timeout=60).raise_for_status()
            yield url

    return archive


@pytest.fixture(scope="session")
def serve(repository):
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
            "OMP_NUM_THREADS": "1",  # tiny tensors: more threads would only wait for each other
        }
        port = any_free_port()
        command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(repository / "apps/clickseg")]
        command += ["--studies", studies, "--host", "127.0.0.1", "--port", str(port), *conf]
        url = f"http://127.0.0.1:{port}"
        with run(command, f"{url}/info/", folder / "server.log", env=environment, cwd=folder):
            yield url

    return serve


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


def dicom_slice(volume, number, spacing, origin, study, series):
    """One axial CT slice as a DICOM file, columns to the patient's left and rows to the back, as DICOM likes it."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.is_little_endian, data.is_implicit_VR = True, False
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, study
    data.Modality, data.PatientName, data.PatientID, data.StudyID = "CT", "Nobody", "0", "1"
    data.PatientBirthDate = data.PatientSex = data.AccessionNumber = data.ReferringPhysicianName = ""
    data.StudyDate, data.StudyTime, data.SeriesNumber, data.InstanceNumber = "20240101", "120000", 1, number + 1
    data.Rows, data.Columns = volume.shape[1], volume.shape[0]
    data.PixelSpacing, data.SliceThickness = [spacing[1], spacing[0]], spacing[2]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = [origin[0], origin[1], origin[2] + number * spacing[2]]
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 1
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.RescaleIntercept, data.RescaleSlope = 0, 1
    data.WindowCenter, data.WindowWidth = 60, 400
    data.PixelData = np.ascontiguousarray(volume[:, :, number].T).tobytes()
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, write_like_original=False)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def dicom_series():
    """dicom_series(volume (X, Y, Z) in LPS order, spacing, origin in mm): the files of a study with one CT series."""

    def series(volume, spacing, origin=(0.0, 0.0, 0.0)):
        uids = generate_uid(), generate_uid()
        return [dicom_slice(volume, number, spacing, origin, *uids) for number in range(volume.shape[2])]

    return series
