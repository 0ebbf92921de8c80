"""Folders of DICOM files as scanners, archives and disks leave them."""

import io
import random

import numpy as np
import pydicom
import pytest
from pydicom.uid import UID, RLELossless, generate_uid

from clickseg import cli
from clickseg.dicom import check_slices, series_files
from clickseg.images import read_volume
from clickseg.phantom.dicom import dicom_series
from clickseg.sessions import Session, SessionCache

SPACING = (2.0, 2.0, 5.0)
REPORT, PRESENTATION, DIRECTORY, PRIVATE, SEGMENTATION, PICTURE = (
    "1.2.840.10008.5.1.4.1.1.88.11",
    "1.2.840.10008.5.1.4.1.1.11.1",
    "1.2.840.10008.1.3.10",
    "1.3.12.2.1107.5.9.1",
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.7",
)


def volume(slices=5, size=(12, 10)):
    """HU, every slice another: the numbers of its slices times 100, and a ramp."""
    ramp = np.arange(size[0] * size[1]).reshape(*size, 1) % 97
    return (ramp + 100 * np.arange(slices)).astype(np.int16)


def made(content, **fields):
    """A slice with other fields; None removes one."""
    data = pydicom.dcmread(io.BytesIO(content))
    for name, value in fields.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    buffer = io.BytesIO()
    data.save_as(buffer)
    return buffer.getvalue()


def written(folder, slices, name="{:02}.dcm"):
    folder.mkdir(exist_ok=True)
    for number, content in enumerate(slices):
        (folder / name.format(number)).write_bytes(content)
    return folder


@pytest.fixture
def slices():
    return dicom_series(volume(), SPACING)


@pytest.fixture
def series(tmp_path, slices):
    """A folder of five slices."""
    return written(tmp_path / "ct", slices)


def cut(path, part):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])


@pytest.mark.parametrize("part", [0, 0.02, 0.1, 0.33, 0.9, 0.999])
@pytest.mark.parametrize("name", ["00.dcm", "02.dcm", "04.dcm"])
def test_a_slice_that_was_cut_short_is_refused_by_name(series, name, part):
    cut(series / name, part)
    with pytest.raises(ValueError, match=rf"ct holds files that are no readable DICOM .*cut short.*: {name}\. What"):
        read_volume(series)


def test_a_compressed_slice_that_was_cut_short_is_refused_by_name(tmp_path, slices):
    packed = []
    for content in slices:
        data, buffer = pydicom.dcmread(io.BytesIO(content)), io.BytesIO()
        data.compress(RLELossless)
        data.save_as(buffer)
        packed.append(buffer.getvalue())
    folder = written(tmp_path / "ct", packed)
    np.testing.assert_array_equal(read_volume(folder)[0], volume())
    cut(folder / "04.dcm", 0.9)
    with pytest.raises(ValueError, match=r"no readable DICOM images .*: 04\.dcm\. What"):
        read_volume(folder)


@pytest.mark.parametrize("name", ["IM{:04}", "1.2.3.4.{}"])
@pytest.mark.parametrize("left", [b"", bytes(3000)])
def test_what_a_full_disk_leaves_of_a_slice_is_refused_whatever_its_ending(tmp_path, slices, name, left):
    folder = written(tmp_path / "ct", slices, name)
    (folder / name.format(4)).write_bytes(left)
    with pytest.raises(ValueError, match=rf"no readable DICOM images .*: {name.format(4)}\. What"):
        read_volume(folder)


def test_a_folder_with_damaged_slices_alone_names_some_of_them(series):
    for path in series.iterdir():
        cut(path, 0.5)
    (series / "05.dcm").write_bytes(b"")
    with pytest.raises(ValueError, match=r"00.dcm, 01.dcm, 02.dcm, 03.dcm, 04.dcm and 1 more\. What they show"):
        read_volume(series)


