"""Enhanced DICOM files: a volume, or several, in one."""

import io
import re
import tempfile

import numpy as np
import pydicom
import pytest
from enhanced import enhanced_file, frames_of
from highdicom.frame import encode_frame
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate, generate_pixel_data_frame
from pydicom.uid import (
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)
from scipy.spatial.transform import Rotation

from clickseg import cli
from clickseg.dicom import check_slices, series_files
from clickseg.dicom_seg import Segment, write_segmentation
from clickseg.dicom_tree import find_files, read_tree
from clickseg.images import read_grid, read_slices, read_volume
from clickseg.phantom.dicom import dicom_series

SPACING, ORIGIN = (2.0, 1.5, 5.0), (3.0, -4.0, 5.5)
TURNED = Rotation.from_euler("xyz", (10, -12, 15), degrees=True).as_matrix()
KINDS = {
    "Enhanced CT": "1.2.840.10008.5.1.4.1.1.2.1",
    "Enhanced MR": "1.2.840.10008.5.1.4.1.1.4.1",
    "Enhanced PET": "1.2.840.10008.5.1.4.1.1.130",
    "Legacy Converted Enhanced CT": "1.2.840.10008.5.1.4.1.1.2.2",
    "Legacy Converted Enhanced MR": "1.2.840.10008.5.1.4.1.1.4.4",
    "Legacy Converted Enhanced PET": "1.2.840.10008.5.1.4.1.1.128.1",
}


def volume(slices=6, seed=0, size=(12, 10)):
    return np.random.default_rng(seed).integers(-1000, 2000, (*size, slices)).astype(np.int16)


def placed(values, **more):
    """The frames of a volume, oblique."""
    return frames_of(values, SPACING, **{"origin": ORIGIN, "directions": TURNED, **more})


def shuffled(frames, seed=0):
    return [frames[at] for at in np.random.default_rng(seed).permutation(len(frames))]


def changed(content, change):
    """A file after `change(data)`."""
    data = pydicom.dcmread(io.BytesIO(content))
    change(data)
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    buffer = io.BytesIO()
    data.save_as(buffer)
    return buffer.getvalue()


def classic(folder, values, scale=None, spacing=SPACING, origin=ORIGIN, directions=TURNED):
    """The same volume as a series of slices in files of their own. scale: slope and intercept of each slice."""
    folder.mkdir()
    for number, content in enumerate(dicom_series(values, spacing, origin, directions=directions)):
        data = pydicom.dcmread(io.BytesIO(content))
        if scale:
            data.RescaleSlope, data.RescaleIntercept = scale[number]
        data.save_as(folder / f"{number:03}.dcm")
    return folder


@pytest.fixture
def write(tmp_path):
    """write(frames, name="x.dcm", **more) -> the file, in a folder of its own."""

    def write(frames, name="x.dcm", **more):
        path = tmp_path / "enhanced" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(enhanced_file(frames, **more))
        return path

    return write


def assert_is(image, expected, **more):
    """An image has the voxels of another, in the same places."""
    (found, grid), (wanted, wanted_grid) = read_volume(image, **more), read_volume(expected)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    np.testing.assert_allclose(grid.affine, wanted_grid.affine, atol=1e-6)


def look(path):
    return read_tree(find_files(path if path.is_dir() else path.parent).files)


def parts(path):
    return [volume.part for volume in look(path).volumes]


# Volumes


@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_in_one_file_is_read_as_its_slices_in_files_of_their_own_are(write, tmp_path, kind):
    path = write(shuffled(placed(volume())), kind=UID(KINDS[kind]))
    series = classic(tmp_path / "classic", volume())
    for image in (path, path.parent):
        assert_is(image, series)
        assert read_volume(image)[0].dtype == np.int16
        assert read_grid(image).coincides(read_grid(series))


