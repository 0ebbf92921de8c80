"""The real server, driven by the stock client as OHIF and 3D Slicer drive it.

One server for the whole module: the tests run in the order in which they stand here (nothing is labelled before a
label is saved, and training comes last).
"""

import functools
import gzip
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
import torch
from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException

from clickseg.clicks import Click
from clickseg.images import read_volume
from clickseg.sessions import SessionCache

SHAPE = (32, 28, 20)
LABELS = {"spleen": 1, "liver": 4}  # with a gap, which clients must not see
AFFINE = np.array([[-3.0, 0, 0, 40], [0, 2.0, 0, -30], [0, 0, 5.0, 12], [0, 0, 0, 1]])
INSIDE, OUTSIDE = [16, 14, 9], [3, 4, 9]
OHIF = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False, "restore_label_idx": False}
SLICER = {"result_extension": ".nrrd", "result_dtype": "uint8"}


def save_nifti(path, values):
    nib.save(nib.Nifti1Image(values, AFFINE), path)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_weights):
    """studies/ with three images and two that nobody can open, model/ with weights."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "studies").mkdir()
    (folder / "model").mkdir()
    generator = np.random.default_rng(0)
    for name in ("alpha", "beta", "gamma"):
        save_nifti(folder / f"studies/{name}.nii.gz", generator.normal(50, 80, SHAPE).astype(np.int16))
    whole = gzip.decompress((folder / "studies/alpha.nii.gz").read_bytes())
    (folder / "studies/truncated.nii.gz").write_bytes(gzip.compress(whole[: len(whole) // 2]))
    save_nifti(folder / "studies/moving.nii.gz", np.zeros((8, 8, 8, 3), np.int16))
    save_nifti(folder / "outside.nii.gz", np.zeros(SHAPE, np.int16))
    tiny_weights(folder / "model/unet2d.pt", LABELS)
    return folder


@pytest.fixture(scope="module")
def url(folder, serve):
    with serve(folder, str(folder / "studies"), "--conf", "models", "unet2d") as url:
        yield url


@pytest.fixture
def click(ask, url):
    return functools.partial(ask, url)


@pytest.fixture(autouse=True)
def the_server_answers_whatever_happened_before(click):
    yield
    assert click("unet2d", "alpha", foreground=[INSIDE], **OHIF).status_code == 200


@pytest.fixture
def client(url, tmp_path):
    return MONAILabelClient(url, str(tmp_path))


def expected(folder, image, clicks):
    session = SessionCache().open(folder / f"studies/{image}.nii.gz", folder / "model/unet2d.pt")
    return session.predict([Click(tuple(position), label) for position, label in clicks])


def refusal(response):
    return response.status_code, response.json()["detail"]


def test_info_lists_the_models_as_ohif_and_slicer_need_them(client):
    info = client.info()
    assert list(info["models"]) == ["unet2d", "unet2d_labels", "unet2d_general", "unet2d_general_labels"]
    grow, edit, *_ = info["models"].values()
    assert (grow["type"], grow["dimension"], grow["labels"]) == ("deepgrow", 3, ["spleen", "liver"])
    assert (edit["type"], edit["dimension"]) == ("deepedit", 3)
    assert edit["labels"] == {"background": 0, "spleen": 1, "liver": 2}
    assert list(info["strategies"]) == ["random", "first", "uncertainty"]
    assert list(info["trainers"]) == ["unet2d", "unet2d_general"]
    assert info["datastore"]["total"] == 5
    assert {"background", "frozen", "image"} <= set(info["reserved"])


def test_ohif_gets_the_mask_that_the_library_computes(click, folder, mask_in):
    response = click("unet2d", "alpha", foreground=[INSIDE], background=[OUTSIDE], **OHIF)
    assert response.status_code == 200, response.text
    mask, header = mask_in(response)
    assert np.array_equal(mask, expected(folder, "alpha", [(INSIDE, 1), (OUTSIDE, 0)]))
    assert 0 < mask[:, :, 9].mean() < 1  # else equality would mean little
    assert mask.dtype == np.uint8
    assert header["encoding"] == "raw"
    assert np.allclose(header["space directions"].T, np.diag([-1, -1, 1]) @ AFFINE[:3, :3])


def test_a_client_on_the_same_machine_keeps_its_mask_in_its_own_default_folder(url, folder, monkeypatch):
    """It stores a mask under the name that it had on the server, which removes its own file after sending it."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "temporary"))
    path, _ = MONAILabelClient(url).infer("unet2d", "alpha", {"foreground": [INSIDE], "background": []})
    time.sleep(0.5)  # for the server to clean up
    mask = np.asarray(nib.load(path).dataobj)
    Path(path).unlink()
    assert np.array_equal(mask, expected(folder, "alpha", [(INSIDE, 1)]))


