import dataclasses
import json
import shutil
import sys
from pathlib import Path

import nibabel as nib
import pytest

from clickseg.datasets import CaseFolder, read_ids
from clickseg.methods import UNet2dRecipe
from clickseg.phantom import LABELS
from clickseg.samples import open_slices


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


def as_nnunet_has_it(study, tmp_path, *channels):
    """A copy of a data folder, its images named after their channels."""
    data = copied(study, tmp_path)
    for image in sorted((data / "imagesTr").iterdir()):
        for channel in channels:
            shutil.copy(image, image.with_name(image.name.replace(".nii.gz", f"_{channel}.nii.gz")))
        image.unlink()
    return data


def test_images_that_are_named_after_their_one_channel_are_those_of_the_labels(study, tmp_path):
    data = as_nnunet_has_it(study, tmp_path, "0000")
    found, plain = CaseFolder.read(data), CaseFolder.read(study)
    assert [case.id for case in found.cases] == [case.id for case in plain.cases]
    assert [case.image.name for case in found.cases] == ["phantom_000_0000.nii.gz", "phantom_001_0000.nii.gz"]
    assert [case.label.name for case in found.cases] == [case.label.name for case in plain.cases]
    assert [case.id for case in CaseFolder.read(data, ["phantom_001"]).cases] == ["phantom_001"]
    (data / "labelsTr/phantom_001.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"phantom_001_0000\.nii\.gz has no label file .*phantom_001\.nii\.gz"):
        CaseFolder.read(data)


@pytest.mark.parametrize("channels", [("0000", "0001"), ("0001",)])
def test_of_several_channels_one_is_said_to_be_read(study, tmp_path, channels):
    with pytest.raises(ValueError, match="another channel of the case phantom_000: one channel is read"):
        CaseFolder.read(as_nnunet_has_it(study, tmp_path, *channels))


def test_a_number_at_the_end_of_a_name_is_no_channel_where_labels_have_it_too(study, tmp_path):
    data = copied(study, tmp_path)
    for path in [*(data / "imagesTr").iterdir(), *(data / "labelsTr").iterdir()]:
        path.rename(path.with_name(path.name.replace("phantom_", "phantom_0")))
    assert [case.id for case in CaseFolder.read(data).cases] == ["phantom_0000", "phantom_0001"]
    (data / "labelsTr/phantom_0001.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"phantom_0001\.nii\.gz has no label file .*phantom_0001\.nii\.gz"):
        CaseFolder.read(data)


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")
def test_cases_made_ready_hold_no_files_open(study, tmp_path):
    """A mapped array holds one, and a system allows 1,024, say: 256 cases and their codes."""
    store = open_slices(CaseFolder.read(study).cases, UNet2dRecipe(labels=LABELS), tmp_path, progress=False)
    label = store[0]["label"]
    opened = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.exists()]
    assert label.any()
    assert sum(str(tmp_path) in path for path in opened) <= 1


@pytest.mark.parametrize("name", ["nofile.txt", "runs/train"])
def test_a_file_of_ids_that_is_not_there_is_no_id(name):
    with pytest.raises(ValueError, match=f"there is no file {name}"):
        read_ids(name)
    assert read_ids("1.2.840.113619") == ["1.2.840.113619"]


def test_no_ids_are_refused():
    with pytest.raises(ValueError, match="no case ids"):
        read_ids(" , ")
