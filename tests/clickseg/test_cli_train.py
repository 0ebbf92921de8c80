"""What `clickseg train` and `import-nnunet` want to be told, and what they say of it."""

import json

import pytest

from clickseg import cli


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture
def trained(monkeypatch):
    """(method, recipe) of the trainings, which end before they begin."""
    asked = []

    class Trainer:
        def run(self):
            pass

    def build(method, recipe, cases, plan):
        asked.append((method, recipe))
        return Trainer()

    monkeypatch.setattr("clickseg.training.build_trainer", build)
    return asked


def test_which_stage_is_trained_is_said_where_nobody_has_named_one(study, tmp_path, trained, capsys):
    assert run("train", "--method", "tis", "--data", study, "--output", tmp_path / "mine") == 0
    assert trained[0][1].stage == "encoder"
    said = capsys.readouterr()
    assert said.out == (
        f"stage: the encoder of tis; the refiner follows with --stage refiner --init {tmp_path / 'mine/weights.pt'}\n"
    )
    assert said.err == "", "where the server looks for what was wrong"


def test_a_recipe_that_names_the_refiner_is_said_to_train_it(study, tmp_path, trained, capsys):
    (tmp_path / "recipe.json").write_text(json.dumps({"stage": "refiner"}))
    options = ["--recipe", tmp_path / "recipe.json", "--output", tmp_path / "mine"]
    assert run("train", "--method", "tis", "--data", study, *options) == 0
    assert trained[0][1].stage == "refiner"
    assert capsys.readouterr().out == "stage: the refiner of tis\n"


@pytest.mark.parametrize("method", [["tis", "--stage", "encoder"], ["unet2d"], ["deepedit"]], ids=" ".join)
def test_nothing_is_said_of_stages_that_were_named_or_are_none(study, tmp_path, trained, capsys, method):
    assert run("train", "--method", *method, "--data", study, "--output", tmp_path / "mine") == 0
    assert trained
    assert capsys.readouterr() == ("", "")


def test_one_of_several_processes_says_it(study, tmp_path, trained, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert run("train", "--method", "tis", "--data", study, "--output", tmp_path / "mine") == 0
    assert trained
    assert capsys.readouterr() == ("", "")


def test_whoever_imports_from_nnunet_must_say_how_the_axes_run(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        run("import-nnunet", tmp_path, "--output", tmp_path / "tis_mine.pt")
    assert left.value.code == 2
    assert "the following arguments are required: --orientation" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("import-nnunet", "--help")
    assert "nibabel.aff2axcodes" in capsys.readouterr().out