@settings(max_examples=25)
@given(
    shape=st.tuples(st.integers(2, 6), st.integers(2, 6), st.integers(1, 7)),
    spacing=st.tuples(*[st.floats(0.3, 6).map(lambda mm: round(mm, 3))] * 3),
    turned=st.tuples(*[st.integers(-180, 180)] * 3),
    slopes=st.lists(st.sampled_from([1.0, 0.5, 0.37, 3.0]), min_size=1, max_size=7),
    seed=st.integers(0, 99),
)
def test_voxels_places_and_scales_are_those_of_single_slices(tmp_path_factory, shape, spacing, turned, slopes, seed):
    folder = tmp_path_factory.mktemp("property")
    values = volume(shape[2], seed, shape[:2])
    scale = [(slopes[number % len(slopes)], 10.0 * number) for number in range(shape[2])]
    axes = Rotation.from_euler("xyz", turned, degrees=True).as_matrix()
    frames = frames_of(values, spacing, ORIGIN, axes)
    for frame, (slope, intercept) in zip(frames, scale, strict=True):
        rescale = {"RescaleSlope": slope, "RescaleIntercept": intercept, "RescaleType": "US"}
        frame.groups["PixelValueTransformationSequence"] = rescale
    (folder / "x.dcm").write_bytes(enhanced_file(shuffled(frames, seed)))
    assert_is(folder / "x.dcm", classic(folder / "classic", values, scale, spacing, directions=axes))


def test_what_highdicom_makes_of_a_series_is_read_as_that(tmp_path):
    series = classic(tmp_path / "classic", volume(), [(2, -1024)] * 6)
    slices = [pydicom.dcmread(path) for path in sorted(series.iterdir())]
    for data in slices:
        data.ImageType, data.AcquisitionNumber, data.ContentTime = ["ORIGINAL", "PRIMARY", "AXIAL"], 1, "120000"
        data.ContentDate, data.Manufacturer = "20240101", "nobody"
        data.PositionReferenceIndicator = data.PatientName = ""
    made = LegacyConvertedEnhancedCTImage(slices, generate_uid(), 2, generate_uid(), 1)
    made.save_as(tmp_path / "made.dcm")
    assert_is(tmp_path / "made.dcm", series)


def test_a_scale_that_all_frames_share_is_heeded(write, tmp_path):
    said = {"PixelValueTransformationSequence": {"RescaleSlope": 2, "RescaleIntercept": -1024, "RescaleType": "HU"}}
    path = write(placed(volume(), said=said))
    assert "PixelValueTransformationSequence" in pydicom.dcmread(path).SharedFunctionalGroupsSequence[0]
    assert_is(path, classic(tmp_path / "classic", volume(), [(2, -1024)] * 6))
    assert read_volume(path)[0].dtype == np.int16


def test_a_scale_of_the_whole_file_is_that_of_frames_without_one(write, tmp_path):
    path = write(placed(volume()), RescaleSlope=0.5, RescaleIntercept=3)
    assert_is(path, classic(tmp_path / "classic", volume(), [(0.5, 3)] * 6))


def test_what_a_frame_says_itself_comes_before_what_all_share(write, tmp_path):
    """An intercept of 0 is said, too."""

    def change(data):
        shared, group = data.SharedFunctionalGroupsSequence[0], data.PerFrameFunctionalGroupsSequence[2]
        for item, intercept in ((shared, 100), (group, 0)):
            item.PixelValueTransformationSequence = [pydicom.Dataset()]
            scale = item.PixelValueTransformationSequence[0]
            scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = 1, intercept, "HU"

    path = write(placed(volume()))
    path.write_bytes(changed(path.read_bytes(), change))
    scale = [(1, 100), (1, 100), (1, 0), *[(1, 100)] * 3]
    assert_is(path, classic(tmp_path / "classic", volume(), scale))


@pytest.mark.parametrize(
    ("said", "thickness"), [({}, 5), ({"SpacingBetweenSlices": 2.5}, 2.5), ({"SliceThickness": 0}, 1)]
)
def test_a_lone_frame_is_as_thick_as_it_says(write, said, thickness):
    (frame,) = placed(volume(1))
    frame.groups["PixelMeasuresSequence"] |= said
    grid = read_volume(write([frame]))[1]
    assert grid.shape == (12, 10, 1)
    assert grid.spacing == pytest.approx((2, 1.5, thickness))


def test_numbers_of_eight_bits_are_read(write):
    def change(data):
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
        data.PixelData = np.frombuffer(data.PixelData, np.int16).astype(np.uint8).tobytes()
        data["PixelData"].VR = "OB"

    path = write(placed(volume()))
    path.write_bytes(changed(path.read_bytes(), change))
    np.testing.assert_array_equal(read_volume(path)[0], volume().astype(np.uint8))


def test_parts_of_a_volume_in_several_files_are_put_together(write, tmp_path):
    """A concatenation."""
    frames, uids = shuffled(placed(volume(10))), (generate_uid(), generate_uid())
    for number, of_file in enumerate((frames[:4], frames[4:])):
        path = write(of_file, f"{number}.dcm", uids=uids, number=number)
    assert_is(path.parent, classic(tmp_path / "classic", volume(10)))


