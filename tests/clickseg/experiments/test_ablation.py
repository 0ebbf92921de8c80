import json

import pytest

from clickseg.cli import main
from clickseg.experiments import Ablation, Budget, parse_choice, plan_ablation, write_ablation_report
from clickseg.experiments.ablation import CHOICES
from clickseg.methods import UNet2dRecipe
from clickseg.phantom import write_phantoms


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patients")
    write_phantoms(folder, cases=3, shape=(24, 24, 16))
    return folder


@pytest.fixture
def design(patients):
    return Ablation(patients, ("phantom_002",), Budget(epochs=1))


def test_every_choice_is_one_recipe_that_differs_from_the_base_in_it_alone(design, tmp_path):
    jobs = {job.name: job for job in plan_ablation(design, tmp_path)}
    recipes = {name: json.loads((tmp_path / f"recipes/{name}.json").read_text()) for name in ("base", *CHOICES)}
    for name, changes in CHOICES.items():
        assert {f: v for f, v in recipes[name].items() if v != recipes["base"][f]} == changes
        assert jobs[f"test {name}"].needs == (f"train {name}",)


def test_the_cases_of_the_test_are_not_trained_on(design, tmp_path):
    train, test = plan_ablation(design, tmp_path)[:2]
    assert train.command[train.command.index("--cases") + 1] == "phantom_000,phantom_001"
    assert test.command[test.command.index("--cases") + 1] == "phantom_002"


def test_a_choice_is_read_as_json_or_as_a_word():
    assert parse_choice("reading=skip") == ("reading=skip", {"reading": "skip"})
    assert parse_choice("width=8,augment=false")[1] == {"width": 8, "augment": False}
    with pytest.raises(ValueError, match="field=value"):
        parse_choice("skip")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--vary", "colour=red"], "unknown recipe fields colour"),
        (["--vary", "width=0"], "width must be positive"),
        (["--test", "nobody"], "cases to test on: nobody"),
        (["--test", "phantom_000,phantom_001,phantom_002"], "no case is left to train on"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_sentence(patients, tmp_path, capsys, options, sentence):
    command = ["experiment", "ablation", "--data", str(patients), "--output", str(tmp_path / "out")]
    assert main([*command, "--test", "phantom_002", *options]) == 2
    assert sentence in capsys.readouterr().err


def test_the_report_names_what_was_not_run(design, tmp_path):
    text = write_ablation_report(design, plan_ablation(design, tmp_path), tmp_path).read_text()
    assert "- train reading=skip" in text


def test_the_report_has_dice_beside_the_base_and_the_clicks_that_were_obeyed(design, tmp_path):
    jobs = plan_ablation(design, tmp_path)
    for name, dice, obeyed in (("base", 0.8, 0.5), ("click_weight=1", 0.7, 0.9)):
        figures = {
            str(clicks): {"dice": dice, "obeyed": obeyed if clicks > 1 else None, "contained": None}
            for clicks in range(1, 16)
        }
        (tmp_path / "reports" / name).mkdir(parents=True)
        report = {"mean": figures, "cases": {"phantom_002": {"liver": figures}}}
        (tmp_path / "reports" / name / "report.json").write_text(json.dumps(report))
    rows = write_ablation_report(design, jobs, tmp_path).read_text().splitlines()
    assert any(row.startswith("| base | 0.800 |") and row.endswith("| 0.500 | - |") for row in rows)
    changed = next(row for row in rows if row.startswith("| click_weight=1 |"))
    assert changed.startswith("| click_weight=1 | 0.700 (no interval from fewer than 3 patients) |")
    assert "| 0.900 |" in changed


def test_the_base_is_the_recipe_that_is_asked_for(patients, tmp_path):
    plan_ablation(Ablation(patients, ("phantom_002",), recipe="paper", choices={}), tmp_path)
    assert UNet2dRecipe.from_json(tmp_path / "recipes/base.json").size == 512


def test_an_experiment_is_not_resumed_with_another_recipe(patients, tmp_path, capsys):
    command = ["experiment", "ablation", "--data", str(patients), "--output", str(tmp_path), "--test", "phantom_002"]
    (tmp_path / "recipe.json").write_text(json.dumps({"width": 4}))
    (tmp_path / "plan.json").write_text("{}")
    plan_ablation(
        Ablation(patients, ("phantom_002",), Budget(epochs=1), recipe=str(tmp_path / "recipe.json")), tmp_path
    )
    before = (tmp_path / "recipes/base.json").read_text()
    (tmp_path / "recipe.json").write_text(json.dumps({"width": 8, "seed": 1}))
    assert main([*command, "--recipe", str(tmp_path / "recipe.json"), "--epochs-per-run", "1", "--resume"]) == 2
    assert "another experiment: recipe base had other width, seed" in capsys.readouterr().err
    assert (tmp_path / "recipes/base.json").read_text() == before
