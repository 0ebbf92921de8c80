import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from clickseg.cli import main
from clickseg.datasets import CaseFolder
from clickseg.labelled import collect, read_studies, value_names
from clickseg.methods import load_model, shipped_weights

SERVED = {"liver": 1, "spleen": 2}


@pytest.fixture
def studies(tmp_path):
    """A server's folder: a and b with labels that number their structures differently, c without one."""
    folder = tmp_path / "studies"
    (folder / "labels/final").mkdir(parents=True)
    for name in "abc":
        save(folder / f"{name}.nii.gz", np.arange(120))
    objects = {"c": {"image": {}, "labels": {}}}
    objects["a"] = label(folder, "a", [1, 2], ["tumour", "liver"])
    objects["b"] = label(folder, "b", [1], ["spleen"])
    (folder / "datastore_v2.json").write_text(json.dumps({"objects": objects}))
    return folder


def save(path, values):
    voxels = np.zeros((4, 5, 6), np.int16)
    voxels.flat[: len(values)] = values
    nib.save(nib.Nifti1Image(voxels, np.diag([1, 2, 3, 1])), path)


def label(folder, name, values, names):
    """A label map with these values, and what a server's list says of it: the values 1, 2, ... have these names."""
    save(folder / f"labels/final/{name}.nii.gz", values)
    info = {"label_info": [{"name": name, "idx": value} for value, name in enumerate(names, start=1)]}
    return {"image": {}, "labels": {"final": {"info": info, "ext": ".nii.gz"}}}


def first(path, count=3):
    return np.asarray(nib.load(path).dataobj).ravel()[:count].tolist()


def test_a_value_means_the_same_in_all_that_was_collected(studies, tmp_path, capsys):
    assert main(["collect", str(studies), "--output", str(tmp_path / "data")]) == 0
    folder = CaseFolder.read(tmp_path / "data")
    assert dict(folder.labels) == {"tumour": 1, "liver": 2, "spleen": 3}
    assert {case.id: first(case.label) for case in folder.cases} == {"a": [1, 2, 0], "b": [3, 0, 0]}
    said = capsys.readouterr().out
    assert "2 images; 1 without a label left out" in said
    assert "  2: liver, in 1 of them" in said


def test_labels_of_the_weights_that_learn_on_keep_their_values(studies, tmp_path):
    assert main(["collect", str(studies), "--output", str(tmp_path / "data"), "--init", "unet2d"]) == 0
    known = load_model(shipped_weights("unet2d")).recipe.labels
    folder = CaseFolder.read(tmp_path / "data")
    assert dict(folder.labels) == {**known, "tumour": 14}
    assert {case.id: first(case.label) for case in folder.cases} == {
        "a": [14, known["liver"], 0],
        "b": [known["spleen"], 0, 0],
    }
    load_model(shipped_weights("unet2d")).recipe.with_labels(folder.labels)  # a training takes them


def test_names_that_are_spelt_alike_are_one_label(studies, tmp_path):
    objects = {
        "a": label(studies, "a", [1, 2, 3], ["Spleen", "Right_Kidney", "_"]),
        "b": label(studies, "b", [1], ["spleen "]),
    }
    (studies / "datastore_v2.json").write_text(json.dumps({"objects": objects}))
    items, _ = read_studies(studies)
    assert collect(items, tmp_path / "data", {}) == {"Spleen": (1, 2), "Right_Kidney": (2, 1), "_": (3, 1)}
    found = collect(items, tmp_path / "more", {"spleen": 4, "right kidney": 5})
    assert found == {"spleen": (4, 2), "right kidney": (5, 1), "_": (6, 1)}


def test_what_is_saved_afterwards_does_not_change_what_was_collected(studies, tmp_path):
    collect(read_studies(studies)[0], tmp_path / "data", {})
    save(studies / "labels/final/b.nii.gz", [2, 2])
    assert first(tmp_path / "data/labelsTr/b.nii.gz") == [3, 0, 0]
    assert (tmp_path / "data/imagesTr/b.nii.gz").is_symlink()


def test_for_another_machine_images_are_copied_too(studies, tmp_path):
    assert main(["collect", str(studies), "--output", str(tmp_path / "data"), "--copy-images"]) == 0
    copies = [tmp_path / "data" / part / "a.nii.gz" for part in ("imagesTr", "labelsTr")]
    assert not any(copy.is_symlink() for copy in copies)
    assert copies[0].read_bytes() == (studies / "a.nii.gz").read_bytes()


