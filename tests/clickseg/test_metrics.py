import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from clickseg.metrics import area_mm2, auc, dice, hd_mm, iou, mad_mm, noc, volume_ml

LENGTHS = (0.5, 0.8, 1.0, 2.5, 5.0)  # mm
EMPTY = np.zeros((5, 5), bool)
quick = settings(max_examples=40, deadline=None)


@st.composite
def masks(draw, shape):
    """A box with a few holes in it and a few voxels outside it, or nothing."""
    ends = [sorted(draw(st.tuples(*[st.integers(0, side)] * 2))) for side in shape]
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*pair) for pair in ends)] = True
    flips = draw(st.lists(st.integers(0, mask.size - 1), max_size=4))
    mask.flat[flips] ^= True
    return mask


@st.composite
def pairs(draw, empty=True):
    """Two masks on one small grid of two or three axes, and its spacing."""
    shape = draw(st.lists(st.integers(1, 7), min_size=2, max_size=3).map(tuple))
    either = masks(shape) if empty else masks(shape).filter(np.any)
    spacing = draw(st.tuples(*[st.sampled_from(LENGTHS)] * len(shape)))
    return draw(either), draw(either), spacing


def square(row, column, side=4, shape=(16, 16)):
    mask = np.zeros(shape, bool)
    mask[row : row + side, column : column + side] = True
    return mask


def brute_force_distances(a, b, spacing):
    points = [np.argwhere(mask & ~binary_erosion(mask)) * spacing for mask in (a, b)]
    between = cdist(*points)
    return np.concatenate([between.min(1), between.min(0)])


def as_batch(mask):
    return torch.from_numpy(mask)[None, None].float()


# Overlap


def test_half_overlapping_squares_have_dice_one_half_and_iou_one_third():
    assert dice(square(0, 0), square(0, 2)) == pytest.approx(1 / 2)
    assert iou(square(0, 0), square(0, 2)) == pytest.approx(1 / 3)


@pytest.mark.parametrize("overlap", [dice, iou])
def test_two_empty_masks_agree_and_one_empty_mask_does_not(overlap):
    assert overlap(EMPTY, EMPTY) == 1
    assert overlap(EMPTY, ~EMPTY) == overlap(~EMPTY, EMPTY) == 0


@given(pairs())
@quick
def test_dice_is_the_harmonic_twin_of_iou(pair):
    a, b, _ = pair
    assert dice(a, b) == pytest.approx(2 * iou(a, b) / (1 + iou(a, b)))


def test_label_maps_of_any_type_count_as_masks():
    assert dice(square(0, 0).astype(np.uint8) * 200, square(0, 2).astype(float)) == pytest.approx(1 / 2)


# Surface distances


def test_a_square_moved_along_an_axis_is_as_far_as_the_voxels_of_that_axis_are_long():
    assert hd_mm(square(2, 2), square(5, 2), (2.5, 0.5)) == pytest.approx(3 * 2.5)
    assert hd_mm(square(2, 2), square(2, 5), (2.5, 0.5)) == pytest.approx(3 * 0.5)


def test_the_mean_distance_of_two_moved_squares_is_counted_over_both_surfaces():
    line, moved = square(2, 2, side=1), np.roll(square(2, 2, side=1), 3, axis=1)
    assert mad_mm(line, line | moved, (1, 1)) == pytest.approx((0 + 0 + 3) / 3)


def test_a_hole_has_a_surface():
    holed = square(0, 0, side=9)
    holed[4, 4] = False
    assert hd_mm(holed, square(0, 0, side=9), (1, 1)) == pytest.approx(3.0)


def test_the_border_of_the_image_is_a_surface():
    assert hd_mm(np.ones((9, 9)), square(4, 4, side=1, shape=(9, 9)), (1, 1)) == pytest.approx(math.hypot(4, 4))


@given(pairs(empty=False))
@quick
def test_hd_and_mad_are_those_of_all_pairs_of_surface_voxels(pair):
    a, b, spacing = pair
    distances = brute_force_distances(a, b, spacing)
    assert hd_mm(a, b, spacing) == pytest.approx(distances.max())
    assert mad_mm(a, b, spacing) == pytest.approx(distances.mean())


@given(pairs(empty=False))
@quick
def test_hd_and_mad_agree_with_monai(pair):
    a, b, spacing = pair
    options = {"include_background": True, "spacing": spacing}
    monai_hd = compute_hausdorff_distance(as_batch(a), as_batch(b), **options)
    monai_mad = compute_average_surface_distance(as_batch(a), as_batch(b), symmetric=True, **options)
    assert hd_mm(a, b, spacing) == pytest.approx(float(monai_hd), rel=1e-5)
    assert mad_mm(a, b, spacing) == pytest.approx(float(monai_mad), rel=1e-5)