def test_a_damaged_file_of_another_series_does_not_stand_in_the_way(series):
    written(series, dicom_series(volume(1), SPACING), "scout.dcm")
    cut(series / "scout.dcm", 0.9)
    assert read_volume(series)[1].shape == (12, 10, 5)


@pytest.mark.parametrize("kind", [REPORT, PRESENTATION, DIRECTORY, PRIVATE])
def test_what_is_plainly_no_image_is_passed_over_without_a_word(series, slices, kind, capfd):
    uids = {"SOPClassUID": kind, "SOPInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    other = made(slices[0], **uids, PixelData=None, Rows=None, Columns=None)
    (series / ("DICOMDIR" if kind == DIRECTORY else "05.dcm")).write_bytes(other)
    assert read_volume(series)[1].shape == (12, 10, 5)
    assert capfd.readouterr() == ("", "")


def test_texts_hidden_files_and_folders_are_passed_over(series):
    (series / "README").write_text("from the scanner")
    (series / "notes.txt").write_text("")
    (series / ".00.dcm").write_bytes(b"what macOS leaves")
    (series / "other.dcm").mkdir()
    assert read_volume(series)[1].shape == (12, 10, 5)


def test_a_folder_without_dicom_is_refused_as_such(tmp_path):
    (tmp_path / "README").write_text("nothing")
    with pytest.raises(ValueError, match="holds no DICOM file: a NIfTI file, or the folder of a DICOM series"):
        read_volume(tmp_path)


@pytest.mark.parametrize(
    ("said", "thickness"),
    [
        ({}, 5),
        ({"SpacingBetweenSlices": "2.5"}, 2.5),
        ({"SpacingBetweenSlices": "3", "SliceThickness": None}, 3),
        ({"SliceThickness": ""}, 1),
        ({"SliceThickness": None}, 1),
    ],
)
def test_a_lone_slice_is_as_thick_as_it_says(tmp_path, slices, said, thickness):
    folder = written(tmp_path / "one", [made(slices[1], **said)])
    for image in (folder, folder / "00.dcm"):
        grid = read_volume(image)[1]
        assert grid.shape == (12, 10, 1)
        assert grid.spacing == pytest.approx((2, 2, thickness))
        assert grid.to_ras([(0, 0, 0)])[0] == pytest.approx((0, 0, 5))


def test_a_lone_slice_of_another_format_keeps_its_thickness(tmp_path):
    head = "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 3 4 1\nendian: little\n"
    head += "encoding: raw\nspace directions: (1,0,0) (0,1,0) (0,0,7)\nspace origin: (0,0,0)\n\n"
    (tmp_path / "one.nrrd").write_bytes(head.encode() + bytes(24))
    assert read_volume(tmp_path / "one.nrrd")[1].spacing == pytest.approx((1, 1, 7))


def test_a_slice_that_is_there_twice_is_read_once_in_its_place(tmp_path, slices):
    """Where two are in one place GDCM goes by the numbers, and names, which say nothing of the order here."""
    shuffled = list(range(5))
    random.Random(3).shuffle(shuffled)
    folder = tmp_path / "ct"
    folder.mkdir()
    for number, content in zip(shuffled, slices, strict=True):
        (folder / f"{number}.dcm").write_bytes(made(content, InstanceNumber=number))
    for name, number in (("a.dcm", 2), ("0copy.dcm", 4), ("zz.dcm", 2)):
        (folder / name).write_bytes((folder / f"{number}.dcm").read_bytes())
    found, grid = read_volume(folder)
    np.testing.assert_array_equal(found, volume())
    assert grid.spacing == pytest.approx(SPACING)


def test_a_copy_whose_head_alone_differs_is_a_copy(series):
    data = pydicom.dcmread(series / "04.dcm")
    data.file_meta.SourceApplicationEntityTitle = "EXPORT"
    data.preamble = b"II*\0" + bytes(124)
    data.save_as(series / "copy.dcm")
    assert read_volume(series)[1].shape == (12, 10, 5)


def test_slices_that_share_a_uid_after_names_were_hidden_are_no_copies(tmp_path, slices):
    folder = written(tmp_path / "ct", [made(content, SOPInstanceUID="1.2.3") for content in slices])
    np.testing.assert_array_equal(read_volume(folder)[0], volume())


@pytest.mark.parametrize("uid", [None, "1.2.3"])
def test_two_images_of_one_place_are_refused_by_name(series, slices, uid):
    fields = {"SOPInstanceUID": uid} if uid else {}
    other = made(slices[2], PixelData=bytes(2 * 12 * 10), **fields)
    (series / "later.dcm").write_bytes(other)
    with pytest.raises(
        ValueError, match=r"slices (02|later).dcm and (02|later).dcm are in the same place \(two phases"
    ):
        read_volume(series)
    with pytest.raises(ValueError, match=r"are in the same place"):
        check_slices(sorted(series.iterdir()))


def test_slices_that_do_not_say_where_they_lie_are_read_in_the_order_of_their_numbers(tmp_path, slices):
    folder = written(tmp_path / "ct", [made(each, ImagePositionPatient=None) for each in slices[::-1]])
    np.testing.assert_array_equal(read_volume(folder)[0], volume())


def test_echoes_in_one_folder_are_listed_and_read_by_their_names(tmp_path, slices):
    uid = generate_uid()
    echoes = [
        made(
            content, SeriesInstanceUID=uid, SOPInstanceUID=generate_uid(), EchoTime=time, PixelData=bytes([value]) * 240
        )
        for time, value in (("2.3", 1), ("4.6", 2))
        for content in slices
    ]
    folder = written(tmp_path / "mr", echoes)
    with pytest.raises(ValueError, match=rf"holds 2 parts of DICOM series {uid}, which differ; one is") as refused:
        read_volume(folder)
    first, second = (line.split(":")[0].strip() for line in str(refused.value).splitlines()[1:])
    assert (first, second) == (f"{uid}_EchoTime_2_3", f"{uid}_EchoTime_4_6")
    assert np.unique(read_volume(folder, second)[0]).tolist() == [0x0202]


def test_a_localizer_a_picture_and_a_series_without_a_uid_are_read_if_they_lie_alone(tmp_path, slices):
    for number, fields in enumerate(
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, {"SOPClassUID": PICTURE}, {"SeriesInstanceUID": ""})
    ):
        folder = written(tmp_path / str(number), [made(content, **fields) for content in slices])
        np.testing.assert_array_equal(read_volume(folder)[0], volume())


