"""Trees of DICOM files, as hospitals export them."""

import os
import shutil

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless, generate_uid

from clickseg import dicom_tree
from clickseg.dicom import series_files
from clickseg.dicom_tree import find_files, read_tree
from clickseg.images import read_slices, read_volume

MR = "1.2.840.10008.5.1.4.1.1.4"
CORONAL, SAGITTAL = (
    np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float),
    np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]], float),
)
NO_SLICES = {
    "Segmentation": "1.2.840.10008.5.1.4.1.1.66.4",
    "RT Structure Set": "1.2.840.10008.5.1.4.1.1.481.3",
    "RT Dose": "1.2.840.10008.5.1.4.1.1.481.2",
    "Secondary Capture Image": "1.2.840.10008.5.1.4.1.1.7",
    "Basic Text SR": "1.2.840.10008.5.1.4.1.1.88.11",
    "Encapsulated PDF": "1.2.840.10008.5.1.4.1.1.104.1",
}


def look(folder, **more):
    found = find_files(folder)
    return read_tree(found.files, found.closed, **more)


def numbers(tree):
    return [volume.about.number for volume in tree.volumes]


def reasons(tree):
    return [each.reason for each in tree.left_out]


def test_series_at_any_depth_are_found_whatever_the_files_are_called(write_ct, tmp_path):
    write_ct(tmp_path / "p1/st/se", SeriesNumber=1)
    write_ct(tmp_path / "p1/st/other", SeriesNumber=2, name="{}.dcm")
    write_ct(tmp_path / "p2", SeriesNumber=3, name="1.2.840.{}")
    write_ct(tmp_path, SeriesNumber=4, name="image{}.IMA")
    tree = look(tmp_path)
    assert [(volume.about.number, str(volume.folder.relative_to(tmp_path))) for volume in tree.volumes] == [
        ("4", "."),
        ("2", "p1/st/other"),
        ("1", "p1/st/se"),
        ("3", "p2"),
    ]
    assert tree.left_out == []
    assert tree.others == []


def test_several_series_in_one_folder_are_read_as_each_is_by_its_uid(write_ct, tmp_path):
    for number in (1, 2):
        write_ct(tmp_path, seed=number, slices=5 + number, start=100 * number, SeriesNumber=number)
    tree = look(tmp_path)
    assert numbers(tree) == ["1", "2"]
    for volume in tree.volumes:
        assert [each.file for each in volume.slices()] == series_files(tmp_path, volume.about.uid)
        values, grid = read_slices(volume.slices(), volume.title)
        expected, expected_grid = read_volume(tmp_path, volume.about.uid)
        np.testing.assert_array_equal(values, expected)
        np.testing.assert_allclose(grid.affine, expected_grid.affine)


def test_each_file_is_opened_once_and_not_for_its_pixels(write_ct, tmp_path, monkeypatch):
    write_ct(tmp_path / "a")
    write_ct(tmp_path / "b")
    read, original = [], pydicom.dcmread

    def dcmread(file, **more):
        read.append(file.name)
        assert more["stop_before_pixels"]
        return original(file, **more)

    monkeypatch.setattr(pydicom, "dcmread", dcmread)
    volumes = look(tmp_path).volumes
    assert [len(volume.slices()) for volume in volumes] == [6, 6]
    assert sorted(read) == sorted(str(path) for path in tmp_path.rglob("IM*"))


def test_hidden_files_and_folders_are_passed_over(write_ct, tmp_path):
    write_ct(tmp_path / "a")
    write_ct(tmp_path / ".trash")
    write_ct(tmp_path / "a", name=".{}")
    assert len(find_files(tmp_path).files) == 6


def test_links_in_circles_are_not_followed_and_others_are_once(write_ct, tmp_path):
    write_ct(tmp_path / "elsewhere/series")
    root = tmp_path / "tree/root"
    write_ct(root / "b")
    write_ct(tmp_path / "tree/beside the root")
    (root / "a").symlink_to(root / "b")
    (root / "up").symlink_to(tmp_path / "tree")
    (root / "self").symlink_to(root / "self")
    (root / "far").symlink_to(tmp_path / "elsewhere")
    parts = {file.relative_to(root).parts[:-1] for file in find_files(root).files}
    assert parts == {("b",), ("far", "series")}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_said(write_ct, tmp_path):
    closed = write_ct(tmp_path / "closed")
    closed.chmod(0)
    try:
        assert reasons(look(tmp_path)) == ["the folder may not be read"]
    finally:
        closed.chmod(0o755)


