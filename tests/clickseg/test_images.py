"""Images as other programs write them."""

import itk
import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from clickseg.images import doubt, read_grid, read_label, read_volume, write_mask
from clickseg.phantom.dicom import dicom_series


def saved(path, values):
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    return path


def test_what_is_no_number_becomes_the_smallest_number(tmp_path):
    values = np.linspace(-1000, 400, 60, dtype=np.float32).reshape(3, 4, 5)
    given = values.copy()
    given[0], given[1, 0, 0], given[2, 0, 0] = np.nan, np.inf, -np.inf
    found, _ = read_volume(saved(tmp_path / "ct.nii.gz", given))
    kept = np.isfinite(given)
    assert np.array_equal(found[kept], values[kept])
    assert (found[~kept] == values[kept].min()).all()
    assert found.dtype == np.float32


def test_an_image_without_a_single_number_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"ct.nii.gz holds not one finite number"):
        read_volume(saved(tmp_path / "ct.nii.gz", np.full((3, 4, 5), np.nan, np.float32)))


@pytest.mark.parametrize(
    ("least", "modality", "doubted"),
    [
        (-1024, "CT", False),
        (-100, "ct", False),
        (0, "CT", True),
        (0, "MR", False),
        (-150, "MRI", False),
        (-1000, "MR", True),
        (0, "PET", False),
    ],
)
def test_an_image_is_doubted_that_is_hardly_of_the_weights_modality(least, modality, doubted):
    volume = np.array([[[least, 700]]], np.int16)
    assert bool(doubt(volume, modality)) is doubted


@pytest.mark.parametrize(("low", "high", "doubted"), [(-1, 1, True), (-2.5, 9.5, True), (-30, 45, False)])
def test_a_ct_whose_values_span_a_few_units_is_doubted_as_normalised(low, high, doubted):
    volume = np.linspace(low, high, 24, dtype=np.float32).reshape(2, 3, 4)
    assert ("CT in HU, and the values of the image span" in doubt(volume, "CT")) is doubted
    assert doubt(volume, "MR") == ""


def test_a_span_is_that_of_numbers_which_the_image_cannot_hold():
    assert doubt(np.array([[[-32768, 32767]]], np.int16), "CT") == ""


def test_an_image_that_lies_nowhere_is_refused_by_name(tmp_path):
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4))
    image.header["srow_z"] = 0
    path = tmp_path / "flat.nii"
    path.write_bytes(image.header.binaryblock + bytes(4) + bytes(120))
    for read in (read_volume, read_grid):
        with pytest.raises(ValueError, match=r"flat\.nii does not say where its voxels lie: .* invertible 4x4 matrix"):
            read(path)


def test_a_label_is_no_image_and_keeps_its_holes_for_the_check(tmp_path):
    _, grid = read_volume(saved(tmp_path / "ct.nii.gz", np.zeros((3, 4, 5), np.int16)))
    path = saved(tmp_path / "label.nii.gz", np.full((3, 4, 5), np.nan, np.float32))
    with pytest.raises(ValueError, match=r"label.nii.gz has values outside 0..255"):
        read_label(path, grid)


@pytest.mark.parametrize(("element", "size"), [("long long", 8), ("signed char", 1)])
def test_a_kind_of_voxels_that_itk_does_not_read_is_refused_with_a_way_out(tmp_path, element, size):
    path = tmp_path / "ct.nrrd"
    head = f"NRRD0004\ntype: {element}\ndimension: 3\nsizes: 3 4 5\nendian: little\nencoding: raw\n\n"
    path.write_bytes(head.encode() + bytes(60 * size))
    with pytest.raises(ValueError, match=r"ct.nrrd holds a type of voxels that cannot be read: save it with 16 bits"):
        read_volume(path)


def series(folder, directions=None, missing=()):
    """A DICOM folder of 12 slices of 5 mm, 2 x 2 mm in plane."""
    folder.mkdir()
    files = dicom_series(np.zeros((6, 5, 12), np.int16), (2.0, 2.0, 5.0), directions=directions)
    for number, content in enumerate(files):
        if number not in missing:
            (folder / f"{number:02}.dcm").write_bytes(content)
    return folder


def test_a_series_whose_slices_lie_one_upon_the_other_is_read_however_it_is_turned(tmp_path):
    assert read_volume(series(tmp_path / "upright"))[1].shape == (6, 5, 12)
    turned = Rotation.from_euler("xyz", (10, -12, 15), degrees=True).as_matrix()
    assert read_volume(series(tmp_path / "turned", turned))[1].shape == (6, 5, 12)
    assert read_volume(series(tmp_path / "two", missing=range(1, 11)))[1].spacing[2] == pytest.approx(55)


def test_a_series_with_missing_slices_is_refused_in_words(tmp_path):
    with pytest.raises(ValueError, match=r"not evenly spaced, two of them lie 15\.0 mm apart and others 5\.0"):
        read_volume(series(tmp_path / "ct", missing=(4, 5)))