@pytest.fixture
def two(series):
    """A folder of two series: five slices without a description, and three with one. Returns it, and their UIDs."""
    uid = generate_uid()
    others = dicom_series(volume(3, (6, 8)), SPACING)
    about = {"SeriesDescription": "venous phase", "SeriesNumber": 7, "SeriesInstanceUID": uid}
    written(series, [made(content, **about) for content in others], "b{}.dcm")
    return series, str(pydicom.dcmread(series / "00.dcm").SeriesInstanceUID), uid


def test_several_series_in_a_folder_are_listed_with_what_tells_them_apart(two):
    folder, first, second = two
    with pytest.raises(ValueError, match="holds 2 DICOM series; one is needed: name it") as refused:
        read_volume(folder)
    head, *lines = str(refused.value).splitlines()
    assert head.startswith(f"{folder} holds")
    assert sorted(lines) == sorted(
        [f"  {first}: number 1, CT, 5 files, 12 x 10", f"  {second}: number 7, CT, venous phase, 3 files, 6 x 8"]
    )


def test_one_series_of_several_is_read_by_its_uid(two, weights):
    folder, first, second = two
    assert read_volume(folder, first)[1].shape == (12, 10, 5)
    np.testing.assert_array_equal(read_volume(folder, second)[0], volume(3, (6, 8)))
    assert Session.open(folder, weights, series=second).grid.shape == (6, 8, 3)
    cache = SessionCache()
    shapes = [cache.open(folder, weights, "cpu", uid).grid.shape for uid in (first, second, first)]
    assert shapes == [(12, 10, 5), (6, 8, 3), (12, 10, 5)]


