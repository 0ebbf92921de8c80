import json
import math
import os
import re
import shutil
import socket
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import clickseg.phantom
from clickseg import __version__, cli
from clickseg.cli.clicks import STRUCTURE, named_clicks
from clickseg.clicks import Click
from clickseg.evaluation.tasks import USERS
from clickseg.geometry import Grid
from clickseg.images import read_volume
from clickseg.methods import BASELINES, METHODS, RIVALS, TIS_BASELINES, load_model
from clickseg.phantom import LABELS, write_phantoms
from clickseg.sessions import SessionCache

OPTIONS = {
    "serve": ["--studies", "--host", "--port", "--conf"],
    "train": ["--method", "--data", "--output", "--cases", "--recipe", "--epochs", "--minutes", "--resume", "--device"],
    "evaluate": ["--method", "--data", "--cases", "--weights", "--clicks", "--user", "--seed", "--output", "--limit"],
    "experiment": ["sakinis", "ablation"],
    "predict": ["IMAGE", "--click", "--ras", "--output", "--weights"],
    "phantom": ["OUT_DIR", "--cases"],
}
METRICS = {"dice", "dice_volume", "iou", "hd_mm", "mad_mm"}


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def image(phantom_study):
    return phantom_study / "imagesTr" / "phantom_000.nii.gz"


# Help


def test_the_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as left:
        run("--help")
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in OPTIONS)


@pytest.mark.parametrize("command", OPTIONS)
def test_the_help_of_a_command_is_its_documentation(command, capsys):
    with pytest.raises(SystemExit) as left:
        run(command, "--help")
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: clickseg {command}" in text
    assert [option for option in OPTIONS[command] if option.lower() not in text.lower()] == []


def test_the_help_names_all_that_there_is_to_choose_from(capsys):
    recipes = [path.stem for path in Path(clickseg.methods.__file__).parent.glob("recipes/*/*.json")]
    choices = {
        "evaluate": [*METHODS, *RIVALS, *BASELINES, *TIS_BASELINES, *USERS],
        "train": [*METHODS, *RIVALS, *recipes],
    }
    for command, names in choices.items():
        with pytest.raises(SystemExit):
            run(command, "--help")
        words = re.findall(r"\w+", capsys.readouterr().out)
        assert [name for name in names if name not in words] == []


def test_the_version_is_said(capsys):
    with pytest.raises(SystemExit):
        run("--version")
    assert capsys.readouterr().out.strip() == f"clickseg {__version__}"