def test_slicer_gets_mask_and_measures_from_the_stock_client(client, folder):
    path, params = client.infer(
        "unet2d", "alpha", {"label": "cyst", "foreground": [INSIDE], "background": [], **SLICER}
    )
    mask, grid = read_volume(path)
    truth = expected(folder, "alpha", [(INSIDE, 1)])
    assert np.array_equal(mask, truth)
    assert np.allclose(grid.affine, AFFINE)
    assert params["label_names"] == {"background": 0, "cyst": 1}
    assert params["area_mm2"] == {"cyst": {"9": pytest.approx(truth[:, :, 9].sum() * 6.0)}}
    assert params["volume_ml"] == {"cyst": pytest.approx(truth.sum() * 30 / 1000)}
    assert {"read", "map_back", "measure", "write", "total"} <= set(params["latencies"])


def test_named_labels_come_back_with_the_values_that_info_told(client):
    clicks = {"background": [OUTSIDE], "spleen": [INSIDE], "liver": [[8, 20, 11]], "label": "spleen"}
    path, params = client.infer("unet2d_labels", "alpha", {**clicks, **SLICER})
    assert set(np.unique(read_volume(path)[0])) <= {0, 1, 2}
    assert params["label_names"] == {"background": 0, "spleen": 1, "liver": 2}
    assert list(params["area_mm2"]["liver"]) == ["9", "11"]


@pytest.mark.parametrize("output", ["json", "all"])
def test_other_outputs_are_answered(click, output):
    answer = click("unet2d", "beta", output=output, foreground=[INSIDE])
    assert answer.status_code == 200
    if output == "json":
        assert "foreground" in answer.json()["volume_ml"]
    else:
        assert "multipart" in answer.headers["content-type"]


def test_masks_are_also_written_as_nifti(client, folder):
    for extension in (".nii", ".nii.gz"):
        path, _ = client.infer("unet2d", "alpha", {"foreground": [INSIDE], "result_extension": extension})
        assert np.array_equal(read_volume(path)[0], expected(folder, "alpha", [(INSIDE, 1)]))


def test_a_session_can_be_clicked_like_an_image_of_the_datastore(client, folder):
    session = client.create_session(str(folder / "studies/beta.nii.gz"))["session_id"]
    path, _ = client.infer("unet2d", "", {"foreground": [INSIDE], **SLICER}, session_id=session)
    assert np.array_equal(read_volume(path)[0], expected(folder, "beta", [(INSIDE, 1)]))


def test_many_clients_at_once_get_their_own_answers(click, folder, mask_in):
    positions = [[4 + 3 * step, 5 + 2 * step, step] for step in range(8)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda p: click("unet2d", "gamma", foreground=[p], **OHIF), positions))
    for position, answer in zip(positions, answers, strict=True):
        assert np.array_equal(mask_in(answer)[0], expected(folder, "gamma", [(position, 1)]))


