import itertools

import itk
import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel import orientations
from scipy.spatial.transform import Rotation

from clickseg.clicks import PADDING
from clickseg.geometry import (
    AxialSlices,
    FineSlices,
    Grid,
    rescale_clicks,
    resize,
    resize_labels,
    resized_shape,
)
from clickseg.images import read_volume, write_mask

some = settings(max_examples=50)

SHAPE = (5, 6, 7)
SPACING = (0.7, 1.3, 4.0)
ORIENTATIONS = [
    "".join(codes) for axes in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*axes)
]


def affine_of(codes="RAS", spacing=SPACING, origin=(-11.0, 23.5, 100.0), turned=(0.0, 0.0, 0.0)):
    """4x4 of a grid whose axes run as `codes` say, turned about x, y, z by so many degrees: oblique."""
    axes = np.zeros((3, 3))
    for axis, (anatomical, sign) in enumerate(orientations.axcodes2ornt(codes)):
        axes[int(anatomical), axis] = sign
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turned, degrees=True).as_matrix() @ axes * spacing
    affine[:3, 3] = origin
    return affine


@st.composite
def grids(draw, turn=20):
    """Any orientation, anisotropic, oblique by up to `turn` degrees about each axis."""
    lengths, angles = st.floats(0.2, 8), st.floats(-turn, turn)
    affine = affine_of(
        draw(st.sampled_from(ORIENTATIONS)),
        spacing=draw(st.tuples(lengths, lengths, lengths)),
        origin=draw(st.tuples(*[st.floats(-500, 500)] * 3)),
        turned=draw(st.tuples(angles, angles, angles)),
    )
    return Grid(draw(st.tuples(*[st.integers(1, 9)] * 3)), affine)


@st.composite
def grids_with_voxel(draw):
    grid = draw(grids())
    return grid, draw(st.tuples(*(st.integers(0, count - 1) for count in grid.shape)))


def study(seed=0):
    """A RAS image of which every voxel is different."""
    volume = np.random.default_rng(seed).permutation(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16)
    return nib.Nifti1Image(volume, affine_of())


def saved_as(image, codes):
    """The same anatomy in another axis order and direction: (volume, grid)."""
    turn = orientations.ornt_transform(orientations.io_orientation(image.affine), orientations.axcodes2ornt(codes))
    image = image.as_reoriented(turn)
    return np.asarray(image.dataobj), Grid(image.shape, image.affine)


# Grid


@some
@given(grids(turn=180), st.lists(st.tuples(*[st.floats(-50, 600)] * 3), min_size=1, max_size=5))
def test_points_come_back_from_patient_space(grid, points):
    np.testing.assert_allclose(grid.from_ras(grid.to_ras(points)), points, atol=1e-6)
    np.testing.assert_allclose(grid.to_ras(grid.from_ras(points)), points, atol=1e-6)


@some
@given(grids_with_voxel())
def test_a_voxel_comes_back_from_patient_space_exactly_when_rounded(case):
    grid, voxel = case
    assert tuple(np.rint(grid.from_ras(grid.to_ras([voxel]))[0]).astype(int)) == voxel


def test_the_affine_takes_voxels_to_right_anterior_superior_mm():
    grid = Grid(SHAPE, affine_of("LPS"))
    assert grid.to_ras([[0, 0, 0], [1, 2, 3]]) == pytest.approx(np.array([[-11, 23.5, 100], [-11.7, 20.9, 112]]))


@some
@given(grids())
def test_spacing_is_the_length_of_a_step_along_each_array_axis(grid):
    for axis, length in enumerate(grid.spacing):
        step = grid.to_ras([np.eye(3)[axis]]) - grid.to_ras([[0, 0, 0]])
        assert np.linalg.norm(step) == pytest.approx(length)


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_axcodes_name_the_nearest_directions_of_an_oblique_grid(codes):
    assert Grid(SHAPE, affine_of(codes, turned=(10, -15, 20))).axcodes == tuple(codes)