@pytest.mark.parametrize("arguments", [[], ["divine"], ["predict"], ["train", "--data", "x"]], ids=" ".join)
def test_what_is_no_command_ends_with_its_usage(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        run(*arguments)
    assert left.value.code == 2
    assert "usage: clickseg" in capsys.readouterr().err


def test_python_minus_m_clickseg_is_the_same_command(repository, starter, image, weights, tmp_path):
    """Bad input, so that the exit status and the sentence are seen to come through."""
    options = ["--click", "1,2", "--weights", weights, "--output", tmp_path / "mask.nii.gz"]
    environment = os.environ | {"PYTHONPATH": str(repository / "apps/clickseg")}
    command = ["-m", "clickseg", "predict", image, *options]
    process = starter.start(command, environment, tmp_path, tmp_path / "output", tmp_path / "errors")
    assert (process.wait(300), (tmp_path / "output").read_text()) == (2, "")
    said = (tmp_path / "errors").read_text().strip()
    assert said == "clickseg predict: click '1,2' needs three finite numbers x,y,z"


# predict


def predicted(image, weights, path, *clicks, more=()):
    pairs = [part for click in clicks for part in ("--click", click)]
    status = run("predict", image, *pairs, "--weights", weights, "--output", path, *more)
    assert status == 0
    return np.asarray(nib.load(path).dataobj)


def test_a_mask_is_written_on_the_grid_of_the_image(image, weights, tmp_path, capsys):
    mask = predicted(image, weights, tmp_path / "new" / "mask.nii.gz", "20,24,12", "30,10,12:0", "24,24,6:1")
    clicks = [Click((20, 24, 12), 1), Click((30, 10, 12), 0), Click((24, 24, 6), 1)]
    np.testing.assert_array_equal(mask, SessionCache().open(image, weights).predict(clicks))
    assert mask.any()
    assert mask.dtype == np.uint8
    np.testing.assert_allclose(nib.load(tmp_path / "new" / "mask.nii.gz").affine, nib.load(image).affine)
    voxel_ml = 8 * 8 * 12 / 1000
    assert re.search(rf"inside: {mask.sum()} voxels, {mask.sum() * voxel_ml:.2f} ml", capsys.readouterr().out)


def test_a_mask_of_what_is_no_ct_comes_with_a_warning(image, weights, tmp_path, capsys):
    predicted(image, weights, tmp_path / "mask.nii.gz", "20,24,12")
    assert capsys.readouterr().err == ""
    ct = nib.load(image)
    nib.save(nib.Nifti1Image(np.abs(ct.get_fdata()).astype(np.int16), ct.affine), tmp_path / "mr.nii.gz")
    assert predicted(tmp_path / "mr.nii.gz", weights, tmp_path / "mask.nii.gz", "20,24,12").shape == ct.shape
    assert "clickseg predict: warning: the weights are for CT in HU, and nothing" in capsys.readouterr().err


def test_a_click_outside_is_another_click_than_one_inside(image, weights, tmp_path):
    alone = predicted(image, weights, tmp_path / "mask.nii.gz", "20,24,12")
    both = predicted(image, weights, tmp_path / "mask.nii.gz", "20,24,12", "30,10,12:0")
    assert (alone != both).any()


def test_clicks_in_mm_are_those_in_voxels(image, weights, tmp_path):
    grid = read_volume(image)[1]
    voxels = [(20, 24, 12), (24, 30, 6)]
    mm = [",".join(f"{value + 1.5:.3f}" for value in place) for place in grid.to_ras(voxels)]  # not quite the centre
    assert any(text.startswith("-") for text in mm), "a click that looks like an option belongs to this test"
    first = predicted(image, weights, tmp_path / "a.nii.gz", *(",".join(map(str, voxel)) for voxel in voxels))
    second = predicted(image, weights, tmp_path / "b.nii.gz", *mm, more=["--ras"])
    np.testing.assert_array_equal(second, first)
    assert first.any()


@pytest.mark.parametrize(
    ("click", "complaint"),
    [
        ("1,2", "needs three finite numbers"),
        ("1,2,3,4", "needs three finite numbers"),
        ("nan,2,3", "needs three finite numbers"),
        ("inf,2,3", "needs three finite numbers"),
        ("a,b,c", "not of the form x,y,z"),
        ("", "not of the form x,y,z"),
        ("1,2,3:x", "the unknown label 'x'; known: background (0), foreground (1), liver (1), spleen (2), "),
        ("1,2,3:99", "the unknown label '99'"),
        ("1,2,3:-1", "the unknown label '-1'"),
        ("1.5,2,3", "voxel indices are whole numbers"),
        ("48,2,3", "click (48, 2, 3) is outside the image, whose shape is (48, 48, 24)"),
        ("-1,2,3", "click (-1, 2, 3) is outside the image"),
    ],
)
def test_a_bad_click_is_refused_in_a_sentence(image, weights, tmp_path, capsys, click, complaint):
    output = tmp_path / "mask.nii.gz"
    assert run("predict", image, "--click", click, "--weights", weights, "--output", output) == 2
    error = capsys.readouterr().err
    assert error.startswith("clickseg predict: ")
    assert error.count("\n") == 1
    assert complaint in error
    assert not output.exists()


def test_a_click_in_mm_outside_the_image_is_refused(image, weights, tmp_path, capsys):
    arguments = ["--click", "1000,0,0", "--ras", "--weights", weights, "--output", tmp_path / "mask.nii.gz"]
    assert run("predict", image, *arguments) == 2
    assert "outside the image" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["3,4,5", "3,4,5:1", "3,4,5:foreground", "3.0,4,5"])
def test_a_click_without_a_label_is_inside(text):
    assert named_clicks([text], STRUCTURE) == {"foreground": [[3, 4, 5]]}


@pytest.mark.parametrize("text", ["3,4,5:4", "3,4,5:liver"])
def test_a_label_is_told_by_its_name_or_its_value(text):
    assert named_clicks([text], {"background": 0, "liver": 4}) == {"liver": [[3, 4, 5]]}