def test_a_series_of_a_tilted_gantry_is_refused_in_words(tmp_path):
    tilt = np.eye(3)
    tilt[:, 2] = 0, np.sin(np.radians(15)), np.cos(np.radians(15))
    with pytest.raises(ValueError, match=r"up to 14\.2 mm beside each other \(a tilted gantry\?\)"):
        read_volume(series(tmp_path / "ct", tilt))


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 1), (3, 4, 5, 1, 1)])
def test_the_grid_of_an_image_is_read_without_its_voxels(tmp_path, shape):
    path = saved(tmp_path / "ct.nii.gz", np.zeros(shape, np.int16))
    volume, grid = read_volume(path)
    assert volume.shape == read_grid(path).shape == (3, 4, 5)
    assert read_grid(path).coincides(grid)


@pytest.mark.parametrize(("place", "content"), [(70, (9999).to_bytes(2, "little")), (40, b"\3\0\0\xff")])
def test_a_head_that_says_what_cannot_be_is_refused_by_the_name_of_its_file(tmp_path, place, content):
    path = saved(tmp_path / "ct.nii", np.zeros((3, 4, 5), np.int16))
    head = bytearray(path.read_bytes())
    head[place : place + len(content)] = content
    path.write_bytes(head)
    with pytest.raises(ValueError, match=r"ct.nii is not a readable NIfTI file"):
        read_volume(path)


def test_an_image_of_other_axes_than_three_is_refused_by_its_head_alone(tmp_path):
    path = saved(tmp_path / "ct.nii.gz", np.zeros((3, 4, 5, 2), np.int16))
    for read in (read_grid, read_volume):
        with pytest.raises(ValueError, match=r"ct.nii.gz has shape \(3, 4, 5, 2\); a 3D image"):
            read(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"ct.nii.gz is not a readable NIfTI file"):
        read_grid(path)


@pytest.mark.parametrize(("unit", "millimetres"), [("micron", 1e-3), ("meter", 1e3), ("mm", 1), ("unknown", 1)])
def test_the_places_of_a_nifti_image_are_in_mm_whatever_its_unit(tmp_path, unit, millimetres):
    affine = np.array([[-2.0, 0, 0, 7], [0, 3, 0, 8], [0, 0, 4, 9], [0, 0, 0, 1]])
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "image.nii.gz")
    expected = np.diag([millimetres] * 3 + [1]) @ affine
    for grid in (read_volume(tmp_path / "image.nii.gz")[1], read_grid(tmp_path / "image.nii.gz")):
        np.testing.assert_allclose(grid.affine, expected)


@pytest.mark.parametrize("codes", [(2, 1), (4, 1), (1, 2), (1, 1)])
@pytest.mark.parametrize("unit", ["mm", "micron"])
def test_a_mask_of_an_image_whose_forms_differ_lies_upon_it_for_nibabel_and_itk(tmp_path, codes, unit):
    """As of an image that was registered: one form leads to the scanner, the other to a template."""
    sform = np.array([[-2.0, 0, 0, 7], [0, 3, 0, 8], [0, 0, 4, 9], [0, 0, 0, 1]])
    qform = np.eye(4)
    qform[:3, 3] = (20, -40, 3)
    qform[:3, :3] = Rotation.from_euler("xyz", (10, 20, 30), degrees=True).as_matrix() * (2, 3, 4)
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), sform)
    image.set_sform(sform, codes[0])
    image.set_qform(qform, codes[1])
    image.header.set_xyzt_units(unit)
    path, mask = tmp_path / "image.nii.gz", tmp_path / "mask.nii.gz"
    nib.save(image, path)
    values, grid = read_volume(path)
    np.testing.assert_allclose(read_grid(path).affine, grid.affine)
    write_mask(mask, values.astype(np.uint8), grid)
    millimetres = {"mm": 1, "micron": 1e-3}[unit]
    np.testing.assert_allclose(nib.load(mask).affine, np.diag([millimetres] * 3 + [1]) @ sform, atol=1e-5)
    one, other = itk.imread(path), itk.imread(mask)
    assert itk.origin(one) == pytest.approx(itk.origin(other), abs=1e-5)
    assert itk.spacing(one) == pytest.approx(itk.spacing(other), abs=1e-5)
    np.testing.assert_allclose(one.GetDirection(), other.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(grid.lps_affine[:3, 3], itk.origin(one), atol=1e-5)
    itk.imwrite(itk.cast_image_filter(one, ttype=(type(one), type(other))), tmp_path / "slicer.nii.gz")
    assert read_label(tmp_path / "slicer.nii.gz", grid).shape == (3, 4, 5)
    assert read_label(mask, grid).shape == (3, 4, 5)
    saved(tmp_path / "elsewhere.nii.gz", np.zeros((3, 4, 5), np.uint8))
    with pytest.raises(ValueError, match=r"elsewhere.nii.gz lies elsewhere"):
        read_label(tmp_path / "elsewhere.nii.gz", grid)
