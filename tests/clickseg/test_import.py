"""`clickseg import`: a tree of DICOM files as a folder of studies."""

import csv
import shutil

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from clickseg import cli, dicom_import
from clickseg.images import read_grid, read_volume

PATIENT = {
    "SpecificCharacterSet": "ISO_IR 192",
    "PatientName": "Müller^Hans",
    "PatientID": "4711",
    "PatientBirthDate": "19700325",
}
LOCALIZER = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}


def run(*arguments):
    return cli.main(["import", *map(str, arguments)])


def table(folder):
    with (folder / "studies.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def ids(folder):
    return sorted(path.name.removesuffix(".nii.gz") for path in folder.glob("*.nii.gz"))


@pytest.fixture
def tree(write_ct, tmp_path):
    """A tree of two series of one patient, 2 and 3."""
    for number in (2, 3):
        folder = tmp_path / "tree/patient/study" / str(number)
        write_ct(folder, seed=number, SeriesNumber=number, SeriesDescription=f"phase {number}", **PATIENT)
    return tmp_path / "tree"


@pytest.fixture
def studies(tmp_path):
    return tmp_path / "studies"


@pytest.fixture
def opened(monkeypatch):
    """Numbers of the series that are read."""
    numbers, original = [], dicom_import.read_slices

    def read_slices(slices, name):
        numbers.append(str(pydicom.dcmread(slices[0].file).SeriesNumber))
        return original(slices, name)

    monkeypatch.setattr(dicom_import, "read_slices", read_slices)
    return numbers


def test_each_series_becomes_an_image_of_the_same_values_in_the_same_place(tree, studies, capsys):
    assert run(tree, "--output", studies) == 0
    told = capsys.readouterr()
    assert told.out == (
        f"{studies}: 2 series as NIfTI images, 0 of them written before\n"
        f"{studies / 'studies.csv'}: what each of them is\n"
        f"clickseg serve --studies {studies}\n"
    )
    assert "looking: 100%" in told.err
    assert "writing: 100%" in told.err
    assert ids(studies) == ["4711_20240101_2", "4711_20240101_3"]
    for number in (2, 3):
        values, grid = read_volume(studies / f"4711_20240101_{number}.nii.gz")
        expected, expected_grid = read_volume(tree / "patient/study" / str(number))
        np.testing.assert_array_equal(values, expected)
        np.testing.assert_allclose(grid.affine, expected_grid.affine, atol=1e-5)


def test_values_are_hounsfield_units_and_voxels_lie_where_the_scanner_says(write_ct, studies, tmp_path):
    """By hand: LPS mm of voxel (i, j, k) are origin + 2 i row + 2 j column + 5 k normal, and NIfTI has RAS."""
    turned = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float)  # rows to the left, columns down, slices to the back
    write_ct(tmp_path / "ct", directions=turned, origin=(-7.0, 11.0, 30.0), RescaleSlope=2, RescaleIntercept=-1024)
    assert run(tmp_path / "ct", "--output", studies) == 0
    (path,) = studies.glob("*.nii.gz")
    image = nib.load(path)
    assert image.get_data_dtype() == np.int16
    assert image.header.get_xyzt_units()[0] == "mm"
    by_hand = [[-2, 0, 0, 7], [0, 0, -5, -11], [0, -2, 0, 30], [0, 0, 0, 1]]
    np.testing.assert_allclose(image.affine, by_hand, atol=1e-6)
    np.testing.assert_allclose(image.get_qform(), by_hand, atol=1e-6)
    values = np.asarray(image.dataobj)
    for number in (0, 5):
        stored = pydicom.dcmread(tmp_path / f"ct/IM{number:06}").pixel_array
        np.testing.assert_array_equal(values[:, :, number], 2 * stored.T.astype(int) - 1024)


def test_fractions_are_kept(write_ct, studies, tmp_path):
    write_ct(tmp_path / "pet", RescaleSlope="0.37", RescaleIntercept=0, Modality="PT")
    assert run(tmp_path / "pet", "--output", studies) == 0
    (path,) = studies.glob("*.nii.gz")
    assert nib.load(path).get_data_dtype() == np.float32
    np.testing.assert_allclose(np.asarray(nib.load(path).dataobj), read_volume(tmp_path / "pet")[0], rtol=1e-6)