def test_among_several_labels_a_click_must_have_one():
    with pytest.raises(ValueError, match=r"'3,4,5' has no label; known: background \(0\), liver \(4\)"):
        named_clicks(["3,4,5"], {"background": 0, "liver": 4})


def test_clicks_in_mm_go_to_the_nearest_voxel():
    grid = Grid((9, 9, 9), np.diag([-2.0, 2, 4, 1]))
    assert named_clicks(["-7.1,8.9,10.1:0"], STRUCTURE, grid) == {"background": [[4, 4, 3]]}


def test_named_labels_give_a_label_map(image, weights, tmp_path, capsys):
    labels = load_model(weights).recipe.labels
    (first, value), (second, other) = list(labels.items())[:2]
    mask = predicted(
        image, weights, tmp_path / "a.nii.gz", f"20,24,12:{first}", f"30,30,12:{second}", "40,8,12:background"
    )
    named = {first: [(20, 24, 12)], second: [(30, 30, 12)], "background": [(40, 8, 12)]}
    np.testing.assert_array_equal(mask, SessionCache().open(image, weights).predict_labels(named, labels))
    assert set(np.unique(mask)) == {0, value, other}
    assert f"{second}: {(mask == other).sum()} voxels" in capsys.readouterr().out


def test_a_label_by_its_value_is_one_by_its_name_but_for_that_of_the_foreground(image, weights, tmp_path):
    (first, one), (second, two) = list(load_model(weights).recipe.labels.items())[:2]
    assert (one, two) == (1, 2)
    by_name = predicted(image, weights, tmp_path / "a.nii.gz", f"20,24,12:{first}", f"30,30,12:{second}")
    by_value = predicted(image, weights, tmp_path / "b.nii.gz", "20,24,12:1", "30,30,12:2")
    np.testing.assert_array_equal(by_value, by_name)
    assert predicted(image, weights, tmp_path / "c.nii.gz", "30,30,12:2").max() == two
    alone = predicted(image, weights, tmp_path / "d.nii.gz", "30,30,12:1", "20,24,12")
    np.testing.assert_array_equal(alone, predicted(image, weights, tmp_path / "e.nii.gz", "30,30,12", "20,24,12"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"image": "nowhere.nii.gz"}, "nowhere.nii.gz"),
        ({"--weights": "nowhere.pt"}, "nowhere.pt"),
        ({"--weights": "tis"}, "one of those shipped: tis_abdomen, tis_hippocampus, unet2d"),
        ({"--output": "mask.nrrd"}, "--output must end in .nii or .nii.gz"),
        ({"--device": "abacus"}, "unknown device 'abacus'"),
        ({"--method": "tis"}, "tiny.pt holds unet2d weights, not tis"),
        ({"--method": "foo"}, "unknown method 'foo'; known: unet2d, tis, "),
        ({"--weights": "unet2d", "--method": "tis"}, "unet2d.pt holds unet2d weights, not tis"),
    ],
)
def test_what_cannot_be_predicted_is_said_in_a_sentence(image, weights, tmp_path, capsys, change, complaint):
    options = {"--click": "1,2,3", "--weights": weights, "--output": tmp_path / "mask.nii.gz"} | change
    image = options.pop("image", image)
    assert run("predict", image, *(part for pair in options.items() for part in pair)) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "choice"),
    [
        ("predict x --click 1,2,3 --method tis", "a file, or those of a shipped model: tis_abdomen, tis_hippocampus"),
        ("evaluate --data x --method tis", "a file, or those of a shipped model: tis_abdomen, tis_hippocampus"),
        ("predict x --click 1,2,3 --method automatic", "a file (none are shipped)"),
    ],
)
def test_a_method_that_has_no_weights_by_default_says_which_there_are(command, choice, tmp_path, capsys):
    name, *options, method = command.split()
    assert run(name, *options, method, "--output", tmp_path / "mask.nii.gz") == 2
    assert capsys.readouterr().err == f"clickseg {name}: the method {method} needs --weights: {choice}\n"


def test_a_mask_does_not_take_the_place_of_its_image(image, weights, tmp_path, capsys):
    study = shutil.copy(image, tmp_path / "ct.nii.gz")
    (tmp_path / "link.nii.gz").symlink_to(study)
    before = study.read_bytes()
    for read, written in ((study, study), (study, tmp_path / "link.nii.gz"), (tmp_path, tmp_path / "new/mask.nii")):
        assert run("predict", read, "--click", "20,24,12", "--weights", weights, "--output", written) == 2
        assert f"{written} would be written over {read}" in capsys.readouterr().err
    assert study.read_bytes() == before


