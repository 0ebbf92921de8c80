import inspect
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse
from fastapi.testclient import TestClient

from lib.server import infer_routes, label_routes, pooled, proxy, routes, train_routes
from lib.server.archived import ArchivedLabels
from lib.server.datastore import careful


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


OURS = [
    infer_routes.infer,
    label_routes.save_label,
    label_routes.remove_label,
    routes.update_model,
    routes.next_sample,
]


@pytest.mark.parametrize("route", [*OURS, *POOLED])
def test_what_takes_long_runs_in_the_thread_pool_so_that_others_are_answered_meanwhile(route):
    assert not inspect.iscoroutinefunction(route)


@pytest.fixture
def client():
    server = FastAPI()
    for router in (
        label_routes.datastore_router,
        routes.activelearning_router,
        pooled.pooled_router,
        routes.model_router,
    ):
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

    monkeypatch.setattr(label_routes.stock_datastore, "save_label", save)
    monkeypatch.setattr(routes.stock_activelearning, "sample", lambda strategy, *_: {"id": strategy})
    monkeypatch.setattr(label_routes, "app_instance", lambda: SimpleNamespace(datastore=lambda: None))

    def put(image):
        sent = {"params": '{"label_info": []}'}
        return client.put("/datastore/label", params={"image": image}, data=sent, files={"label": ("a.nii.gz", b"x")})

    with ThreadPoolExecutor() as pool:
        replies = list(pool.map(put, "abcd"))
    assert [reply.json() for reply in replies] == [{"image": name} for name in "abcd"]
    assert max(most) == 1
    assert sorted(done) == [(name, "final", {"label_info": []}, b"x") for name in "abcd"]
    assert client.post("/activelearning/first", json={}).json() == {"id": "first"}


@pytest.mark.parametrize(
    ("path", "field", "file"),
    [
        ("label", "params", "label"),
        ("image", "params", "file"),
        ("image/info", "info", None),
        ("label/info", "info", None),
    ],
)
def test_what_is_no_json_object_is_refused_in_words(client, path, field, file):
    files = {file: ("a.nii.gz", b"x")} if file else None
    ids = {"image": "a", "label": "a", "tag": "final"}
    for content, sentence in (("{", "is not JSON"), ("[]", "must be a JSON object"), ("[" * 5000, "holds lists")):
        reply = client.put(f"/datastore/{path}", params=ids, data={field: content}, files=files)
        assert reply.status_code == 400
        assert reply.json()["detail"].startswith(f"{field} {sentence}")


@pytest.fixture
def annotators(client, datastore, monkeypatch, tmp_path):
    """save(value, **headers): the answer to somebody who saves a label of image a, of one value."""
    store = careful(datastore)
    app = SimpleNamespace(datastore=lambda: store, on_save_label=lambda *given: {})
    for module in (label_routes, label_routes.stock_datastore):
        monkeypatch.setattr(module, "app_instance", lambda: app)
    image = nib.load(store.get_image_uri("a"))

    def save(value, tag="final", name="", **headers):
        nib.save(nib.Nifti1Image(np.full(image.shape, value, np.uint8), image.affine), tmp_path / "sent.nii.gz")
        files = {"label": ("a.nii.gz", (tmp_path / "sent.nii.gz").read_bytes())}
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        said = {"params": json.dumps({"label_info": [{"name": name, "idx": value}]} if name else {})}
        return client.put("/datastore/label", params={"image": "a", "tag": tag}, data=said, files=files, headers=sent)

    def remove(**headers):
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        return client.delete("/datastore/label", params={"id": "a", "tag": "final"}, headers=sent)

    save.remove = remove
    save.stored = lambda: int(np.asanyarray(nib.load(store.get_label_uri("a", "final")).dataobj).max())
    return save


