import highdicom
import numpy as np
import pydicom
import pydicom.encaps
import pydicom_seg
import pytest
from monailabel.datastore.utils.colors import GENERIC_ANATOMY_COLORS
from monailabel.datastore.utils.convert import dicom_to_nifti

from clickseg import cli
from clickseg.dicom_seg import Segment
from clickseg.dicom_seg import write_segmentation as write_as_the_command_line
from clickseg.geometry import Grid
from clickseg.images import read_volume, write_mask
from clickseg.methods.tis import TisRecipe
from clickseg.phantom.dicom import dicom_series
from lib.server.segmentations import read_segmentation, write_segmentation

SHAPE, SPACING, ORIGIN = (24, 20, 10), (1.5, 2.0, 4.0), (-31.25, 12.5, 100.0)
NAMES = [
    {"name": "liver", "idx": 6},
    {"name": "left kidney", "idx": 3},
    {"name": "what we look for", "idx": 2, "color": [1, 2, 3]},
]


def oblique():
    turn, tilt = np.radians(20), np.radians(-35)
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    return about_z @ about_x


ORIENTATIONS = {
    "axial": np.eye(3),
    "axial, downwards": np.diag([1.0, 1.0, -1.0]),
    "from behind": np.diag([-1.0, 1.0, 1.0]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]),
    "sagittal": np.array([[0, 0, 1.0], [1.0, 0, 0], [0, -1.0, 0]]),
    "oblique": oblique(),
}


@pytest.fixture(params=ORIENTATIONS.values(), ids=ORIENTATIONS)
def series(request, tmp_path):
    """The folder of a series, its volume and its grid as the server has them."""
    return write_series(tmp_path / "series", request.param)


@pytest.fixture
def axial(tmp_path):
    return write_series(tmp_path / "series", np.eye(3))


def write_series(folder, directions):
    folder.mkdir()
    values = np.random.default_rng(0).normal(50, 80, SHAPE).astype(np.int16)
    for number, content in enumerate(dicom_series(values, SPACING, ORIGIN, directions=directions)):
        (folder / f"{number}.dcm").write_bytes(content)
    return folder, read_volume(dicom_to_nifti(str(folder)))[1]


def three_segments(shape):
    """Values with gaps, in some of the slices only, and none symmetric."""
    label = np.zeros(shape, np.uint8)
    label[3:9, 4:9, 2:5] = 6
    label[3:5, 4:6, 3] = 2
    label[14:20, 10:18, 4:7] = 3
    return label


def written(series, label, names=NAMES):
    folder, grid = series
    write_mask(folder.parent / "label.nii.gz", label, grid)
    return write_segmentation(folder, folder.parent / "label.nii.gz", names)


def test_the_series_lies_where_it_was_put(tmp_path):
    _, grid = write_series(tmp_path / "series", ORIENTATIONS["oblique"])
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = ORIENTATIONS["oblique"] * SPACING, ORIGIN
    assert np.allclose(grid.lps_affine, lps, atol=1e-4)


def test_a_label_map_is_the_same_after_it_was_a_segmentation(series):
    label = three_segments(SHAPE)
    found, names = read_segmentation(written(series, label), series[1])
    assert np.array_equal(found, label)
    assert {item["idx"]: item["name"] for item in names} == {2: "what we look for", 3: "left kidney", 6: "liver"}


def test_the_segmentation_has_the_frame_of_the_series_and_names_its_files(series):
    dataset = pydicom.dcmread(written(series, three_segments(SHAPE)))
    source = [pydicom.dcmread(path) for path in series[0].iterdir()]
    assert dataset.FrameOfReferenceUID == source[0].FrameOfReferenceUID
    (referred,) = dataset.ReferencedSeriesSequence
    assert referred.SeriesInstanceUID == source[0].SeriesInstanceUID
    shared = dataset.SharedFunctionalGroupsSequence[0]
    assert np.allclose(shared.PlaneOrientationSequence[0].ImageOrientationPatient, source[0].ImageOrientationPatient)
    assert np.allclose(shared.PixelMeasuresSequence[0].PixelSpacing, source[0].PixelSpacing)
    places = np.array([file.ImagePositionPatient for file in source], float)
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        away = np.abs(places - np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)).max(1)
        assert away.min() < 0.01


