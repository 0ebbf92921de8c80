import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from clickseg.phantom import FIELD_OF_VIEW, LABELS, phantom, write_phantoms

SMALL = (48, 48, 32)
TINY = (16, 16, 12)
AIR, FLUID = -700, -100  # HU: below is gas, above is not


@pytest.fixture(scope="module")
def patient():
    return phantom(seed=0, shape=(96, 96, 64))


@pytest.fixture(scope="module")
def patients():
    return [phantom(seed, SMALL) for seed in range(5)]


def centre(patient, name):
    """RAS mm."""
    voxels = np.argwhere(patient.label == patient.labels[name])
    return nib.affines.apply_affine(patient.affine, voxels.mean(0))


def volume(patient, name):
    """In ml."""
    return (patient.label == patient.labels[name]).sum() * np.prod(np.diag(patient.affine)[:3]) / 1000


# What it is


def test_it_is_a_ct_with_its_labels_on_one_grid(patient):
    assert patient.image.dtype == np.int16
    assert patient.label.dtype == np.uint8
    assert patient.image.shape == patient.label.shape == (96, 96, 64)
    assert nib.aff2axcodes(patient.affine) == ("R", "A", "S")


def test_label_values_run_from_one_without_gaps():
    assert sorted(LABELS.values()) == list(range(1, len(LABELS) + 1))


def test_every_structure_is_in_every_patient(patients):
    for patient in patients:
        assert set(np.unique(patient.label)) == {0, *LABELS.values()}


def test_the_field_of_view_is_divided_by_the_shape_and_centred():
    made = phantom(shape=TINY)
    np.testing.assert_allclose(np.diag(made.affine)[:3] * TINY, FIELD_OF_VIEW)
    np.testing.assert_allclose(nib.affines.apply_affine(made.affine, (np.array(TINY) - 1) / 2), 0, atol=1e-9)


def test_a_given_spacing_is_the_spacing():
    np.testing.assert_allclose(np.diag(phantom(shape=TINY, spacing=(3, 4, 5)).affine), (3, 4, 5, 1))


# Seeds


def test_the_same_seed_is_the_same_patient_to_the_last_voxel():
    once, again = phantom(3, TINY), phantom(3, TINY)
    np.testing.assert_array_equal(once.image, again.image)
    np.testing.assert_array_equal(once.label, again.label)


def test_the_same_seed_has_the_same_anatomy_at_another_resolution(patient, patients):
    for name in LABELS.keys() - {"ribs"}:  # a rib is never thinner than a voxel
        np.testing.assert_allclose(centre(patient, name), centre(patients[0], name), atol=4)
        assert volume(patient, name) == pytest.approx(volume(patients[0], name), rel=0.15)


@pytest.mark.parametrize("name", ["liver", "spleen", "left kidney", "stomach"])
def test_other_seeds_are_patients_of_other_sizes_and_positions(patients, name):
    assert np.ptp([volume(patient, name) for patient in patients]) > 0.1 * volume(patients[0], name)
    assert np.ptp([centre(patient, name) for patient in patients], axis=0).min() > 2


# Anatomy


def test_liver_and_right_kidney_are_on_the_right_of_the_spine_and_spleen_and_stomach_on_the_left(patients):
    for patient in patients:
        spine = centre(patient, "spine")[0]
        for name in ("liver", "right kidney"):
            assert centre(patient, name)[0] > spine + 20
        for name in ("spleen", "left kidney", "stomach"):
            assert centre(patient, name)[0] < spine - 20


def test_the_aorta_runs_in_front_of_the_spine_and_the_kidneys_lie_below_liver_and_spleen(patients):
    for patient in patients:
        assert centre(patient, "aorta")[1] > centre(patient, "spine")[1] + 15
        assert centre(patient, "right kidney")[2] < centre(patient, "liver")[2] - 20
        assert centre(patient, "left kidney")[2] < centre(patient, "spleen")[2] - 20


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("liver", 90, 130),
        ("spleen", 100, 140),
        ("right kidney", 140, 190),
        ("left kidney", 140, 190),
        ("aorta", 130, 170),
        ("spine", 80, 400),
        ("ribs", 200, 700),
    ],
)
def test_organs_have_portal_venous_hounsfield_units(patient, name, low, high):
    assert low < np.median(patient.image[patient.label == patient.labels[name]]) < high


def test_organs_have_volumes_of_an_adult(patients):
    for patient in patients:
        assert 900 < volume(patient, "liver") < 2200
        assert 60 < volume(patient, "spleen") < 350
        assert 80 < volume(patient, "left kidney") < 280


def test_gas_floats_on_the_fluid_of_the_stomach(patient):
    stomach = patient.label == patient.labels["stomach"]
    gas = np.argwhere(stomach & (patient.image < AIR))[:, 1]
    fluid = np.argwhere(stomach & (patient.image > FLUID))[:, 1]
    assert len(gas) > 50
    assert len(fluid) > 50
    assert np.median(gas) > np.median(fluid) + 5


def test_every_organ_is_one_piece_and_the_ribs_are_many(patients):
    for patient in patients:
        for name, value in LABELS.items():
            _, pieces = ndimage.label(patient.label == value)
            assert (pieces > 10) if name == "ribs" else (pieces == 1), name


