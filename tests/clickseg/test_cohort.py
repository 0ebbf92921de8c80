"""`clickseg predict` of a folder of images."""

import csv
import dataclasses
import gc
import json
import shutil
import weakref

import nibabel as nib
import numpy as np
import pydicom
import pytest

from clickseg import cli, cohort
from clickseg.cohort import Predictions, label_volumes
from clickseg.images import read_grid, read_volume
from clickseg.methods import load_model
from clickseg.phantom import phantom
from clickseg.phantom.dicom import phantom_series
from clickseg.sources import find_images

LABELS = {"liver": 1, "spleen": 4}
SHAPE = (24, 24, 12)


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def read(path):
    return np.asarray(nib.load(path).dataobj)


def table(folder):
    with (folder / "volumes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def images(study, tmp_path):
    """A folder of two images, a and b, and of something that is none."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate("ab"):
        shutil.copy(study / f"imagesTr/phantom_{number:03}.nii.gz", folder / f"{name}.nii.gz")
    (folder / "dataset.json").write_text("{}")
    return folder


@pytest.fixture
def series(tmp_path):
    """A folder of two folders of DICOM series."""
    for number, name in enumerate(("first", "second")):
        folder = tmp_path / "series" / name
        folder.mkdir(parents=True)
        for place, content in enumerate(phantom_series(phantom(seed=number, shape=SHAPE), number)):
            (folder / f"{place:02}.dcm").write_bytes(content)
    return tmp_path / "series"


@pytest.fixture
def predict(tis):
    """predict(images, output, *more) -> exit status."""
    return lambda images, output, *more: run("predict", images, "--weights", tis, "--output", output, *more)


@pytest.fixture
def opened(monkeypatch):
    """Names of the images that are predicted."""
    names, original = [], cohort.predict_image

    def predict_image(image, *given):
        names.append(getattr(image, "name", image))
        return original(image, *given)

    monkeypatch.setattr(cohort, "predict_image", predict_image)
    return names


def test_every_image_of_a_folder_gets_the_label_map_that_it_gets_alone(images, predict, tmp_path, capsys):
    assert predict(images, tmp_path / "new" / "out") == 0
    told = capsys.readouterr()
    for name in "ab":
        assert predict(images / f"{name}.nii.gz", tmp_path / "alone.nii.gz") == 0
        found = tmp_path / "new" / "out" / f"{name}.nii.gz"
        assert found.read_bytes() == (tmp_path / "alone.nii.gz").read_bytes()
        assert read_grid(found).coincides(read_grid(images / f"{name}.nii.gz"))
    assert f"{tmp_path / 'new' / 'out'}: 2 label maps, 0 of them made before\n" in told.out
    assert "predicting: 100%" in told.err
    names = {path.name for path in (tmp_path / "new" / "out").iterdir()}
    assert names == {"a.nii.gz", "b.nii.gz", "predictions.json", "volumes.csv"}


def test_the_table_has_the_volume_of_every_label_in_every_image(images, predict, tmp_path):
    assert predict(images, tmp_path / "out") == 0
    rows = table(tmp_path / "out")
    assert [(row["id"], row["label"]) for row in rows] == [(name, label) for name in "ab" for label in LABELS]
    for row in rows:
        found, grid = read_volume(tmp_path / "out" / f"{row['id']}.nii.gz")
        voxels = int((found == LABELS[row["label"]]).sum())
        assert int(row["voxels"]) == voxels
        assert float(row["ml"]) == pytest.approx(voxels * np.prod(grid.spacing) / 1000, abs=1e-4)
    assert any(int(row["voxels"]) for row in rows)


def test_a_label_that_is_not_there_has_a_row_all_the_same(images):
    grid = read_grid(images / "a.nii.gz")
    assert label_volumes(np.zeros(grid.shape, np.uint8), LABELS, grid) == {"liver": (0, 0.0), "spleen": (0, 0.0)}


def test_the_number_of_nnunets_one_channel_is_no_part_of_a_name(images):
    for name in "ab":
        (images / f"{name}.nii.gz").rename(images / f"{name}_0000.nii.gz")
    assert list(find_images(images).by_id) == ["a", "b"]


@pytest.mark.parametrize("names", [("scan_0000", "scan_0001"), ("a_0000", "b"), ("_0000",)])
def test_a_number_that_is_no_channel_stays_in_the_name(tmp_path, names):
    for name in names:
        (tmp_path / f"{name}.nii.gz").touch()
    assert sorted(find_images(tmp_path).by_id) == sorted(names)


def test_hidden_files_and_what_is_no_image_are_passed_over(images):
    for name in (".a.nii.gz.part", ".hidden.nii.gz", "notes.txt", "volumes.csv"):
        (images / name).write_text("x")
    (images / ".cache").mkdir()
    assert list(find_images(images).by_id) == ["a", "b"]


def stopped_at(monkeypatch, name):
    """Somebody presses Ctrl-C when the label map of this image is about to be written."""
    original = Predictions.keep

    def keep(self, this, *given):
        if this == name:
            raise KeyboardInterrupt
        original(self, this, *given)

    monkeypatch.setattr(Predictions, "keep", keep)


def test_what_was_stopped_goes_on_by_the_same_command(images, predict, opened, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stopped_at(patch, "b")
        assert predict(images, tmp_path / "out") == 130
    assert capsys.readouterr().err.endswith("clickseg predict: stopped; the same command goes on\n")
    assert {row["id"] for row in table(tmp_path / "out")} == {"a"}
    first = (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns
    assert predict(images, tmp_path / "out") == 0
    assert opened == ["a.nii.gz", "b.nii.gz", "b.nii.gz"]
    assert (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns == first
    assert {row["id"] for row in table(tmp_path / "out")} == {"a", "b"}
    assert "2 label maps, 1 of them made before" in capsys.readouterr().out


def test_what_is_whole_is_not_predicted_again_unless_asked_for(images, predict, opened, tmp_path, capsys):
    for more in ((), (), ("--overwrite",)):
        assert predict(images, tmp_path / "out", *more) == 0
    assert opened == ["a.nii.gz", "b.nii.gz"] * 2
    assert [line for line in capsys.readouterr().out.splitlines() if "label maps" in line] == [
        f"{tmp_path / 'out'}: 2 label maps, {before} of them made before" for before in (0, 2, 0)
    ]


def test_a_label_map_that_was_removed_or_is_of_a_new_image_is_made(images, predict, opened, tmp_path):
    assert predict(images, tmp_path / "out") == 0
    (tmp_path / "out" / "a.nii.gz").unlink()
    shutil.copy(images / "a.nii.gz", images / "c.nii.gz")
    assert predict(images, tmp_path / "out") == 0
    assert opened == ["a.nii.gz", "b.nii.gz", "a.nii.gz", "c.nii.gz"]


def test_a_kill_between_label_map_and_table_costs_one_image(images, predict, opened, tmp_path, monkeypatch):
    original = Predictions._write

    def killed(self):
        if "a" in self._volumes:
            raise KeyboardInterrupt
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Predictions, "_write", killed)
        assert predict(images, tmp_path / "out") == 130
    assert (tmp_path / "out" / "a.nii.gz").exists()
    assert predict(images, tmp_path / "out") == 0
    assert opened == ["a.nii.gz", "a.nii.gz", "b.nii.gz"]


def test_an_image_that_cannot_be_read_does_not_stop_the_others(images, predict, tmp_path, capsys):
    (images / "aa.nii.gz").write_bytes((images / "a.nii.gz").read_bytes()[:5000])
    (images / "empty").mkdir()
    assert predict(images, tmp_path / "out") == 1
    told = capsys.readouterr()
    assert "2 label maps" in told.out
    *_, count, cut, empty = told.err.splitlines()
    assert count == "clickseg predict: 2 of 4 images have no label map"
    assert cut.startswith("  aa: aa.nii.gz is not a readable NIfTI file")
    assert empty.startswith(f"  empty: {images / 'empty'} holds no DICOM file")
    assert {row["id"] for row in table(tmp_path / "out")} == {"a", "b"}
    shutil.copy(images / "a.nii.gz", images / "aa.nii.gz")
    (images / "empty").rmdir()
    assert predict(images, tmp_path / "out") == 0


@pytest.mark.parametrize("error", [TypeError("odd"), PermissionError("not yours")])
def test_whatever_a_reader_stumbles_over_is_said_of_that_image_alone(
    images, predict, tmp_path, monkeypatch, capsys, error
):
    def stumble(path):
        if path.name == "a.nii.gz":
            raise error
        return read_volume(path)

    monkeypatch.setattr(cohort, "read_volume", stumble)
    assert predict(images, tmp_path / "out") == 1
    assert f"  a: a.nii.gz cannot be read: {error!r}" in capsys.readouterr().err
    assert (tmp_path / "out" / "b.nii.gz").exists()


def test_an_image_that_is_too_large_for_the_memory_does_not_stop_the_others(
    images, predict, tmp_path, monkeypatch, capsys
):
    original = cohort.VolumeSession.predict_labels
    answers = iter([RuntimeError("not enough memory: you tried to allocate 9 bytes"), None])

    def predict_labels(self, *given):
        error = next(answers)
        if error:
            raise error
        return original(self, *given)

    monkeypatch.setattr(cohort.VolumeSession, "predict_labels", predict_labels)
    assert predict(images, tmp_path / "out") == 1
    assert "  a: a.nii.gz could not be predicted: not enough memory" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_said_at_once(images, predict, opened, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert predict(images, tmp_path / "file") == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
    assert opened == []


def test_one_image_is_open_at_a_time(images, predict, tmp_path, monkeypatch):
    shutil.copy(images / "a.nii.gz", images / "c.nii.gz")
    sessions, alive = [], []

    class Watched(cohort.VolumeSession):
        def __init__(self, *given):
            alive.append(sum(session() is not None for session in sessions))
            super().__init__(*given)
            sessions.append(weakref.ref(self))

    monkeypatch.setattr(cohort, "VolumeSession", Watched)
    gc.disable()  # what goes only when somebody collects it may stay for long
    try:
        assert predict(images, tmp_path / "out") == 0
    finally:
        gc.enable()
    assert alive == [0, 0, 0]


def test_an_image_that_is_hardly_what_the_weights_are_for_is_named(images, predict, tmp_path, capsys):
    positive = nib.load(images / "b.nii.gz")
    nib.save(nib.Nifti1Image(np.abs(np.asarray(positive.dataobj)), positive.affine), images / "b.nii.gz")
    assert predict(images, tmp_path / "out") == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "clickseg predict: warning: b: the weights are for CT in HU" in warnings[0]


@pytest.mark.parametrize(
    "given",
    [
        ["--click", "1,2,3:liver"],
        ["--start", "draft.nii.gz"],
        ["--frozen", "liver"],
        ["--propagate"],
        ["--series", "1.2.3"],
        ["--ras"],
    ],
    ids=lambda given: given[0],
)
def test_what_is_for_one_image_is_refused_for_a_folder(images, predict, tmp_path, capsys, given):
    assert predict(images, tmp_path / "out", *given) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"clickseg predict: {given[0]}: for one image, whose --output ends in .nii, .nii.gz or .dcm")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", [["--overwrite"], ["--suffix", ".nii"]], ids=lambda given: given[0])
def test_what_is_for_a_folder_is_refused_for_one_image(images, predict, tmp_path, capsys, given):
    assert predict(images / "a.nii.gz", tmp_path / "a.nii.gz", *given) == 2
    assert f"{given[0]}: for a folder of images, and {tmp_path / 'a.nii.gz'} is a file" in capsys.readouterr().err
    assert not (tmp_path / "a.nii.gz").exists()


@pytest.mark.parametrize("named", [True, False])
def test_weights_that_need_clicks_are_refused_for_a_folder(images, weights, tmp_path, capsys, named):
    given = ["--weights", weights] if named else []
    assert run("predict", images, *given, "--output", tmp_path / "out") == 2
    assert capsys.readouterr().err == (
        "clickseg predict: weights of unet2d answer clicks alone, and a folder of images has none: name weights that "
        "answer by themselves (--weights tis_abdomen)\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_folder_of_images_is_told_how_it_is_predicted(images, predict, tmp_path, capsys):
    assert predict(images, tmp_path / "a.nii.gz") == 2
    assert "holds no DICOM file" in (said := capsys.readouterr().err)
    assert said.endswith("; to predict all images in it, name a folder as --output\n")


def test_a_folder_that_is_not_there_is_said(predict, tmp_path, capsys):
    assert predict(tmp_path / "nowhere", tmp_path / "out") == 2
    assert f"no image, and no folder of images, at {tmp_path / 'nowhere'}" in capsys.readouterr().err


def test_label_maps_of_other_weights_or_images_are_not_mixed(
    images, predict, opened, tis, tiny_tis_weights, tmp_path, capsys
):
    assert predict(images, tmp_path / "out") == 0
    before = (tmp_path / "out" / "predictions.json").read_bytes()
    others = shutil.copytree(images, tmp_path / "others")
    assert predict(others, tmp_path / "out") == 2
    assert "holds other predictions, with other images: name another" in capsys.readouterr().err
    assert predict(images, tmp_path / "out", "--suffix", ".nii") == 2
    assert "with other suffix:" in capsys.readouterr().err
    tiny_tis_weights(tmp_path / "tis.pt", dataclasses.replace(load_model(tis).recipe, width=3))
    assert run("predict", images, "--weights", tmp_path / "tis.pt", "--output", tmp_path / "out") == 2
    assert "with other weights_sha256:" in capsys.readouterr().err
    assert len(opened) == 2
    assert (tmp_path / "out" / "predictions.json").read_bytes() == before


def test_an_overwriting_that_was_stopped_goes_on_and_leaves_nothing_of_before(
    images, predict, opened, tmp_path, monkeypatch
):
    assert predict(images, tmp_path / "out") == 0
    others = shutil.copytree(images, tmp_path / "others")
    with monkeypatch.context() as patch:
        stopped_at(patch, "a")
        assert predict(others, tmp_path / "out", "--overwrite") == 130
    assert table(tmp_path / "out") == []
    assert predict(others, tmp_path / "out") == 0
    assert opened == [*["a.nii.gz", "b.nii.gz"], "a.nii.gz", *["a.nii.gz", "b.nii.gz"]]
    assert len(table(tmp_path / "out")) == 4


def test_of_an_image_that_cannot_be_overwritten_no_earlier_label_map_stays(images, predict, tmp_path):
    assert predict(images, tmp_path / "out") == 0
    (images / "a.nii.gz").write_bytes(b"damaged")
    assert predict(images, tmp_path / "out", "--overwrite") == 1
    assert not (tmp_path / "out" / "a.nii.gz").exists()
    assert {row["id"] for row in table(tmp_path / "out")} == {"b"}


@pytest.mark.parametrize("name", ["a.nii.gz", "volumes.csv"])
def test_files_of_others_are_neither_kept_nor_replaced(images, predict, opened, tmp_path, capsys, name):
    """Somebody names the folder of the labels."""
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / name).write_bytes(b"drawn by hand")
    assert predict(images, tmp_path / "labels") == 2
    assert f"{tmp_path / 'labels'} holds {name}, which was not made by this command" in capsys.readouterr().err
    assert (tmp_path / "labels" / name).read_bytes() == b"drawn by hand"
    assert opened == []


def test_a_file_of_somebody_else_beside_predictions_is_not_replaced(images, predict, tmp_path, capsys):
    assert predict(images, tmp_path / "out") == 0
    shutil.copy(images / "a.nii.gz", images / "c.nii.gz")
    (tmp_path / "out" / "c.nii.gz").write_bytes(b"drawn by hand")
    assert predict(images, tmp_path / "out") == 2
    assert "holds c.nii.gz, which was not made by this command" in capsys.readouterr().err
    assert (tmp_path / "out" / "c.nii.gz").read_bytes() == b"drawn by hand"


@pytest.mark.parametrize("content", ["{", "[]", '{"asked": 7}', '{"found": 7}'])
def test_a_damaged_list_of_predictions_is_said(images, predict, tmp_path, capsys, content):
    assert predict(images, tmp_path / "out") == 0
    state = tmp_path / "out" / "predictions.json"
    state.write_text(
        content if content[:2] != '{"' else json.dumps(json.loads(state.read_text()) | json.loads(content))
    )
    assert predict(images, tmp_path / "out") == 2
    assert f"{state} cannot be read: name another output folder" in capsys.readouterr().err


def test_a_folder_inside_the_images_is_not_written_to(images, predict, capsys):
    assert predict(images, images / "out") == 2
    assert f"{images / 'out'} would be written over {images}" in capsys.readouterr().err


def test_what_holds_no_images_says_what_is_needed(tmp_path):
    with pytest.raises(ValueError, match=r"holds no images: neither files that end in \.nii\.gz, .* nor folders"):
        find_images(tmp_path)
    for part in ("imagesTr", "labelsTr", "imagesTs"):
        (tmp_path / part).mkdir()
    with pytest.raises(ValueError, match=r"is a data folder: name the images in it, .*/imagesTs$"):
        find_images(tmp_path)


def test_two_images_of_one_name_are_refused(images):
    shutil.copy(images / "a.nii.gz", images / "a.nrrd")
    with pytest.raises(ValueError, match=r"has a.nii.gz and a.nrrd, both of image a: remove one"):
        find_images(images)


def test_a_series_whose_files_lie_in_the_folder_itself_is_predicted(series, predict, tmp_path):
    assert predict(series / "first", tmp_path / "out") == 0
    assert predict(series / "first", tmp_path / "alone.nii.gz") == 0
    np.testing.assert_array_equal(read(tmp_path / "out/series_1.nii.gz"), read(tmp_path / "alone.nii.gz"))


def test_all_series_of_a_tree_are_predicted_as_each_is_by_itself(write_ct, predict, tmp_path, capsys):
    tree = tmp_path / "tree"
    for seed, place in enumerate(("p1/st/a", "p1/st/b", "p1/c", "p2")):
        write_ct(tree / place, seed=seed, SeriesNumber=seed)
    write_ct(tree / "p2", slices=1, start=50, SeriesNumber=9, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_ct(tree / "p3", seed=8, SeriesNumber=3)
    write_ct(tree / "p3", seed=9, SeriesNumber=4, start=50)
    (tree / "viewer").mkdir()
    assert predict(tree, tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "  p2 (series 9, CT): a localizer\n" in said
    assert "  viewer: no DICOM file\n" in said
    assert "looking: 100%" in said
    names = {row["id"] for row in table(tmp_path / "out")}
    assert names == {"p1_st_a", "p1_st_b", "p1_c", "p2", "p3_3", "p3_4"}
    assert predict(tree / "p1/st/a", tmp_path / "alone.nii.gz") == 0
    np.testing.assert_array_equal(read(tmp_path / "out/p1_st_a.nii.gz"), read(tmp_path / "alone.nii.gz"))
    uid = str(pydicom.dcmread(tree / "p3/IM000050").SeriesInstanceUID)
    assert predict(tree / "p3", tmp_path / "alone.nii.gz", "--series", uid) == 0
    np.testing.assert_array_equal(read(tmp_path / "out/p3_4.nii.gz"), read(tmp_path / "alone.nii.gz"))


def test_the_series_of_a_tree_get_dicom_segmentations_of_their_own_files(write_ct, predict, opened, tmp_path):
    tree = tmp_path / "tree"
    for number in (3, 4):
        write_ct(tree, slices=12, seed=number, SeriesNumber=number, start=50 * number)
    assert predict(tree, tmp_path / "out", "--suffix", ".dcm") == 0
    for number in (3, 4):
        (referred,) = pydicom.dcmread(tmp_path / f"out/series_{number}.dcm").ReferencedSeriesSequence
        assert referred.SeriesInstanceUID == pydicom.dcmread(tree / f"IM{50 * number:06}").SeriesInstanceUID
    assert predict(tree, tmp_path / "out", "--suffix", ".dcm") == 0
    assert len(opened) == 2


def test_a_series_of_a_tree_that_cannot_be_read_does_not_stop_the_others(write_ct, predict, tmp_path, capsys):
    tree = tmp_path / "tree"
    write_ct(tree / "a/b")
    broken = write_ct(tree / "a/c") / "IM000003"
    broken.write_bytes(broken.read_bytes()[:-50])
    (tree / "lost/x").mkdir(parents=True)
    (tree / "lost/x/1.dcm").touch()
    assert predict(tree, tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "lost/x: files that are no readable DICOM images" in said
    assert "  a_c: " in said
    assert "IM000003. What they show would be missing" in said
    assert {row["id"] for row in table(tmp_path / "out")} == {"a_b"}
    shutil.rmtree(tree / "a/c")
    assert predict(tree, tmp_path / "out") == 1, "what may be a series is still not read"
    shutil.rmtree(tree / "lost")
    assert predict(tree, tmp_path / "out") == 0


def test_ids_of_a_tree_are_unique_whatever_folders_are_called(write_ct, tmp_path):
    places = ("a/b_c", "a_b/c", "x", "X/y", "x_Y")
    for seed, place in enumerate(places):
        write_ct(tmp_path / place, seed=seed)
    first = find_images(tmp_path).by_id
    assert len({name.casefold() for name in first}) == 5
    assert {"x", "x_Y"} <= set(first)
    assert find_images(tmp_path).by_id.keys() == first.keys()


def test_names_of_many_folders_fit_into_one_of_a_file(write_ct, tmp_path):
    write_ct(tmp_path / "/".join(["ü" * 60] * 3))
    (name,) = find_images(tmp_path).by_id
    assert len(name.encode()) <= 200


def test_folders_of_one_series_each_are_still_called_as_they_are_and_two_may_have_one_uid(write_ct, tmp_path):
    for number, name in enumerate(("first", "of the second", "third.1")):
        write_ct(tmp_path / name, seed=number, SeriesInstanceUID="1.2.3", StudyInstanceUID="1.2")
    write_ct(tmp_path / "lone slice", slices=1)
    write_ct(tmp_path / "nowhere", ImagePositionPatient=None)
    (tmp_path / "empty").mkdir()
    found = find_images(tmp_path)
    names = {"first", "of the second", "third.1", "lone slice", "nowhere", "empty"}
    assert found.by_id == {name: tmp_path / name for name in names}
    assert found.left_out == []


def test_a_folder_of_what_is_no_image_says_what_there_is(write_ct, tmp_path):
    write_ct(tmp_path / "p/scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    with pytest.raises(ValueError, match=r"What it holds instead:\n  p/scout \(series 1, CT\): a localizer$"):
        find_images(tmp_path)


def test_folders_of_dicom_series_get_a_label_map_each(series, predict, tmp_path):
    assert predict(series, tmp_path / "out") == 0
    for name in ("first", "second"):
        assert predict(series / name, tmp_path / "alone.nii.gz") == 0
        np.testing.assert_array_equal(read(tmp_path / "out" / f"{name}.nii.gz"), read(tmp_path / "alone.nii.gz"))


def test_folders_of_dicom_series_get_dicom_segmentations_if_asked_for(series, predict, opened, tmp_path):
    assert predict(series, tmp_path / "out", "--suffix", ".dcm") == 0
    for name in ("first", "second"):
        found = pydicom.dcmread(tmp_path / "out" / f"{name}.dcm")
        assert found.Modality == "SEG"
        (referred,) = found.ReferencedSeriesSequence
        assert referred.SeriesInstanceUID == pydicom.dcmread(series / name / "00.dcm").SeriesInstanceUID
        voxels = {row["label"]: int(row["voxels"]) for row in table(tmp_path / "out") if row["id"] == name}
        assert {segment.SegmentLabel for segment in found.SegmentSequence} == {
            n for n, count in voxels.items() if count
        }
        assert found.pixel_array.sum() == sum(voxels.values())
    assert predict(series, tmp_path / "out", "--suffix", ".dcm") == 0
    assert len(opened) == 2


def test_where_nothing_was_found_there_is_no_dicom_segmentation(series, predict, tmp_path, monkeypatch, capsys):
    original = cohort.predict_image
    empty = iter([True, False])

    def predict_image(*given):
        found = original(*given)
        found.labels[:] *= not next(empty)
        return found

    monkeypatch.setattr(cohort, "predict_image", predict_image)
    assert predict(series, tmp_path / "out", "--suffix", ".dcm") == 1
    assert "  first: the label map is empty, and a DICOM segmentation needs a voxel" in capsys.readouterr().err
    assert not (tmp_path / "out" / "first.dcm").exists()
    assert (tmp_path / "out" / "second.dcm").exists()


def test_dicom_segmentations_are_of_dicom_series_alone(images, predict, opened, tmp_path, capsys):
    assert predict(images, tmp_path / "out", "--suffix", ".dcm") == 2
    assert "a.nii.gz is no DICOM series, which a DICOM segmentation refers to" in capsys.readouterr().err
    assert opened == []
