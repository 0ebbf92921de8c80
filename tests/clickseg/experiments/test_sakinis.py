import dataclasses
import json

import pytest

from clickseg.cli import main
from clickseg.experiments import Budget, Design, plan_jobs, write_sakinis_report
from clickseg.experiments.sakinis import split_by_patient
from clickseg.experiments.summary import compare
from clickseg.methods import BASELINES, UNet2dRecipe, rivals_in
from clickseg.phantom import LABELS


@pytest.fixture
def design(four_patients):
    return Design(
        four_patients, Budget(epochs=1), folds=2, ks=(1, 5), unknown=four_patients, leave_out=("left kidney",)
    )


def test_every_patient_is_tested_once_and_never_by_a_network_that_has_seen_it():
    ids = [f"img{number:04d}" for number in range(11)]
    folds = split_by_patient(ids, 3, seed=1)
    assert sorted(case for fold in folds for case in fold) == ids
    assert sorted(map(len, folds)) == [3, 4, 4]
    assert folds == split_by_patient(list(reversed(ids)), 3, seed=1) != split_by_patient(ids, 3, seed=2)


def test_a_network_is_tested_on_the_patients_that_it_was_not_trained_on(design, option, tmp_path):
    jobs = {job.name: job for job in plan_jobs(design, tmp_path)}
    for fold in range(2):
        for k in (1, 5):
            train, test = jobs[f"train fold{fold}_k{k}"], jobs[f"test cv_fold{fold}_k{k}"]
            assert test.needs == (train.name,)
            trained, tested = set(option(train, "--cases").split(",")), set(option(test, "--cases").split(","))
            assert not trained & tested
            assert len(trained | tested) == 4
            recipe = UNet2dRecipe.from_json(option(train, "--recipe"))
            assert recipe.max_clicks == k


def test_the_left_out_organ_is_no_label_of_the_training_and_the_only_one_of_the_test(design, option, tmp_path):
    jobs = {job.name: job for job in plan_jobs(design, tmp_path)}
    recipe = UNet2dRecipe.from_json(option(jobs["train without_left_kidney"], "--recipe"))
    assert "left kidney" not in recipe.labels
    assert "right kidney" in recipe.labels
    test = jobs["test leftout_without_left_kidney"]
    value = LABELS["left kidney"]
    assert option(test, "--labels") == f"left kidney={value}", "its value, which the weights do not know"
    trained = set(option(jobs["train without_left_kidney"], "--cases").split(","))
    assert not trained & set(option(test, "--cases").split(","))


def test_only_networks_of_the_papers_k_meet_other_data_and_every_baseline_does(design, tmp_path):
    names = [job.name for job in plan_jobs(design, tmp_path)]
    assert [name for name in names if "unknown_fold" in name] == ["test unknown_fold0_k5", "test unknown_fold1_k5"]
    for baseline in BASELINES:
        assert f"test cv_fold0_{baseline}" in names
        assert f"test unknown_{baseline}" in names
    assert not any("known_fold" in name and "unknown" not in name for name in names)


def test_rivals_are_trained_and_tested_on_the_same_patients_when_they_are_asked_for(design, option, tmp_path):
    assert not any("automatic" in job.name for job in plan_jobs(design, tmp_path / "without"))
    jobs = {job.name: job for job in plan_jobs(dataclasses.replace(design, rivals=True), tmp_path)}
    for rival, method in rivals_in(2).items():
        for fold in range(2):
            train, test = jobs[f"train fold{fold}_{rival}"], jobs[f"test cv_fold{fold}_{rival}"]
            ours = jobs[f"train fold{fold}_k5"]
            assert option(train, "--cases") == option(ours, "--cases")
            assert option(train, "--epochs") == option(ours, "--epochs")
            assert test.needs == (train.name,)
            assert option(test, "--method") == option(train, "--method") == rival
            recipe = method.recipe.from_json(option(train, "--recipe"))
            assert recipe.labels == UNet2dRecipe.from_json(option(ours, "--recipe")).labels
    automatic = rivals_in(2)["automatic"].recipe.from_json(option(jobs["train fold0_automatic"], "--recipe"))
    assert automatic.max_clicks == 0


def test_a_rival_whose_steps_cost_more_is_given_minutes(design, option, tmp_path):
    budget = dataclasses.replace(design.budget, rival_minutes=4.5)
    jobs = {job.name: job for job in plan_jobs(dataclasses.replace(design, rivals=True, budget=budget), tmp_path)}
    assert option(jobs["train fold0_deepgrow"], "--minutes") == "4.5"
    assert "--epochs" not in jobs["train fold0_deepgrow"].command
    assert option(jobs["train fold0_k5"], "--epochs") == str(budget.epochs)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"epochs": None, "minutes": -1.0}, {"rival_minutes": 0.0}])