BAD_CLICKS = {
    "outside the image": ({"foreground": [[600, 3, 2]]}, "outside the image"),
    "before the image": ({"foreground": [[-1, 3, 2]]}, "outside the image"),
    "not a number": ({"foreground": [[float("nan"), 3, 2]]}, "three whole numbers"),
    "not an integer": ({"foreground": [[1.5, 3, 2]]}, "three whole numbers"),
    "too short": ({"foreground": [[1, 3]]}, "three whole numbers"),
    "no list": ({"foreground": "here"}, "not JSON"),
    "empty": ({"foreground": [], "background": []}, "no clicks"),
    "none": ({}, "no clicks"),
    "unknown label": ({"pancreas": [INSIDE]}, "unknown label 'pancreas'"),
    "unknown reply": ({"foreground": [INSIDE], "result_extension": ".png"}, "result_extension"),
    "unknown device": ({"foreground": [INSIDE], "device": "abacus"}, "device"),
}


@pytest.mark.parametrize(("params", "sentence"), BAD_CLICKS.values(), ids=BAD_CLICKS)
def test_a_bad_click_is_refused_with_a_sentence(click, params, sentence):
    status, detail = refusal(click("unet2d", "alpha", **{**OHIF, **params}))
    assert status == 400
    assert sentence in detail


@pytest.mark.parametrize(
    ("params", "sentence"), [("{", "params is not JSON"), ("[1]", "must be a JSON object"), ("NaN", "JSON object")]
)
def test_params_that_are_no_json_object_are_refused(url, params, sentence):
    answer = requests.post(f"{url}/infer/unet2d", params={"image": "alpha"}, data={"params": params}, timeout=60)
    status, detail = refusal(answer)
    assert status == 400
    assert sentence in detail


def test_a_request_without_an_image_is_refused(url):
    status, detail = refusal(requests.post(f"{url}/infer/unet2d", timeout=60))
    assert status == 400
    assert "no image is named" in detail


def test_a_dicom_segmentation_of_an_image_file_is_refused(click):
    status, detail = refusal(click("unet2d", "alpha", output="dicom_seg", foreground=[INSIDE], label_info=[{}]))
    assert status == 400
    assert "DICOMweb" in detail


def test_a_label_for_an_unknown_image_is_not_found(url, tmp_path):
    with Path(a_label(tmp_path / "label.nii.gz")).open("rb") as label:
        answer = requests.put(f"{url}/datastore/label", params={"image": "delta"}, files={"label": label}, timeout=60)
    status, detail = refusal(answer)
    assert status == 404
    assert "'delta' is not in the datastore" in detail


def test_a_label_that_the_model_does_not_know_is_refused_and_the_known_ones_are_named(click):
    status, detail = refusal(click("unet2d_labels", "alpha", pancreas=[INSIDE], **OHIF))
    assert status == 400
    assert "unknown label 'pancreas'; this model knows background, spleen, liver" in detail


def test_an_unknown_model_is_not_found(click):
    status, detail = refusal(click("unet3d", "alpha", foreground=[INSIDE]))
    assert status == 404
    assert "known: unet2d, unet2d_labels" in detail


def test_an_unknown_image_is_not_found(click):
    status, detail = refusal(click("unet2d", "delta", foreground=[INSIDE]))
    assert status == 404
    assert "not in the datastore" in detail


def test_a_web_page_of_another_address_neither_reads_nor_changes_anything(url, folder):
    port = url.rpartition(":")[2]
    foreign = [{"Origin": "http://evil.example"}, {"Host": f"evil.example:{port}"}, {"Origin": "http://localhost:1"}]
    before = sorted((folder / "studies").iterdir())
    for headers in foreign:
        reading = requests.get(f"{url}/datastore/image", params={"image": "alpha"}, headers=headers, timeout=60)
        upload = {"file": ("evil.nii.gz", (folder / "outside.nii.gz").read_bytes())}
        for answer in (reading, requests.put(f"{url}/datastore/image", files=upload, headers=headers, timeout=60)):
            assert answer.status_code == 403
            assert "MONAI_LABEL_CORS_ORIGINS" in answer.json()["detail"]
    assert sorted((folder / "studies").iterdir()) == before
    own = requests.get(f"{url}/info/", headers={"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"})
    assert own.status_code == 200


