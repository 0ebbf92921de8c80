"""The examples of the documentation, as they stand there."""

import re
import shlex

import nibabel as nib
import numpy as np
import pytest

from clickseg import cli
from clickseg.methods import load_model, shipped_weights
from clickseg.metrics import dice
from clickseg.phantom import LABELS, write_phantoms

FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = "docs/python.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the examples run: beside the study that they work on."""
    folder = tmp_path_factory.mktemp("docs")
    write_phantoms(folder / "demo")
    return folder


@pytest.fixture
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def examples(repository, page, language):
    return [text for found, text in FENCED.findall((repository / page).read_text()) if found == language]


def truth(folder, name, number=None):
    found = np.asarray(nib.load(folder / "demo/labelsTr/phantom_000.nii.gz").dataobj) == LABELS[name]
    return found if number is None else found[:, :, number]


def written(folder, name):
    return np.asarray(nib.load(folder / name).dataobj)


def test_the_python_examples_run_and_do_what_is_said(repository, there):
    blocks = examples(repository, PAGE, "python")
    assert len(blocks) == 6
    for block in blocks:
        assert len(block.strip().splitlines()) <= 8
        exec(compile(block, PAGE, "exec"), {})
    assert dice(written(there, "left_kidney.nii.gz")[:, :, 45] > 0, truth(there, "left kidney", 45)) > 0.9
    labels, values = written(there, "labels.nii.gz")[:, :, 54], load_model(shipped_weights("unet2d")).recipe.labels
    for name in ("spleen", "aorta"):
        assert dice(labels == values[name], truth(there, name, 54)) > 0.9
    assert dice(written(there, "left_kidney_3d.nii.gz") > 0, truth(there, "left kidney")) > 0.9
    liver = load_model(shipped_weights("tis_abdomen")).recipe.labels["liver"]
    assert dice(written(there, "organs.nii.gz") == liver, truth(there, "liver")) > 0.9
    assert (there / "runs/report/report.json").exists()
    assert (there / "runs/mine/weights.pt").exists()


def test_the_commands_beside_them_do_the_same(repository, there):
    names = ("left_kidney.nii.gz", "labels.nii.gz", "left_kidney_3d.nii.gz", "organs.nii.gz")
    from_python = {name: written(there, name) for name in names if (there / name).exists()}
    for line in "".join(examples(repository, PAGE, "sh")).splitlines():
        program, *arguments = shlex.split(line)
        assert program == "clickseg"
        assert cli.main(arguments) == 0, line
    for name, mask in from_python.items():
        np.testing.assert_array_equal(written(there, name), mask)


def test_the_first_commands_of_the_readme_work(repository, there):
    lines = "".join(examples(repository, "README.md", "sh")).splitlines()
    commands = [line.removeprefix(".venv/bin/clickseg ") for line in lines if line.startswith(".venv/bin/clickseg ")]
    assert [command.split()[0] for command in commands] == ["phantom", "predict"]
    for command in commands:
        assert cli.main(shlex.split(command)) == 0
    assert dice(written(there, "mask.nii.gz")[:, :, 54] > 0, truth(there, "spleen", 54)) > 0.9


def test_what_the_package_offers_is_there_and_nothing_else():
    import clickseg

    assert all(getattr(clickseg, name) is not None for name in clickseg.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Sesion'"):
        clickseg.Sesion  # noqa: B018