def test_of_two_who_correct_the_same_label_the_second_is_told_and_the_first_ones_work_stays(annotators):
    opened = annotators(1).headers["ETag"]
    first = annotators(2, If_Match=opened)
    assert first.status_code == 200
    second = annotators(3, If_Match=opened)
    assert second.status_code == 412
    assert second.json()["detail"] == "The label of a was saved by somebody else since it was opened here."
    assert "ETag" not in second.headers
    assert annotators.stored() == 2
    assert annotators(4, If_Match=f'"something else", W/{first.headers["ETag"]}').status_code == 200
    assert annotators.stored() == 4


def test_of_two_who_label_the_same_study_anew_the_second_is_told(annotators):
    assert annotators(1, If_Match='"there was one"').status_code == 412
    assert annotators(1, If_Match="*").status_code == 412
    assert annotators(1, If_None_Match="*").status_code == 200
    assert annotators(2, If_None_Match="*").status_code == 412
    assert annotators.stored() == 1
    assert annotators(2, If_Match="*").status_code == 200


def test_who_takes_an_outdated_label_away_is_told_and_the_newer_one_stays(annotators):
    opened = annotators(1).headers["ETag"]
    newer = annotators(2, If_Match=opened).headers["ETag"]
    refused = annotators.remove(If_Match=opened)
    assert refused.status_code == 412
    assert refused.json()["detail"] == "The label of a was saved by somebody else since it was opened here."
    assert annotators.stored() == 2
    assert annotators.remove(If_Match=newer).status_code == 200
    gone = annotators.remove(If_Match=newer)
    assert gone.status_code == 404, "nobody has saved it: there is none"
    annotators(3)
    assert annotators.remove().status_code == 200, "without a version as before"


def test_a_save_whose_answer_was_lost_is_not_blamed_on_somebody_else(annotators):
    opened = annotators(1, name="spleen").headers["ETag"]
    saved = annotators(2, name="spleen", If_Match=opened).headers["ETag"]
    again = annotators(2, name="spleen", If_Match=opened)
    assert (again.status_code, again.headers["ETag"]) == (200, saved)
    assert again.json() == {"image": "a", "label": "a"}
    assert annotators(2, name="spleen", If_None_Match="*").headers["ETag"] == saved
    assert annotators(2, name="liver", If_Match=opened).status_code == 412, "other names"
    assert annotators(1, name="spleen", If_Match=opened).status_code == 412, "other voxels"
    annotators.remove()
    assert annotators(2, name="spleen", If_Match=saved).status_code == 412, "there is none any more"


def test_who_names_no_version_saves_as_before_and_drafts_have_none(annotators):
    assert [annotators(value).status_code for value in (1, 2)] == [200, 200]
    draft = annotators(3, tag="original", If_None_Match="*")
    assert draft.status_code == 200
    assert "ETag" not in draft.headers
    assert annotators.stored() == 2


def test_weights_that_are_sent_are_checked_before_they_answer(client, monkeypatch, tmp_path):
    def replace(model, content):
        if content.read() == b"rubbish":
            raise HTTPException(400, "not a clickseg weights file")
        return tmp_path

    (tmp_path / "unet2d.pt").write_bytes(b"weights")
    monkeypatch.setattr(
        routes, "app_instance", lambda: SimpleNamespace(replace_weights=lambda *given: replace(*given) / "unet2d.pt")
    )
    assert client.put("/model/unet2d", files={"file": ("a.pt", b"weights")}).json()["checksum"].startswith("SHA256:")
    assert client.put("/model/unet2d", files={"file": ("a.pt", b"rubbish")}).status_code == 400


@pytest.fixture
def trainings(monkeypatch):
    """A client of a server with two models: `fit` are those with labels to learn, `begun` is what began."""

    class App:
        def info(self):
            return {"trainers": {"unet2d": {}, "tis": {}}}

        def check_training(self, model):
            if model not in client.fit:
                raise HTTPException(400, f"{model} learns its labels together")

    def run(model, wishes, *given, **more):
        client.begun.append((model, wishes))
        return {"id": model}

    monkeypatch.setattr(train_routes, "app_instance", App)
    monkeypatch.setattr(train_routes.stock_train, "run_model", run)
    server = FastAPI()
    server.include_router(train_routes.train_router)
    client = TestClient(server)
    client.fit, client.begun = ["unet2d", "tis"], []
    return client


