"""Live previews from the real server: one slice of the mask that the same clicks give, and nothing else."""

import threading

import nibabel as nib
import numpy as np
import pytest
import requests

from clickseg import cli
from clickseg.clicks import Click
from clickseg.client import PreviewClient
from clickseg.sessions import SessionCache

SHAPE = (20, 32, 28)
TURNED = np.array([[0, 0, -2.0, 30], [3.0, 0, 0, -40], [0, 5.0, 0, 12], [0, 0, 0, 1]])  # slices along the second axis
LABELS = {"spleen": 1, "liver": 2}
CLICKS = {"foreground": [[9, 16, 14], [5, 16, 3]], "background": [[3, 16, 20], [3, 7, 20]]}
NAMED = {"spleen": [[9, 16, 14]], "liver": [[4, 16, 6], [4, 9, 6]], "background": [[2, 16, 20]]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_weights, tiny_tis_weights):
    folder = tmp_path_factory.mktemp("preview")
    (folder / "studies").mkdir()
    (folder / "model").mkdir()
    volume = np.random.default_rng(0).normal(50, 80, SHAPE).astype(np.int16)
    nib.save(nib.Nifti1Image(volume, TURNED), folder / "studies/study.nii.gz")
    tiny_weights(folder / "model/unet2d.pt", LABELS)
    tiny_tis_weights(folder / "model/tis_abdomen.pt", LABELS, "CT")
    return folder


def session(folder, weights):
    return SessionCache().open(folder / "studies/study.nii.gz", folder / "model" / weights)


def test_a_preview_is_the_slice_of_the_mask_of_one_structure(folder, url):
    found = PreviewClient(url, "unet2d", "study").preview(CLICKS, 16)
    clicks = [Click(tuple(at), int(name == "foreground")) for name, group in CLICKS.items() for at in group]
    mask = session(folder, "unet2d.pt").predict(clicks)
    assert (found.axis, found.number, found.labels) == (1, 16, {"background": 0, "foreground": 1})
    np.testing.assert_array_equal(found.mask, mask[:, 16])
    assert 0 < found.mask.mean() < 1


@pytest.mark.parametrize(("model", "weights"), [("unet2d_labels", "unet2d.pt"), ("tis_abdomen", "tis_abdomen.pt")])
@pytest.mark.parametrize("number", [16, 9, 0])
def test_a_preview_is_the_slice_of_the_label_map(folder, url, model, weights, number):
    found = PreviewClient(url, model, "study").preview(NAMED, number)
    mask = session(folder, weights).predict_labels(NAMED, LABELS)
    np.testing.assert_array_equal(found.mask, mask[:, number])


def test_the_slice_need_not_be_named_where_all_clicks_lie_in_one(url):
    assert PreviewClient(url, "unet2d", "study").preview({"foreground": [[9, 16, 14]]}).number == 16
    with pytest.raises(ValueError, match=r"slices \[7, 16\] along axis 1"):
        PreviewClient(url, "unet2d", "study").preview(CLICKS)


@pytest.mark.parametrize(
    ("model", "image", "clicks", "number", "problem"),
    [
        ("unet2d", "study", {"foreground": [[9, 32, 14]]}, 16, "outside the image"),
        ("unet2d", "study", {"foreground": [[9, 16.5, 14]]}, None, "not a voxel index"),
        ("unet2d", "study", {}, 16, "no clicks"),
        ("unet2d", "study", {"foreground": [[9, 16, 14]]}, 32, "no slice 32; the image has 32"),
        ("unet2d_labels", "study", {"kidney": [[9, 16, 14]]}, 16, "unknown label 'kidney'"),
        ("unet3d", "study", {"foreground": [[9, 16, 14]]}, 16, "no model 'unet3d'"),
        ("unet2d", "/etc/passwd", {"foreground": [[9, 16, 14]]}, 16, "not in the datastore"),
    ],
)
def test_a_bad_preview_is_refused_with_a_sentence(url, model, image, clicks, number, problem):
    with pytest.raises(ValueError, match=problem):
        PreviewClient(url, model, image).preview(clicks, number)


def test_of_many_previews_of_one_client_the_last_is_answered_and_rightly(folder, url):
    client = PreviewClient(url, "tis_abdomen", "study")
    answers = {}

    def ask(number):
        answers[number] = client.preview({"spleen": [[number, 16, 14]]})

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    ask(12)
    assert answers[12] is not None
    opened = session(folder, "tis_abdomen.pt")
    for number, found in answers.items():
        if found is not None:  # dropped, or right
            mask = opened.predict_labels({"spleen": [[number, 16, 14]]}, LABELS)
            np.testing.assert_array_equal(found.mask, mask[:, 16])


def test_the_reply_is_described_for_other_programs(url):
    schemas = requests.get(f"{url}/openapi.json", timeout=60).json()["components"]["schemas"]
    assert {"axis", "slice", "shape", "values", "lengths", "labels", "seconds"} == set(
        schemas["PreviewReply"]["properties"]
    )
    assert "last axis fastest" in schemas["PreviewReply"]["properties"]["values"]["description"]


def test_the_command_line_shows_a_slice(url, tmp_path, capsys):
    picture = tmp_path / "slice.png"
    assert cli.main(["preview", url, "study", "--click", "9,16,14", "--output", str(picture)]) == 0
    assert "slice 16 along axis 1" in capsys.readouterr().out
    assert picture.stat().st_size > 0
    assert cli.main(["preview", url, "nowhere", "--click", "9,16,14"]) == 2
    assert "not in the datastore" in capsys.readouterr().err
    assert cli.main(["preview", "http://127.0.0.1:9", "study", "--click", "9,16,14"]) == 2
    assert "no server answers" in capsys.readouterr().err
