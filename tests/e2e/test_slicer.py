"""What 3D Slicer's plugin sends, panel by panel, replayed against the real server (`slicer_requests.json` says whence).

One server for the whole module, and the tests in the order in which a user comes to the panels.
"""

import io
import json
import time
from email.parser import BytesParser
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
import requests
from nibabel.affines import apply_affine

from clickseg.clicks import Click
from clickseg.images import read_volume
from clickseg.methods import load_model, shipped_weights
from clickseg.sessions import SessionCache

RECORDED = json.loads(Path(__file__).with_name("slicer_requests.json").read_text())
SLICEWISE = ["unet2d", "unet2d_labels", "unet2d_general", "unet2d_general_labels"]
SHAPE = (32, 28, 20)
LABELS = {"spleen": 1, "liver": 4}
SERVED = {"spleen": 1, "liver": 2}


def rotated():
    """An oblique affine, one axis mirrored, with an odd origin."""
    turn = np.radians(25)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([-3.0, 2.0, 5.0])
    affine[:3, 3] = [40.25, -30.5, 12.125]
    return affine


AFFINE = rotated()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_weights, tiny_tis_weights):
    folder = tmp_path_factory.mktemp("slicer")
    (folder / "studies").mkdir()
    generator = np.random.default_rng(0)
    for name in ("first", "second"):
        volume = generator.normal(50, 80, SHAPE).astype(np.int16)
        nib.save(nib.Nifti1Image(volume, AFFINE), folder / f"studies/{name}.nii.gz")
    nib.save(nib.Nifti1Image(volume, AFFINE), folder / "open_in_slicer.nii.gz")
    tiny_weights(folder / "model/unet2d.pt", LABELS, sure=1000.0)  # so that propagation goes on
    tiny_tis_weights(folder / "model/tis_brain.pt", {"anterior": 1, "posterior": 2}, "CT")
    return folder


@pytest.fixture(scope="module")
def send(url):
    """send(name of a recorded request, file, names in its path, **JSON): the response, as the plugin asks for it."""

    def send(name, /, file=None, path=(), **content):
        recorded = RECORDED["requests"][name]
        content |= RECORDED["in_every_json"]
        address = url + recorded["path"].format(**dict(path))
        body = recorded.get("body")
        files = {recorded["file"]: (str(file), Path(file).read_bytes())} if file else {}
        if body == "json":
            return requests.request(recorded["method"], address, json=content, timeout=120)
        if body == "files":
            return requests.request(recorded["method"], address, files=files, data=content, timeout=120)
        if body == "form":
            fields = {"params": (None, json.dumps(content)), **files}
            return requests.request(recorded["method"], address, files=fields, timeout=120)
        return requests.request(recorded["method"], address, timeout=120)

    return send


@pytest.fixture(scope="module")
def smart_edit(send):
    """smart_edit(model, **JSON): (mask, its header, params) of the plugin's reply in two parts."""

    def smart_edit(model, path=(), name="infer", **content):
        where = {"model": model, "image": "first", **dict(path)}
        content = options(send, "models", model) | content | RECORDED["in_every_infer"]
        response = send(name, path=where, **content)
        assert response.status_code == 200, response.text
        head = b"Content-Type: " + response.headers["content-type"].encode() + b"\r\n\r\n"
        parts = {
            part.get_param("name", header="content-disposition"): part
            for part in BytesParser().parsebytes(head + response.content).get_payload()
        }
        assert set(parts) == {"params", "image"}
        assert parts["image"].get_filename().endswith(".nrrd")
        file = io.BytesIO(parts["image"].get_payload(decode=True))
        header = nrrd.read_header(file)
        return nrrd.read_data(header, file), header, json.loads(parts["params"].get_payload())

    return smart_edit


def options(send, section, name):
    """What the plugin sends of the options that /info offers: of a list, the first."""
    config = send("what is there").json()[section][name].get("config", {})
    return {key: value[0] if isinstance(value, list) else value for key, value in config.items()}


def ras(voxel, off=(0.4, -0.3, 0.2)):
    """Where a user has clicked who has not quite met the voxel's centre: RAS mm."""
    return apply_affine(AFFINE, np.add(voxel, off))


def control_points(*points):
    """RAS mm -> voxels as the plugin computes them."""
    return [[round(value) for value in apply_affine(np.linalg.inv(AFFINE), point)] for point in points]


def expected(folder, clicks):
    return SessionCache().open(folder / "studies/first.nii.gz", folder / "model/unet2d.pt").predict(clicks)


def test_the_server_needs_no_login(send):
    assert send("is there a login").status_code != 200  # which the plugin takes for no