def test_the_table_says_what_each_image_is(tree, studies):
    assert run(tree, "--output", studies) == 0
    first, second = table(studies)
    assert first == {
        "id": "4711_20240101_2",
        "SeriesInstanceUID": str(pydicom.dcmread(tree / "patient/study/2/IM000000").SeriesInstanceUID),
        "part": "",
        "modality": "CT",
        "description": "phase 2",
        "date": "2024-01-01",
        "shape": "12 x 10 x 6",
        "spacing": "2 x 2 x 5",
        "source": str(tree / "patient/study/2"),
        "left_out": "",
        "content": first["content"],
    }
    assert second["id"] == "4711_20240101_3"


def test_what_is_no_volume_is_left_out_with_the_reason_and_that_is_no_failure(tree, write_ct, studies, capsys):
    write_ct(tree / "patient/study/1", slices=1, SeriesNumber=1, SeriesDescription="scout", **LOCALIZER)
    write_ct(tree / "report", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR")
    assert run(tree, "--output", studies) == 0
    told = capsys.readouterr()
    assert "  patient/study/1 (series 1, CT, scout): a localizer\n" in told.err
    assert "  report (series 1, SR): no series of slices: Basic Text SR\n" in told.err
    assert "what each of them is, and what was left out" in told.out
    rows = [(row["description"], row["left_out"]) for row in table(studies) if not row["id"]]
    assert rows == [("scout", "a localizer"), ("", "no series of slices: Basic Text SR")]
    assert len(ids(studies)) == 2


def test_a_series_that_cannot_be_read_does_not_stop_the_others(tree, write_ct, studies, capsys):
    broken = write_ct(tree / "broken", SeriesNumber=4)
    (broken / "IM000002").write_bytes((broken / "IM000002").read_bytes()[:-50])
    write_ct(tree / "hole", slices=8, SeriesNumber=5)
    (tree / "hole/IM000003").unlink()
    assert run(tree, "--output", studies) == 1
    said = capsys.readouterr().err
    assert "clickseg import: 2 of 4 series have no image\n" in said
    assert "IM000002. What they show would be missing" in said
    assert ids(studies) == ["4711_20240101_2", "4711_20240101_3"]
    reasons = {row["source"]: row["left_out"] for row in table(studies) if not row["id"]}
    assert "IM000002" in reasons[str(broken)]
    assert "not evenly spaced" in reasons[str(tree / "hole")]


def test_files_that_are_of_no_series_and_damaged_are_a_failure(tree, studies, capsys):
    (tree / "lost").mkdir()
    (tree / "lost/1.dcm").write_bytes(b"")
    assert run(tree, "--output", studies) == 1
    assert "lost: files that are no readable DICOM images" in capsys.readouterr().err


def test_a_series_that_was_mended_is_written_and_its_reason_is_gone(tree, studies):
    file = tree / "patient/study/2/IM000002"
    content = file.read_bytes()
    file.write_bytes(content[:-50])
    assert run(tree, "--output", studies) == 1
    file.write_bytes(content)
    assert run(tree, "--output", studies) == 0
    assert [(row["id"], row["left_out"]) for row in table(studies)] == [
        ("4711_20240101_2", ""),
        ("4711_20240101_3", ""),
    ]


def test_whatever_a_reader_stumbles_over_is_said_of_that_series_alone(tree, studies, monkeypatch, capsys):
    original = dicom_import.read_slices

    def read_slices(files, name):
        if "phase 2" in name:
            raise TypeError("odd")
        return original(files, name)

    monkeypatch.setattr(dicom_import, "read_slices", read_slices)
    assert run(tree, "--output", studies) == 1
    assert "series 2, CT, phase 2 cannot be read: TypeError('odd')" in capsys.readouterr().err
    assert ids(studies) == ["4711_20240101_3"]


def stopped_in(monkeypatch, function):
    """Somebody presses Ctrl-C the second time that this is called."""
    original, calls = getattr(dicom_import, function), iter([False])

    def stopping(*given):
        if next(calls, True):
            raise KeyboardInterrupt
        return original(*given)

    monkeypatch.setattr(dicom_import, function, stopping)


@pytest.mark.parametrize("function", ["read_slices", "write_volume"])
def test_what_was_stopped_goes_on_by_the_same_command(tree, studies, opened, monkeypatch, capsys, function):
    with monkeypatch.context() as patch:
        stopped_in(patch, function)
        assert run(tree, "--output", studies) == 130
    assert capsys.readouterr().err.endswith("clickseg import: stopped; the same command goes on\n")
    first, second = table(studies)
    assert (first["left_out"], second["left_out"]) == ("", "the import was stopped")
    written = (studies / "4711_20240101_2.nii.gz").stat().st_mtime_ns
    del opened[:]
    assert run(tree, "--output", studies) == 0
    assert opened == ["3"]
    assert "2 series as NIfTI images, 1 of them written before" in capsys.readouterr().out
    assert (studies / "4711_20240101_2.nii.gz").stat().st_mtime_ns == written
    assert [row["left_out"] for row in table(studies)] == ["", ""]
    assert len(ids(studies)) == 2


def test_a_kill_between_image_and_table_leaves_no_second_image(tree, studies, monkeypatch):
    original = dicom_import.Studies.save

    def killed(self):
        if any(row["shape"] for row in self._rows):
            raise KeyboardInterrupt
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(dicom_import.Studies, "save", killed)
        assert run(tree, "--output", studies) == 130
    assert ids(studies) == ["4711_20240101_2"]
    assert run(tree, "--output", studies) == 0
    assert ids(studies) == ["4711_20240101_2", "4711_20240101_3"]


def test_an_image_that_was_removed_is_written_again(tree, studies, opened):
    assert run(tree, "--output", studies) == 0
    (studies / "4711_20240101_3.nii.gz").unlink()
    assert run(tree, "--output", studies) == 0
    assert opened == ["2", "3", "3"]


def test_files_that_were_copied_anew_leave_the_image_as_it_is(tree, studies, tmp_path):
    assert run(tree, "--output", studies) == 0
    before = {path.name: path.stat().st_mtime_ns for path in studies.glob("*.nii.gz")}
    tree.rename(tmp_path / "old")
    shutil.copytree(tmp_path / "old", tree, copy_function=shutil.copyfile)
    assert run(tree, "--output", studies) == 0
    assert {path.name: path.stat().st_mtime_ns for path in studies.glob("*.nii.gz")} == before


def changed(tree, write_ct):
    """Series 2 gets two further slices."""
    first = pydicom.dcmread(tree / "patient/study/2/IM000000")
    uids = {"SeriesInstanceUID": first.SeriesInstanceUID, "StudyInstanceUID": first.StudyInstanceUID}
    write_ct(tree / "patient/study/2", slices=2, start=50, origin=(0.0, 0.0, 30.0), SeriesNumber=2, **uids, **PATIENT)


def test_a_series_that_has_changed_is_written_anew_under_its_name(tree, write_ct, studies):
    assert run(tree, "--output", studies) == 0
    changed(tree, write_ct)
    assert run(tree, "--output", studies) == 0
    assert ids(studies) == ["4711_20240101_2", "4711_20240101_3"]
    assert read_grid(studies / "4711_20240101_2.nii.gz").shape == (12, 10, 8)
    assert table(studies)[0]["shape"] == "12 x 10 x 8"


def test_a_file_that_was_corrected_where_it_lies_is_noticed(tree, studies):
    assert run(tree, "--output", studies) == 0
    file = tree / "patient/study/2/IM000005"
    data = pydicom.dcmread(file)
    data.PixelData = bytes(len(data.PixelData))
    data.save_as(file)
    assert run(tree, "--output", studies) == 0
    values, _ = read_volume(studies / "4711_20240101_2.nii.gz")
    assert values[..., 4].any()
    assert not values[..., 5].any()


def test_an_image_with_labels_is_not_replaced(tree, write_ct, studies, tmp_path, capsys):
    assert run(tree, "--output", studies) == 0
    shutil.copytree(tree, tmp_path / "before")
    label = studies / "labels/final/4711_20240101_2.nii.gz"
    label.parent.mkdir(parents=True)
    label.write_bytes(b"drawn by hand")
    changed(tree, write_ct)
    assert run(tree, "--output", studies) == 1
    assert f"on which {label} lies: the old image is kept" in capsys.readouterr().err
    assert read_grid(studies / "4711_20240101_2.nii.gz").shape == (12, 10, 6)
    assert "the old image is kept" in table(studies)[0]["left_out"]
    shutil.rmtree(tree)
    (tmp_path / "before").rename(tree)
    assert run(tree, "--output", studies) == 0
    assert [row["left_out"] for row in table(studies)] == ["", ""]
    assert label.read_bytes() == b"drawn by hand"


def test_further_folders_are_added_and_what_was_imported_stays(tree, write_ct, studies, tmp_path):
    write_ct(tmp_path / "more/ct", SeriesNumber=8, **PATIENT)
    write_ct(tmp_path / "more/scout", SeriesNumber=9, **LOCALIZER)
    write_ct(tree / "scout", SeriesNumber=1, **LOCALIZER)
    assert run(tree, "--output", studies) == 0
    assert run(tmp_path / "more", "--output", studies) == 0
    assert ids(studies) == [f"4711_20240101_{number}" for number in (2, 3, 8)]
    assert [row["source"] for row in table(studies) if not row["id"]] == [
        str(tmp_path / "more/scout"),
        str(tree / "scout"),
    ]
    assert run(tree, tmp_path / "more", "--output", studies) == 0
    assert len(table(studies)) == 5


def test_series_of_one_name_get_names_of_their_own_that_stay(write_ct, studies, tmp_path):
    write_ct(tmp_path / "a/1", SeriesNumber=2, **PATIENT)
    assert run(tmp_path / "a", "--output", studies) == 0
    write_ct(tmp_path / "a/2", seed=1, SeriesNumber=2, **PATIENT)
    write_ct(tmp_path / "a/0", seed=2, SeriesNumber=2, **(PATIENT | {"PatientID": "4711 "}))
    assert run(tmp_path / "a", "--output", studies) == 0
    of = {row["source"]: row["id"] for row in table(studies)}
    assert of[str(tmp_path / "a/1")] == "4711_20240101_2"
    assert len(set(of.values())) == 3
    assert all(name.startswith("4711_20240101_2") for name in of.values())
    assert ids(studies) == sorted(of.values())
    assert run(tmp_path / "a", "--output", studies) == 0
    assert {row["source"]: row["id"] for row in table(studies)} == of


def test_a_file_of_somebody_else_is_not_replaced(tree, studies):
    studies.mkdir()
    (studies / "4711_20240101_2.nii.gz").write_bytes(b"theirs")
    assert run(tree, "--output", studies) == 0
    assert (studies / "4711_20240101_2.nii.gz").read_bytes() == b"theirs"
    assert len(ids(studies)) == 3


def test_no_name_and_no_day_of_birth_gets_into_names_table_or_images(write_ct, studies, tmp_path):
    root = tmp_path / "disc of Mueller"
    uid = generate_uid()
    write_ct(root / "MÜLLER_HANS/25.03.1970/ct", SeriesNumber=2, SeriesDescription="Liver H. Muller", **PATIENT)
    write_ct(root / "x", SeriesNumber=3, StudyInstanceUID=uid, **(PATIENT | {"PatientID": "250370-MU"}))
    broken = write_ct(root / "y", name="MUELLER{}", SeriesNumber=4, **PATIENT)
    (broken / "MUELLER3").write_bytes((broken / "MUELLER3").read_bytes()[:-40])
    (root / "Hans lost").mkdir()
    (root / "Hans lost/Hans.dcm").write_bytes(b"")
    assert run(root, "--output", studies) == 1
    (study,) = [name for name in ids(studies) if "study" in name]
    assert study == f"study-{dicom_import.digest(uid)}_20240101_3"
    text = (studies / "studies.csv").read_text() + " ".join(path.name for path in studies.iterdir())
    for path in studies.glob("*.nii.gz"):
        text += nib.load(path).header.binaryblock.decode("latin1")
    for part in ("ller", "hans", "1970", "2503", "250370"):
        assert part not in text.lower(), part
    assert "Liver H. ***" in text


def test_images_may_be_called_after_nothing_of_the_patient(tree, studies):
    assert run(tree, "--output", studies, "--names", "study") == 0
    names = {
        f"study-{dicom_import.digest(pydicom.dcmread(file).StudyInstanceUID)}_{file.parent.name}"
        for file in tree.rglob("IM000000")
    }
    assert set(ids(studies)) == names


def test_a_study_on_the_day_of_birth_has_no_date(write_ct, studies, tmp_path):
    write_ct(tmp_path / "ct", SeriesNumber=2, PatientID="7", PatientBirthDate="20240101")
    assert run(tmp_path / "ct", "--output", studies) == 0
    assert ids(studies) == ["7_2"]
    assert table(studies)[0]["date"] == ""


def test_odd_characters_of_an_id_do_not_get_into_a_name(write_ct, studies, tmp_path):
    write_ct(tmp_path / "ct", PatientID="../-a/b c*", SeriesNumber=None)
    assert run(tmp_path / "ct", "--output", studies) == 0
    assert ids(studies) == ["a_b_c_20240101"]


def test_the_number_of_slices_that_are_enough_can_be_given(write_ct, studies, tmp_path, capsys):
    write_ct(tmp_path / "ct", slices=2)
    assert run(tmp_path / "ct", "--output", studies) == 0
    assert "clickseg serve" not in (told := capsys.readouterr()).out
    assert "2 slices, and a volume has at least 4" in told.err
    assert run(tmp_path / "ct", "--output", studies, "--least", 1) == 0
    assert ids(studies) == ["0_20240101_1"]


def test_images_that_are_no_dicom_are_named_and_not_taken_along(tree, studies, capsys):
    (tree / "patient/seen.nii.gz").write_bytes(b"x")
    assert run(tree, "--output", studies) == 0
    said = capsys.readouterr().err
    assert f"left out: 1 images, such as {tree / 'patient/seen.nii.gz'}, are no DICOM: copy them to the studies" in said
    assert len(ids(studies)) == 2


def test_bad_usage_is_said_in_a_sentence(tree, studies, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").write_text("x")
    for given, said in {
        (tmp_path / "nowhere",): f"no folder at {tmp_path / 'nowhere'}",
        (tree / "patient/study/2/IM000000",): f"{tree / 'patient/study/2/IM000000'} is a file, and a folder is needed",
        (tmp_path / "empty",): f"no DICOM file in {tmp_path / 'empty'}",
    }.items():
        assert run(*given, "--output", studies) == 2
        assert capsys.readouterr().err.splitlines()[-1] == f"clickseg import: {said}"
    assert not studies.exists()
    assert run(tree, "--output", tree / "out") == 2
    assert "would be written over" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"id;left_out\n1;2\n", b"\xff\xfe\x00", b"id\n1\n"])
