import dataclasses

import pytest

from clickseg.datasets import CaseFolder, read_ids
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


def test_no_ids_are_refused():
    with pytest.raises(ValueError, match="no case ids"):
        read_ids(" , ")
