"""The bundle's configs, run as `python -m monai.bundle` runs them, and as MONAI Label reads them."""

import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, run, verify_metadata
from monai.utils import get_equivalent_dtype

from clickseg import cli
from clickseg.clicks import Click, stack_clicks
from clickseg.methods import UNet2dRecipe, load_model
from clickseg.sessions import SessionCache

NAME = "clickseg_deepgrow_unet2d"
CLICKS = {"foreground": [[24, 24, 12], [20, 30, 8]], "background": [[4, 4, 12]]}
TINY = {"width": 2, "size": 32, "batch": 2, "steps_per_epoch": 2, "spacing": 2.5, "mean": 50.0, "deviation": 80.0}


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch, tmp_path):
    """MONAI puts bundles on the import path; whatever a run writes without being told where must not land here."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def configs(repository):
    return repository / "bundles" / NAME / "configs"


@pytest.fixture
def weights(tmp_path, tiny_weights):
    tiny_weights(tmp_path / "weights.pt", {"liver": 1})
    return tmp_path / "weights.pt"


@pytest.fixture
def packed(repository, tmp_path, weights):
    """The bundle with weights inside, and a training that takes a second, as `pack-bundle` or a team might make it."""
    bundle = tmp_path / NAME
    shutil.copytree(repository / "bundles" / NAME, bundle)
    (bundle / "models").mkdir()
    shutil.copy(weights, bundle / "models" / "model.pt")
    path = bundle / "configs" / "train.json"
    config = json.loads(path.read_text())
    config["recipe"]["values"] |= TINY
    path.write_text(json.dumps(config))
    return bundle


def run_quietly(run_id, config, **overrides):
    run(run_id, config_file=str(config), logging_file=False, **overrides)


def tiny_training(data, output):
    fields = {f"recipe#values#{name}": value for name, value in TINY.items()}
    return {
        **fields,
        "dataset_dir": str(data),
        "output_dir": str(output),
        "device": "cpu",
        "train#trainer#max_epochs": 1,
    }


def epochs(output):
    return len((output / "log.csv").read_text().splitlines()) - 1


def study(folder, case):
    return folder / "imagesTr" / f"{case}.nii.gz"


def datalist(folder):
    return [
        {"image": str(path), "label": str(folder / "labelsTr" / path.name)}
        for path in sorted((folder / "imagesTr").glob("*.nii.gz"))
    ]


def test_metadata_is_verified_offline_by_what_the_schema_requires(configs, repository):
    schema = repository / "tests/bundles/metadata_schema.json"
    verify_metadata(meta_file=str(configs / "metadata.json"), filepath=str(schema))


def test_metadata_without_a_required_field_is_refused(configs, repository, tmp_path):
    metadata = json.loads((configs / "metadata.json").read_text())
    del metadata["network_data_format"]["outputs"]["pred"]["dtype"]
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match="Failed validating"):
        verify_metadata(
            meta_file=str(tmp_path / "metadata.json"),
            filepath=str(repository / "tests/bundles/metadata_schema.json"),
        )


def test_the_network_takes_and_gives_what_the_metadata_says(configs, weights):
    described = json.loads((configs / "metadata.json").read_text())["network_data_format"]
    image, clicks, pred = described["inputs"]["image"], described["inputs"]["clicks"], described["outputs"]["pred"]
    rows = stack_clicks([[Click((3, 4), 1)]], dimension=2)
    assert rows.shape[-1] == clicks["num_channels"]
    assert rows.dtype == get_equivalent_dtype(clicks["dtype"], torch.Tensor)
    parser = ConfigParser(json.loads((configs / "inference.json").read_text()))
    parser["weights"] = str(weights)
    shape = (1, image["num_channels"], 24, 20)
    logits = parser.get_parsed_content("network_def")(torch.zeros(shape), rows)
    assert logits.shape == (1, pred["num_channels"], 24, 20)
    assert logits.dtype == get_equivalent_dtype(pred["dtype"], torch.Tensor)
    assert len(image["spatial_shape"]) == len(pred["spatial_shape"]) == 2


def test_configs_hold_data_and_no_expressions(configs):
    expressions = {
        value for path in configs.glob("*.json") for value in re.findall(r'"(\$(?!schema)[^"]*)"', path.read_text())
    }
    assert expressions == {"$@train::trainer.run()"}


def test_the_bundle_holds_no_python(repository):
    assert not list((repository / "bundles").rglob("*.py"))


def test_the_licence_is_that_of_the_repository(repository):
    assert (repository / "bundles" / NAME / "LICENSE").read_text() == (repository / "LICENSE").read_text()


def test_the_configured_training_is_the_default_one(configs):
    parser = ConfigParser(json.loads((configs / "train.json").read_text()))
    recipe = parser.get_parsed_content("recipe")
    assert recipe == UNet2dRecipe()
    assert parser.get_parsed_content("train::click").user == recipe.user(recipe.spacing)


def test_run_training_trains_an_epoch(configs, phantom_study, tmp_path):
    run_quietly("training", configs / "train.json", **tiny_training(phantom_study, tmp_path / "run"))
    model = load_model(tmp_path / "run/weights.pt")
    assert epochs(tmp_path / "run") == 1
    assert sorted(*model.card["learnt"].values()) == ["phantom_000", "phantom_001"]
    assert "liver" in model.recipe.labels


def test_validation_cases_are_asked_and_logged(configs, phantom_study, tmp_path):
    asked = {"validate#dataset#data": datalist(phantom_study)[1:], "validate#validation#protocol#limit": 1}
    overrides = {**tiny_training(phantom_study, tmp_path / "run"), **asked, "train#trainer#validate_every": 1}
    run_quietly("training", configs / "train.json", **overrides)
    header, row = (line.split(",") for line in (tmp_path / "run/log.csv").read_text().split())
    figures = dict(zip(header, row, strict=True))
    assert all(0 <= float(figures[name]) <= 1 for name in ("dice@1", "dice@5", "dice@15"))


def test_run_inference_gives_the_mask_of_the_command_line(configs, phantom_study, weights, tmp_path):
    image = study(phantom_study, "phantom_000")
    run_quietly(
        "inference",
        configs / "inference.json",
        weights=str(weights),
        output_dir=str(tmp_path / "masks"),
        device="cpu",
        **{"dataset#data": [{"image": str(image), **CLICKS}]},
    )
    clicks = [["--click", f"{x},{y},{z}"] for x, y, z in CLICKS["foreground"]]
    clicks += [["--click", f"{x},{y},{z}:0"] for x, y, z in CLICKS["background"]]
    arguments = [str(image), *(word for pair in clicks for word in pair), "--weights", str(weights)]
    assert cli.main(["predict", *arguments, "--output", str(tmp_path / "cli.nii.gz")]) == 0
    bundled, typed = (nib.load(tmp_path / name) for name in ("masks/phantom_000_foreground.nii.gz", "cli.nii.gz"))
    assert np.asarray(typed.dataobj).any()
    np.testing.assert_array_equal(np.asarray(bundled.dataobj), np.asarray(typed.dataobj))
    np.testing.assert_allclose(bundled.affine, typed.affine)


def test_two_entries_for_one_structure_are_refused(configs, phantom_study, weights):
    entry = {"image": str(study(phantom_study, "phantom_000")), **CLICKS}
    with pytest.raises(RuntimeError) as refused:
        run_quietly("inference", configs / "inference.json", weights=str(weights), **{"dataset#data": [entry, entry]})
    assert "same structure of the same image" in str(refused.value.__cause__)


def test_run_evaluation_writes_the_report_of_the_command_line(configs, phantom_study, weights, tmp_path):
    run_quietly(
        "evaluation",
        configs / "evaluate.json",
        weights=str(weights),
        dataset_dir=str(phantom_study),
        output_dir=str(tmp_path / "bundle"),
        device="cpu",
        **{"protocol#clicks": [1, 2], "protocol#limit": 1},
    )
    arguments = ["--data", str(phantom_study), "--weights", str(weights), "--device", "cpu", "--limit", "1"]
    assert cli.main(["evaluate", *arguments, "--clicks", "1,2", "--output", str(tmp_path / "cli")]) == 0
    bundled, typed = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("bundle", "cli"))
    assert bundled["schema"] == 1
    assert bundled == typed


def test_a_packed_bundle_brings_its_own_weights(packed):
    parser = ConfigParser(json.loads((packed / "configs/inference.json").read_text()))
    parser["bundle_root"] = str(packed)
    assert parser.get_parsed_content("weights") == packed / "models/model.pt"


class Labelled:
    """What BundleTrainTask asks of a datastore."""

    def __init__(self, entries):
        self.entries = entries

    def datalist(self):
        return self.entries


def test_monai_label_trains_the_bundle_on_its_own_datalist_for_its_own_epochs(
    packed, phantom_study, tmp_path, monkeypatch
):
    bundle_train = pytest.importorskip("monailabel.tasks.train.bundle")
    monkeypatch.setattr(bundle_train.monai.bundle, "run", quiet(bundle_train.monai.bundle.run))
    task = bundle_train.BundleTrainTask(str(packed), {})
    assert task.is_valid()
    asked = {"model": NAME, "device": "cpu", "multi_gpu": False, "max_epochs": 2, "val_split": 0.5}
    task(asked, Labelled(datalist(phantom_study)))
    output = tmp_path / "runs" / NAME
    assert epochs(output) == 2
    assert list(load_model(output / "weights.pt").card["learnt"].values()) == [["phantom_000"]]


def test_monai_label_starts_training_from_the_weights_in_the_bundle(packed, phantom_study, tmp_path, monkeypatch):
    bundle_train = pytest.importorskip("monailabel.tasks.train.bundle")
    started = []
    monkeypatch.setattr(bundle_train.monai.bundle, "run", quiet(bundle_train.monai.bundle.run))
    monkeypatch.setattr(
        "clickseg.training.trainer.build_trainer", lambda *arguments: started.append(arguments[3]) or Finished()
    )
    asked = {"model": NAME, "device": "cpu", "multi_gpu": False, "max_epochs": 2, "pretrained": True}
    bundle_train.BundleTrainTask(str(packed), {})(asked, Labelled(datalist(phantom_study)))
    assert [Path(plan.init) for plan in started] == [packed / "models/model.pt"]


def test_a_training_goes_on_from_weights_as_they_were_made(packed, phantom_study, tmp_path, tiny_weights):
    made = {"width": 3, "spacing": 3.0, "feedback": True, "named": 0.5, "looks": 2, "overview": 4.0, "size": 32}
    tiny_weights(packed / "models/model.pt", {"spleen": 1, "liver": 2}, **made)
    config = json.loads((packed / "configs/train.json").read_text())
    config["recipe"]["values"] = {"batch": 2, "steps_per_epoch": 2}
    (packed / "configs/train.json").write_text(json.dumps(config))
    begin = {"train#handlers#0#load_path": str(packed / "models/model.pt"), "train#trainer#max_epochs": 1}
    where = {"dataset_dir": str(phantom_study), "output_dir": str(tmp_path / "run"), "device": "cpu"}
    run_quietly("training", packed / "configs/train.json", bundle_root=str(packed), **where, **begin)
    recipe = load_model(tmp_path / "run/weights.pt").recipe
    assert {name: getattr(recipe, name) for name in made} == made
    assert (recipe.batch, recipe.steps_per_epoch) == (2, 2)
    assert "liver" in recipe.labels


class Finished:
    def run(self):
        pass


def quiet(bundle_run):
    """A run that leaves the logging of the tests alone."""
    return lambda **arguments: bundle_run(**arguments, logging_file=False)


@pytest.fixture
def bundle_infer(monkeypatch):
    """MONAI Label's module, which imports two drawing functions of torchvision: there is no CPU build of it here."""
    try:
        import torchvision  # noqa: F401, TID251
    except (ImportError, RuntimeError):
        stub = types.ModuleType("torchvision.utils")
        stub.make_grid = stub.save_image = None
        monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
        monkeypatch.setitem(sys.modules, "torchvision.utils", stub)
    return pytest.importorskip("monailabel.tasks.infer.bundle")


