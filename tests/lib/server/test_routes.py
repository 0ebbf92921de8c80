import inspect
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import requests
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse
from fastapi.testclient import TestClient

from lib.server import pooled, proxy, routes
from lib.server.archived import ArchivedLabels


def test_routes_of_ours_come_first_and_once_and_files_go_out_in_large_pieces(monkeypatch):
    app = FastAPI()
    stock_route = object()
    app.router.routes.append(stock_route)
    monkeypatch.setitem(sys.modules, "monailabel.app", SimpleNamespace(app=app))
    monkeypatch.setattr(FileResponse, "chunk_size", 64 * 1024)
    routes.add_routes()
    after_one = list(app.router.routes)
    routes.add_routes()
    assert app.router.routes == after_one
    assert after_one[0] is not stock_route
    assert stock_route in after_one
    assert FileResponse.chunk_size == routes.REPLY_CHUNK


def test_outside_the_server_nothing_is_changed(monkeypatch):
    monkeypatch.delitem(sys.modules, "monailabel.app", raising=False)
    monkeypatch.setattr(FileResponse, "chunk_size", 64 * 1024)
    routes.add_routes()
    assert FileResponse.chunk_size == 64 * 1024


POOLED = [route.endpoint for router in (pooled.pooled_router, proxy.proxy_router) for route in router.routes]


@pytest.mark.parametrize("route", [routes.infer, routes.save_label, routes.next_sample, *POOLED])
def test_what_takes_long_runs_in_the_thread_pool_so_that_others_are_answered_meanwhile(route):
    assert not inspect.iscoroutinefunction(route)


@pytest.fixture
def client():
    server = FastAPI()
    for router in (routes.datastore_router, routes.activelearning_router):
        server.include_router(router)
    return TestClient(server)


def test_saves_come_one_after_the_other_and_nobody_else_waits(client, monkeypatch):
    running, most, done = [], [], []

    def save(background_tasks, image, params, tag, label, user):
        running.append(image)
        most.append(len(running))
        time.sleep(0.05)
        running.remove(image)
        done.append((image, tag, json.loads(params), label.file.read()))
        return {"image": image}

    monkeypatch.setattr(routes.stock_datastore, "save_label", save)
    monkeypatch.setattr(routes.stock_activelearning, "sample", lambda strategy, *_: {"id": strategy})

    def put(image):
        sent = {"params": '{"label_info": []}'}
        return client.put("/datastore/label", params={"image": image}, data=sent, files={"label": ("a.nii.gz", b"x")})

    with ThreadPoolExecutor() as pool:
        replies = list(pool.map(put, "abcd"))
    assert [reply.json() for reply in replies] == [{"image": name} for name in "abcd"]
    assert max(most) == 1
    assert sorted(done) == [(name, "final", {"label_info": []}, b"x") for name in "abcd"]
    assert client.post("/activelearning/first", json={}).json() == {"id": "first"}


def test_params_of_a_save_that_are_no_object_are_refused_in_words(client):
    files = {"label": ("a.nii.gz", b"x")}
    reply = client.put("/datastore/label", params={"image": "a"}, data={"params": "{"}, files=files)
    assert (reply.status_code, reply.json()["detail"][:18]) == (400, "params is not JSON")


@pytest.mark.parametrize("fit", [["unet2d"], []])
def test_all_models_are_trained_for_which_the_labels_are_fit(monkeypatch, fit):
    class App:
        def info(self):
            return {"trainers": {"unet2d": {}, "tis": {}}}

        def check_training(self, model):
            if model not in fit:
                raise HTTPException(400, f"{model} learns its labels together")

    asked = []
    monkeypatch.setattr(routes, "app_instance", App)

    def run(model, params, *_, **more):
        asked.append((model, params))
        return "task"

    monkeypatch.setattr(routes.stock_train, "run_model", run)
    server = FastAPI()
    server.include_router(routes.train_router)
    reply = TestClient(server).post("/train/", json={"max_epochs": 2, "unet2d": {"name": "mine"}})
    assert [model for model, _ in asked] == fit
    if fit:
        assert asked[0][1]["max_epochs"] == 2
        assert asked[0][1]["name"] == "mine"
        assert reply.json()["unet2d"] == {"result": "task", "detail": None}
        assert reply.json()["tis"] == {"result": None, "detail": "tis learns its labels together"}
    else:
        assert reply.status_code == 400


@pytest.mark.parametrize("gpus", [[0, 1], 1, "first", "0,", {"0": 1}])
def test_gpus_in_another_form_are_refused_before_a_training_begins(monkeypatch, gpus):
    monkeypatch.setattr(routes, "app_instance", lambda: SimpleNamespace(check_training=lambda model: None))
    monkeypatch.setattr(routes.stock_train, "run_model", lambda *given: pytest.fail("it must not begin"))
    server = FastAPI()
    server.include_router(routes.train_router)
    reply = TestClient(server).post("/train/unet2d", json={"gpus": gpus})
    assert reply.status_code == 400
    assert 'gpus must be "all" or numbers such as "0,1"' in reply.json()["detail"]


@pytest.mark.parametrize(
    ("wishes", "device"),
    [
        ({"gpus": "2,3", "device": "NVIDIA H200:2"}, "cuda"),
        ({"gpus": "0", "device": ["NVIDIA H200:0", "NVIDIA H200:1", "cpu"]}, "cuda"),
        ({"gpus": "0", "device": "cpu"}, "cpu"),
        ({"gpus": "all", "device": "NVIDIA H200:1"}, "NVIDIA H200:1"),
        ({"gpus": "0"}, None),
        ({}, None),
    ],
)
def test_of_the_gpus_that_a_client_names_the_training_sees_no_others(wishes, device):
    """It numbers them anew: the name that the client was shown means another one there, or none."""
    assert routes._wishes(wishes).get("device") == device


class Archive(BaseHTTPRequestHandler):
    """A DICOMweb server that says what it was asked for, slowly where that is wanted."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if "slow" in self.path:
            time.sleep(1.5)
        content = self.path.encode()
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
    threading.Thread(target=archive.serve_forever, daemon=True).start()
    monkeypatch.setattr(proxy.settings, "MONAI_LABEL_STUDIES", f"http://127.0.0.1:{archive.server_port}/dicom-web/")
    monkeypatch.setattr(proxy.settings, "MONAI_LABEL_WADO_PREFIX", "wado")
    store = ArchivedLabels.__new__(ArchivedLabels)
    store._client = SimpleNamespace(_session=requests.Session())
    monkeypatch.setattr(proxy, "app_instance", lambda: SimpleNamespace(datastore=lambda: store))
    server = FastAPI()
    server.include_router(proxy.proxy_router)
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