def test_a_table_that_cannot_be_read_is_said_and_not_replaced(tree, studies, capsys, content):
    studies.mkdir()
    (studies / "studies.csv").write_bytes(content)
    assert run(tree, "--output", studies) == 2
    assert f"{studies / 'studies.csv'} cannot be read: move it elsewhere" in capsys.readouterr().err
    assert (studies / "studies.csv").read_bytes() == content


def test_a_real_series_is_the_same_as_nifti(data_dir, studies):
    assert run(data_dir / "dicom", "--output", studies) == 0
    assert ids(studies) == ["CRLM-CT-1004_19941122_2"]
    values, grid = read_volume(studies / "CRLM-CT-1004_19941122_2.nii.gz")
    expected, expected_grid = read_volume(data_dir / "dicom/CRLM-CT-1004")
    np.testing.assert_array_equal(values, expected)
    assert values.dtype == np.int16
    np.testing.assert_allclose(grid.affine, expected_grid.affine, atol=1e-4)


def test_a_series_that_lies_in_two_of_the_folders_is_put_together(write_ct, studies, tmp_path, monkeypatch, capsys):
    write_ct(tmp_path / "split/A", **PATIENT)
    (tmp_path / "split/B").mkdir()
    for file in sorted((tmp_path / "split/A").iterdir())[::2]:
        file.rename(tmp_path / "split/B" / file.name)
    monkeypatch.chdir(tmp_path)
    absolute = tmp_path / "split/A", tmp_path / "split/B"
    for number, folders in enumerate((("split/A", "split/B"), absolute, ("split/A", absolute[1]))):
        output = studies / str(number)
        assert run(*folders, "--output", output) == 0, capsys.readouterr().err
        (row,) = table(output)
        assert row["shape"] == "12 x 10 x 6"
        assert row["source"] == str("split" if number == 0 else tmp_path / "split")


def test_folders_whose_names_are_no_utf_8_are_imported_without_the_patients_name(write_ct, studies, tmp_path):
    write_ct(tmp_path / "cd/M\udcfcller_Hans/ct", **PATIENT)
    (tmp_path / "cd/M\udcfcller_Hans/\udcfc_M\udcfcller.dcm").write_bytes(bytes(3000))
    assert run(tmp_path / "cd", "--output", studies) == 1, "a file of it cannot be read"
    first, damaged = table(studies)
    assert first["source"] == str(tmp_path / "cd/***_***/ct")
    assert first["shape"] == "12 x 10 x 6"
    assert damaged["source"] == str(tmp_path / "cd/***_***")
    assert "damaged, or cut short?): ü_***.dcm" in damaged["left_out"]