def test_every_panel_finds_its_models(send):
    info = send("what is there").json()
    kinds = {name: model["type"] for name, model in info["models"].items()}
    panels = {
        "Auto Segmentation": ["segmentation", "detection"],
        "SmartEdit": ["deepgrow", "deepedit"],
        "Scribbles": ["scribbles"],
    }
    offered = {panel: [name for name, kind in kinds.items() if kind in types] for panel, types in panels.items()}
    assert offered == {
        "Auto Segmentation": ["tis_abdomen_auto", "tis_brain_auto", "tis_hippocampus_auto"],
        "SmartEdit": [*SLICEWISE, "tis_abdomen", "tis_brain", "tis_hippocampus"],
        "Scribbles": [],  # so the panel is hidden
    }
    assert all(model["description"] for model in info["models"].values())
    assert list(info["strategies"]) == ["random", "first", "uncertainty"]
    assert set(info["trainers"]) == {"unet2d", "unet2d_general", "tis_abdomen", "tis_brain", "tis_hippocampus"}
    # A segment is made of each in this order, and its number is its place: those before the background are right.
    abdomen = load_model(shipped_weights("tis_abdomen")).recipe.labels
    assert info["labels"] == [*dict.fromkeys([*LABELS, *abdomen, "anterior", "posterior"]), "background"]


def test_the_next_sample_is_an_image_that_can_be_downloaded(send, folder):
    for strategy in send("what is there").json()["strategies"]:
        sample = send("next sample", path={"strategy": strategy}, **options(send, "strategies", strategy)).json()
        own = folder / f"studies/{sample['id']}.nii.gz"
        assert sample["path"] == str(own)
        assert send("image", path={"image": sample["id"]}).content == own.read_bytes()
    assert set(send("what is labelled").json()["objects"]) == {"first", "second"}


def test_foreground_and_background_points_of_a_rotated_image_land_where_they_were_set(smart_edit, folder):
    inside, outside = [(16, 14, 9), (8, 20, 3)], [(3, 4, 9)]
    sent = {name: control_points(*map(ras, points)) for name, points in (("in", inside), ("out", outside))}
    mask, header, params = smart_edit("unet2d", label="cyst", foreground=sent["in"], background=sent["out"])
    clicks = [*(Click(point, 1) for point in inside), *(Click(point, 0) for point in outside)]
    np.testing.assert_array_equal(mask, expected(folder, clicks))
    assert 0 < mask[:, :, 9].mean() < 1
    lps = np.diag([-1.0, -1, 1, 1]) @ AFFINE
    np.testing.assert_allclose(header["space directions"].T, lps[:3, :3])
    np.testing.assert_allclose(header["space origin"], lps[:3, 3])
    assert params["label_names"] == {"background": 0, "cyst": 1}


def test_what_slicer_sends_of_its_state_changes_nothing(smart_edit):
    clicks = {"label": "cyst", "foreground": [[16, 14, 9]], "background": []}
    plain, _, _ = smart_edit("unet2d", **clicks)
    with_state, _, _ = smart_edit("unet2d", **clicks, reset_state=True, roi=[2, 20, 3, 20, 1, 9], slice=9)
    np.testing.assert_array_equal(with_state, plain)


def test_points_of_every_label_come_with_a_multi_label_request(smart_edit, send, folder):
    points = {name: [] for name in send("what is there").json()["labels"]}  # those of other models, too
    points |= {"liver": control_points(ras((16, 14, 9))), "background": control_points(ras((3, 4, 9)))}
    mask, _, params = smart_edit("unet2d_labels", **points, label="liver")
    session = SessionCache().open(folder / "studies/first.nii.gz", folder / "model/unet2d.pt")
    clicks = {"liver": [(16, 14, 9)], "background": [(3, 4, 9)]}
    np.testing.assert_array_equal(mask, session.predict_labels(clicks, SERVED))
    # Value n goes into the segment of the nth name that is not the background.
    in_order = [name for name, _ in sorted(params["label_names"].items(), key=lambda item: item[1])]
    assert in_order == ["background", "spleen", "liver"]
    assert set(np.unique(mask)) == {0, 2}


def test_the_option_propagate_goes_on_to_other_slices(send, smart_edit):
    assert options(send, "models", "unet2d")["propagate"] is False
    clicks = {"label": "cyst", "foreground": [[16, 14, 9]], "background": []}
    (alone, _, _), (onwards, _, _) = (smart_edit("unet2d", **clicks, propagate=wish) for wish in (False, True))
    assert np.flatnonzero(alone.any((0, 1))).tolist() == [9]
    assert len(np.flatnonzero(onwards.any((0, 1)))) > 1
    np.testing.assert_array_equal(alone[:, :, 9], onwards[:, :, 9])


def test_auto_segmentation_answers_without_a_click(smart_edit, folder):
    mask, _, params = smart_edit("tis_brain_auto")
    session = SessionCache().open(folder / "studies/first.nii.gz", folder / "model/tis_brain.pt")
    np.testing.assert_array_equal(mask, session.predict_labels({}, {"anterior": 1, "posterior": 2}))
    assert params["label_names"] == {"background": 0, "anterior": 1, "posterior": 2}