def test_a_file_that_is_there_twice_is_read_once(write, tmp_path):
    path = write(placed(volume()))
    (path.parent / "copy.dcm").write_bytes(path.read_bytes())
    assert_is(path.parent, classic(tmp_path / "classic", volume()))
    assert len(series_files(path.parent)) == 1


# Packed pixels


def packed(content, syntax):
    """The same file with each frame compressed."""

    def change(data):
        frames = [
            encode_frame(frame, syntax, data.BitsAllocated, data.BitsStored, "MONOCHROME2", data.PixelRepresentation)
            for frame in data.pixel_array
        ]
        data.PixelData, data.file_meta.TransferSyntaxUID = encapsulate(frames), syntax
        data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True

    return changed(content, change)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=lambda syntax: syntax.name)
def test_packed_frames_are_unpacked(write, tmp_path, syntax):
    values = volume() + 1000  # the encoders want no signs
    path = write(shuffled(placed(values)), PixelRepresentation=0)
    path.write_bytes(packed(path.read_bytes(), syntax))
    assert_is(path, classic(tmp_path / "classic", values))


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian], ids=lambda uid: uid.name
)
def test_other_ways_of_writing_numbers_are_read(write, tmp_path, syntax):
    def change(data):
        data.file_meta.TransferSyntaxUID = syntax
        data.is_implicit_VR, data.is_little_endian = syntax.is_implicit_VR, syntax.is_little_endian
        if not syntax.is_little_endian:
            data.PixelData = np.frombuffer(data.PixelData, "<i2").astype(">i2").tobytes()

    path = write(shuffled(placed(volume())))
    path.write_bytes(changed(path.read_bytes(), change))
    assert_is(path, classic(tmp_path / "classic", volume()))


UNKNOWN = UID("1.2.840.10008.1.2.4.99")


@pytest.mark.parametrize("syntax", [UNKNOWN, MPEG2MPML], ids=lambda syntax: syntax.name)
def test_pixels_that_nothing_here_unpacks_are_refused_by_how_they_are_packed(write, tmp_path, monkeypatch, syntax):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = write(placed(volume()), PixelRepresentation=0)
    content = packed(path.read_bytes(), JPEG2000Lossless)
    if syntax == MPEG2MPML:
        content = changed(content, lambda data: setattr(data.file_meta, "TransferSyntaxUID", syntax))
    path.write_bytes(content.replace(JPEG2000Lossless.encode(), syntax.encode()))
    name = re.escape(syntax.name)
    with pytest.raises(ValueError, match=rf"the pixels of x\.dcm \({name}\) cannot be read: convert it with dcm2niix"):
        read_volume(path)
    assert [each.name for each in tmp_path.iterdir()] == ["enhanced"], "no copy of the patient is left behind"


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=lambda syntax: syntax.name)
def test_packed_frames_that_are_damaged_are_refused(write, syntax):
    path = write(placed(volume()), PixelRepresentation=0)
    content = packed(path.read_bytes(), syntax)
    middle = len(content) - 600
    path.write_bytes(content[:middle] + bytes(300) + content[middle + 300 :])
    with pytest.raises(ValueError, match=r"the pixels of x\.dcm \(.*\) cannot be read"):
        read_volume(path)