def test_a_series_that_is_not_there_is_refused_and_those_that_are_listed(two, tmp_path):
    folder, first, _ = two
    with pytest.raises(ValueError, match=r"holds no DICOM series 9\.8, but") as refused:
        read_volume(folder, "9.8")
    assert f"  {first}: number 1, CT, 5 files" in str(refused.value)
    with pytest.raises(ValueError, match=r"00.dcm is a file: a series is chosen from a folder"):
        read_volume(folder / "00.dcm", first)


def test_parts_of_a_series_with_slices_of_another_size_have_names_of_their_own(series):
    uid = str(pydicom.dcmread(series / "00.dcm").SeriesInstanceUID)
    scout = made(dicom_series(volume(1, (30, 20)), SPACING)[0], SeriesInstanceUID=uid)
    (series / "scout.dcm").write_bytes(scout)
    with pytest.raises(ValueError, match=rf"2 parts of DICOM series {uid}, which differ") as refused:
        read_volume(series, uid)
    (name,) = [line.split(":")[0].strip() for line in str(refused.value).splitlines() if "5 files" in line]
    assert name.startswith(uid)
    assert name != uid
    np.testing.assert_array_equal(read_volume(series, name)[0], volume())


def test_predict_names_the_series_of_a_folder_and_takes_the_one_that_is_named(two, weights, tmp_path, capsys):
    folder, _, second = two
    command = ["predict", str(folder), "--click", "3,4,1", "--weights", str(weights)]
    command += ["--output", str(tmp_path / "mask.nii.gz")]
    assert cli.main(command) == 2
    assert f"  {second}: number 7, CT, venous phase, 3 files, 6 x 8" in capsys.readouterr().err
    assert cli.main([*command, "--series", second]) == 0
    assert read_volume(tmp_path / "mask.nii.gz")[1].shape == (6, 8, 3)


@pytest.mark.parametrize(
    "fields",
    [
        {"SOPClassUID": SEGMENTATION, "Modality": "SEG"},
        {"SOPClassUID": PICTURE},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    ],
)
def test_what_lies_beside_a_series_is_in_nobodys_way_and_read_if_it_is_wanted(series, slices, fields):
    uid = generate_uid()
    fields = {**fields, "SOPInstanceUID": generate_uid(), "SeriesInstanceUID": uid, "SeriesDescription": "aside"}
    (series / "aside.dcm").write_bytes(made(slices[0], **fields))
    np.testing.assert_array_equal(read_volume(series)[0], volume())
    assert read_volume(series, uid)[1].shape == (12, 10, 1)