def test_other_readers_find_every_segment(series):
    label = three_segments(SHAPE)
    path = written(series, label)
    voxels = {"what we look for": (label == 2).sum(), "left kidney": (label == 3).sum(), "liver": (label == 6).sum()}

    dataset = pydicom.dcmread(path)
    assert [segment.SegmentNumber for segment in dataset.SegmentSequence] == [1, 2, 3]
    assert {segment.SegmentLabel for segment in dataset.SegmentSequence} == set(voxels)
    assert dataset.pixel_array.sum() == sum(voxels.values())

    segmentation = highdicom.seg.segread(path)
    for number in segmentation.segment_numbers:
        frames = [source[2] for source in segmentation.get_source_image_uids()]
        pixels = segmentation.get_pixels_by_source_instance(
            frames, segment_numbers=[number], ignore_spatial_locations=True, assert_missing_frames_are_empty=True
        )
        assert pixels.sum() == voxels[segmentation.get_segment_description(number).segment_label]

    result = pydicom_seg.SegmentReader().read(dataset)
    for number in result.available_segments:
        assert result.segment_data(number).sum() == voxels[result.segment_infos[number].SegmentLabel]


def test_a_segment_says_what_it_is_in_words_code_and_colour(axial):
    dataset = pydicom.dcmread(written(axial, three_segments(SHAPE)))
    other, kidney, liver = dataset.SegmentSequence
    assert [segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for segment in (other, kidney, liver)] == [
        "Tissue",
        "Kidney",
        "Liver",
    ]
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    assert liver.SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert len({tuple(segment.RecommendedDisplayCIELabValue) for segment in (other, kidney, liver)}) == 3


def test_one_clicked_slice_is_enough(axial):
    label = np.zeros(SHAPE, np.uint8)
    label[5:9, 6:12, 7] = 1
    found, names = read_segmentation(written(axial, label, [{"name": "spleen"}]), axial[1])
    assert np.array_equal(found, label)
    assert names == [{"name": "spleen", "idx": 1}]


def test_what_has_no_name_has_none_afterwards(axial):
    found, names = read_segmentation(written(axial, three_segments(SHAPE), ()), axial[1])
    assert np.array_equal(found, three_segments(SHAPE))
    assert names == []


def test_a_name_belongs_to_its_value_where_other_named_values_are_missing(axial):
    label = np.where(three_segments(SHAPE) == 6, 6, 0).astype(np.uint8)
    names = [{"name": name, "idx": idx} for idx, name in enumerate("abcdefg", start=1)]
    assert read_segmentation(written(axial, label, names), axial[1])[1] == [{"name": "f", "idx": 6}]


def test_a_segmentation_on_a_coarser_grid_is_read_onto_the_image(axial):
    coarse = three_segments(SHAPE)
    found, _ = read_segmentation(written(axial, coarse), axial[1])
    half = np.diag([0.5, 0.5, 1.0, 1.0])
    half[:2, 3] = -0.25
    fine = Grid((48, 40, 10), axial[1].affine @ half)
    refined, _ = read_segmentation(written(axial, coarse), fine)
    assert np.array_equal(refined, found.repeat(2, 0).repeat(2, 1))


def test_an_empty_label_map_is_refused(axial):
    with pytest.raises(ValueError, match="the label map is empty"):
        written(axial, np.zeros(SHAPE, np.uint8))


@pytest.mark.parametrize("colour", ["red", [1, 2], [0, 0, 256], [None, 1, 2]])
def test_a_colour_that_is_none_is_refused(axial, colour):
    with pytest.raises(ValueError, match="the colour of 'liver' must be"):
        written(axial, three_segments(SHAPE), [{"name": "liver", "idx": 6, "color": colour}])


def test_what_is_no_segmentation_is_refused(axial, tmp_path):
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(ValueError, match=r"text.dcm is not a readable DICOM segmentation"):
        read_segmentation(tmp_path / "text.dcm", axial[1])
    image = next(axial[0].iterdir())
    with pytest.raises(ValueError, match="DICOM-SEG"):
        read_segmentation(image, axial[1])


@pytest.mark.parametrize("missing", ["decoder", "SharedFunctionalGroupsSequence", "PixelData", "Rows"])
def test_an_odd_segmentation_is_refused_whatever_its_reader_stumbles_over(axial, tmp_path, missing):
    content = pydicom.dcmread(written(axial, three_segments(axial[1].shape)))
    if missing == "decoder":
        content.SegmentationType, content.MaximumFractionalValue = "FRACTIONAL", 255
        content.BitsAllocated = content.BitsStored = 8
        content.HighBit = 7
        content.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless
        content.PixelData = pydicom.encaps.encapsulate([b"\0\1\2\3"] * int(content.NumberOfFrames))
        content["PixelData"].is_undefined_length = True
    else:
        del content[missing]
    content.save_as(tmp_path / "odd.dcm")
    with pytest.raises(ValueError, match=r"odd.dcm is not a readable DICOM segmentation"):
        read_segmentation(tmp_path / "odd.dcm", axial[1])


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("Leberläsion", "Leberläsion"),
        ("肝臓", "肝臓"),
        ("left\\right", "left/right"),
        (" lesion ", "lesion"),
        ('1 "<tumour>"', '1 "<tumour>"'),
        ("x" * 80, "x" * 64),
    ],
)
def test_a_structure_may_have_any_name(axial, name, read):
    path = written(axial, three_segments(axial[1].shape), [{"name": name, "idx": 2}, {"name": "liver", "idx": 6}])
    names = read_segmentation(path, axial[1])[1]
    assert names == [{"name": read, "idx": 2}, {"name": "liver", "idx": 6}]
    assert [item.SegmentLabel for item in highdicom.seg.segread(path).SegmentSequence] == [read, "label 3", "liver"]