def test_pixels_of_fewer_frames_than_are_said_are_refused(write):
    def change(data):
        data.PixelData = data.PixelData[: len(data.PixelData) * 5 // 6]

    path = write(placed(volume()))
    path.write_bytes(changed(path.read_bytes(), change))
    with pytest.raises(ValueError, match=r"the pixels of x\.dcm \(Explicit VR Little Endian\) cannot be read"):
        read_volume(path)


def test_packed_pixels_of_fewer_frames_than_are_said_are_refused(write):
    def change(data):
        frames = list(generate_pixel_data_frame(data.PixelData, 6))
        data.PixelData = encapsulate(frames[:5])

    path = write(placed(volume()))
    path.write_bytes(changed(packed(path.read_bytes(), RLELossless), change))
    with pytest.raises(ValueError, match=r"the pixels of x\.dcm \(RLE Lossless\) cannot be read"):
        read_volume(path)


def test_what_follows_the_pixels_is_no_frame(write):
    path = write(placed(volume()))
    path.write_bytes(changed(path.read_bytes(), lambda data: setattr(data, "PixelData", data.PixelData + bytes(100))))
    np.testing.assert_array_equal(read_volume(path)[0], volume())


# Several volumes in one file


def of_echoes(slices=6, times=(2.3, 4.6), **more):
    """The frames of echoes that lie in the same places, one after the other."""
    return [
        frame
        for number, time in enumerate(times)
        for frame in placed(volume(slices, number), said={"MREchoSequence": {"EffectiveEchoTime": time}}, **more)
    ]


def said(**content):
    """What FrameContentSequence says."""
    return {"content": content}


def diffusion(value):
    return {"said": {"MRDiffusionSequence": {"DiffusionBValue": value}}}


TOLD_APART = {
    "EchoTime": [{"said": {"MREchoSequence": {"EffectiveEchoTime": time}}} for time in (2.3, 4.6)],
    "DiffusionBValue": [diffusion(0.0), diffusion(800.0)],
    "TemporalPositionIdentifier": [said(TemporalPositionIndex=1), said(TemporalPositionIndex=2)],
    "AcquisitionNumber": [said(FrameAcquisitionNumber=1), said(FrameAcquisitionNumber=2)],
    "AcquisitionTime": [said(FrameAcquisitionDateTime="20240101120000"), said(FrameAcquisitionDateTime="2024010112")],
    "InversionTime": [{"said": {"MRModifierSequence": {"InversionTimes": [time]}}} for time in (100.0, 200.0)],
    "TriggerTime": [
        {"said": {"CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": time}}} for time in (0.0, 40.0)
    ],
    "ImageType": [
        {"said": {"MRImageFrameTypeSequence": {"FrameType": ["ORIGINAL", "PRIMARY", "A", part]}}} for part in "MP"
    ],
    "SequenceName": [
        {"said": {"UnassignedPerFrameConvertedAttributesSequence": {"SequenceName": name}}} for name in ("fl2d", "fl3d")
    ],
    "stack": [said(StackID="1"), said(StackID="2")],
}


@pytest.mark.parametrize("by", TOLD_APART)
def test_volumes_in_the_same_places_are_told_apart_by_what_their_frames_say(write, tmp_path, by):
    frames = [frame for number, each in enumerate(TOLD_APART[by]) for frame in placed(volume(6, number), **each)]
    path = write(shuffled(frames))
    found = look(path).volumes
    assert [each.part.split()[0] for each in found] == [by, by]
    volumes = sorted((read_slices(each.slices(), each.title)[0] for each in found), key=lambda values: values.sum())
    for values, wanted in zip(volumes, sorted((volume(6, 0), volume(6, 1)), key=np.sum), strict=True):
        np.testing.assert_array_equal(values, wanted)


def test_of_several_volumes_in_a_file_one_is_to_be_named_and_read_by_its_name(write, tmp_path):
    path = write(shuffled(of_echoes()), SeriesDescription="T2 map", Modality="MR")
    uid = pydicom.dcmread(path).SeriesInstanceUID
    for image in (path, path.parent):
        with pytest.raises(ValueError, match=rf"holds 2 parts of DICOM series {uid}, which differ; one") as refused:
            read_volume(image)
        assert str(refused.value).splitlines()[1:] == [
            f"  {uid}_EchoTime_2_3: number 1, MR, T2 map, 6 slices in 1 file, 12 x 10",
            f"  {uid}_EchoTime_4_6: number 1, MR, T2 map, 6 slices in 1 file, 12 x 10",
        ]
        np.testing.assert_array_equal(read_volume(image, f"{uid}_EchoTime_4_6")[0], volume(6, 1))
    with pytest.raises(ValueError, match=r"x\.dcm holds no DICOM series 9\.8, but\n  .*EchoTime_2_3"):
        read_volume(path, "9.8")
    with pytest.raises(ValueError, match=r"are in the same place \(two phases or echoes\?\)"):
        check_slices([path])


def test_the_series_of_a_file_with_one_may_be_named_too(write):
    path = write(placed(volume()))
    np.testing.assert_array_equal(read_volume(path, pydicom.dcmread(path).SeriesInstanceUID)[0], volume())


def test_volumes_that_two_things_tell_apart_are_told_apart_by_their_dimensions(write):
    frames = [frame for time in (1, 2) for frame in of_echoes(content={"TemporalPositionIndex": time})]
    dimensions = ("StackID", "InStackPositionNumber", "EffectiveEchoTime", "TemporalPositionIndex")
    found = parts(write(frames, dimensions=dimensions))
    assert found == [f"DimensionIndexValues 1\\{echo}\\{time}" for echo in (1, 2) for time in (1, 2)]


