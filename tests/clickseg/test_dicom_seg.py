"""`clickseg predict --output x.dcm`: what the library alone writes. tests/lib has how the server reads it."""

import shutil
import subprocess

import highdicom
import numpy as np
import pydicom
import pytest

from clickseg import cli, dicom_seg
from clickseg.clicks import Click
from clickseg.dicom import series_files
from clickseg.dicom_seg import Segment, write_segmentation
from clickseg.images import read_volume
from clickseg.phantom.dicom import dicom_series
from clickseg.sessions import SessionCache

SHAPE, SPACING = (24, 20, 10), (1.5, 2.0, 4.0)
SEGMENTS = {2: Segment("cyst", (1, 2, 3)), 6: Segment("liver"), 7: Segment("spleen")}


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture
def series(tmp_path):
    return write_series(tmp_path / "series")


def write_series(folder, seed=0):
    folder.mkdir(exist_ok=True)
    values = np.random.default_rng(seed).normal(50, 80, SHAPE).astype(np.int16)
    for number, content in enumerate(dicom_series(values, SPACING)):
        (folder / f"{seed}{number:02}.dcm").write_bytes(content)
    return folder


def label_map():
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:9, 4:9, 2:5], labels[3:5, 4:6, 3] = 6, 2
    return labels


def written(series, path, labels=None):
    labels = label_map() if labels is None else labels
    write_segmentation(path, series_files(series), labels, read_volume(series)[1], SEGMENTS)
    return pydicom.dcmread(path)


def test_every_value_that_is_there_is_a_segment_of_its_slices(series, tmp_path):
    found = written(series, tmp_path / "seg.dcm")
    assert [segment.SegmentLabel for segment in found.SegmentSequence] == ["cyst", "liver"]
    segmentation = highdicom.seg.segread(tmp_path / "seg.dcm")
    frames = [source[2] for source in segmentation.get_source_image_uids()]
    numbers = {pydicom.dcmread(file).SOPInstanceUID: number for number, file in enumerate(series_files(series))}
    for segment, value in ((1, 2), (2, 6)):
        pixels = segmentation.get_pixels_by_source_instance(
            frames, segment_numbers=[segment], ignore_spatial_locations=True, assert_missing_frames_are_empty=True
        )
        np.testing.assert_array_equal(pixels[..., 0], (label_map() == value).T[[numbers[uid] for uid in frames]])
    assert sorted(numbers[uid] for uid in frames) == [2, 3, 4]


def test_folders_beside_the_slices_and_their_names_are_of_no_concern(tmp_path):
    """dcmqi looks into every folder below the one that it is given, and parts lists of files at commas."""
    series = write_series(tmp_path / "one, two")
    write_series(series / "another", seed=1)
    found = written(series, tmp_path / "seg, 1.dcm")
    (referred,) = found.ReferencedSeriesSequence
    slices = [pydicom.dcmread(file) for file in series.glob("*.dcm")]
    assert referred.SeriesInstanceUID == slices[0].SeriesInstanceUID
    instances = {item.ReferencedSOPInstanceUID for item in referred.ReferencedInstanceSequence}
    assert instances
    assert instances <= {each.SOPInstanceUID for each in slices}


def test_what_a_series_says_of_its_patient_need_not_be_right(series, tmp_path, monkeypatch):
    """Programs that hide names leave what is no date, say."""
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.IGNORE)
    for file in series.iterdir():
        content = pydicom.dcmread(file)
        content.PatientBirthDate, content.PatientSex = "REMOVED", "not known any more"
        content.save_as(file)
    found = written(series, tmp_path / "seg.dcm")
    assert found.PatientBirthDate == "REMOVED"
    assert len(found.SegmentSequence) == 2


