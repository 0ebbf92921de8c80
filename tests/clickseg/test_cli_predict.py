"""`clickseg predict` with weights that answer by themselves, and of a label map that is there already."""

import nibabel as nib
import numpy as np
import pytest

from clickseg import cli
from clickseg.clicks import Click
from clickseg.images import read_label, read_volume
from clickseg.methods import load_model
from clickseg.sessions import Session, SessionCache, VolumeSession

LABELS = {"liver": 1, "spleen": 4}


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def read(path):
    return np.asarray(nib.load(path).dataobj)


@pytest.fixture(scope="module")
def image(phantom_study):
    return phantom_study / "imagesTr" / "phantom_000.nii.gz"


@pytest.fixture
def draft(image, tmp_path):
    """A label map on the image's grid: a block of liver beside one of spleen."""
    _, grid = read_volume(image)
    labels = np.zeros(grid.shape, np.uint8)
    labels[10:20, 10:30, 4:20], labels[20:30, 10:30, 4:20] = 1, 4
    nib.save(nib.Nifti1Image(labels, grid.affine), tmp_path / "draft.nii.gz")
    return tmp_path / "draft.nii.gz"


def test_weights_that_answer_by_themselves_need_no_click(image, tis, tmp_path, capsys):
    assert run("predict", image, "--weights", tis, "--output", tmp_path / "a.nii.gz") == 0
    automatic = SessionCache().open(image, tis).predict_labels({}, LABELS)
    np.testing.assert_array_equal(read(tmp_path / "a.nii.gz"), automatic)
    assert {0, 1, 4} == set(np.unique(automatic))
    assert "spleen: " in capsys.readouterr().out


@pytest.mark.parametrize(("kind", "unit"), [("tis", "patch"), ("unet2d", "slice")])
def test_what_takes_long_shows_how_far_it_is(image, weights, tis, tmp_path, capsys, monkeypatch, kind, unit):
    monkeypatch.setattr("clickseg.cli.watching.LONG", 0)
    asked = {"tis": ["--weights", tis], "unet2d": ["--weights", weights, "--click", "20,24,12", "--propagate"]}[kind]
    assert run("predict", image, *asked, "--output", tmp_path / "a.nii.gz") == 0
    assert f"{unit}/s]" in capsys.readouterr().err


def test_weights_that_answer_clicks_alone_say_so_before_the_image_is_read(weights, tmp_path, capsys):
    assert run("predict", "nowhere.nii.gz", "--weights", weights, "--output", tmp_path / "a.nii.gz") == 2
    said = "clickseg predict: weights of unet2d answer clicks alone: at least one --click x,y,z is needed\n"
    assert capsys.readouterr().err == said


def test_a_label_map_is_corrected_in_3d(image, tis, draft, tmp_path):
    click = ["--click", "24,20,12:liver"]
    assert run("predict", image, "--weights", tis, *click, "--start", draft, "--output", tmp_path / "a.nii.gz") == 0
    session = SessionCache().open(image, tis)
    start = read_label(draft, session.grid)
    corrected = session.predict_labels({"liver": [(24, 20, 12)]}, LABELS, start=start)
    np.testing.assert_array_equal(read(tmp_path / "a.nii.gz"), corrected)
    assert (corrected != start).any()


def test_a_label_that_is_frozen_stays_as_it_is_in_the_label_map(image, weights, draft, tmp_path):
    _, grid = read_volume(image)
    value = load_model(weights).recipe.labels["spleen"]
    start = np.where(read_label(draft, grid) == 4, value, 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(start, grid.affine), draft)
    given = ["predict", image, "--weights", weights, "--click", "24,20,12:liver", "--start", draft]
    assert run(*given, "--output", tmp_path / "free.nii.gz") == 0
    assert run(*given, "--frozen", "spleen", "--output", tmp_path / "frozen.nii.gz") == 0
    free, frozen = read(tmp_path / "free.nii.gz"), read(tmp_path / "frozen.nii.gz")
    assert ((free == value) != (start == value)).any()
    np.testing.assert_array_equal(frozen == value, start == value)


def test_a_mask_of_one_structure_is_corrected_by_a_click_outside(image, weights, tmp_path):
    session = SessionCache().open(image, weights)
    start = np.zeros(session.grid.shape, np.uint8)
    start[10:30, 10:30, 12] = start[10:30, 10:30, 6] = 1
    nib.save(nib.Nifti1Image(start, session.grid.affine), tmp_path / "mask.nii.gz")
    given = ["--click", "20,20,12:background", "--start", tmp_path / "mask.nii.gz"]
    assert run("predict", image, "--weights", weights, *given, "--output", tmp_path / "a.nii.gz") == 0
    corrected = read(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(corrected, session.predict([Click((20, 20, 12), 0)], start))
    assert corrected[..., 6].any(), "a slice without a click keeps what it had"


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--frozen", "unicorn"], "unknown label unicorn; known: liver, spleen"),
        (["--start", "nowhere.nii.gz"], "no image at nowhere.nii.gz"),
    ],
)
def test_what_cannot_be_kept_or_corrected_is_said_in_a_sentence(image, tis, tmp_path, capsys, more, complaint):
    assert run("predict", image, "--weights", tis, *more, "--output", tmp_path / "a.nii.gz") == 2
    assert capsys.readouterr().err == f"clickseg predict: {complaint}\n"


def test_a_label_map_that_is_corrected_is_not_written_over(image, tis, draft, capsys):
    before = draft.read_bytes()
    assert run("predict", image, "--weights", tis, "--start", draft, "--output", draft) == 2
    assert f"{draft} would be written over {draft}" in capsys.readouterr().err
    assert draft.read_bytes() == before


@pytest.mark.parametrize("kind", [Session, VolumeSession])
def test_an_image_of_any_size_is_answered_without_a_word_of_the_servers_memory(
    kind, image, weights, tis, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(Session, "remembered_claims", 2**40)
    monkeypatch.setattr(VolumeSession, "remembered_bytes", 2**40)
    used = {Session: weights, VolumeSession: tis}[kind]
    given = ["--weights", used, "--click", "20,24,12:liver", "--output", tmp_path / "a.nii.gz"]
    assert run("predict", image, *given) == 0
    assert "cache_gb" not in caplog.text