def test_labels_that_no_server_has_listed_have_numbers_for_names(studies, tmp_path):
    (studies / "datastore_v2.json").unlink()
    assert collect(read_studies(studies)[0], tmp_path / "data", {}) == {"label 1": (1, 2), "label 2": (2, 1)}


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda studies: (studies.parent / "data").mkdir(), None),
        (lambda studies: save_something(studies.parent / "data"), "is there already: name a new folder"),
        (lambda studies: (studies / "datastore_v2.json").write_text("[]"), "is no list of a MONAI Label server"),
        (lambda studies: [file.unlink() for file in studies.glob("*.nii.gz")], "holds no images"),
        (lambda studies: [file.unlink() for file in studies.glob("labels/final/*")], "no labels to train on"),
        (lambda studies: cut(studies / "labels/final/b.nii.gz"), "b.nii.gz is not a readable NIfTI file"),
        (lambda studies: (studies / "a.nii").write_bytes(b""), "both of case a: remove one"),
    ],
)
def test_what_cannot_be_collected_is_refused_and_leaves_nothing(studies, tmp_path, capsys, spoil, sentence):
    spoil(studies)
    before = sorted(tmp_path.rglob("*"))
    status = main(["collect", str(studies), "--output", str(tmp_path / "data")])
    assert status == (2 if sentence else 0)
    if sentence:
        assert sentence in capsys.readouterr().err
        assert sorted(tmp_path.rglob("*")) == before


def save_something(folder):
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")


def cut(path: Path):
    path.write_bytes(path.read_bytes()[:-20])


def test_without_names_values_mean_what_the_server_served():
    assert value_names([1, 2], (), SERVED) == {1: "liver", 2: "spleen"}


def test_values_that_nobody_named_keep_their_number():
    assert value_names([2, 7], (), SERVED) == {2: "spleen", 7: "label 7"}


def test_names_go_by_their_index():
    names = [{"name": "right kidney", "idx": 2}, {"name": "left kidney", "idx": 3}]
    assert value_names([2], names, SERVED) == {2: "right kidney"}


def test_slicer_counts_segments_that_it_does_not_export():
    names = [{"name": "spleen", "idx": 2}, {"name": "tumour", "idx": 4}]  # background is 1, scribbles are 3
    assert value_names([1, 2], names, SERVED) == {1: "spleen", 2: "tumour"}


def test_slicer_counts_the_background_before_segments_that_the_user_has_added():
    organs = [{"name": name, "idx": idx} for idx, name in enumerate(("spleen", "liver"), start=1)]  # background is 3
    names = [*organs, {"name": "cyst", "idx": 4}, {"name": "tumour", "idx": 5}]
    assert value_names([2, 4], names, SERVED) == {2: "liver", 4: "tumour"}
    assert value_names([4], names, SERVED) == {4: "tumour"}


def test_numbers_that_slicer_would_not_send_are_taken_as_they_are():
    table = [{"name": "spleen", "idx": 1}, {"name": "left kidney", "idx": 3}, {"name": "liver", "idx": 6}]
    coloured = [{**item, "color": [1, 2, 3]} for item in table]
    assert value_names([1, 3], coloured, SERVED) == {1: "spleen", 3: "left kidney"}
    sparse = [*table[:2], {"name": "pancreas", "idx": 11}]
    assert value_names([1, 3], sparse, SERVED) == {1: "spleen", 3: "left kidney"}, "it leaves out three at most"


def test_names_without_numbers_are_counted_through():
    assert value_names([1, 2], [{"name": "cyst"}, {"name": "tumour"}], SERVED) == {1: "cyst", 2: "tumour"}


def test_the_number_zero_is_the_backgrounds_and_shifts_no_name():
    names = [{"name": "background", "idx": 0}, {"name": "left kidney", "idx": 3}, {"name": "liver", "idx": 5}]
    assert value_names([3], names, SERVED) == {3: "left kidney"}
    assert value_names([1, 2], [{"name": "background", "id": 0}, {"name": "cyst"}, {"name": "tumour"}], SERVED) == {
        1: "cyst",
        2: "tumour",
    }
    table = [{"name": name, "idx": idx} for idx, name in enumerate(("background", "spleen", "liver"))]
    assert value_names([1, 2], table, {}) == {1: "spleen", 2: "liver"}


def test_a_named_value_keeps_its_name_among_others_without():
    assert value_names([2, 6], [{"name": "liver", "idx": 6}], SERVED) == {2: "label 2", 6: "liver"}


@pytest.mark.parametrize("present", [[-1], [1, 300]])
def test_values_that_are_no_labels_are_refused(present):
    with pytest.raises(ValueError, match=r"only 0 \.\.\. 255"):
        value_names(present, (), SERVED)