def test_without_dcmqi_that_is_said(series, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    with pytest.raises(ValueError, match=r"made of cyst, liver: .* written by dcmqi, and .* pip install dcmqi"):
        written(series, tmp_path / "seg.dcm")
    assert not (tmp_path / "seg.dcm").exists()


def test_dcmqi_is_found_beside_python(series, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert written(series, tmp_path / "seg.dcm").Modality == "SEG"


def test_a_program_that_dies_leaves_the_segmentation_of_before(series, tmp_path, monkeypatch):
    written(series, tmp_path / "seg.dcm")
    before = (tmp_path / "seg.dcm").read_bytes()
    died = subprocess.CompletedProcess([], -11, "", "")
    monkeypatch.setattr(dicom_seg.subprocess, "run", lambda *given, **more: died)
    with pytest.raises(ValueError, match="itkimage2segimage ended with status -11"):
        written(series, tmp_path / "seg.dcm")
    assert (tmp_path / "seg.dcm").read_bytes() == before


def codes_of(segment):
    sequences = "SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence"
    category, concept = (segment[name][0] for name in sequences)
    modifiers = concept.get("SegmentedPropertyTypeModifierCodeSequence", [])
    return category.CodeMeaning, concept.CodeMeaning, [each.CodeMeaning for each in modifiers]


def test_codes_tell_sides_apart_and_organs_from_lesions(series, tmp_path):
    names = ["left kidney", "Right Kidney", "right adrenal", "oesophagus", "cyst", "tumour", "left thing", "tissue"]
    labels = label_map()
    labels[20, 10:18, 4] = range(1, len(names) + 1)
    segments = {value: Segment(name) for value, name in enumerate(names, 1)}
    write_segmentation(tmp_path / "seg.dcm", series_files(series), labels, read_volume(series)[1], segments)
    found = {
        segment.SegmentLabel: codes_of(segment) for segment in pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    }
    organ, lesion = "Anatomical Structure", "Morphologically Abnormal Structure"
    assert found == {
        "left kidney": (organ, "Kidney", ["Left"]),
        "Right Kidney": (organ, "Kidney", ["Right"]),
        "right adrenal": (organ, "Adrenal gland", ["Right"]),
        "oesophagus": (organ, "Esophagus", []),
        "cyst": (lesion, "Cyst", []),
        "tumour": (lesion, "tumor", []),
        "left thing": ("Tissue", "Tissue", ["Left"]),
        "tissue": ("Tissue", "Tissue", []),
    }


# The command line


@pytest.fixture
def predict(weights):
    return lambda *given: run("predict", *given, "--weights", weights)


def test_named_clicks_give_segments_of_these_names(series, predict, tmp_path):
    clicks = ["--click", "6,6,3:liver", "--click", "14,12,3:spleen"]
    for name in ("seg.dcm", "mask.nii.gz"):
        assert predict(series, *clicks, "--output", tmp_path / name) == 0
    mask, found = read_volume(tmp_path / "mask.nii.gz")[0], pydicom.dcmread(tmp_path / "seg.dcm")
    assert [segment.SegmentLabel for segment in found.SegmentSequence] == ["liver", "spleen"]
    assert found.pixel_array.sum() == np.count_nonzero(mask)


def test_a_structure_without_a_name_is_the_foreground_as_on_the_server(series, predict, tmp_path, capsys):
    assert predict(series, "--click", "6,6,3", "--output", tmp_path / "seg.dcm") == 0
    (segment,) = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    assert segment.SegmentLabel == "foreground"
    assert "  inside: " in capsys.readouterr().out


def test_of_several_series_the_segmentation_refers_to_the_one_that_was_predicted(series, predict, weights, tmp_path):
    write_series(series, seed=1)
    first, second = (pydicom.dcmread(series / name).SeriesInstanceUID for name in ("000.dcm", "100.dcm"))
    for uid in (first, second):
        given = ["--click", "6,6,3", "--series", uid, "--output", tmp_path / "seg.dcm"]
        assert predict(series, *given) == 0
        found = pydicom.dcmread(tmp_path / "seg.dcm")
        (referred,) = found.ReferencedSeriesSequence
        assert referred.SeriesInstanceUID == uid
        mask = SessionCache().open(series, weights, series=uid).predict([Click((6, 6, 3), 1)])
        assert found.pixel_array.sum() == mask.sum()


def test_an_image_that_is_no_dicom_series_has_no_segmentation(phantom_study, series, predict, tmp_path, capsys):
    for image in (phantom_study / "imagesTr/phantom_000.nii.gz", series / "000.dcm"):
        assert predict(image, "--click", "6,6,3", "--output", tmp_path / "seg.dcm") == 2
        assert f"refers to a DICOM series, and {image} is no folder of one" in capsys.readouterr().err
    assert not (tmp_path / "seg.dcm").exists()


def test_where_nothing_was_found_there_is_no_segmentation(series, predict, tmp_path, capsys):
    assert predict(series, "--click", "6,6,3:background", "--output", tmp_path / "seg.dcm") == 2
    assert "the label map is empty, and a DICOM segmentation needs a voxel" in capsys.readouterr().err
    assert not (tmp_path / "seg.dcm").exists()


def test_a_segmentation_is_not_written_among_the_slices(series, predict, capsys):
    assert predict(series, "--click", "6,6,3", "--output", series / "seg.dcm") == 2
    assert f"{series / 'seg.dcm'} would be written over {series}" in capsys.readouterr().err