@given(pairs(empty=False))
@quick
def test_surface_distances_are_symmetric_and_no_mean_exceeds_the_maximum(pair):
    a, b, spacing = pair
    assert hd_mm(a, b, spacing) == hd_mm(b, a, spacing)
    assert mad_mm(a, b, spacing) == pytest.approx(mad_mm(b, a, spacing))
    assert mad_mm(a, b, spacing) <= hd_mm(a, b, spacing) + 1e-9


@given(pairs(empty=False))
@quick
def test_a_mask_is_at_no_distance_from_itself(pair):
    a, _, spacing = pair
    assert hd_mm(a, a, spacing) == mad_mm(a, a, spacing) == 0


@given(pairs(empty=False), st.integers(1, 3))
@quick
def test_empty_space_around_the_masks_changes_nothing(pair, margin):
    a, b, spacing = pair
    assert hd_mm(np.pad(a, margin), np.pad(b, margin), spacing) == pytest.approx(hd_mm(a, b, spacing))


@pytest.mark.parametrize("distance", [hd_mm, mad_mm])
def test_distances_to_an_empty_mask_are_undefined(distance):
    for a, b in ((EMPTY, ~EMPTY), (~EMPTY, EMPTY), (EMPTY, EMPTY)):
        assert math.isnan(distance(a, b, (1, 1)))


@pytest.mark.parametrize("metric", [dice, iou, lambda a, b: hd_mm(a, b, (1, 1)), lambda a, b: mad_mm(a, b, (1, 1))])
def test_masks_of_different_shapes_are_refused(metric):
    with pytest.raises(ValueError, match=r"\(5, 5\).*\(5, 1\)"):
        metric(EMPTY, EMPTY[:, :1])


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 1.0, 1.0), (1.0, 0.0), (1.0, float("nan"))])
def test_a_spacing_that_does_not_fit_is_refused(spacing):
    with pytest.raises(ValueError, match="spacing"):
        hd_mm(~EMPTY, ~EMPTY, spacing)


# Sizes


def test_an_area_is_voxels_times_their_area_and_a_volume_is_in_millilitres():
    assert area_mm2(square(0, 0), (0.5, 3.0)) == pytest.approx(16 * 1.5)
    assert volume_ml(np.ones((10, 10, 10)), (1.0, 2.0, 5.0)) == pytest.approx(10.0)
    assert area_mm2(EMPTY, (1, 1)) == 0


def test_an_area_of_a_volume_is_refused():
    with pytest.raises(ValueError, match="2 axes"):
        area_mm2(np.ones((2, 2, 2)), (1, 1, 1))


# Clicks


def test_noc_is_the_first_click_that_reaches_the_threshold():
    assert noc([0.5, 0.85, 0.6, 0.9], threshold=0.85) == 2
    assert noc([0.9], threshold=0.85) == 1


def test_noc_of_a_failure_is_twenty_even_if_a_later_click_succeeds():
    assert noc([0.5] * 7, threshold=0.85) == 20
    assert noc([0.5] * 24 + [0.9], threshold=0.85) == 20
    assert noc([], threshold=0.85) == 20
    assert noc([0.5, float("nan")], threshold=0.85, failure=5) == 5


def test_auc_of_a_perfect_row_is_one_and_of_a_line_its_middle():
    assert auc([1.0, 1.0, 1.0]) == 1
    assert auc([0.2, 0.4, 0.6]) == pytest.approx(0.4)
    assert auc([0.7]) == 0.7


def test_auc_weighs_a_click_by_the_distance_to_its_neighbours():
    assert auc([0.0, 1.0, 1.0], clicks=[1, 2, 10]) == pytest.approx((0.5 + 8) / 9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@quick
def test_auc_lies_between_the_worst_and_the_best_dice(dices):
    assert min(dices) - 1e-9 <= auc(dices) <= max(dices) + 1e-9


@pytest.mark.parametrize(("dices", "clicks"), [([], None), ([0.5, 0.6], [1]), ([0.5, 0.6], [2, 2])])
def test_auc_refuses_clicks_that_make_no_curve(dices, clicks):
    with pytest.raises(ValueError, match="increasing"):
        auc(dices, clicks)


# Intervals
