"""The experiment of Liu et al. 2022: its jobs, its players and its report."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from clickseg.cli import main
from clickseg.clicks import Click, stack_clicks
from clickseg.evaluation import open_player
from clickseg.experiments import Budget, TisDesign, plan_tis, write_tis_report
from clickseg.experiments.tis import ARMS, OURS
from clickseg.files import plain_name
from clickseg.methods import METHODS, TIS_BASELINES, load_model, save_weights
from clickseg.methods.deepedit import DeepeditRecipe
from clickseg.methods.tis import Tis, TisRecipe
from clickseg.phantom import LABELS

RECIPE = TisRecipe(
    labels=LABELS, spacing=16.0, patch=(16, 16, 8), width=4, tokens=8, heads=2, layers=2, steps_per_epoch=2, copies=1,
    max_clicks=2,
)  # fmt: skip


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(RECIPE.to_dict()))
    return str(path)


@pytest.fixture
def design(study, recipe_file):
    budget = Budget(epochs=1, limit=None)
    return TisDesign(study, ("phantom_000",), ("phantom_001",), budget, recipe_file, seeds=(0, 1))


def option(job, name):
    return job.command[job.command.index(name) + 1]


def test_every_refiner_is_trained_on_the_same_encoder_and_all_play_on_other_cases(design, tmp_path):
    jobs = {job.name: job for job in plan_tis(design, tmp_path / "out")}
    trained = [job for name, job in jobs.items() if name.startswith("train") and name != "train encoder"]
    assert len(trained) == 1 + len(ARMS)
    assert {option(job, "--init") for job in trained} == {str(tmp_path / "out/models/encoder/weights.pt")}
    assert {job.needs for job in trained} == {("train encoder",)}
    assert {option(job, "--cases") for job in jobs.values() if job.command[0] == "train"} == {"phantom_000"}
    assert {option(job, "--cache") for job in trained} == {str(tmp_path / "out/cache")}, "codes are made once for all"
    tests = [job for job in jobs.values() if job.command[0] == "evaluate"]
    assert len(tests) == 2 * (1 + len(ARMS) + len(TIS_BASELINES))
    assert {option(job, "--cases") for job in tests} == {"phantom_001"}
    assert {option(job, "--user") for job in tests} == {"liu"}
    assert {option(job, "--seed") for job in tests} == {"0", "1"}
    for baseline in TIS_BASELINES:
        assert "models/tis/" in option(jobs[f"test {baseline}_seed0"], "--weights")


def test_the_report_says_when_a_rival_had_less_training_than_the_encoder(design, tmp_path):
    given = replace(design, encoder=tmp_path / "given.pt", rivals=True)
    assert "not for as long as that encoder" in write_tis_report(given, [], tmp_path).read_text()
    assert "not for as long" not in write_tis_report(replace(design, rivals=True), [], tmp_path).read_text()


def test_a_rival_is_trained_as_long_as_both_stages_together(design, tmp_path):
    jobs = {job.name: job for job in plan_tis(replace(design, rivals=True), tmp_path / "out")}
    assert option(jobs["train deepedit"], "--epochs") == "2"
    assert option(jobs["train tis"], "--epochs") == option(jobs["train encoder"], "--epochs") == "1"
    given = replace(design, rivals=True, budget=replace(design.budget, rival_minutes=30))
    assert "for 30 minutes" in write_tis_report(given, [], tmp_path).read_text()
    assert option(jobs["test deepedit_seed1"], "--weights").endswith("models/deepedit/weights.pt")
    recipe = DeepeditRecipe.from_json(option(jobs["train deepedit"], "--recipe"))
    assert (recipe.patch, recipe.labels) == (RECIPE.patch, LABELS)


def test_a_given_encoder_is_not_trained_again(design, weights, tmp_path):
    given = TisDesign(design.data, design.train, design.test, design.budget, design.recipe, encoder=weights)
    jobs = {job.name: job for job in plan_tis(given, tmp_path / "out")}
    assert "train encoder" not in jobs
    alone = tmp_path / "out/encoder.pt"
    assert {option(jobs[f"train {plain_name(name)}"], "--init") for name in (OURS, *ARMS)} == {str(alone)}
    assert jobs["train tis"].needs == ()
    theirs, written = load_model(weights).segmenter.state_dict(), load_model(alone)
    kept = {name for name, tensor in written.segmenter.state_dict().items() if torch.equal(tensor, theirs[name])}
    assert {name for name in theirs if name.startswith("encoder.")} < kept
    assert "refiner.assigners.0.query.weight" not in kept, "what the file's refiner has learnt is not"
    before = alone.read_bytes()
    plan_tis(given, tmp_path / "out")
    assert alone.read_bytes() == before, "a resumed experiment finds the start that it had"


def test_an_encoder_is_not_tested_on_cases_that_it_has_learnt_from(design, study, tmp_path):
    def plan(**card):
        save_weights(tmp_path / "e.pt", METHODS["tis"].build(RECIPE), RECIPE, card)
        return plan_tis(replace(design, encoder=tmp_path / "e.pt"), tmp_path / "out")

    assert plan(data=study.name, cases=["phantom_000"])
    assert plan(data="other", cases=["phantom_001"]), "another data set's case of that name"
    with pytest.raises(ValueError, match=r"phantom_001: e\.pt has learnt from these cases, which cannot be tested on"):
        plan(data=study.name, cases=["phantom_000", "phantom_001"])


@pytest.mark.parametrize("seeds", [(), (0, 0), (0, -1)])
def test_seeds_are_different_numbers_from_zero_up(design, seeds):
    with pytest.raises(ValueError, match="seeds must be different numbers from 0 up"):
        replace(design, seeds=seeds)


@pytest.mark.parametrize(
    "changes",
    [*ARMS.values(), {"alike": "product"}, {"balance": "scalar"}, {"copy": False}, {"distance": False}],
    ids=str,
)
def test_a_refiner_of_another_design_starts_afresh_on_the_encoder_it_is_given(changes):
    torch.manual_seed(0)
    given = Tis(RECIPE).state_dict()
    arm = Tis(TisRecipe.from_dict({**RECIPE.to_dict(), "stage": "refiner", **changes}))
    begun = arm.refiner.state_dict()
    arm.load_state_dict(arm.adopt(given, RECIPE))
    for name, tensor in arm.refiner.state_dict().items():
        assert torch.equal(tensor, begun[name])
    for name, tensor in arm.encoder.state_dict().items():
        assert torch.equal(tensor, given[f"encoder.{name}"])


def test_cases_that_were_trained_on_cannot_be_tested_on(study):
    with pytest.raises(ValueError, match="phantom_000: cases to train on cannot be tested on"):
        TisDesign(study, ("phantom_000",), ("phantom_000",))


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "tis.pt"
    save_weights(path, METHODS["tis"].build(RECIPE), RECIPE)
    return path


@pytest.mark.parametrize("name", TIS_BASELINES)
def test_a_baseline_begins_with_the_automatic_segmentation_and_obeys_clicks(name, weights):
    player = open_player(name, weights).segmenter
    code = player.encode(torch.randn(2, 1, 16, 16, 8) * 50)
    nothing = player.decode(code, stack_clicks([[], []], 3))
    torch.testing.assert_close(nothing, player.automatic(code))
    clicked = player.decode(code, stack_clicks([[Click((4, 5, 6), 2), Click((9, 9, 3), 0)], [Click((1, 1, 1), 3)]], 3))
    found = clicked.argmax(1)
    assert (found[0, 4, 5, 6], found[0, 9, 9, 3], found[1, 1, 1, 1]) == (2, 0, 3)
    far = found[0, 12:, 12:].equal(nothing.argmax(1)[0, 12:, 12:])
    assert far or name == "tis_rule"


def test_a_painted_ball_has_its_radius_and_nothing_else_changes(weights):
    player = open_player("tis_ball", weights).segmenter
    code = player.encode(torch.randn(1, 1, 16, 16, 8) * 50)
    before = player.automatic(code).argmax(1)[0]
    after = player.decode(code, stack_clicks([[Click((8, 8, 4), 1)]], 3)).argmax(1)[0]
    axes = np.ogrid[:16, :16, :8]
    ball = torch.from_numpy((axes[0] - 8) ** 2 + (axes[1] - 8) ** 2 + (axes[2] - 4) ** 2 <= 4)
    assert (after[ball] == 1).all()
    assert torch.equal(after[~ball], before[~ball])


def test_an_evaluation_shows_what_each_click_was_an_answer_to(weights, study, tmp_path):
    command = ["evaluate", "--method", "tis", "--weights", str(weights), "--data", str(study), "--user", "liu"]
    assert main([*command, "--clicks", "0,1,2", "--output", str(tmp_path / "out")]) == 0
    for case in ("phantom_000", "phantom_001"):
        assert (tmp_path / f"out/overlay_{case}.png").stat().st_size > 10_000
    assert main([*command, "--clicks", "2", "--cases", "phantom_000", "--output", str(tmp_path / "one")]) == 0
    assert not list((tmp_path / "one").glob("overlay*")), "there is nothing to compare with"


def test_weights_of_another_method_are_not_taken_for_a_baselines(tiny_weights, tmp_path):
    tiny_weights(tmp_path / "unet.pt", {"liver": 1})
    with pytest.raises(ValueError, match="holds unet2d weights, not tis"):
        open_player("tis_ball", tmp_path / "unet.pt")


def write_made_report(folder, name, seed, at_zero, gain):
    """As if a player had won `gain` per click on two patients with two structures."""
    values = {str(clicks): {"dice": at_zero + gain * clicks + 0.002 * seed} for clicks in range(21)}
    labels = {"liver": values, "spleen": values}
    report = {"mean": values, "labels": labels, "cases": {"one": labels, "two": labels}}
    path = folder / "reports" / f"{name}_seed{seed}" / "report.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(report))


def test_the_report_sets_all_players_side_by_side_and_says_where_a_curve_falls(design, tmp_path):
    for seed in (0, 1):
        write_made_report(tmp_path, "tis", seed, 0.6, 0.01)
        write_made_report(tmp_path, "tis_ball", seed, 0.6, 0.002)
        write_made_report(tmp_path, "no_click_encoding", seed, 0.6, -0.001)
    for name in ("tis_seed0", "tis_ball_seed0"):
        (tmp_path / "reports" / name / "overlay_phantom_001.png").touch()
    text = write_tis_report(design, plan_tis(design, tmp_path), tmp_path).read_text()
    assert "![tis](reports/tis_seed0/overlay_phantom_001.png)" in text
    assert "(reports/tis_ball_seed0/overlay_phantom_001.png)" in text
    assert "| **tis** | 0.701 ± 0.001 | 0.701 ± 0.001 | 0.701 ± 0.001 |" in text
    assert "| a ball painted at each click | 10 | +0.0800 | no interval from fewer than 3 patients | 2 of 2 |" in text
    assert "tis: never" in text
    assert "no click encoding: after click 1, 2, 3" in text
    assert "| no click encoding | 0.596 ± 0.001 | 0.591 ± 0.001 |" in text
    assert "85.07±1.55" in text
    assert "- train tis" in text, "what was not run is named"
    assert (tmp_path / "figure2.png").stat().st_size > 10_000


@pytest.mark.slow  # twelve processes that train and test: four minutes
def test_the_whole_experiment_runs_and_is_resumed(study, recipe_file, tmp_path):
    command = ["experiment", "tis", "--data", str(study), "--output", str(tmp_path / "out"), "--test", "phantom_001"]
    options = ["--recipe", recipe_file, "--epochs-per-run", "1", "--seeds", "0", "--rivals"]
    assert main([*command, *options]) == 0
    text = (tmp_path / "out/report.md").read_text()
    assert "Not run yet" not in text
    assert "Table 2" in text
    assert main([*command, *options]) == 2, "it is not run over itself"
    assert main([*command, *options, "--resume"]) == 0
