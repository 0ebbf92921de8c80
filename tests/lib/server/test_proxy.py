import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import requests
from fastapi import FastAPI
from fastapi.testclient import TestClient
from monailabel.endpoints import proxy as stock_proxy

from lib.server import proxy
from lib.server.archived import ArchivedLabels


class Archive(BaseHTTPRequestHandler):
    """A DICOMweb server that says what it was asked for, slowly where that is wanted."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.do_GET()

    def do_GET(self):
        if "slow" in self.path:
            time.sleep(1.5)
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "stalling" in self.path:
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"some of it")
            time.sleep(1.5)
            self.close_connection = True
            return
        content = self.path.encode() + (b" " + self.headers["Content-Type"].encode() + b" " + sent if sent else b"")
        self.send_response(404 if "nothing" in self.path else 200)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content))

    def log_message(self, *given):
        pass


@pytest.fixture
def archived(monkeypatch):
    """A client of a server with that archive behind it."""
    archive = ThreadingHTTPServer(("127.0.0.1", 0), Archive)
    threading.Thread(
        target=archive.serve_forever, args=(0.01,), daemon=True
    ).start()  # s until it sees that it is to end
    monkeypatch.setattr(proxy.settings, "MONAI_LABEL_STUDIES", f"http://127.0.0.1:{archive.server_port}/dicom-web/")
    monkeypatch.setattr(proxy.settings, "MONAI_LABEL_WADO_PREFIX", "wado")
    store = ArchivedLabels.__new__(ArchivedLabels)
    store._client = SimpleNamespace(_session=requests.Session())
    monkeypatch.setattr(proxy, "app_instance", lambda: SimpleNamespace(datastore=lambda: store))
    server = FastAPI()
    server.include_router(proxy.proxy_router)
    server.include_router(stock_proxy.router)
    with TestClient(server) as client:
        yield client
    archive.shutdown()
    archive.server_close()


@pytest.mark.parametrize(
    ("asked", "passed_on"),
    [
        ("qido/studies?limit=101&PatientName=*Doe*", "/dicom-web/studies?limit=101&PatientName=%2ADoe%2A"),
        ("qido/studies/1.2/series?00080060=CT&00080060=MR", "/dicom-web/studies/1.2/series?00080060=CT&00080060=MR"),
        ("wado/studies/1.2/series/3", "/dicom-web/wado/studies/1.2/series/3"),
        ("qido/studies/1.2/series/3/metadata", "/dicom-web/wado/studies/1.2/series/3/metadata"),
        ("studies", "/dicom-web/studies"),
    ],
)
def test_what_ohif_asks_the_archive_is_passed_on_with_its_search(archived, asked, passed_on):
    reply = archived.get(f"/proxy/dicom/{asked}")
    assert (reply.status_code, reply.text) == (200, passed_on)
    assert reply.headers["Content-Type"] == "application/dicom+json"
    assert "Transfer-Encoding" not in reply.headers


def test_the_answers_of_an_archive_do_not_wait_for_each_other(archived):
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(archived.get, "/proxy/dicom/wado/slow")
        time.sleep(0.2)
        assert archived.get("/proxy/dicom/wado/quick").status_code == 200
        assert not slow.done(), "the quick one was not kept waiting"
        assert slow.result().status_code == 200


def test_what_the_archive_says_no_to_or_nothing_is_told(archived, monkeypatch):
    assert archived.get("/proxy/dicom/wado/nothing").status_code == 404
    monkeypatch.setattr(proxy, "TIMEOUT", (1.0, 0.3))
    reply = archived.get("/proxy/dicom/wado/slow")
    assert reply.status_code == 502
    assert "the DICOM server does not answer" in reply.json()["detail"]
    monkeypatch.setattr(proxy, "app_instance", lambda: SimpleNamespace(datastore=lambda: None))
    assert archived.get("/proxy/dicom/wado/quick").status_code == 404


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "..%2Fpatients",
        "wado/..%2f..%2Fpatients",
        "qido/studies/%2e%2e%2F..%2Fpatients",
        "stow/.%2Fstudies",
        "wado/%252e%252e/%252e%252e/patients",
        "wado%252F..%25252Fpatients",
        "studies/%25%32%65%25%32%65/%25%32%65%25%32%65/patients",
        "..%5Cpatients",
        "..;x=1%2Fpatients",
        "..%23",
        "..%3Fexpand",
    ],
)
def test_no_path_leads_out_of_the_dicomweb_root_of_the_archive(archived, method, path):
    reply = archived.request(method, f"/proxy/dicom/{path}")
    assert reply.status_code == 404
    assert reply.json()["detail"].startswith("there is nothing there: ")


@pytest.mark.parametrize("path", ["wado/studies/1..2/series/.3", "wado/studies/a%2Fb/...", "qido/studies?name=../x"])
def test_dots_that_are_no_steps_are_passed_on(archived, path):
    reply = archived.get(f"/proxy/dicom/{path}")
    assert reply.status_code == 200
    assert reply.text.startswith("/dicom-web/")


def test_what_is_sent_to_the_archive_arrives(archived):
    kind = 'multipart/related; type="application/dicom"; boundary=x'
    reply = archived.post("/proxy/dicom/wado/studies", content=b"DICM", headers={"Content-Type": kind})
    assert (reply.status_code, reply.text) == (200, f"/dicom-web/wado/studies {kind} DICM")


def test_an_archive_that_stalls_or_hangs_up_within_an_answer_does_not_answer(archived, monkeypatch):
    for seconds in (0.3, 5.0):
        monkeypatch.setattr(proxy, "TIMEOUT", (1.0, seconds))
        reply = archived.get("/proxy/dicom/wado/stalling")
        assert reply.status_code == 502
        assert "the DICOM server does not answer" in reply.json()["detail"]


@pytest.mark.parametrize("part", ["", "stow/", "wado/"])
@pytest.mark.parametrize("study", ["studies", "studies/1.2.840.10008"])
def test_studies_may_be_sent_to_the_archive_to_be_stored(archived, part, study):
    reply = archived.post(f"/proxy/dicom/{part}{study}", content=b"DICM", headers={"Content-Type": "application/dicom"})
    assert reply.status_code == 200
    assert reply.text.endswith(f"/{study} application/dicom DICM")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "qido/studies",
        "servers/other/stow",
        "wado/servers/other/delete",
        "studies/1.2/series/3/reject/113039%5EDCM",
        "stow/studies/",
        "studies/all",
        "stow/wado/studies",
    ],
)
def test_nothing_else_may_be_sent_to_the_archive(archived, path):
    reply = archived.post(f"/proxy/dicom/{path}", content=b"{}")
    assert reply.status_code == 404
    assert reply.json()["detail"].startswith("nothing can be sent there: ")