def test_a_structure_whose_name_is_blank_has_none(axial):
    path = written(axial, three_segments(axial[1].shape), [{"name": " ", "idx": 2}, {"name": "liver", "idx": 6}])
    assert read_segmentation(path, axial[1])[1] == [{"name": "liver", "idx": 6}]


def test_the_patient_keeps_the_name_whatever_the_structures_are_called(axial):
    for file in axial[0].iterdir():
        content = pydicom.dcmread(file)
        content.SpecificCharacterSet, content.PatientName = "ISO_IR 100", "Müller^Jörg"
        content.save_as(file)
    for name in ("liver", "Leberläsion", "肝臓"):
        path = written(axial, three_segments(axial[1].shape), [{"name": name, "idx": 2}])
        assert pydicom.dcmread(path).PatientName == "Müller^Jörg"
        assert read_segmentation(path, axial[1])[1] == [{"name": name, "idx": 2}]


def test_what_dcmqi_makes_no_segmentation_of_is_refused(axial):
    broken = {"name": "liver", "idx": 2, "segmentAttribute": {"labelID": 2, "SegmentLabel": "liver"}}
    with pytest.raises(ValueError, match="no DICOM segmentation could be made of liver"):
        written(axial, (three_segments(axial[1].shape) == 2).astype(np.uint8) * 2, [broken])


def test_nothing_is_left_of_what_was_refused(axial, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with pytest.raises(ValueError, match="the label map is empty"):
        written(axial, np.zeros(SHAPE, np.uint8))
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_structure_has_the_colour_that_monai_label_gives_its_name(axial):
    label = (three_segments(SHAPE) > 0).astype(np.uint8)
    colours = [
        pydicom.dcmread(written(axial, label, [{"name": "spleen", "idx": 1, **colour}]))
        .SegmentSequence[0]
        .RecommendedDisplayCIELabValue
        for colour in ({}, {"color": GENERIC_ANATOMY_COLORS["spleen"]}, {"color": [1, 2, 3]})
    ]
    assert colours[0] == colours[1] != colours[2]


def without_identity(path):
    """A SEG as JSON, without what tells it from others of the same content."""
    content = pydicom.dcmread(path)
    for name in ("SOPInstanceUID", "SeriesInstanceUID", "SeriesTime", "ContentTime"):
        delattr(content, name)
    for item in (*content.DimensionOrganizationSequence, *content.DimensionIndexSequence):
        del item.DimensionOrganizationUID
    return content.to_json_dict()


def test_the_command_line_writes_what_the_server_writes(axial, tmp_path):
    label = three_segments(SHAPE)
    segments = {
        item["idx"]: Segment(item["name"], item.get("color") or GENERIC_ANATOMY_COLORS.get(item["name"]))
        for item in NAMES
    }
    write_as_the_command_line(tmp_path / "seg.dcm", axial[0].iterdir(), label, axial[1], segments)
    assert without_identity(tmp_path / "seg.dcm") == without_identity(written(axial, label))


def test_what_was_predicted_to_a_segmentation_is_read_as_it_was_predicted(series, tiny_tis_weights, tmp_path):
    labels = {"liver": 1, "cyst of the left kidney": 4}
    recipe = TisRecipe(labels=labels, spacing=6.0, patch=(8, 8, 8), width=2, tokens=4, heads=2, layers=1, reach=1)
    tiny_tis_weights(tmp_path / "tis.pt", recipe)
    for name in ("seg.dcm", "seg.nii.gz"):
        command = ["predict", series[0], "--weights", tmp_path / "tis.pt", "--output", tmp_path / name]
        assert cli.main([str(part) for part in command]) == 0
    predicted = read_volume(tmp_path / "seg.nii.gz")[0]
    found, names = read_segmentation(tmp_path / "seg.dcm", read_volume(series[0])[1])
    assert np.array_equal(found, predicted)
    assert {item["name"]: item["idx"] for item in names} == labels
    content = pydicom.dcmread(tmp_path / "seg.dcm")
    assert {segment.SegmentAlgorithmType for segment in content.SegmentSequence} == {"AUTOMATIC"}