def test_monai_label_serves_the_bundle_as_deepgrow_with_the_same_mask(bundle_infer, packed, weights, phantom_study):
    task = bundle_infer.BundleInferTask(str(packed), {})
    assert task.is_valid()
    assert task.info()["type"] == "deepgrow"
    assert task.info()["labels"] == {"foreground": 1}
    image = study(phantom_study, "phantom_000")
    path, _ = task(
        {"image": str(image), **CLICKS, "device": "cpu", "result_extension": ".nii.gz", "result_dtype": "uint8"}
    )
    served = nib.load(path)
    session = SessionCache().open(image, weights)
    clicks = [Click(tuple(p), 1) for p in CLICKS["foreground"]] + [Click(tuple(p), 0) for p in CLICKS["background"]]
    np.testing.assert_array_equal(np.asarray(served.dataobj), session.predict(clicks))
    np.testing.assert_allclose(served.affine, session.grid.affine, atol=1e-4)
    Path(path).unlink()


def test_torchrun_trains_the_bundle_in_two_processes_from_the_command_line(
    configs, repository, phantom_study, tmp_path
):
    options = tiny_training(phantom_study, tmp_path / "run")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command += ["monai.bundle", "run", "training", "--config_file"]
    command += [f"['{configs / 'train.json'}','{configs / 'multi_gpu_train.json'}']"]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    environment = {**os.environ, "PYTHONPATH": str(repository / "apps/clickseg"), "OMP_NUM_THREADS": "1"}
    environment["CUDA_VISIBLE_DEVICES"] = ""
    subprocess.run(command, env=environment, check=True, timeout=600)
    assert epochs(tmp_path / "run") == 1