def test_frames_in_one_place_that_nothing_tells_apart_are_refused_by_their_numbers(write):
    path = write(placed(volume(6)) + placed(volume(6, 1)))
    with pytest.raises(ValueError, match=r"slices 1 of x\.dcm and 7 of x\.dcm are in the same place \(two phases"):
        read_volume(path)


def test_stacks_that_lie_apart_are_a_volume_each(write):
    frames = [
        frame
        for number in (0, 1)
        for frame in placed(volume(6, number), origin=(0, 0, 90.0 * number), content={"StackID": f"L{number}"})
    ]
    path = write(frames)
    assert parts(path) == ["stack L0", "stack L1"]
    np.testing.assert_array_equal(read_slices(look(path).volumes[1].slices(), "")[0], volume(6, 1))


def test_a_stack_for_each_slice_is_one_volume(write, tmp_path):
    frames = [
        frame
        for number in range(6)
        for frame in placed(
            volume()[:, :, number : number + 1],
            origin=np.array(ORIGIN) + 5 * number * TURNED[:, 2],
            content={"StackID": str(number)},
        )
    ]
    assert_is(write(frames), classic(tmp_path / "classic", volume()))


def test_a_localizer_in_one_file_is_left_out_and_listed_if_it_is_asked_for(write):
    turns = [Rotation.from_euler("x", angle, degrees=True).as_matrix() for angle in (0, 90)]
    frames = [frame for turn in turns for frame in frames_of(volume(5), SPACING, directions=turn)]
    path = write(frames)
    assert [each.reason for each in look(path).left_out] == ["10 slices of a series in 2 directions: a localizer"]
    with pytest.raises(ValueError, match=r"_axial: number 1, CT, 5 slices .*\n .*_coronal: number 1, CT, 5 slices"):
        read_volume(path)


def test_files_of_one_series_that_nothing_else_tells_apart_are_a_volume_each(write):
    uids = (generate_uid(), generate_uid())
    for number in (0, 1):
        path = write(placed(volume(6, number)), f"{number}.dcm", uids=uids, number=number)
    assert parts(path) == ["1", "2"]
    np.testing.assert_array_equal(read_volume(path.parent, f"{uids[1]}_2")[0], volume(6, 1))


def test_an_enhanced_file_and_slices_of_one_series_are_told_apart(write):
    """Though they would complete each other."""
    path, above = (
        write(placed(volume(), **said(StackID="")), uids=("1.2", "1.2.3")),
        np.array(ORIGIN) + 30 * TURNED[:, 2],
    )
    for number, content in enumerate(dicom_series(volume(6, 1), SPACING, above, ("1.2", "1.2.3"), TURNED)):
        (path.parent / f"{number}.dcm").write_bytes(content)
    found = [read_slices(each.slices(), each.title)[0] for each in look(path).volumes]
    assert sorted(values.sum() for values in found) == sorted([volume(6, 0).sum(), volume(6, 1).sum()])


# What is refused


@pytest.mark.parametrize(
    ("missing", "complaint"),
    [
        ((2, 3), r"not evenly spaced, two of them lie 15\.0 mm apart and others 5\.0"),
        ((3,), r"not evenly spaced, two of them lie 10\.0 mm apart and others 5\.0"),
    ],
)
def test_frames_with_a_hole_between_them_are_refused_as_slices_are(write, missing, complaint):
    path = write([frame for number, frame in enumerate(placed(volume(8))) if number not in missing])
    with pytest.raises(ValueError, match=complaint):
        read_volume(path)
    with pytest.raises(ValueError, match=complaint):
        check_slices([path])


def test_frames_of_a_tilted_gantry_are_refused_as_slices_are(write):
    frames = frames_of(volume(12), SPACING)
    for number, frame in enumerate(frames):
        frame.groups["PlanePositionSequence"] = {"ImagePositionPatient": [0, 1.3 * number, 5 * number]}
    with pytest.raises(ValueError, match=r"beside each other \(a tilted gantry\?\)"):
        read_volume(write(frames))


def test_a_file_without_a_group_for_each_frame_is_refused_and_counts_as_one_that_cannot_be_read(write):
    path = write(placed(volume()))
    path.write_bytes(changed(path.read_bytes(), lambda data: data.PerFrameFunctionalGroupsSequence.pop()))
    (left,) = look(path).left_out
    assert left.reason == "many slices in one file (Enhanced MR Image), which is not read: convert it with dcm2niix"
    assert left.unreadable
    for image in (path, path.parent):
        with pytest.raises(ValueError, match=r"x\.dcm \(Enhanced MR Image Storage\) does not say where its frames lie"):
            read_volume(image)