def test_a_training_of_no_length_is_refused_before_anything_is_run(wrong):
    with pytest.raises(ValueError, match="must be more than 0"):
        Budget(**wrong)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"folds": 1}, "folds"),
        ({"ks": ()}, "K must be"),
        ({"ks": (0, 5)}, "K must be"),
        ({"leave_out": ("liver", "liver")}, "organs to leave out must be different ones, got liver, liver"),
    ],
)
def test_a_design_that_makes_no_sense_is_refused(design, wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(design, **wrong)


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": -5}, {"elsewhere": 0}])
def test_a_test_of_no_slices_is_refused_before_anything_is_run(wrong):
    with pytest.raises(ValueError, match="at least 1 slice per structure, got a limit of"):
        Budget(**wrong)


@pytest.mark.parametrize("kind", ["known", "unknown"])
def test_another_data_set_that_is_not_there_is_said_before_anything_is_run(design, tmp_path, kind):
    with pytest.raises(ValueError, match="nowhere is not a data folder"):
        plan_jobs(dataclasses.replace(design, **{kind: tmp_path / "nowhere"}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_training_is_as_long_as_its_epochs_or_its_minutes():
    assert "3 minutes per training" in str(Budget(epochs=None, minutes=3.0))
    assert "1 epoch per training" in str(Budget(epochs=1))
    with pytest.raises(ValueError, match="either epochs or minutes"):
        Budget(epochs=2, minutes=3.0)


def test_an_organ_that_is_not_there_cannot_be_left_out(design, tmp_path):
    with pytest.raises(ValueError, match="cannot leave out unicorn"):
        plan_jobs(dataclasses.replace(design, leave_out=("unicorn",)), tmp_path)


def test_more_folds_than_patients_end_in_a_sentence(four_patients, tmp_path, capsys):
    command = ["experiment", "sakinis", "--data", str(four_patients), "--output", str(tmp_path), "--folds", "9"]
    assert main(command) == 2
    assert "4 cases cannot make 9 folds" in capsys.readouterr().err


def test_the_report_sets_the_papers_figures_beside_ours_and_names_what_was_not_run(design, a_report, tmp_path):
    jobs = plan_jobs(design, tmp_path)
    reports = tmp_path / "reports"
    for fold, cases in enumerate((("a", "b"), ("c", "d"))):
        a_report(reports, f"cv_fold{fold}_k1", "unet2d", cases, 0.5, rise=0)
        a_report(reports, f"cv_fold{fold}_k5", "unet2d", cases, 0.7)
        a_report(reports, f"cv_fold{fold}_disc", "disc", cases, 0.3)
    a_report(reports, "unknown_fold0_k5", "unet2d", ("x",), 0.4)
    text = write_sakinis_report(design, jobs, tmp_path).read_text()
    assert "**yes**: i)" in text
    assert "| Sakinis et al. 2019 | 0.940 | 7.369 | 0.254 |" in text
    assert "| 0.978 | 4.785 | 0.177 |" in text
    assert "| paper: colon cancer (MSD) | 0.64 | 0.72 | 0.81 | 0.87 | 0.89 |" in text
    assert "4/4" in text  # patients won against the disc
    assert "- train without_left_kidney" in text.split("## Not run yet")[1]
    for number in "45678":
        assert (tmp_path / f"figure{number}.png").stat().st_size > 5000


def test_a_report_of_nothing_says_what_was_not_run(design, tmp_path):
    text = write_sakinis_report(design, plan_jobs(design, tmp_path), tmp_path).read_text()
    assert "- train fold0_k1" in text


def test_a_comparison_is_paired_by_patient():
    ours = {"a": 0.9, "b": 0.5, "c": 0.7, "ours alone": 0.0}
    theirs = {"a": 0.8, "b": 0.4, "c": 0.6, "theirs alone": 1.0}
    pair = compare(ours, theirs)
    assert (pair.difference, pair.low, pair.high) == (pytest.approx(0.1), pytest.approx(0.1), pytest.approx(0.1))
    assert (pair.won, pair.patients) == (3, 3)
    assert pair.interval() == "+0.100 to +0.100"
    with pytest.raises(ValueError, match="no patient in common"):
        compare({"a": 1.0}, {"b": 1.0})


def test_a_comparison_of_two_patients_has_no_interval():
    pair = compare({"a": 0.9, "b": 0.5}, {"a": 0.8, "b": 0.4})
    assert pair.difference == pytest.approx(0.1)
    assert pair.interval() == "no interval from fewer than 3 patients"


@pytest.mark.slow
def test_the_whole_experiment_runs_and_resumes(four_patients, tmp_path):
    small = {"width": 2, "size": 16, "batch": 2, "steps_per_epoch": 2, "spacing": 16.0}
    (tmp_path / "recipe.json").write_text(json.dumps(small))
    command = ["experiment", "sakinis", "--data", str(four_patients), "--output", str(tmp_path / "out"), "--folds", "2"]
    command += ["--k", "1,2", "--recipe", str(tmp_path / "recipe.json"), "--epochs-per-run", "1", "--limit", "2"]
    assert main(command) == 0
    text = (tmp_path / "out/report.md").read_text()
    assert "Not run yet" not in text
    assert "random_walker" in text
    before = (tmp_path / "out/models/fold0_k1/weights.pt").stat().st_mtime_ns
    assert main([*command, "--resume"]) == 0
    assert (tmp_path / "out/models/fold0_k1/weights.pt").stat().st_mtime_ns == before