@pytest.mark.parametrize("in_params", [False, True])
def test_a_path_outside_the_datastore_is_refused(click, folder, in_params):
    paths = [folder / "outside.nii.gz", folder / "studies/../outside.nii.gz", folder / "studies/alpha.nii.gz"]
    for path in (*map(str, paths), "../outside", "/etc/passwd"):
        extra = {"image": path, "session": {"image": path}} if in_params else {}
        status, detail = refusal(click("unet2d", "alpha" if in_params else path, foreground=[INSIDE], **extra))
        assert status == 404
        assert "not in the datastore" in detail


def test_an_image_cannot_be_stored_outside_the_datastore(url, folder):
    content = (folder / "outside.nii.gz").read_bytes()
    upload = {"file": ("evil.nii.gz", content)}
    answer = requests.put(f"{url}/datastore/image", params={"image": "../evil"}, files=upload, timeout=60)
    assert answer.status_code == 404
    assert "not in the datastore" in answer.json()["detail"]
    assert not (folder / "evil.nii.gz").exists()


def test_an_uploaded_file_is_sent_to_the_datastore_or_a_session(client, folder):
    with pytest.raises(MONAILabelClientException) as caught:
        client.infer("unet2d", "", {"foreground": [INSIDE]}, file=str(folder / "outside.nii.gz"))
    assert "PUT /session/" in caught.value.msg


@pytest.mark.parametrize(("image", "sentence"), [("truncated", "truncated.nii.gz"), ("moving", "3D image")])
def test_an_image_that_cannot_be_clicked_is_refused(click, image, sentence):
    status, detail = refusal(click("unet2d", image, foreground=[[1, 1, 1]]))
    assert status == 400
    assert sentence in detail


def test_weights_that_do_not_fit_are_refused_until_good_ones_are_there(click, folder, client):
    weights = folder / "model/unet2d.pt"
    good = weights.read_bytes()
    content = torch.load(weights, weights_only=True)
    for spoil in ({"width": 4}, {"method": "unet9d"}, {"colour": "red"}):
        torch.save({**content, "recipe": {**content["recipe"], **spoil}}, weights)
        for model, name in (("unet2d", "foreground"), ("unet2d_labels", "spleen")):
            response = click(model, "alpha", **{name: [INSIDE]})
            assert response.status_code == 400, response.text
            assert any(word in response.text for word in ("recipe", "method")), response.text
        assert list(client.info()["models"]) == ["unet2d_general", "unet2d_general_labels"]  # those of other weights
    weights.write_bytes(b"no weights at all")
    assert "weights" in refusal(click("unet2d", "alpha", foreground=[INSIDE]))[1]
    weights.write_bytes(good)


def test_training_without_labels_is_refused(client):
    for model in ("unet2d", None):
        with pytest.raises(MONAILabelClientException) as caught:
            client.train_start(model, {"max_epochs": 1})
        assert "Status: 400" in caught.value.msg
        assert "no labels to train on" in caught.value.msg


def test_training_an_unknown_model_is_not_found(client):
    with pytest.raises(MONAILabelClientException) as caught:
        client.train_start("unet3d", {})
    assert "Status: 404" in caught.value.msg


@pytest.mark.parametrize("strategy", ["random", "first", "uncertainty"])
def test_each_strategy_names_an_image_twice_in_a_row(client, strategy):
    for _ in range(2):
        sample = client.next_sample(strategy, {})
        assert Path(sample["path"]).exists()
    if strategy == "first":
        assert sample["id"] == "alpha"


def test_an_unknown_strategy_is_not_found(url):
    status, detail = refusal(requests.post(f"{url}/activelearning/wisdom", json={}, timeout=60))
    assert status == 404
    assert "known: random, first, uncertainty" in detail


def finished(status, seconds=300):
    for _ in range(seconds * 2):
        found = status()
        if found["status"] in ("DONE", "ERROR", "STOPPED"):
            return found
        time.sleep(0.5)
    raise TimeoutError(f"not finished after {seconds} s: {found}")


