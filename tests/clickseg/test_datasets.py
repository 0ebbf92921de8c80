import dataclasses
import json
import shutil
import sys
from pathlib import Path

import nibabel as nib
import pytest

from clickseg.datasets import CaseFolder, open_slices, read_ids
from clickseg.methods import UNet2dRecipe
from clickseg.phantom import LABELS


def test_ids_are_listed_or_lie_in_a_file(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("img0001\nimg0002\n")
    assert read_ids(str(path)) == read_ids("img0001, img0002,") == ["img0001", "img0002"]
    assert read_ids(None) is None


def test_hundreds_of_ids_are_not_looked_up_as_one_path():
    ids = [f"hippocampus_{number:03d}" for number in range(400)]
    assert read_ids(",".join(ids)) == ids


def test_a_recipe_without_labels_gets_those_that_the_folder_names_and_else_those_that_are_found(study):
    named = CaseFolder.read(study)
    assert named.completed(UNet2dRecipe()).labels == LABELS
    nameless = dataclasses.replace(named, labels={})
    assert nameless.completed(UNet2dRecipe()).labels == {f"label {value}": value for value in LABELS.values()}


def test_names_that_were_only_found_contradict_no_recipe_and_names_of_the_folder_do(study):
    named, recipe = CaseFolder.read(study), UNet2dRecipe(labels={"tumour": 1, "cyst": 2})
    assert dataclasses.replace(named, labels={}).completed(recipe) is recipe
    with pytest.raises(ValueError, match="in the data and tumour in the recipe"):
        named.completed(recipe)


def copied(study, tmp_path):
    return Path(shutil.copytree(study, tmp_path / "copy"))


@pytest.mark.parametrize("folder", ["imagesTr", "labelsTr"])
def test_two_files_of_one_case_are_refused_instead_of_one_of_them_being_chosen(study, tmp_path, folder):
    data = copied(study, tmp_path)
    nib.save(nib.load(data / folder / "phantom_001.nii.gz"), data / folder / "phantom_001.nii")
    with pytest.raises(ValueError, match=r"phantom_001\.nii and phantom_001\.nii\.gz, both of case phantom_001"):
        CaseFolder.read(data)


def test_one_name_for_two_values_is_refused(study, tmp_path):
    data = copied(study, tmp_path)
    (data / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "spleen", "2": "spleen"}}))
    with pytest.raises(ValueError, match="gives the name spleen to two values"):
        CaseFolder.read(data)


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")
def test_cases_made_ready_hold_no_files_open(study, tmp_path):
    """A mapped array holds one, and a system allows 1,024, say: 256 cases and their codes."""
    store = open_slices(CaseFolder.read(study).cases, UNet2dRecipe(labels=LABELS), tmp_path, progress=False)
    label = store[0]["label"]
    opened = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.exists()]
    assert label.any()
    assert sum(str(tmp_path) in path for path in opened) <= 1


def test_no_ids_are_refused():
    with pytest.raises(ValueError, match="no case ids"):
        read_ids(" , ")