def test_an_image_that_is_open_in_slicer_can_be_clicked_in_a_session(send, smart_edit, folder):
    opened = send("open a session", folder / "open_in_slicer.nii.gz").json()["session_id"]
    assert send("does the session live", path={"session": opened}).status_code == 200
    assert send("does the session live", path={"session": "nobody"}).status_code == 404
    where = {"session": opened, "image": "open_in_slicer"}
    clicks = {"label": "cyst", "foreground": [[16, 14, 9]], "background": []}
    mask, _, _ = smart_edit("unet2d", where, "infer in a session", **clicks)
    session = SessionCache().open(folder / "open_in_slicer.nii.gz", folder / "model/unet2d.pt")
    np.testing.assert_array_equal(mask, session.predict([Click((16, 14, 9), 1)]))


def test_scribbles_are_refused_with_a_sentence(send, folder):
    for model in ("Histogram+GraphCut", "unet2d"):
        response = send(
            "scribbles",
            folder / "studies/first.nii.gz",
            path={"model": model, "image": "first"},
            roi=[],
            label_info=[{"name": "spleen", "id": 1}],
            selected_label_name="spleen",
            **RECORDED["in_every_infer"],
        )
        assert response.status_code in (400, 404), response.text
        assert len(response.json()["detail"]) > 20


def test_a_message_of_the_server_is_what_slicer_shows(send):
    params = {"label": "cyst", "foreground": control_points([500.0, 0, 0]), "background": []}
    response = send("infer", path={"model": "unet2d", "image": "first"}, **params, **RECORDED["in_every_infer"])
    assert response.status_code == 400
    assert "outside the image" in response.json()["detail"]


def segments_as_exported(folder):
    """Segments in their list: spleen, liver, anterior, posterior (empty), background (left out), and an own one."""
    label = np.zeros(SHAPE, np.uint8)
    label[4:12, 4:12, 3:8], label[18:26, 10:20, 8:14], label[14:17, 3:6, 4:9] = 1, 2, 5
    nib.save(nib.Nifti1Image(label, AFFINE), folder / "submitted.nii.gz")
    listed = [(1, "spleen"), (2, "liver"), (3, "anterior"), (4, "posterior"), (6, "cyst")]
    return label, [{"name": name, "idx": idx} for idx, name in listed]


def test_an_uploaded_image_and_its_label_are_in_the_datastore(send, folder):
    place = {"image": "open_in_slicer"}
    assert send("upload the image", folder / "open_in_slicer.nii.gz", path=place).json() == place
    label, names = segments_as_exported(folder)
    done = send("submit label", folder / "submitted.nii.gz", path=place, label_info=names)
    assert done.json() == {"image": "open_in_slicer", "label": "open_in_slicer"}
    saved, _ = read_volume(folder / "studies/labels/final/open_in_slicer.nii.gz")
    np.testing.assert_array_equal(saved, label)
    assert send("what is there").json()["datastore"]["completed"] == 1


def until(send, *states, said=""):
    """The status of the training once it is one of these, and the process that trains has written `said`."""
    for _ in range(400):
        task = send("how is the training").json()
        if task["status"] in states and any(said in line for line in task["details"]):
            return task["status"]
        time.sleep(0.5)
    raise TimeoutError(task)


def test_training_is_started_watched_and_stopped(send):
    assert send("is it training").status_code == 404
    wish = options(send, "trainers", "unet2d") | {"max_epochs": 500}
    task = send("train", path={"model": "unet2d"}, **wish).json()
    assert {"id", "status", "start_ts"} <= set(task)
    assert until(send, "RUNNING", said="epoch 1 of 500")
    assert send("is it training").status_code == 200
    stopped = send("stop training").json()
    assert stopped["status"] in ("CANCELED", "RUNNING", "ERROR", "STOPPED")
    assert until(send, "CANCELED", "ERROR", "STOPPED", "DONE") != "DONE"
    assert send("is it training").status_code == 404


def test_a_training_ends_and_its_labels_have_the_names_of_the_segments(send, smart_edit):
    wish = options(send, "trainers", "unet2d") | {"max_epochs": 1, "name": "after"}
    assert send("train", path={"model": "unet2d"}, **wish).status_code == 200
    assert until(send, "DONE", "ERROR") == "DONE"
    info = send("what is there").json()
    assert info["models"]["unet2d_labels"]["labels"] == {"background": 0, "spleen": 1, "liver": 2, "cyst": 3}
    assert info["train_stats"]["unet2d"]["total_time"] > 0
    mask, _, _ = smart_edit("unet2d", label="cyst", foreground=[[16, 14, 9]], background=[])
    assert mask[16, 14, 9] in (0, 1)
