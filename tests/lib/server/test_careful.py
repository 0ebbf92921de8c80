import io
import json
import os
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from fastapi import HTTPException
from monailabel.utils.sessions import Sessions

from lib.server.careful import CarefulRequests


class Stock:
    """As much of MONAILabelApp as the mixin leans on."""

    _infers_threadpool = None
    _server_mode = False

    def train(self, request):
        return self._trainers[request["model"]](request)

    def next_sample(self, request):
        return {"id": "case", "strategy": request["strategy"]}


class App(CarefulRequests, Stock):
    def __init__(self, folder):
        self.folder = folder
        self._infers = {"unet2d": self.answer}
        self._trainers = {"unet2d": self.answer}
        self._strategies = {"random": None, "first": None}
        self._scoring_methods = {}
        self.asked, self.mask = None, "mask.nrrd"
        self.read = queue.Queue()
        self.cache = SimpleNamespace(read=lambda *given: self.read.put(given))

    def answer(self, request):
        self.asked = request
        if request.get("wrong"):
            raise ValueError("click (9, 9, 9) outside the image")
        return self.mask, {"volume_ml": 1, "label_names": {"background": 0, "spleen": 1, "liver": 2}}

    def datastore(self):
        saved = lambda *given: f"saved {given[:3]}"  # noqa: E731
        return SimpleNamespace(
            list_images=lambda: ["case"], get_image_uri=lambda name: f"/studies/{name}.nii.gz", save_label=saved
        )

    def sessions(self):
        return SimpleNamespace(store_path=str(self.folder / "sessions"))


@pytest.fixture
def app(tmp_path):
    return App(tmp_path)


def refusal(ask, *given):
    with pytest.raises(HTTPException) as caught:
        ask(*given)
    return caught.value.status_code, caught.value.detail


def test_an_image_of_the_datastore_is_opened_by_its_id(app):
    result = app.infer({"model": "unet2d", "image": "case"})
    assert app.asked["image"] == "/studies/case.nii.gz"
    assert (result["file"], result["params"]["volume_ml"]) == ("mask.nrrd", 1)


@pytest.mark.parametrize("image", ["nobody", "../case", "/etc/passwd", "", None, 7, ["case"], {}])
def test_what_is_not_in_the_datastore_is_not_found(app, image):
    status, sentence = refusal(app.infer, {"model": "unet2d", "image": image})
    assert status == 404
    assert "datastore" in sentence or "no image" in sentence
    assert app.asked is None


def test_a_file_that_exists_outside_the_datastore_is_not_found_either(app, tmp_path):
    (tmp_path / "secret.nii.gz").touch()
    for session in (None, {"image": "x"}):
        request = {"model": "unet2d", "image": str(tmp_path / "secret.nii.gz"), "session": session}
        assert refusal(app.infer, request)[0] == 404
    climbing = str(tmp_path / "sessions" / ".." / "secret.nii.gz")
    assert refusal(app.infer, {"model": "unet2d", "image": climbing, "session": {"image": "x"}})[0] == 404


def test_the_image_of_a_session_is_opened(app, tmp_path):
    image = str(tmp_path / "sessions/1234/image.nii.gz")
    app.infer({"model": "unet2d", "image": image, "session": {"image": image}})
    assert app.asked["image"] == image


@pytest.mark.parametrize("model", ["nobody", None, ["unet2d"]])
def test_an_unknown_model_is_not_found_and_the_known_ones_are_named(app, model):
    status, sentence = refusal(app.infer, {"model": model, "image": "case"})
    assert status == 404
    assert "known: unet2d" in sentence
    assert refusal(app.train, {"model": model})[0] == 404


def test_bad_input_is_refused_with_the_sentence_of_the_library(app):
    refused = (400, "click (9, 9, 9) outside the image")
    assert refusal(app.infer, {"model": "unet2d", "image": "case", "wrong": True}) == refused
    assert refusal(app.train, {"model": "unet2d", "wrong": True}) == refused


def test_a_thread_pool_answers_the_same(app):
    with ThreadPoolExecutor(1) as app._infers_threadpool:
        assert app.infer({"model": "unet2d", "image": "case"})["file"] == "mask.nrrd"
        assert refusal(app.infer, {"model": "unet2d", "image": "case", "wrong": True})[0] == 400


def test_a_mask_is_saved_when_batch_inference_asks_for_it(app):
    result = app.infer({"model": "unet2d", "image": "case", "save_label": True, "label_tag": "original"})
    assert result["label"] == "saved ('case', 'mask.nrrd', 'original')"
    assert result["file"] == "mask.nrrd"


def test_a_mask_that_the_server_saves_keeps_the_names_of_its_values(app, monkeypatch):
    saved = []
    store = SimpleNamespace(
        list_images=lambda: ["case"], get_image_uri=str, save_label=lambda *given: saved.append(given)
    )
    app.infer({"model": "unet2d", "image": "case", "save_label": True, "label_tag": "final"}, store)
    assert saved[0][2] == "final"
    assert saved[0][3]["label_info"] == [{"name": "spleen", "idx": 1}, {"name": "liver", "idx": 2}]