def test_a_folder_without_a_dicom_series_is_refused_by_name(weights, tmp_path, capfd):
    (tmp_path / "study").mkdir()
    options = ["--click", "1,2,3", "--weights", weights, "--output", tmp_path / "mask.nii"]
    assert run("predict", tmp_path / "study", *options) == 2
    assert capfd.readouterr().err == (
        f"clickseg predict: {tmp_path / 'study'} holds no DICOM file: a NIfTI file, or the folder of a DICOM series, "
        "is needed\n"
    )


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_devices_are_named_as_for_the_other_commands(image, weights, tmp_path, device):
    assert predicted(image, weights, tmp_path / "mask.nii.gz", "20,24,12", more=["--device", device]).any()


def test_an_image_that_is_cut_short_is_refused_by_name(image, weights, tmp_path, capsys):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(image.read_bytes()[:5000])
    assert run("predict", broken, "--click", "1,2,3", "--weights", weights, "--output", tmp_path / "mask.nii") == 2
    assert "broken.nii.gz is not a readable NIfTI file" in capsys.readouterr().err


# evaluate


@pytest.fixture(scope="module")
def evaluated(phantom_study, weights, tmp_path_factory):
    output = tmp_path_factory.mktemp("evaluation") / "new"
    arguments = ["--data", phantom_study, "--weights", weights, "--clicks", "1,3", "--limit", "2", "--output", output]
    assert run("evaluate", "--method", "unet2d", "--user", "sakinis", "--seed", "0", *arguments) == 0
    return output


@pytest.fixture(scope="module")
def report(evaluated):
    return json.loads((evaluated / "report.json").read_text())


def test_the_report_says_what_was_evaluated(report, phantom_study, weights):
    expected = {"schema": 1, "method": "unet2d", "weights": weights.name, "data": phantom_study.name}
    expected |= {"user": "sakinis", "seed": 0, "clicks": [1, 3]}
    assert {name: report[name] for name in expected} == expected


def test_the_report_has_every_metric_after_every_asked_click(report):
    assert report["mean"].keys() == report["interval"].keys() == {"1", "3"}
    for k in ("1", "3"):
        assert report["mean"][k].keys() >= METRICS
        assert report["interval"][k].keys() >= METRICS
        for name in METRICS:
            assert len(report["interval"][k][name]) == 2
            assert math.isfinite(report["mean"][k][name])


def test_the_report_has_every_label_and_every_case(report):
    assert report["labels"].keys() == LABELS.keys()
    assert report["cases"].keys() == {"phantom_000", "phantom_001"}
    for table in (report["labels"], *report["cases"].values()):
        assert table.keys() <= LABELS.keys()
        for by_click in table.values():
            assert by_click.keys() == {"1", "3"}
            assert all(values.keys() >= METRICS for values in by_click.values())


def test_the_mean_dice_is_that_of_the_labels(report):
    for k in ("1", "3"):
        values = [by_click[k]["dice"] for by_click in report["labels"].values()]
        assert report["mean"][k]["dice"] == pytest.approx(sum(values) / len(values), abs=1e-5)
        assert all(0 <= value <= 1 for value in values)


def test_curves_and_overlays_are_drawn(evaluated):
    pictures = sorted(path.name for path in evaluated.glob("*.png"))
    assert "curves.png" in pictures
    assert sum(name.startswith("overlay_phantom_00") for name in pictures) >= 2
    for name in pictures:
        assert (evaluated / name).read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def without_pictures(monkeypatch):
    """They take most of the time."""
    monkeypatch.setattr("clickseg.plots.plot_curves", lambda *arguments: None)
    monkeypatch.setattr("clickseg.plots.plot_examples", lambda *arguments: None)


def evaluate(phantom_study, weights, output, *more):
    arguments = ["--data", phantom_study, "--weights", weights, "--clicks", "1,3", "--limit", "2", "--output", output]
    return run("evaluate", *arguments, *more)


