import inspect
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse
from fastapi.testclient import TestClient

from lib.server import routes


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


@pytest.mark.parametrize("route", [routes.infer, routes.save_label, routes.next_sample])
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