def test_the_lps_affine_turns_the_first_two_coordinates_around():
    grid = Grid(SHAPE, affine_of("PIR", turned=(5, 10, 15)))
    lps = grid.lps_affine @ [1, 2, 3, 1]
    assert lps[:3] * [-1, -1, 1] == pytest.approx(grid.to_ras([[1, 2, 3]])[0])


def test_a_grid_contains_its_voxels_and_nothing_else():
    grid = Grid(SHAPE, np.eye(4))
    assert all(grid.contains(voxel) for voxel in np.ndindex(SHAPE))
    for outside in [(-1, 0, 0), (5, 0, 0), (0, 6, 0), (0, 0, 7), (0, 0, -1), (1, 1), (1, 1, 1, 1), ()]:
        assert not grid.contains(outside)


def test_grids_coincide_when_their_voxels_do():
    grid = Grid(SHAPE, affine_of("LPS", turned=(5, 10, 15)))
    rounded = Grid(SHAPE, grid.affine.astype(np.float32) + 1e-3)
    assert grid.coincides(rounded)
    assert rounded.coincides(grid)
    for other in (
        Grid((5, 6, 8), grid.affine),
        Grid(SHAPE, affine_of("LPS")),
        Grid(SHAPE, affine_of("RAS", turned=(5, 10, 15))),
        Grid(SHAPE, affine_of("LPS", turned=(5, 10, 15), origin=(-10.5, 23.5, 100))),
        Grid(SHAPE, affine_of("LPS", turned=(5, 10, 15), spacing=(0.7, 1.3, 3.9))),
    ):
        assert not grid.coincides(other)
        assert not other.coincides(grid)


@pytest.mark.parametrize(
    ("shape", "affine"),
    [
        ((4, 4), np.eye(4)),
        ((4, 0, 4), np.eye(4)),
        ((4, 4, 4), np.eye(3)),
        ((4, 4, 4), np.diag([1, 1, 0, 1])),
        ((4, 4, 4), np.diag([1, 1, np.nan, 1])),
    ],
)
def test_what_is_no_grid_is_refused(shape, affine):
    with pytest.raises(ValueError, match="grid"):
        Grid(shape, affine)


# AxialSlices


@settings(max_examples=150)
@given(grids_with_voxel())
def test_a_voxel_marked_in_the_volume_is_found_where_locate_says(case):
    grid, voxel = case
    slices = AxialSlices(grid)
    volume = np.zeros(grid.shape, np.uint8)
    volume[voxel] = 1
    number, index = slices.locate(voxel)
    assert slices.view(volume, number).shape == slices.shape
    assert slices.view(volume, number)[index] == 1
    assert sum(int(slices.view(volume, k).sum()) for k in range(grid.shape[slices.axis])) == 1


@settings(max_examples=150)
@given(grids_with_voxel())
def test_what_is_written_through_a_view_is_written_into_the_volume(case):
    grid, voxel = case
    slices = AxialSlices(grid)
    volume = np.zeros(grid.shape, np.uint8)
    number, index = slices.locate(voxel)
    slices.view(volume, number)[index] = 7
    assert volume[voxel] == 7
    assert np.count_nonzero(volume) == 1


@some
@given(grids())
def test_slices_run_towards_right_and_anterior_and_are_cut_across_the_long_axis(grid):
    slices = AxialSlices(grid)
    place = np.zeros((*grid.shape, 3))
    place[:] = grid.to_ras(list(np.ndindex(grid.shape))).reshape(place.shape)
    right, anterior = (
        np.stack([slices.view(place[..., axis], k) for k in range(grid.shape[slices.axis])]) for axis in (0, 1)
    )
    assert (np.diff(right, axis=1) > 0).all()
    assert (np.diff(anterior, axis=2) > 0).all()
    assert grid.axcodes[slices.axis] in "SI"