def test_a_mask_that_cannot_be_saved_does_not_stay_in_the_temporary_folder(app, tmp_path):
    def refuse(*given):
        raise HTTPException(400, "does not fit")

    mask = tmp_path / "mask.nrrd"
    mask.write_bytes(b"patient")
    app.mask = str(mask)
    store = SimpleNamespace(list_images=lambda: ["case"], get_image_uri=str, save_label=refuse)
    with pytest.raises(HTTPException, match="does not fit"):
        app.infer({"model": "unet2d", "image": "case", "save_label": True}, store)
    assert not mask.exists()


@pytest.fixture
def served(app, weights):
    app._infers = {"unet2d": SimpleNamespace(get_path=lambda validate: str(weights.trained))}
    app.models = [SimpleNamespace(name="unet2d", method="unet2d")]
    return app


def test_weights_that_are_sent_answer_from_then_on_though_nothing_was_trained_before(served, weights):
    sent = weights.trained.read_bytes()
    weights.trained.unlink()
    weights.trained.parent.rmdir()
    assert served.replace_weights("unet2d", io.BytesIO(sent)) == weights.trained
    assert weights.trained.read_bytes() == sent


def test_weights_in_use_stay_beside_those_that_are_sent(served, weights, tiny_weights, tmp_path):
    before = weights.trained.read_bytes()
    tiny_weights(tmp_path / "sent.pt", {"kidney": 1})
    served.replace_weights("unet2d", io.BytesIO((tmp_path / "sent.pt").read_bytes()))
    (aside,) = weights.trained.parent.glob("test.pt.*.replaced")
    assert aside.read_bytes() == before
    served.replace_weights("unet2d", io.BytesIO(aside.read_bytes()))
    assert weights.trained.read_bytes() == before


@pytest.mark.parametrize("method", [None, "tis"])
def test_what_is_no_weights_of_the_method_is_refused_and_leaves_nothing(served, weights, tmp_path, monkeypatch, method):
    before = weights.trained.read_bytes()
    served.models[0].method = method or "unet2d"
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    status, sentence = refusal(served.replace_weights, "unet2d", io.BytesIO(before if method else b"rubbish"))
    assert status == 400
    assert ("weights of unet2d, and unet2d needs those of tis" if method else "not a clickseg weights file") in sentence
    assert weights.trained.read_bytes() == before
    assert list((tmp_path / "temporary").iterdir()) == []
    assert [path.name for path in weights.trained.parent.iterdir()] == [weights.trained.name]
    assert refusal(served.replace_weights, "nobody", io.BytesIO(b""))[0] == 404


def test_an_unknown_strategy_is_not_found_and_none_is_random(app):
    assert app.next_sample({})["strategy"] == "random"
    status, sentence = refusal(app.next_sample, {"strategy": "wisdom"})
    assert status == 404
    assert "known: random, first" in sentence


def test_the_image_that_is_proposed_next_is_read_ahead_of_its_first_click(app):
    app.next_sample({})
    assert app.read.get(timeout=10) == ("/studies/case.nii.gz",)


def test_an_image_that_cannot_be_read_ahead_is_proposed_all_the_same(app, caplog):
    def broken(*given):
        app.read.put(given)
        raise ValueError("truncated")

    app.cache = SimpleNamespace(read=broken)
    with caplog.at_level("INFO"):
        assert app.next_sample({})["id"] == "case"
        app.read.get(timeout=10)
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and thread.daemon and "_read_ahead" in thread.name:
                thread.join(10)
    assert "not read ahead: truncated" in caplog.text


def test_whole_slide_requests_are_refused(app):
    assert refusal(app.infer_wsi, {"model": "unet2d", "image": "/any/file.svs"})[0] == 404


def test_only_trained_weights_can_be_deleted_and_the_shipped_ones_stay(app, tmp_path):
    shipped, trained = tmp_path / "unet2d.pt", tmp_path / "trained/unet2d.pt"
    trained.parent.mkdir()
    shipped.write_bytes(b"shipped")
    trained.write_bytes(b"trained")
    paths = SimpleNamespace(get_path=lambda validate: shipped if validate and not trained.exists() else trained)
    app._infers = {"unet2d": paths}
    app.delete_trained("unet2d")
    assert not trained.exists()
    (kept,) = trained.parent.iterdir()
    assert kept.read_bytes() == b"trained"
    assert kept.name.startswith("unet2d.pt.")
    assert kept.name.endswith(".deleted")
    status, sentence = refusal(app.delete_trained, "unet2d")
    assert status == 404
    assert "no trained weights of unet2d" in sentence
    assert shipped.read_bytes() == b"shipped"
    assert refusal(app.delete_trained, "nobody")[0] == 404


def test_sessions_of_a_server_that_was_killed_are_cleaned_up_in_time(app, tmp_path, monkeypatch):
    store = tmp_path / "sessions"
    image = tmp_path / "image.nii.gz"
    before = Sessions(str(store))
    for name in ("over", "running"):
        image.write_bytes(b"patient")
        before.add_session(str(image), 0, session_id=name)
    meta = store / "over/meta.info"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "last_access_ts": 1}))
    for name, content in (("half", None), ("torn", ""), ("new half", None)):
        (store / name).mkdir()
        if content is not None:
            (store / name / "meta.info").write_text(content)
        if name != "new half":
            os.utime(store / name, (1, 1))
    fresh = Sessions(str(store))
    monkeypatch.setattr(App, "sessions", lambda app: fresh)
    app.cleanup_sessions()
    assert sorted(path.name for path in store.iterdir()) == ["new half", "running"]
    monkeypatch.setattr(App, "sessions", lambda app: None)
    app.cleanup_sessions()