def test_where_there_are_several_series_one_may_want_what_lies_beside_them(two, slices):
    folder, first, second = two
    aside = {"SOPClassUID": SEGMENTATION, "SOPInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    (folder / "aside.dcm").write_bytes(made(slices[0], **aside))
    with pytest.raises(ValueError, match="holds 2 DICOM series") as refused:
        read_volume(folder)
    assert first in str(refused.value)
    assert second in str(refused.value)
    with pytest.raises(ValueError, match=aside["SeriesInstanceUID"]):
        read_volume(folder, "1.2.3")
    assert UID(SEGMENTATION).name == "Segmentation Storage"


def test_a_real_series_is_read_in_order_of_its_places(data_dir):
    folder = data_dir / "dicom" / "CRLM-CT-1004"
    heights = [float(pydicom.dcmread(file).ImagePositionPatient[2]) for file in series_files(folder)]
    assert len(heights) == 41
    assert np.diff(heights) == pytest.approx(5)
    assert read_volume(folder / "1-01.dcm")[1].spacing == pytest.approx((0.796875, 0.796875, 5))


@pytest.mark.parametrize("more", [4, 5])
def test_a_single_slice_that_is_missing_between_others_is_noticed(tmp_path, slices, more):
    folder = written(tmp_path / "series", [*slices[:2], slices[3], *slices[4:more]])
    with pytest.raises(ValueError, match=r"two of them lie 10\.0 mm apart and others 5\.0 \(some are missing\?\)"):
        series_files(folder)


def test_slices_that_lie_ever_farther_apart_are_refused(tmp_path, slices):
    wider = [
        made(content, ImagePositionPatient=[0, 0, z]) for content, z in zip(slices, (0, 3, 6, 11.1, 16.2), strict=True)
    ]
    with pytest.raises(ValueError, match=r"not evenly spaced, one lies 2\.1 mm from where it should"):
        series_files(written(tmp_path / "series", wider))


@pytest.mark.parametrize("slopes", [(1, 0.37, 2, 0.5, 1), (0.37, 1, 1, 1, 1), (1, 40, 1, 1, 1)])
def test_each_slice_is_scaled_as_it_says(tmp_path, slices, slopes):
    """PET has a slope for each. 40 times the values do not fit into the 16 bits of the first slice."""
    scaled = [made(content, RescaleSlope=str(slope)) for content, slope in zip(slices, slopes, strict=True)]
    found, _ = read_volume(written(tmp_path / "pet", scaled))
    np.testing.assert_allclose(found, volume() * np.array(slopes), rtol=1e-6)


@pytest.mark.parametrize("rescale", [{}, {"RescaleSlope": "2", "RescaleIntercept": "-1024"}])
def test_numbers_are_those_of_the_scanner_where_large_ones_are_to_be_shown_dark(tmp_path, slices, rescale):
    """MONOCHROME1 is for screens: ITK turns the numbers round."""
    plain, dark = (
        written(tmp_path / kind, [made(content, PhotometricInterpretation=kind, **rescale) for content in slices])
        for kind in ("MONOCHROME2", "MONOCHROME1")
    )
    (expected, grid), (found, found_grid) = read_volume(plain), read_volume(dark)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(found_grid.affine, grid.affine, atol=1e-6)


def test_a_series_of_which_some_slices_are_to_be_shown_dark_is_read_as_it_is_stored(tmp_path, slices):
    slices[3] = made(slices[3], PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_volume(written(tmp_path / "ct", slices))[0], volume())


@pytest.mark.parametrize("signed", [0, 2])
def test_slices_with_and_without_a_sign_are_read_as_each_says(tmp_path, signed):
    """ITK takes the type of the first for all, in which numbers below 0 are large ones."""
    values = volume() - 250
    values[..., signed] += 250
    slices = dicom_series(values, SPACING)
    slices[signed] = made(slices[signed], PixelRepresentation=0)
    np.testing.assert_array_equal(read_volume(written(tmp_path / "ct", slices))[0], values)


@pytest.mark.parametrize("alone", [True, False])
def test_a_file_of_many_slices_whose_places_are_not_read_is_refused(tmp_path, slices, alone):
    """ITK would put an ultrasound volume at the origin, with voxels of 1 mm."""
    kind = "1.2.840.10008.5.1.4.1.1.6.2"  # Enhanced US Volume
    pixels = b"".join(pydicom.dcmread(io.BytesIO(content)).PixelData for content in slices)
    folder = written(tmp_path / "us", [made(slices[0], SOPClassUID=kind, NumberOfFrames=5, PixelData=pixels)])
    with pytest.raises(ValueError, match=r"00.dcm: many slices in one file .Enhanced US Volume.* dcm2niix"):
        read_volume(folder / "00.dcm" if alone else folder)


def test_a_series_whose_files_have_names_of_another_alphabet_is_read(tmp_path, slices):
    folder = written(tmp_path / "M\udcfcller", slices, name="\udcfc{:02}.dcm")
    np.testing.assert_array_equal(read_volume(folder)[0], volume())