def test_all_models_are_trained_for_which_the_labels_are_fit(trainings):
    trainings.fit = ["unet2d"]
    reply = trainings.post("/train/", json={"max_epochs": 2, "unet2d": {"name": "mine"}, "tis": {"name": "other"}})
    assert trainings.begun == [("unet2d", {"max_epochs": 2, "name": "mine"})]
    assert reply.json()["unet2d"] == {"result": {"id": "unet2d"}, "detail": None}
    assert reply.json()["tis"] == {"result": None, "detail": "tis learns its labels together"}


@pytest.mark.parametrize(
    ("path", "wishes"),
    [("", None), ("", {}), ("", {"model": "tis"}), ("", {"tis": {"max_epochs": 2}}), ("tis", None), ("nobody", {})],
)
def test_no_model_is_trained_for_which_the_labels_are_not_fit(trainings, path, wishes):
    trainings.fit = []
    reply = trainings.post(f"/train/{path}", json=wishes)
    assert reply.status_code == 400
    assert reply.json()["detail"].endswith("learns its labels together")
    assert trainings.begun == []


@pytest.mark.parametrize(
    ("path", "wishes", "sentence"),
    [
        ("unet2d", {"max_epochs": "many"}, "max_epochs must be a whole number from 1"),
        ("unet2d", {"gpus": [0, 1]}, 'gpus must be "all" or numbers such as "0,1"'),
        ("unet2d", {"gpus": "0", "device": "nonsense"}, "unknown device"),
        ("", {"max_epoch": 1, "foo": 2}, "a training has no foo, max_epoch"),
        ("", {"unet2d": {"val_split": 0.5}, "tis": {"val_split": 7}}, "val_split must be a share"),
        ("", {"tis": "x"}, 'tis must be an object such as {"max_epochs": 20}, not "x"'),
        ("", {"unet2d": []}, "unet2d must be an object"),
    ],
)
def test_wishes_that_do_not_work_are_refused_before_any_training_begins(trainings, path, wishes, sentence):
    reply = trainings.post(f"/train/{path}", json=wishes)
    assert reply.status_code == 400
    assert reply.json()["detail"].startswith(sentence)
    assert trainings.begun == []


def test_the_address_says_which_model_is_trained_or_else_the_request(trainings):
    trainings.post("/train/unet2d", json={"model": "tis", "client_id": "me"})
    trainings.post("/train/", json={"model": "tis"})
    trainings.post("/train/", json={"unet2d": None})
    assert trainings.begun == [("unet2d", {"client_id": "me"}), ("tis", {}), ("unet2d", {}), ("tis", {})]


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
    assert train_routes._renumbered(wishes).get("device") == device


@pytest.mark.parametrize("params", [None, {"multi_gpu": True, "max_workers": 2}])
def test_where_there_is_no_gpu_a_batch_of_images_is_not_dealt_out_to_gpus(monkeypatch, params):
    monkeypatch.setattr(pooled.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(pooled.stock_batch, "run", lambda model, images, wishes, run_sync: wishes)
    wishes = pooled.infer_batch("tis_abdomen_auto", params=params, user=None)
    assert wishes == {**(params or {"max_workers": 1}), "multi_gpu": False}


def test_a_label_in_an_archive_is_not_said_to_be_removed(monkeypatch):
    app = SimpleNamespace(datastore=lambda: ArchivedLabels.__new__(ArchivedLabels))
    monkeypatch.setattr(label_routes, "app_instance", lambda: app)
    with pytest.raises(HTTPException, match="stays there") as refused:
        label_routes.remove_label(None, "1.2.3", "final", user=None)
    assert refused.value.status_code == 400