@some
@given(grids())
def test_spacing_of_a_slice_is_that_of_its_rows_and_columns(grid):
    slices = AxialSlices(grid)
    place = np.zeros((*grid.shape, 3))
    place[:] = grid.to_ras(list(np.ndindex(grid.shape))).reshape(place.shape)
    plane = np.stack([slices.view(place[..., axis], 0) for axis in range(3)], axis=-1)
    for axis, length in enumerate(slices.spacing):
        steps = np.linalg.norm(np.diff(plane, axis=axis), axis=-1)
        np.testing.assert_allclose(steps, length, rtol=1e-6)
    assert slices.slice_spacing == grid.spacing[slices.axis]
    assert sorted([*slices.spacing, slices.slice_spacing]) == sorted(grid.spacing)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ("RAS", lambda volume, k: volume[:, :, k]),
        ("LPS", lambda volume, k: volume[::-1, ::-1, k]),
        ("LAS", lambda volume, k: volume[::-1, :, k]),
        ("RAI", lambda volume, k: volume[:, :, k]),
        ("PIR", lambda volume, k: volume[::-1, k, :].T),
        ("ASL", lambda volume, k: volume[:, k, ::-1].T),
        ("SLP", lambda volume, k: volume[k, ::-1, ::-1]),
    ],
)
def test_slices_of_the_usual_orientations(codes, expected):
    volume = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    slices = AxialSlices(Grid(SHAPE, affine_of(codes)))
    for k in range(SHAPE[slices.axis]):
        np.testing.assert_array_equal(slices.view(volume, k), expected(volume, k))


@pytest.mark.parametrize("codes", ORIENTATIONS)
@pytest.mark.parametrize("turned", [(0, 0, 0), (8, -12, 15)], ids=["straight", "oblique"])
def test_the_same_anatomy_in_any_orientation_has_the_same_slices(codes, turned):
    original = nib.Nifti1Image(study().get_fdata().astype(np.int16), affine_of(turned=turned))
    volume, grid = saved_as(original, codes)
    assert grid.axcodes == tuple(codes)
    reference, slices = AxialSlices(Grid(SHAPE, original.affine)), AxialSlices(grid)
    assert slices.shape == reference.shape == SHAPE[:2]
    assert slices.spacing == pytest.approx(SPACING[:2])
    for k in range(SHAPE[2]):
        voxel = np.rint(grid.from_ras(original.affine[:3, :3] @ (1, 2, k) + original.affine[:3, 3])[None])[0].astype(
            int
        )
        number, index = slices.locate(tuple(voxel))
        assert index == (1, 2)
        np.testing.assert_array_equal(slices.view(volume, number), original.dataobj[..., k])


# Changing the resolution of a slice


def test_a_resized_slice_covers_the_same_extent():
    assert resized_shape((512, 300), (0.78125, 1.0), 1.25) == (320, 240)
    assert resized_shape((10, 3), (1.0, 0.1), 5.0) == (2, 1)


@pytest.mark.parametrize("shape", [(24, 40), (6, 10), (24, 10), (9, 31), (12, 20)])
def test_resizing_keeps_every_place_where_it_was(shape):
    rows = torch.arange(12) + 0.5
    columns = torch.arange(20) + 0.5
    places = torch.stack([rows[:, None].expand(12, 20), columns.expand(12, 20)])[None]
    resized = resize(places, shape)[0]
    assert resized.shape == (2, *shape)
    for axis, (new, old) in enumerate(zip(shape, (12, 20), strict=True)):
        centres = (torch.arange(new) + 0.5) * old / new
        along = resized[axis].movedim(axis, 0)
        inner = slice(new // 4, new - new // 4)  # at the border the filter is cut off
        wanted = centres[inner, None].expand_as(along[inner])
        torch.testing.assert_close(along[inner], wanted, atol=0.03, rtol=0)


@pytest.mark.parametrize("bright", range(4, 12))
def test_shrinking_averages_and_skips_no_pixel(bright):
    image = torch.zeros(1, 1, 16, 16)
    image[..., bright, 9] = 1
    shrunk = resize(image, (4, 4))
    assert float(shrunk.sum()) == pytest.approx(1 / 16, rel=0.15)


def test_a_slice_of_the_right_shape_already_is_not_touched():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 1, 9, 13, generator=generator)
    labels = torch.randint(0, 5, (2, 9, 13), generator=generator, dtype=torch.uint8)
    clicks = torch.tensor([[[0, 12, 1], [8, 0, 0], [-1, -1, PADDING]]])
    assert torch.equal(resize(image, (9, 13)), image)
    assert torch.equal(resize_labels(labels, (9, 13)), labels)
    assert torch.equal(rescale_clicks(clicks, (9, 13), (9, 13))[:, :2], clicks[:, :2])


