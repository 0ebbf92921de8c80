import dataclasses
import json

import pytest

from clickseg.cli import main
from clickseg.experiments import Budget, Examination, plan_examination, write_examination_report
from clickseg.experiments.weights import ASKED
from clickseg.methods import BASELINES, load_model, save_weights
from clickseg.phantom import write_phantoms

TESTED = ("phantom_000", "phantom_001")


@pytest.fixture
def design(four_patients, tiny_weights, tmp_path_factory):
    weights = tmp_path_factory.mktemp("mine") / "mine.pt"
    tiny_weights(weights, {"liver": 1})
    return Examination(four_patients, weights, TESTED, Budget(limit=3, elsewhere=5), unknown=four_patients)


def test_the_weights_and_every_baseline_play_the_same_slices_of_the_same_cases(design, option, tmp_path):
    jobs = {job.name: job for job in plan_examination(design, tmp_path)}
    for player in ("unet2d", *BASELINES):
        known, unknown = jobs[f"test known_{player}"], jobs[f"test unknown_{player}"]
        assert option(known, "--method") == option(unknown, "--method") == player
        assert option(known, "--cases") == ",".join(TESTED)
        assert "--cases" not in unknown.command
        assert option(known, "--seed") == option(unknown, "--seed") == "0"
        assert (option(known, "--limit"), option(unknown, "--limit")) == ("3", "5")
        assert option(known, "--clicks") == ",".join(map(str, range(16)))
        assert ("--weights" in known.command) == (player == "unet2d")


def test_nothing_is_trained_so_that_nothing_has_to_wait(design, tmp_path):
    assert all(not job.needs and job.command[0] == "evaluate" for job in plan_examination(design, tmp_path))


def test_clicks_to_a_wanted_overlap_are_counted_for_the_user_that_ritm_asks(design, option, tmp_path):
    jobs = {job.name: job for job in plan_examination(design, tmp_path)}
    assert option(jobs["test user_deterministic"], "--clicks").endswith(",20")
    assert option(jobs["test user_wrong"], "--clicks").endswith(",15")
    assert option(jobs["test user_wrong"], "--user") == "wrong"


def test_the_report_says_how_far_ahead_we_are_at_worst_and_whether_clicks_do_what_they_were_set_for(
    design, a_report, tmp_path
):
    jobs = plan_examination(design, tmp_path)
    reports = tmp_path / "reports"
    a_report(reports, "known_unet2d", "unet2d", ("a", "b", "c"), 0.7, asked=ASKED)
    a_report(reports, "known_disc", "disc", ("a", "b", "c"), 0.5, asked=ASKED)
    a_report(reports, "known_grabcut", "grabcut", ("a", "b", "c"), 0.9, rise=-0.01, asked=ASKED)
    a_report(reports, "user_wrong", "unet2d", ("a", "b", "c"), 0.6, asked=ASKED)
    text = write_examination_report(design, jobs, tmp_path).read_text()
    assert "| Sakinis et al. 2019 | 0.940 | 7.369 | 0.254 |" in text
    assert "the fewest patients won are 0 of 3" in text
    assert "the least end of an interval is -0.18" in text  # grabcut after one click: 0.71 against 0.89
    assert "falls at no click" in text
    assert "is right after it | 1.000 |" in text
    assert "more than 1 % | 0.500 |" in text
    assert "| `wrong` | control: one click in ten is wrong | 0.60" in text
    assert "An empty answer has no distance: 0 slices count in the Dice" in text
    assert "- test unknown_unet2d" in text.split("## Not run yet")[1]
    assert (tmp_path / "known.png").stat().st_size > 5000


def test_weights_are_not_examined_on_cases_that_they_have_learnt_from(design, four_patients, tmp_path):
    model = load_model(design.weights)
    card = {"learnt": {four_patients.name: ["phantom_001", "phantom_002"], "elsewhere": ["phantom_000"]}}
    save_weights(design.weights, model.segmenter, model.recipe, card)
    with pytest.raises(ValueError, match=r"phantom_001: mine\.pt has learnt from these cases"):
        plan_examination(design, tmp_path)
    with pytest.raises(ValueError, match=r"phantom_001, phantom_002: mine\.pt has learnt"):
        plan_examination(dataclasses.replace(design, cases=None), tmp_path)
    assert plan_examination(dataclasses.replace(design, cases=("phantom_000",)), tmp_path)


def test_users_are_different_ones(design):
    with pytest.raises(ValueError, match="users must be different ones, got liu, liu"):
        dataclasses.replace(design, users=("liu", "liu"))


def test_a_figure_that_is_undefined_is_a_dash_in_the_report(design, a_report, tmp_path):
    """As the distances are where every answer is empty."""
    a_report(tmp_path / "reports", "known_unet2d", "unet2d", ("a", "b", "c"), 0.5, asked=ASKED)
    path = tmp_path / "reports/known_unet2d/report.json"
    report = json.loads(path.read_text())
    for figures in report["mean"].values():
        figures["hd_mm"] = figures["mad_mm"] = None
    report["interval"]["1"]["dice"] = [None, None]
    path.write_text(json.dumps(report))
    text = write_examination_report(design, plan_examination(design, tmp_path), tmp_path).read_text()
    assert "| Hausdorff distance (mm) | - | - | - | - | - |" in text
    assert "nan" not in text
    assert "| 95 % interval, by bootstrap over patients | - | 0.5" in text


def test_the_report_has_no_row_of_intervals_where_patients_are_too_few(design, a_report, tmp_path):
    a_report(tmp_path / "reports", "known_unet2d", "unet2d", ("a", "b"), 0.5, asked=ASKED)
    text = write_examination_report(design, plan_examination(design, tmp_path), tmp_path).read_text()
    assert "| Dice | 0.5" in text
    assert "interval, by bootstrap" not in text


def test_a_mean_that_falls_is_not_hidden(design, a_report, tmp_path):
    a_report(tmp_path / "reports", "known_unet2d", "unet2d", ("a",), 0.9, rise=-0.02, asked=ASKED)
    text = write_examination_report(design, plan_examination(design, tmp_path), tmp_path).read_text()
    assert "falls at click 2, 3, 4" in text


def test_what_is_no_weights_file_is_said_before_anything_is_run(four_patients, tmp_path, capsys):
    (tmp_path / "mine.pt").write_bytes(b"no weights")
    command = ["experiment", "weights", "--data", str(four_patients), "--output", str(tmp_path / "out")]
    assert main([*command, "--weights", str(tmp_path / "mine.pt")]) == 2
    assert "mine.pt" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unknown_user_is_said_before_anything_is_run(four_patients, tmp_path, capsys):
    command = ["experiment", "weights", "--data", str(four_patients), "--output", str(tmp_path / "out")]
    assert main([*command, "--users", "static,nobody"]) == 2
    assert "unknown user 'nobody'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_shipped_weights_are_examined_on_the_phantom(tmp_path):
    write_phantoms(tmp_path / "data", cases=1, shape=(96, 80, 48))
    command = ["experiment", "weights", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "out")]
    assert main([*command, "--limit", "1", "--users", "static"]) == 0
    text = (tmp_path / "out/report.md").read_text()
    assert "Not run yet" not in text
    assert "random_walker" in text
    assert json.loads((tmp_path / "out/plan.json").read_text())
