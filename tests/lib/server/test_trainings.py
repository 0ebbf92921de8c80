"""MONAI Label's own queue and real processes, which only sleep instead of training."""

import subprocess
import threading
import time
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from monailabel.utils.async_tasks import task as stock_task
from monailabel.utils.async_tasks import utils

from lib.server import train_routes


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A client of a server with three models; in its queue each training says that it began, and sleeps."""
    program = tmp_path / "train"
    program.write_text("#!/bin/sh\necho began\nsleep 60 & wait\n")
    program.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(utils, "sys", SimpleNamespace(executable=str(program)))
    for name in ("background_tasks", "background_processes", "background_executors"):
        getattr(utils, name).pop("train", None)
    trainers = {name: {} for name in "abc"}
    app = SimpleNamespace(
        info=lambda: {"trainers": trainers}, check_training=lambda model: None, bundle_path=lambda model: None
    )
    for module in (train_routes, stock_task):
        monkeypatch.setattr(module, "app_instance", lambda: app)
    server = FastAPI()
    server.include_router(train_routes.train_router)
    server.include_router(train_routes.stock_train.router)
    with TestClient(server) as client:
        yield client
        client.delete("/train/")


def states(client):
    return [task["status"] for task in client.get("/train/", params={"all": True}).json()]


def until_one_runs(client):
    deadline = time.monotonic() + 30
    while not (task := client.get("/train/", params={"all": True}).json()[-3]).get("details"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return task["id"]


def test_stopping_ends_the_training_that_runs_and_those_that_wait(client):
    client.post("/train/", json={})
    running = until_one_runs(client)
    assert states(client) == ["RUNNING", "SUBMITTED", "SUBMITTED"]
    process = utils.processes("train")[running]
    stopped = client.delete("/train/").json()
    assert (stopped["id"], stopped["status"], stopped["details"]) == (running, "STOPPED", ["began"])
    assert states(client) == ["STOPPED"] * 3
    assert process.poll() is not None
    assert client.get("/train/", params={"check_if_running": True}).status_code == 404
    last = client.get("/train/").json()
    assert last["details"] == ["stopped before it began"]
    assert last["end_ts"]


def test_after_a_stop_trainings_begin_and_wait_as_before(client):
    client.post("/train/", json={})
    until_one_runs(client)
    client.delete("/train/")
    client.post("/train/", json={})
    until_one_runs(client)
    assert states(client) == [*["STOPPED"] * 3, "RUNNING", "SUBMITTED", "SUBMITTED"]


def test_a_training_that_is_just_about_to_begin_is_stopped_too(client, monkeypatch):
    starting, go_on = threading.Event(), threading.Event()

    def begin_slowly(*given, **options):
        starting.set()
        go_on.wait(30)
        return subprocess.Popen(*given, **options)

    monkeypatch.setattr(utils, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": begin_slowly}))
    client.post("/train/a")
    assert starting.wait(30)
    threading.Timer(0.5, go_on.set).start()
    assert client.delete("/train/").json()["status"] == "STOPPED"
    assert go_on.is_set(), "the stop is over when the training is"
    assert states(client) == ["STOPPED"]
    assert utils.processes("train") == {}


def test_without_a_training_there_is_nothing_to_stop(client):
    reply = client.delete("/train/")
    assert (reply.status_code, reply.json()) == (200, None)


def test_what_one_request_begins_is_stopped_together(client, monkeypatch):
    """A stop that comes between the first model and the second waits for the last."""
    submitted, stopping = train_routes.stock_train.run_model, []

    def submit(*given, **options):
        task = submitted(*given, **options)
        if not stopping:
            stopping.append(threading.Thread(target=client.delete, args=["/train/"]))
            stopping[0].start()
            time.sleep(0.5)
        return task

    monkeypatch.setattr(train_routes.stock_train, "run_model", submit)
    client.post("/train/", json={})
    stopping[0].join(30)
    assert states(client) == ["STOPPED"] * 3