def test_the_body_is_surrounded_by_air_with_nothing_labelled_in_it(patients):
    for patient in patients:
        outside, _ = ndimage.label(patient.image < AIR)
        background = outside == outside[0, 0, 0]
        assert background[[0, -1]].mean() > 0.99
        assert np.median(patient.image[background]) == pytest.approx(-1000, abs=5)
        assert not patient.label[background].any()


def test_there_is_lung_at_the_top_and_none_at_the_bottom(patient):
    outside, _ = ndimage.label(patient.image < -500)
    enclosed = (outside > 0) & (outside != outside[0, 0, 0])
    assert enclosed[:, :, -1].mean() > 0.1
    assert enclosed[:, :, 0].mean() < 0.03


def test_there_is_noise_from_slice_to_slice_as_in_a_ct(patient):
    liver = ndimage.binary_erosion(patient.label == LABELS["liver"], iterations=3)
    steps = np.abs(np.diff(patient.image.astype(float), axis=2))[liver[:, :, 1:] & liver[:, :, :-1]]
    assert 5 < np.median(steps) < 25


@pytest.mark.parametrize("shape", [(0, 8, 8), (8, 8), (8, 8, 8, 8)])
def test_an_impossible_shape_is_refused(shape):
    with pytest.raises(ValueError, match="shape"):
        phantom(shape=shape)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, 1, float("nan")), (1, 1, float("inf"))])
def test_an_impossible_spacing_is_refused(spacing):
    with pytest.raises(ValueError, match="spacing"):
        phantom(shape=TINY, spacing=spacing)


# On disk


def test_a_written_study_is_the_phantoms_of_consecutive_seeds(tmp_path):
    images = write_phantoms(tmp_path, cases=2, seed=7, shape=TINY)
    assert [image.relative_to(tmp_path).as_posix() for image in images] == [
        "imagesTr/phantom_000.nii.gz",
        "imagesTr/phantom_001.nii.gz",
    ]
    for image, made in zip(images, (phantom(7, TINY), phantom(8, TINY)), strict=True):
        read, label = nib.load(image), nib.load(tmp_path / "labelsTr" / image.name)
        np.testing.assert_array_equal(read.get_fdata(), made.image)
        np.testing.assert_array_equal(label.get_fdata(), made.label)
        np.testing.assert_allclose(read.affine, made.affine, atol=1e-5)
        np.testing.assert_allclose(label.affine, made.affine, atol=1e-5)
    assert len([file for file in tmp_path.rglob("*") if file.is_file()]) == 5


def test_the_list_of_a_written_study_is_that_of_the_decathlon(tmp_path):
    write_phantoms(tmp_path, cases=2, shape=TINY)
    dataset = json.loads((tmp_path / "dataset.json").read_text())
    assert dataset["modality"] == {"0": "CT"}
    assert dataset["labels"] == {"0": "background"} | {str(value): name for name, value in LABELS.items()}
    assert dataset["numTraining"] == len(dataset["training"]) == 2
    for entry in dataset["training"]:
        assert (tmp_path / entry["image"]).is_file()
        assert (tmp_path / entry["label"]).is_file()


def test_what_a_team_has_labelled_is_never_overwritten(tmp_path):
    write_phantoms(tmp_path, cases=1, shape=TINY)
    files = [file for file in tmp_path.rglob("*") if file.is_file() and file.name != "dataset.json"]
    for file in files:
        file.write_bytes(b"a morning's work")
    write_phantoms(tmp_path, cases=2, seed=5, shape=TINY)
    assert {file.read_bytes() for file in files} == {b"a morning's work"}


def test_a_case_whose_label_was_taken_away_stays_without_one(tmp_path):
    [image] = write_phantoms(tmp_path, shape=TINY)
    (tmp_path / "labelsTr" / image.name).unlink()
    write_phantoms(tmp_path, shape=TINY)
    assert not (tmp_path / "labelsTr" / image.name).exists()


def test_a_label_without_its_image_is_kept_and_no_image_is_made_for_it(tmp_path):
    [image] = write_phantoms(tmp_path, shape=TINY)
    label = tmp_path / "labelsTr" / image.name
    image.unlink()
    label.write_bytes(b"a morning's work")
    write_phantoms(tmp_path, seed=9, shape=TINY)
    assert label.read_bytes() == b"a morning's work"
    assert not image.exists()


def test_an_existing_list_gains_the_new_cases_and_keeps_the_rest(tmp_path):
    write_phantoms(tmp_path, shape=TINY)
    index = tmp_path / "dataset.json"
    edited = json.loads(index.read_text()) | {"description": "ours"}
    index.write_text(json.dumps(edited))
    write_phantoms(tmp_path, shape=TINY)
    assert index.read_text() == json.dumps(edited)
    write_phantoms(tmp_path, cases=3, shape=TINY)
    dataset = json.loads(index.read_text())
    assert dataset["description"] == "ours"
    assert dataset["numTraining"] == len(dataset["training"]) == 3


def test_a_list_that_is_none_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(ValueError, match=r"dataset\.json"):
        write_phantoms(tmp_path, shape=TINY)
    assert not (tmp_path / "imagesTr").exists()


def test_no_cases_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        write_phantoms(tmp_path, cases=0)