@some
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_labels_enlarged_by_whole_numbers_are_repeated_and_shrink_back(rows, columns, seed):
    labels = torch.from_numpy(np.random.default_rng(seed).integers(0, 2, (1, 6, 5), dtype=np.uint8)) * 7
    tall, wide = labels.repeat_interleave(rows, 1), labels.repeat_interleave(columns, 2)
    assert torch.equal(resize_labels(labels, tall.shape[1:]), tall)
    assert torch.equal(resize_labels(labels, wide.shape[1:]), wide)
    large = tall.repeat_interleave(columns, 2)
    assert torch.equal(resize_labels(large, labels.shape[1:]), labels)


def test_a_resized_label_is_one_of_those_that_were_there():
    labels = torch.zeros(1, 12, 12, dtype=torch.uint8)
    labels[:, :, 6:] = 10
    resized = resize_labels(labels, (7, 7))
    assert resized.dtype == torch.uint8
    assert resized.unique().tolist() == [0, 10]


def test_a_label_that_holds_the_larger_part_of_a_voxel_has_it():
    labels = torch.zeros(1, 1, 30, dtype=torch.uint8)
    labels[..., 3:12], labels[..., 12:19] = 4, 2
    resized = resize_labels(labels, (1, 5))
    assert resized[0, 0, 1:].tolist() == [4, 2, 0, 0]  # (the first voxel is shared half and half)


shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=100)
@given(shapes, shapes, st.data())
def test_a_rescaled_click_is_in_the_voxel_that_holds_its_centre(source, target, data):
    position = data.draw(st.tuples(*(st.integers(0, count - 1) for count in source)))
    row = rescale_clicks(torch.tensor([[[*position, 1]]]), source, target)[0, 0].tolist()
    assert row[-1] == 1
    for new, old, count, size in zip(row, position, source, target, strict=False):
        assert 0 <= new < size
        centre = (old + 0.5) * size / count
        assert new - 1e-4 <= centre <= new + 1 + 1e-4


def test_labels_and_padding_survive_rescaling():
    clicks = torch.tensor([[[3, 3, 1], [3, 3, 0], [3, 3, 5], [-1, -1, PADDING]]])
    rescaled = rescale_clicks(clicks, (4, 4), (8, 16))
    assert rescaled[..., -1].tolist() == [[1, 0, 5, PADDING]]
    assert rescaled.dtype == torch.int64
    assert rescaled.shape == clicks.shape


@settings(max_examples=100)
@given(shapes.map(lambda s: (s[0] + 16, s[1] + 16)), st.floats(0.5, 3), st.floats(0.5, 3), st.data())
def test_a_click_stays_on_the_structure_that_it_was_put_on(source, tall, wide, data):
    target = (round(source[0] * tall), round(source[1] * wide))
    top, left = (data.draw(st.integers(0, count - 6)) for count in source)
    labels = torch.zeros(1, *source, dtype=torch.uint8)
    labels[:, top : top + 6, left : left + 6] = 3
    click = data.draw(st.tuples(st.integers(top + 1, top + 4), st.integers(left + 1, left + 4)))
    row, column, _ = rescale_clicks(torch.tensor([[[*click, 1]]]), source, target)[0, 0].tolist()
    assert resize_labels(labels, target)[0, row, column] == 3


