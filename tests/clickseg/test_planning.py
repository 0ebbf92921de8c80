"""Recipes of `tis` planned from the data."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from clickseg.cli import main
from clickseg.datasets import hold_out
from clickseg.methods import UNet2dRecipe
from clickseg.methods.tis import TisRecipe
from clickseg.phantom import LABELS, write_phantoms
from clickseg.planning import check_modality, plan_patch, plan_recipe, plan_spacing


def test_the_spacing_is_the_median_of_each_axis():
    assert plan_spacing(np.array([[1.0, 1.0, 2.0], [0.8, 1.2, 2.5], [0.9, 1.1, 1.5]])) == (0.9, 1.1, 2.0)


def test_an_axis_that_is_far_coarser_keeps_finer_steps_but_none_finer_than_the_others():
    coarse = np.array([[0.8, 0.8, step] for step in (2.5, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 2.5, 5.0)])
    assert plan_spacing(coarse) == (0.8, 0.8, 2.5)
    odd = np.array([[0.8, 0.8, step] for step in (0.2, 0.2, 5.0, 5.0, 5.0)])
    assert plan_spacing(odd) == (0.8, 0.8, 0.8)


@pytest.mark.parametrize(
    ("shape", "most", "patch"),
    [
        ((35.0, 51.0, 35.0), 10**6, (32, 48, 32)),
        ((35.0, 51.0, 35.0), 40_000, (32, 32, 32)),
        ((320.0, 240.0, 100.0), 128**3, (144, 144, 96)),
        ((5.0, 512.0, 512.0), 10**6, (8, 352, 352)),
        ((500.0, 500.0, 500.0), 512, (8, 8, 8)),
    ],
)
def test_a_patch_is_the_median_volume_or_what_of_it_the_budget_holds(shape, most, patch):
    assert plan_patch(shape, most) == patch
    assert np.prod(patch) <= most


def test_ct_is_clipped_to_what_its_labelled_voxels_hold(study):
    recipe = plan_recipe(study, 4096)
    low, high = recipe.window
    image = nib.load(study / "imagesTr/phantom_000.nii.gz")
    label = nib.load(study / "labelsTr/phantom_000.nii.gz").get_fdata()
    inside = image.get_fdata()[label > 0]
    assert low < recipe.mean < high
    assert np.percentile(inside, 5) > low
    assert np.percentile(inside, 95) < high
    assert recipe.labels == LABELS
    np.testing.assert_allclose(recipe.spacing, image.header.get_zooms(), rtol=1e-3)


def test_a_recipe_with_the_window_of_ct_is_refused_for_images_that_are_named_mr(study, tmp_path, capsys):
    shutil.copytree(study, tmp_path / "mr")
    content = json.loads((study / "dataset.json").read_text())
    (tmp_path / "mr/dataset.json").write_text(json.dumps(content | {"modality": {"0": "MR"}}))
    command = ["train", "--data", str(tmp_path / "mr"), "--output", str(tmp_path / "run"), "--epochs", "1"]
    assert main(command) == 2
    assert "are MR, and the recipe clips to the CT window (-125.0, 275.0): name a recipe" in capsys.readouterr().err
    check_modality(UNet2dRecipe(window=None), tmp_path / "mr")
    check_modality(UNet2dRecipe(modality="MR", window=(0.0, 900.0)), tmp_path / "mr")
    check_modality(UNet2dRecipe(), study)


def test_mr_is_standardised_volume_by_volume(study, tmp_path):
    shutil.copytree(study, tmp_path / "mr")
    content = json.loads((study / "dataset.json").read_text())
    (tmp_path / "mr/dataset.json").write_text(json.dumps(content | {"modality": {"0": "MRI"}}))
    recipe = plan_recipe(tmp_path / "mr", 4096)
    assert recipe.window is None
    assert recipe.modality == "MRI"


def test_the_command_writes_a_recipe_that_trains(study, tmp_path, capsys):
    path = tmp_path / "recipe.json"
    assert main(["plan", "--data", str(study), "--patch-voxels", "4096", "--output", str(path)]) == 0
    assert "spacing" in capsys.readouterr().out
    recipe = TisRecipe.from_json(path)
    assert np.prod(recipe.patch) <= 4096
    path.write_text(json.dumps(recipe.to_dict() | {"width": 4, "steps_per_epoch": 1}))
    learn = ["train", "--method", "tis", "--stage", "encoder", "--recipe", str(path), "--epochs", "1"]
    assert main([*learn, "--data", str(study), "--output", str(tmp_path / "run")]) == 0


def test_cases_that_are_held_out_are_drawn_by_the_seed_and_never_looked_at(tmp_path, capsys):
    write_phantoms(tmp_path / "data", cases=3, shape=(24, 24, 12))
    plan = ["plan", "--data", str(tmp_path / "data"), "--patch-voxels", "4096", "--hold-out", "1", "--output"]
    assert main([*plan, str(tmp_path / "one/recipe.json")]) == 0
    train, test = ((tmp_path / f"one/{name}.txt").read_text().split() for name in ("train", "test"))
    assert sorted(train + test) == ["phantom_000", "phantom_001", "phantom_002"]
    assert len(test) == 1
    (tmp_path / f"data/imagesTr/{test[0]}.nii.gz").write_bytes(b"nothing")
    assert main([*plan, str(tmp_path / "two/recipe.json")]) == 0
    for name in ("recipe.json", "train.txt", "test.txt"):
        assert (tmp_path / "two" / name).read_text() == (tmp_path / "one" / name).read_text()
    assert len({tuple(hold_out([*"abcdefgh"], 3, seed)[1]) for seed in range(9)}) > 1
    capsys.readouterr()
    plan[plan.index("1")] = "3"
    assert main([*plan, str(tmp_path / "three/recipe.json")]) == 2
    assert "3 of 3 cases cannot be held out" in capsys.readouterr().err


def test_a_plan_does_not_take_the_place_of_another(study, tmp_path, capsys):
    recipe, held = tmp_path / "recipe.json", tmp_path / "test.txt"
    command = ["plan", "--data", str(study), "--hold-out", "1", "--output", str(recipe), "--patch-voxels"]
    assert main([*command, "4096"]) == 0
    planned = recipe.read_bytes()
    assert main([*command, "4096"]) == 0, "the same again"
    assert main([*command, "1024"]) == 2
    assert f"{recipe} would be replaced by another" in capsys.readouterr().err
    assert recipe.read_bytes() == planned
    recipe.unlink()
    held.write_text("phantom_007\n")
    assert main([*command, "4096"]) == 2
    assert f"{held} would be replaced by another" in capsys.readouterr().err
    assert (held.read_text(), recipe.exists()) == ("phantom_007\n", False)


@pytest.mark.parametrize("name", ["train.txt", "test.txt", "recipe"])
def test_a_recipe_takes_the_place_of_no_list_of_cases(study, tmp_path, capsys, name):
    command = ["plan", "--data", str(study), "--hold-out", "1", "--output", str(tmp_path / name)]
    assert main(command) == 2
    assert capsys.readouterr().err == f"clickseg plan: --output must end in .json, got {tmp_path / name}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_budget_below_the_smallest_patch_is_refused(study, tmp_path, capsys):
    command = ["plan", "--data", str(study), "--patch-voxels", "100", "--output", str(tmp_path / "r.json")]
    assert main(command) == 2
    assert "512 voxels at least" in capsys.readouterr().err


def test_labels_without_a_single_voxel_are_refused(study, tmp_path, capsys):
    for kind in ("imagesTr", "labelsTr"):
        (tmp_path / kind).mkdir()
        stored = nib.load(study / kind / "phantom_000.nii.gz")
        values = np.asarray(stored.dataobj) * (kind == "imagesTr")
        nib.save(nib.Nifti1Image(values, stored.affine), tmp_path / kind / "phantom_000.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"1": "spleen"}, "modality": {"0": "CT"}}))
    assert main(["plan", "--data", str(tmp_path), "--output", str(tmp_path / "r.json")]) == 2
    assert "has one of the labels spleen" in capsys.readouterr().err