@pytest.mark.usefixtures("without_pictures")
def test_the_same_seed_gives_the_same_report_and_another_seed_another(report, phantom_study, weights, tmp_path):
    assert evaluate(phantom_study, weights, tmp_path / "same", "--seed", "0") == 0
    assert json.loads((tmp_path / "same" / "report.json").read_text()) == report
    assert evaluate(phantom_study, weights, tmp_path / "other", "--seed", "1") == 0
    assert json.loads((tmp_path / "other" / "report.json").read_text())["mean"] != report["mean"]


@pytest.mark.usefixtures("without_pictures")
def test_a_selection_of_cases_is_evaluated_alone(report, phantom_study, weights, tmp_path):
    (tmp_path / "ids.txt").write_text("phantom_001\n")
    assert evaluate(phantom_study, weights, tmp_path / "one", "--cases", tmp_path / "ids.txt", "--limit", "1") == 0
    assert json.loads((tmp_path / "one" / "report.json").read_text())["cases"].keys() == {"phantom_001"}


def test_a_baseline_is_evaluated_like_a_method_and_has_no_weights(phantom_study, tmp_path):
    options = ["--data", phantom_study, "--cases", "phantom_000", "--clicks", "0,1", "--limit", "1"]
    assert run("evaluate", "--method", "disc", *options, "--output", tmp_path) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["method"], report["weights"]) == ("disc", None)
    assert list(tmp_path.glob("overlay_*.png"))
    assert run("evaluate", "--method", "disc", "--weights", "any.pt", *options, "--output", tmp_path) == 2


@pytest.mark.usefixtures("without_pictures")
def test_an_interval_is_printed_where_there_is_one(phantom_study, weights, tmp_path, capsys, monkeypatch):
    assert evaluate(phantom_study, weights, tmp_path / "two") == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r" +1 clicks: Dice 0\.\d{4}  MAD [\d.]+ mm", lines[0]), "two patients have none"
    monkeypatch.setattr("clickseg.evaluation.report.LEAST_PATIENTS", 2)
    assert evaluate(phantom_study, weights, tmp_path / "again") == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r" +1 clicks: Dice 0\.\d{4} \[0\.\d{4}, 0\.\d{4}\]  MAD [\d.]+ mm", lines[0])


@pytest.mark.usefixtures("without_pictures")
def test_without_weights_the_shipped_ones_are_evaluated_and_named(phantom_study, tmp_path):
    options = ["--data", phantom_study, "--cases", "phantom_000", "--labels", "liver", "--clicks", "1", "--limit", "1"]
    assert run("evaluate", *options, "--output", tmp_path) == 0
    assert json.loads((tmp_path / "report.json").read_text())["weights"] == "unet2d.pt"


@pytest.mark.usefixtures("without_pictures")
def test_a_structure_that_nobody_names_is_evaluated_by_its_value(phantom_study, tmp_path):
    options = ["--data", phantom_study, "--cases", "phantom_000", "--clicks", "1", "--limit", "1", "--unnamed"]
    asked = {"named": "liver", "by_value": f"tumour={LABELS['liver']}"}
    for folder, labels in asked.items():
        assert run("evaluate", *options, "--labels", labels, "--output", tmp_path / folder) == 0
    named, tumour = (json.loads((tmp_path / folder / "report.json").read_text()) for folder in asked)
    assert tumour["labels"] == {"tumour": named["labels"]["liver"]}


@pytest.mark.usefixtures("without_pictures")
def test_a_finished_evaluation_is_said_to_be_and_pictures_that_are_missing_are_drawn(
    evaluated, phantom_study, weights, tmp_path, capsys, monkeypatch
):
    again = shutil.copytree(evaluated, tmp_path / "again")
    drawn = []
    monkeypatch.setattr("clickseg.plots.plot_curves", lambda report, path: drawn.append(path))
    assert evaluate(phantom_study, weights, again) == 2
    assert f"{again} holds an evaluation" in capsys.readouterr().err
    for pictures in ([], [again / "curves.png"]):
        assert evaluate(phantom_study, weights, again, "--resume") == 0
        assert capsys.readouterr().out.endswith("report.json (finished before: nothing was played)\n")
        assert drawn == pictures
        (again / "curves.png").unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.usefixtures("without_pictures")