# Image files


def test_a_nifti_file_keeps_its_axes_values_and_number_type(tmp_path):
    nib.save(study(), tmp_path / "image.nii.gz")
    volume, grid = read_volume(tmp_path / "image.nii.gz")
    assert volume.dtype == np.int16
    np.testing.assert_array_equal(volume, study().dataobj)
    assert grid.shape == SHAPE
    np.testing.assert_allclose(grid.affine, affine_of(), atol=1e-5)


def test_scaled_values_are_read_in_the_units_of_the_image(tmp_path):
    image = study()
    image.header.set_slope_inter(2.0, -1024.0)
    stored = nib.Nifti1Image(np.asarray(image.dataobj) * 2.0 - 1024, image.affine, image.header)
    nib.save(stored, tmp_path / "scaled.nii")
    volume, _ = read_volume(tmp_path / "scaled.nii")
    np.testing.assert_allclose(volume, study().get_fdata() * 2 - 1024, atol=1)
    assert volume.min() < -1000


@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
@pytest.mark.parametrize("kept", [0, 100, 400, 0.9])
def test_a_truncated_nifti_file_is_refused_by_name(tmp_path, name, kept):
    path = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 1000, (16, 16, 16)).astype(np.int16)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(ValueError, match=rf"{name} is not a readable NIfTI file"):
        read_volume(path)


def test_an_image_with_a_time_axis_is_refused_with_its_shape(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6, 2), np.uint8), np.eye(4)), tmp_path / "cine.nii.gz")
    with pytest.raises(ValueError, match=r"cine.nii.gz has shape \(4, 5, 6, 2\); a 3D image"):
        read_volume(tmp_path / "cine.nii.gz")


def test_a_fourth_axis_of_length_one_is_dropped(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6, 1), np.uint8), np.eye(4)), tmp_path / "image.nii.gz")
    assert read_volume(tmp_path / "image.nii.gz")[0].shape == (4, 5, 6)


@pytest.mark.parametrize("dtype", [np.complex64, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])], ids=str)
def test_an_image_without_one_number_per_voxel_is_refused(tmp_path, dtype):
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), dtype), np.eye(4)), tmp_path / "colour.nii.gz")
    with pytest.raises(ValueError, match=r"colour.nii.gz holds .* a scalar image is needed"):
        read_volume(tmp_path / "colour.nii.gz")


def test_a_flat_image_is_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((4, 5), np.uint8), np.eye(4)), tmp_path / "flat.nii.gz")
    with pytest.raises(ValueError, match=r"flat.nii.gz .*3D image"):
        read_volume(tmp_path / "flat.nii.gz")


def test_a_missing_file_is_refused_with_its_path(tmp_path):
    with pytest.raises(ValueError, match=r"no image at .*nowhere.nii.gz"):
        read_volume(tmp_path / "nowhere.nii.gz")


@pytest.mark.parametrize("name", ["text.nrrd", "text.mha", "text.dcm", "text.nii", "text"])
def test_a_file_that_is_no_image_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_text("this is not an image\n" * 50)
    with pytest.raises(ValueError, match=name):
        read_volume(tmp_path / name)


def test_a_folder_without_a_series_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no DICOM file"):
        read_volume(tmp_path)


@pytest.mark.parametrize("turned", [(0, 0, 0), (8, -12, 15)], ids=["straight", "oblique"])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_an_image_through_itk_lies_where_its_nifti_copy_lies(tmp_path, suffix, turned):
    """ITK's frame is LPS, its arrays are (z, y, x)."""
    volume, affine = np.asarray(study().dataobj), affine_of("LPI", turned=turned)
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    image = itk.image_from_array(np.ascontiguousarray(volume.T))
    image.SetSpacing(SPACING)
    image.SetOrigin(lps[:3, 3])
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(lps[:3, :3] / SPACING)))
    itk.imwrite(image, str(tmp_path / f"image{suffix}"))
    nib.save(nib.Nifti1Image(volume, affine), tmp_path / "image.nii")

    through_itk, grid = read_volume(tmp_path / f"image{suffix}")
    through_nibabel, same_grid = read_volume(tmp_path / "image.nii")
    assert through_itk.dtype == np.int16
    np.testing.assert_array_equal(through_itk, through_nibabel)
    np.testing.assert_allclose(grid.affine, same_grid.affine, atol=1e-4)