def test_frames_that_do_not_say_where_they_lie_are_refused(write):
    frames = placed(volume())
    for frame in frames:
        del frame.groups["PlanePositionSequence"]
    path = write(frames)
    (left,) = look(path).left_out
    assert left.reason == "Enhanced MR Image: the files do not say where in the patient they lie"
    assert (left.files, left.unreadable) == ((path,), False)
    with pytest.raises(ValueError, match=r"x\.dcm \(Enhanced MR Image Storage\) does not say where its frames lie"):
        read_volume(path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_file_that_is_cut_short_is_refused_by_name(write, part):
    path = write(placed(volume()))
    path.write_bytes(path.read_bytes()[: int(len(path.read_bytes()) * part)])
    with pytest.raises(ValueError, match=r"enhanced holds files that are no readable DICOM images .*: x\.dcm\. What"):
        read_volume(path.parent)
    with pytest.raises(ValueError, match=r"x\.dcm is not an image that ITK reads"):
        read_volume(path)


def test_values_that_are_none_make_a_file_one_that_cannot_be_read(write):
    path = write(placed(volume()))
    place = b"\x32\x00DS"
    content = path.read_bytes()
    at = content.index(place, content.index(b"\x20\x00\x13\x91")) + 6
    path.write_bytes(content[:at] + b"nowhere" + content[at + 7 :])
    (left,) = look(path).left_out
    assert (left.files, left.unreadable) == ((path,), True)


def test_a_dicom_segmentation_is_refused_in_words(write, tmp_path):
    path = write(placed(volume()))
    values, grid = read_volume(path)
    labels = (values > 0).astype(np.uint8)
    with pytest.raises(ValueError, match=r"no DICOM segmentation is made of x\.dcm: dcmqi takes slices in files of"):
        write_segmentation(tmp_path / "seg.dcm", series_files(path.parent), labels, grid, {1: Segment("liver")})


# Commands


def test_the_volumes_of_a_file_are_imported_each(write, tmp_path, capsys):
    path = write(shuffled(of_echoes()), SeriesNumber=7, Modality="MR")
    studies = tmp_path / "studies"
    assert cli.main(["import", str(path.parent), "--output", str(studies)]) == 0
    names = ["0_20240101_7_EchoTime_2_3", "0_20240101_7_EchoTime_4_6"]
    assert sorted(file.name.removesuffix(".nii.gz") for file in studies.glob("*.nii.gz")) == names
    for number, name in enumerate(names):
        series = classic(tmp_path / name, volume(6, number))
        assert_is(studies / f"{name}.nii.gz", series)
    assert "left out" not in capsys.readouterr().err
    assert cli.main(["import", str(path.parent), "--output", str(studies)]) == 0
    assert "2 series as NIfTI images, 2 of them written before" in capsys.readouterr().out


def test_a_file_is_predicted_as_its_series_is(write, weights, tmp_path):
    series = classic(tmp_path / "classic", volume())
    masks = []
    for image in (series, write(shuffled(placed(volume()))), tmp_path / "enhanced"):
        output = tmp_path / f"{len(masks)}.nii.gz"
        click = ["--click", "3,4,2", "--weights", str(weights), "--output", str(output)]
        assert cli.main(["predict", str(image), *click]) == 0
        masks.append(read_volume(output)[0])
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[2])


def test_one_volume_of_a_file_is_predicted_by_its_name(write, weights, tmp_path, capsys):
    path = write(of_echoes())
    command = ["predict", str(path), "--click", "3,4,2", "--weights", str(weights)]
    command += ["--output", str(tmp_path / "mask.nii.gz")]
    assert cli.main(command) == 2
    name = capsys.readouterr().err.splitlines()[1].strip().split(":")[0]
    assert cli.main([*command, "--series", name]) == 0


def test_enhanced_files_of_a_folder_are_predicted_each(write, tis, tmp_path):
    for number in (0, 1):
        path = write(placed(volume(8, number)), f"{number}.dcm", SeriesNumber=number)
    output = tmp_path / "masks"
    assert cli.main(["predict", str(path.parent), "--weights", str(tis), "--output", str(output)]) == 0
    assert sorted(file.name for file in output.glob("*.nii.gz")) == ["series_0.nii.gz", "series_1.nii.gz"]