def test_workers_give_the_report_of_one_process(report, phantom_study, weights, tmp_path):
    assert evaluate(phantom_study, weights, tmp_path / "two", "--workers", "2", "--device", "cpu") == 0
    assert json.loads((tmp_path / "two" / "report.json").read_text()) == report


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--clicks", "1,a"], "not a list of whole numbers"),
        (["--labels", "liver=six"], "such as liver=6"),
        (["--clicks", "2,1"], "rising numbers"),
        (["--clicks", "1,1"], "rising numbers"),
        (["--user", "nobody"], "unknown user 'nobody'; known: sakinis"),
        (["--limit", "0"], "limit must be at least 1"),
        (["--cases", "phantom_009"], "no image for case phantom_009"),
        (["--cases", "nofile.txt"], "there is no file nofile.txt"),
        (["--weights", "nowhere.pt"], "nowhere.pt"),
        (["--method", "astrology"], "unknown method 'astrology'"),
        (["--data", "nowhere"], "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_evaluated_is_said_in_a_sentence(phantom_study, weights, tmp_path, capsys, more, complaint):
    assert evaluate(phantom_study, weights, tmp_path / "out", *more) == 2
    error = capsys.readouterr().err
    assert error.startswith("clickseg evaluate: ")
    assert complaint in error


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("predict x --click 1,2,3 --output m.nii", "--propagate", "-3"),
        ("evaluate --data x --output x", "--workers", "0"),
        ("evaluate --data x --output x", "--seed", "-1"),
        ("plan --data x --output x", "--seed", "-1"),
        ("train --data x --output x", "--workers", "-1"),
        ("phantom x", "--seed", "-1"),
    ],
)
def test_a_number_that_is_too_small_is_refused_with_the_name_of_its_option(command, option, value, capsys):
    with pytest.raises(SystemExit) as left:
        run(*command.split(), option, value)
    assert left.value.code == 2
    assert f"argument {option}: {value} is less than " in capsys.readouterr().err


# phantom and serve


@pytest.fixture
def small_phantoms(monkeypatch):
    def write(directory, cases=1, seed=0):
        return write_phantoms(directory, cases=cases, seed=seed, shape=(12, 12, 8))

    monkeypatch.setattr(clickseg.phantom, "write_phantoms", write)


@pytest.mark.usefixtures("small_phantoms")
def test_phantoms_are_written_and_their_paths_said(tmp_path, capsys):
    assert run("phantom", tmp_path / "study", "--cases", "2", "--seed", "3") == 0
    paths = capsys.readouterr().out.split()
    assert paths == [str(tmp_path / "study" / "imagesTr" / f"phantom_00{case}.nii.gz") for case in range(2)]
    assert all(read_volume(path)[0].shape == (12, 12, 8) for path in paths)
    assert run("phantom", tmp_path / "none", "--cases", "0") == 2


@pytest.mark.usefixtures("small_phantoms")
def test_a_phantom_that_lies_there_is_said_to_be_kept(tmp_path, capsys):
    assert run("phantom", tmp_path) == 0
    assert capsys.readouterr().err == ""
    image = tmp_path / "imagesTr" / "phantom_000.nii.gz"
    before = image.read_bytes()
    assert run("phantom", tmp_path, "--seed", "5", "--cases", "2") == 0
    said = "kept what lay there, whatever the seed: phantom_000.nii.gz; another patient needs another folder"
    assert capsys.readouterr().err == f"clickseg phantom: {said}\n"
    assert image.read_bytes() == before


class Replaced(Exception):
    """This process would now be the server."""


@pytest.fixture
def server(monkeypatch):
    """The command line that the server is started with, without starting it."""
    started = []

    def execve(program, command, environment):
        started.append((program, command, environment))
        raise Replaced

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setattr("clickseg.archive.check_port", lambda who, host, port: None)  # 8000 may be taken
    monkeypatch.setenv("MONAI_LABEL_TRACKING_ENABLED", "")
    return started


def options_of(command):
    return {name: command[index + 1] for index, name in enumerate(command) if name.startswith("--")}


def test_a_folder_is_served_on_this_machine_only(server, repository, tmp_path):
    with pytest.raises(Replaced):
        run("serve", "--studies", tmp_path)
    ((program, command, environment),) = server
    assert program == command[0] == sys.executable
    assert environment["GOMP_SPINCOUNT"] == "10000"
    assert command[1:4] == ["-m", "monailabel.main", "start_server"]
    assert options_of(command) == {
        "--app": str(repository / "apps/clickseg"),
        "--studies": str(tmp_path),
        "--host": "127.0.0.1",
        "--port": "8000",
    }