def test_the_uncertainty_strategy_has_the_images_scored_and_then_names_the_highest(client, url):
    task = finished(lambda: requests.get(f"{url}/scoring/", timeout=60).json())
    assert task["status"] == "DONE", task["details"]
    infos = {
        name: requests.get(f"{url}/datastore/image/info", {"image": name}, timeout=60).json()
        for name in ("alpha", "beta", "gamma", "truncated", "moving")
    }
    scores = {name: info["foreground_entropy"] for name, info in infos.items()}
    assert scores.pop("truncated") is None
    assert scores.pop("moving") is None
    sample = client.next_sample("uncertainty", {})
    assert sample["id"] == max(scores, key=scores.get)
    assert sample["foreground_entropy"] == pytest.approx(max(scores.values()))


def test_of_a_refused_upload_nothing_stays_in_the_temporary_folder(client, folder, tmp_path):
    before = set((folder / "temporary").iterdir())
    with pytest.raises(MONAILabelClientException) as taken:
        client.upload_image(str(folder / "outside.nii.gz"), "alpha")
    with pytest.raises(MONAILabelClientException) as misshapen:
        client.save_label("beta", a_label(tmp_path / "wrong.nii.gz", (32, 28, 21)))
    assert [refused.value.msg[:11] for refused in (taken, misshapen)] == ["Status: 409", "Status: 400"]
    assert set((folder / "temporary").iterdir()) == before


def test_an_image_that_is_sent_without_an_id_has_that_of_its_file_and_what_is_no_image_is_refused(url, folder):
    def send(name, content):
        return requests.put(f"{url}/datastore/image", files={"file": (name, content)}, timeout=60)

    image = (folder / "outside.nii.gz").read_bytes()
    assert send("1.2.840.113619.7.nii.gz", image).json() == {"image": "1.2.840.113619.7"}
    requests.delete(f"{url}/datastore/image?id=1.2.840.113619.7", timeout=60).raise_for_status()
    assert "ending in .nii.gz" in send("letter.pdf", b"%PDF").json()["detail"]
    refused = send("letter.nii.gz", b"Dear colleague")
    assert refused.status_code == 400
    assert not (folder / "studies/letter.nii.gz").exists()


def a_label(path, shape=SHAPE):
    values = np.zeros(shape, np.uint8)
    values[8:20, 8:20, 4:12] = 1
    values[22:28, 4:10, 4:12] = 2
    return save_nifti(path, values)


def test_a_label_of_another_shape_is_refused_and_nothing_is_saved(client, tmp_path):
    labelled = client.info()["datastore"]["completed"]
    with pytest.raises(MONAILabelClientException) as caught:
        client.save_label("beta", a_label(tmp_path / "wrong.nii.gz", (32, 28, 21)))
    assert "Status: 400" in caught.value.msg
    assert "has shape (32, 28, 21), but its image (32, 28, 20)" in caught.value.msg
    assert client.info()["datastore"]["completed"] == labelled


def test_saved_labels_are_trained_on_and_the_next_click_uses_the_new_weights(click, client, folder, tmp_path, mask_in):
    client.save_label("beta", a_label(tmp_path / "label.nii.gz"))
    named = [{"name": "tumour", "idx": 1}, {"name": "spleen", "idx": 2}]
    client.save_label("gamma", a_label(tmp_path / "label.nii.gz"), params={"label_info": named})
    assert client.info()["datastore"]["completed"] == 2
    before = (folder / "model/unet2d.pt").read_bytes()

    client.train_start("unet2d", {"max_epochs": 2, "name": "trial"})
    task = finished(client.train_status)
    assert task["status"] == "DONE", task["details"]

    assert (folder / "model/unet2d.pt").read_bytes() != before
    response = click("unet2d", "alpha", foreground=[INSIDE], **OHIF)
    assert np.array_equal(mask_in(response)[0], expected(folder, "alpha", [(INSIDE, 1)]))
    info = client.info()
    assert info["models"]["unet2d_labels"]["labels"] == {"background": 0, "spleen": 1, "liver": 2, "tumour": 3}
    stats = info["train_stats"]["unet2d"]
    assert (stats["epoch"], stats["total_epochs"]) == (2, 2)
    assert stats["total_time"] > 0
    assert np.isfinite(stats["loss"])