def test_a_folder_that_cannot_be_listed_is_said_and_the_others_are_read(write_ct, tmp_path, monkeypatch):
    write_ct(tmp_path / "closed")
    write_ct(tmp_path / "open")
    original = dicom_tree.Path.iterdir

    def iterdir(path):
        if path.name == "closed":
            raise PermissionError(path)
        return original(path)

    monkeypatch.setattr(dicom_tree.Path, "iterdir", iterdir)
    tree = look(tmp_path)
    assert len(tree.volumes) == 1
    (closed,) = tree.left_out
    assert (closed.folder, closed.reason, closed.unreadable) == (
        tmp_path / "closed",
        "the folder may not be read",
        True,
    )


@pytest.mark.parametrize("kind", NO_SLICES)
def test_what_is_no_series_of_slices_is_left_out_by_what_it_is(write_ct, tmp_path, kind):
    write_ct(tmp_path / "ct")
    write_ct(tmp_path / "other", SOPClassUID=NO_SLICES[kind])
    tree = look(tmp_path)
    assert [volume.folder.name for volume in tree.volumes] == ["ct"]
    (left,) = tree.left_out
    assert (left.folder.name, left.reason) == ("other", f"no series of slices: {kind}")
    assert (len(left.files), left.unreadable) == (6, False)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer"),
        ({"NumberOfFrames": 5}, "many slices in one file (CT Image), which is not read: convert it with dcm2niix"),
        ({"SamplesPerPixel": 3}, "pictures in colour (CT Image)"),
        ({"ImagePositionPatient": None}, "CT Image: the files do not say where in the patient they lie"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_slices_that_make_no_volume_are_left_out_with_the_reason(write_ct, tmp_path, fields, reason):
    write_ct(tmp_path, **fields)
    tree = look(tmp_path)
    assert (tree.volumes, reasons(tree)) == ([], [reason])


@pytest.mark.parametrize(
    ("kind", "unreadable"),
    [
        ("1.2.840.10008.5.1.4.1.1.2.1", True),
        ("1.2.840.10008.5.1.4.1.1.4.1", True),
        ("1.2.840.10008.5.1.4.1.1.3.1", False),
    ],
)
def test_a_volume_in_one_file_counts_as_one_that_cannot_be_read(write_ct, tmp_path, kind, unreadable):
    write_ct(tmp_path, slices=1, SOPClassUID=kind, NumberOfFrames=30)
    (left,) = look(tmp_path).left_out
    assert left.reason.startswith("many slices in one file (")
    assert left.unreadable is unreadable


def test_a_scout_in_three_directions_is_a_localizer(write_ct, tmp_path):
    uids = {"SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid()}
    for number, directions in enumerate((np.eye(3), CORONAL, SAGITTAL)):
        write_ct(tmp_path, slices=5, start=10 * number, directions=directions, **uids)
    tree = look(tmp_path)
    assert (tree.volumes, reasons(tree)) == ([], ["15 slices of a series in 3 directions: a localizer"])


def test_few_slices_are_left_out_unless_they_are_asked_for(write_ct, tmp_path):
    write_ct(tmp_path, slices=3)
    assert reasons(look(tmp_path)) == ["3 slices, and a volume has at least 4"]
    assert len(look(tmp_path, least=3).volumes) == 1


def test_many_times_one_slice_is_no_volume(write_ct, tmp_path):
    uids = {"SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid()}
    for number in range(5):
        write_ct(tmp_path, slices=1, start=number, seed=number, AcquisitionNumber=number, InstanceNumber=number, **uids)
    assert reasons(look(tmp_path)) == ["5 slices in one place, as they are made to see contrast arrive"]


def test_a_scout_with_the_uid_of_its_series_does_not_stand_in_the_way(write_ct, tmp_path):
    uids = {"SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid()}
    write_ct(tmp_path, slices=12, **uids)
    write_ct(tmp_path, slices=1, start=50, directions=CORONAL, **uids)
    tree = look(tmp_path)
    assert [(len(volume.heads), volume.part) for volume in tree.volumes] == [(12, "")]
    assert reasons(tree) == ["1 slice of a series in 2 directions: a localizer"]


def test_the_echoes_of_a_series_are_a_volume_each(write_ct, tmp_path):
    uids = {"SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid(), "SOPClassUID": MR}
    for number, time in enumerate(("2.3", "4.6")):
        write_ct(tmp_path, seed=number, start=10 * number, EchoTime=time, **uids)
    volumes = look(tmp_path).volumes
    assert [volume.part for volume in volumes] == ["EchoTime 2.3", "EchoTime 4.6"]
    assert [len(volume.slices()) for volume in volumes] == [6, 6]
    assert {pydicom.dcmread(each.file).EchoTime for each in volumes[1].slices()} == {4.6}


def test_a_part_with_thicker_slices_is_a_volume_of_its_own(write_ct, tmp_path):
    uids = {"SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid()}
    write_ct(tmp_path, SliceThickness=5, **uids)
    write_ct(tmp_path, SliceThickness="5.0", origin=(0.0, 0.0, 30.0), start=10, **uids)
    write_ct(tmp_path, SliceThickness="2.5", origin=(0.0, 0.0, 60.0), start=20, **uids)
    assert [(volume.part, len(volume.heads)) for volume in look(tmp_path).volumes] == [("2.5 mm", 6), ("5 mm", 12)]


def test_phases_that_nothing_tells_apart_are_refused_when_they_are_read(write_ct, tmp_path):
    uids = {"SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid()}
    for number in (0, 1):
        write_ct(tmp_path, seed=number, start=10 * number, **uids)
    (volume,) = look(tmp_path).volumes
    with pytest.raises(ValueError, match="are in the same place"):
        volume.slices()


def test_a_series_over_several_folders_is_put_together_if_the_slices_complete_each_other(write_ct, tmp_path):
    whole = write_ct(tmp_path / "whole", slices=10)
    expected, _ = read_volume(whole)
    for number, file in enumerate(sorted(whole.iterdir())):
        folder = tmp_path / "study" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        file.rename(folder / file.name)
    (volume,) = look(tmp_path).volumes
    assert volume.folder == tmp_path / "study"
    np.testing.assert_array_equal(read_slices(volume.slices(), volume.title)[0], expected)


def test_a_series_that_is_there_twice_is_one(write_ct, tmp_path):
    write_ct(tmp_path / "b/series")
    shutil.copytree(tmp_path / "b/series", tmp_path / "a copy")
    shutil.copy(tmp_path / "b/series/IM000003", tmp_path / "b/series/once more")
    (volume,) = look(tmp_path).volumes
    assert volume.folder == tmp_path / "a copy"
    assert len(volume.slices()) == 6


def test_patients_to_whom_a_program_gave_the_same_uids_are_kept_apart(write_ct, tmp_path):
    uids = {"SeriesInstanceUID": "1.2.3", "StudyInstanceUID": "1.2", "SOPInstanceUID": "1.2.4"}
    for number, name in enumerate("ab"):
        write_ct(tmp_path / name, seed=number, **uids)
    volumes = look(tmp_path).volumes
    assert [volume.folder.name for volume in volumes] == ["a", "b"]
    for number, volume in enumerate(volumes):
        values, _ = read_slices(volume.slices(), volume.title)
        np.testing.assert_array_equal(values, read_volume(tmp_path / "ab"[number])[0])


def test_a_series_of_another_patient_with_the_same_uid_is_another(write_ct, tmp_path):
    uids = {"SeriesInstanceUID": "1.2.3", "StudyInstanceUID": "1.2"}
    for number, name in enumerate("ab"):
        write_ct(tmp_path / name, PatientID=name, origin=(0.0, 0.0, 30.0 * number), **uids)
    assert [volume.about.patient.id for volume in look(tmp_path).volumes] == ["a", "b"]


def cut(file, part):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * part)])


@pytest.mark.parametrize("part", [0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.9, 0.999])
def test_a_slice_that_is_cut_short_is_named_when_its_series_is_read_and_stops_no_other(write_ct, tmp_path, part):
    write_ct(tmp_path / "a")
    cut(write_ct(tmp_path / "b") / "IM000005", part)
    whole, broken = look(tmp_path).volumes
    assert len(whole.slices()) == 6
    with pytest.raises(ValueError, match=r"b holds files that are no readable DICOM .*cut short.*: IM000005\. What"):
        broken.slices()


def test_a_slice_cut_short_that_says_its_series_does_not_stop_others_in_its_folder(write_ct, tmp_path):
    write_ct(tmp_path, SeriesNumber=1)
    write_ct(tmp_path, SeriesNumber=2, start=10)
    cut(tmp_path / "IM000012", 0.95)
    whole, broken = look(tmp_path).volumes
    assert len(whole.slices()) == 6
    with pytest.raises(ValueError, match=r"IM000012\. What"):
        broken.slices()


def test_a_file_cut_short_before_its_series_stops_all_in_its_folder(write_ct, tmp_path):
    """It may be a slice of any of them."""
    write_ct(tmp_path, SeriesNumber=1)
    write_ct(tmp_path, SeriesNumber=2, start=10)
    cut(tmp_path / "IM000012", 0.1)
    for volume in look(tmp_path).volumes:
        with pytest.raises(ValueError, match=r"IM000012\. What"):
            volume.slices()


@pytest.mark.parametrize("part", [1, 0.95])
def test_compressed_slices_are_whole_if_their_end_is_there(write_ct, tmp_path, part):
    for path in sorted(write_ct(tmp_path).iterdir()):
        data = pydicom.dcmread(path)
        data.compress(RLELossless)
        data.save_as(path)
    cut(path, part)
    (volume,) = look(tmp_path).volumes
    assert [each.name for each in volume.damaged] == ([] if part == 1 else [path.name])


def test_damaged_files_that_are_of_no_series_are_one_line_for_each_folder(write_ct, tmp_path):
    for path in write_ct(tmp_path / "broken").iterdir():
        cut(path, 0.5)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/1.dcm").touch()
    tree = look(tmp_path)
    assert tree.volumes == []
    assert [(each.folder.name, len(each.files), each.unreadable) for each in tree.left_out] == [
        ("broken", 6, True),
        ("empty", 1, True),
    ]
    assert "IM000000, IM000001, IM000002, IM000003, IM000004 and 1 more" in tree.left_out[0].reason


def test_texts_and_programs_beside_dicom_are_no_dicom(write_ct, tmp_path):
    write_ct(tmp_path / "IMAGES", name="{}.dcm")
    (tmp_path / "autorun.inf").write_text("[autorun]")
    (tmp_path / "IMAGES/README").touch()
    (tmp_path / "viewer.exe").write_bytes(b"MZ" + bytes(1000))
    (tmp_path / "table.bin").write_bytes(b"\x08\0" + bytes(range(256)) * 20)
    tree = look(tmp_path)
    assert (len(tree.volumes), tree.left_out) == (1, [])
    assert sorted(path.name for path in tree.others) == ["README", "autorun.inf", "table.bin", "viewer.exe"]
    assert len(tree.volumes[0].slices()) == 6


def test_a_dicomdir_is_no_series(write_ct, tmp_path):
    write_ct(tmp_path / "DICOM")
    write_ct(tmp_path, slices=1, name="DICOMDIR", SOPClassUID="1.2.840.10008.1.3.10", Rows=None)
    tree = look(tmp_path)
    assert (len(tree.volumes), tree.left_out) == (1, [])


def test_files_without_the_mark_of_dicom_are_read(write_ct, tmp_path):
    expected, _ = read_volume(write_ct(tmp_path / "marked"))
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in sorted((tmp_path / "marked").iterdir()):
        data = pydicom.dcmread(path)
        content = pydicom.filebase.DicomBytesIO()
        content.is_little_endian, content.is_implicit_VR = True, True
        pydicom.filewriter.write_dataset(content, data)
        (bare / path.name).write_bytes(content.getvalue())
    (volume,) = look(bare).volumes
    np.testing.assert_array_equal(read_slices(volume.slices(), volume.title)[0], expected)


def test_values_that_break_rules_do_not_stop_a_series(write_ct, tmp_path, recwarn):
    for path in write_ct(tmp_path).iterdir():
        content = path.read_bytes()
        path.write_bytes(content.replace(b"20240101", b"yesterda").replace(b"IS\x02\x001 ", b"IS\x02\x00x "))
    (volume,) = look(tmp_path).volumes
    assert (volume.about.date, len(volume.slices())) == ("", 6)
    assert not [each for each in recwarn if "pydicom" in str(each.filename)]