def test_host_port_and_settings_are_passed_on(server, tmp_path):
    with pytest.raises(Replaced):
        run("serve", "--studies", tmp_path, "--host", "0.0.0.0", "--port", "8001", "--conf", "models", "unet2d")
    command = server[0][1]
    assert (options_of(command)["--host"], options_of(command)["--port"]) == ("0.0.0.0", "8001")
    assert command[-3:] == ["--conf", "models", "unet2d"]


def test_a_dicomweb_server_is_no_folder(server):
    with pytest.raises(Replaced):
        run("serve", "--studies", "http://127.0.0.1:8042/dicom-web")
    assert options_of(server[0][1])["--studies"] == "http://127.0.0.1:8042/dicom-web"


@pytest.mark.usefixtures("small_phantoms")
def test_without_studies_a_phantom_is_served(server, tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    with pytest.raises(Replaced):
        run("serve")
    studies = options_of(server[0][1])["--studies"]
    assert studies.startswith(str(tmp_path))
    assert [path.name for path in sorted(os.scandir(studies), key=lambda entry: entry.name)] == ["phantom_000.nii.gz"]


@pytest.mark.parametrize("command", ["serve", "demo-ohif"])
def test_a_port_that_is_taken_is_said_at_once(command, capsys, monkeypatch):
    for start in ("os.execve", "clickseg.archive.orthanc"):
        monkeypatch.setattr(start, lambda *arguments: pytest.fail("this is started"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(command, "--port", port) == 2
    out, error = capsys.readouterr()
    assert error.startswith(f"clickseg {command}: the server cannot have port {port} of 127.0.0.1: ")
    assert out == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [("models", "foo"), ("models", " , "), ("models", "")]
    + [(name, value) for name in ("cache_gb", "upload_gb") for value in ("x", "-1", "nan", "inf", "")],
)
def test_a_setting_that_the_app_would_refuse_is_refused_at_once(server, tmp_path, capsys, name, value):
    assert run("serve", "--studies", tmp_path, "--conf", name, value) == 2
    assert capsys.readouterr().err.startswith(f"clickseg serve: --conf {name} {value}: ")
    assert server == []


def test_a_setting_with_a_comma_too_many_is_served(server, tmp_path):
    with pytest.raises(Replaced):
        run("serve", "--studies", tmp_path, "--conf", "models", "tis,")


def test_a_setting_that_nobody_knows_is_refused_with_those_that_are_known(server, tmp_path, capsys):
    assert run("serve", "--studies", tmp_path, "--conf", "model", "all") == 2
    assert (
        "--conf model: there is no such setting; known: models, cache_gb, upload_gb, auth_token, "
        in capsys.readouterr().err
    )
    with pytest.raises(Replaced):
        run("serve", "--studies", tmp_path, "--conf", "server_mode", "true")


def test_a_folder_that_is_not_there_is_not_served(server, capsys):
    assert run("serve", "--studies", "nowhere/at/all") == 2
    assert "--studies: no folder nowhere/at/all" in capsys.readouterr().err
    assert server == []


@pytest.mark.parametrize("command", ["evaluate", "train", "plan"])
def test_a_place_that_cannot_be_written_is_said_before_the_work(phantom_study, tmp_path, capsys, command):
    (tmp_path / "file").write_text("")
    output = tmp_path / "file" / "r.json"
    assert run(command, "--data", phantom_study, "--output", output) == 2
    error = capsys.readouterr().err
    assert error.strip().splitlines()[-1].startswith(f"clickseg {command}: ")
    assert str(tmp_path / "file") in error


@pytest.mark.parametrize("port", ["0", "-1", "65536", "99999", "http"])
@pytest.mark.parametrize("command", ["serve --port", "demo-ohif --port", "demo-ohif --archive-port"])
def test_a_port_that_is_none_is_refused_in_a_sentence(command, port, capsys):
    name, option = command.split()
    with pytest.raises(SystemExit) as left:
        run(name, f"{option}={port}")
    assert left.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"clickseg {name}: error: argument {option}: {port} is not a port (1 to 65535)"