def test_a_dicom_folder_is_read_as_one_volume_in_hounsfield_units(data_dir):
    folder = data_dir / "dicom" / "CRLM-CT-1004"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    volume, grid = read_volume(folder)
    assert volume.shape == grid.shape == (512, 512, 41)
    assert grid.spacing == pytest.approx((0.80, 0.80, 5.0), abs=0.01)
    assert grid.axcodes[:2] == ("L", "P")
    assert volume.min() <= -900, "air"
    assert -200 < np.median(volume[156:356, 156:356]) < 200, "the middle is soft tissue"


def test_a_written_mask_lies_on_its_grid(tmp_path):
    grid = Grid(SHAPE, affine_of("PIR", turned=(8, -12, 15)))
    mask = (np.random.default_rng(0).random(SHAPE) > 0.5).astype(np.uint8)
    write_mask(tmp_path / "new" / "mask.nii.gz", mask, grid)
    read, same_grid = read_volume(tmp_path / "new" / "mask.nii.gz")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, mask)
    np.testing.assert_allclose(same_grid.affine, grid.affine, atol=1e-4)
    with pytest.raises(ValueError, match=r"mask.nrrd"):
        write_mask(tmp_path / "mask.nrrd", mask, grid)


FINER = pytest.mark.parametrize("shape", [(9, 11, 13), (9, 11, 4), (5, 20, 13), (4, 6, 5), (9, 22, 40), (9, 11, 1)])


def lumps(shape, classes=3):
    """Logits (C, *shape) with regions of several voxels, as those of a segmentation."""
    noise = torch.randn(1, classes, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    return resize(noise, shape)[0]


@FINER
def test_a_fine_slice_is_that_of_the_resized_volume(shape):
    volume = lumps((9, 11, 13))
    whole = resize(volume[None], shape)[0]
    slices = FineSlices(torch.ones(volume.shape[1:], dtype=torch.bool), shape)
    assert slices.concerned() == list(range(shape[2]))
    for number in range(shape[2]):
        part = slices.part(number)
        assert part.inside.all()
        assert part.inside.shape == shape[:2]
        plane = whole[..., number].flatten(1).T
        torch.testing.assert_close(part.logits(volume), plane, atol=1e-5, rtol=0)
        np.testing.assert_array_equal(part.labels(volume), whole[..., number].argmax(0))


@some
@given(st.data())
def test_what_depends_on_changed_voxels_is_in_the_part_that_is_computed(data):
    fine = data.draw(st.tuples(*[st.integers(2, 20)] * 3))
    before = lumps((6, 5, 4))
    after, marked = before.clone(), torch.zeros(before.shape[1:], dtype=torch.bool)
    for voxel in data.draw(st.lists(st.tuples(*(st.integers(0, count - 1) for count in marked.shape)), min_size=1)):
        after[(0, *voxel)] += 5
        marked[voxel] = True
    slices = FineSlices(marked, fine)
    old, new = (resize(logits[None], fine)[0].argmax(0) for logits in (before, after))
    for number in slices.concerned():
        part = slices.part(number)
        old[..., number][part.box][part.inside] = part.labels(after)[part.inside].long()
    np.testing.assert_array_equal(old, new)


def test_nothing_far_from_the_changed_voxels_is_computed():
    marked = torch.zeros(20, 20, 20, dtype=torch.bool)
    marked[10, 5, 15] = True
    slices = FineSlices(marked, (60, 40, 20))
    assert slices.concerned() == [15]
    part = slices.part(15)
    assert part.box == (slice(28, 34), slice(9, 13))
