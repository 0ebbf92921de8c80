import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch.overrides import TorchFunctionMode

from clickseg.clicks import PADDING, Click, disc_guidance, gaussian_guidance, stack_clicks

some = settings(max_examples=30)

SHAPES = {2: (33, 40), 3: (24, 20, 28)}


def drawn(clicks, shape, labels=(1, 0), sigma=2.0, overlap="sum"):
    """The guidance of one image: (len(labels), *S)."""
    return gaussian_guidance(stack_clicks([clicks], len(shape)), labels, shape, sigma, overlap)[0].numpy()


def smoothed(positions, shape, sigma, truncate=4.0):
    """Sakinis 2019, III-B, word by word: zero except for unit pixels at the clicks, smoothed, normalised to [0, 1]."""
    image = np.zeros(shape)
    for position in positions:
        image[position] = 1
    image = ndimage.gaussian_filter(image, sigma, mode="constant", truncate=truncate)
    return image / image.max()


def positions_on(shape, **size):
    return st.lists(st.tuples(*(st.integers(0, count - 1) for count in shape)), unique=True, **size)


class LargestTensor(TorchFunctionMode):
    """Notes the number of elements of the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


@some
@given(positions_on(SHAPES[2], min_size=1, max_size=6))
def test_guidance_is_the_gaussian_filter_of_unit_pixels_at_the_clicks(positions):
    inside, outside = drawn([Click(position, 1) for position in positions], SHAPES[2])
    np.testing.assert_allclose(inside, smoothed(positions, SHAPES[2], sigma=2), atol=1e-6)
    assert not outside.any()


@settings(max_examples=10)
@given(positions_on(SHAPES[3], min_size=1, max_size=3))
def test_guidance_is_the_gaussian_filter_in_three_dimensions_too(positions):
    inside, outside = drawn([Click(position, 1) for position in positions], SHAPES[3])
    np.testing.assert_allclose(inside, smoothed(positions, SHAPES[3], sigma=2), atol=1e-6)
    assert not outside.any()


@pytest.mark.parametrize("dimension", [2, 3])
@some
@given(data=st.data())
def test_a_disc_is_what_lies_within_its_radius_of_a_click(dimension, data):
    shape = SHAPES[dimension]
    positions = data.draw(positions_on(shape, min_size=1, max_size=4))
    radius = data.draw(st.sampled_from([1.0, 3.0, 4.5]))
    clicks = [Click(position, 0) for position in positions]
    inside, outside = disc_guidance(stack_clicks([clicks], dimension), (1, 0), shape, radius)[0].numpy()
    away = np.ones(shape, bool)
    away[tuple(np.transpose(positions))] = False
    np.testing.assert_array_equal(outside, ndimage.distance_transform_edt(away) <= radius)
    assert not inside.any()


@pytest.mark.parametrize("dimension", [2, 3])
@some
@given(data=st.data())
def test_gaussians_that_do_not_add_up_tell_how_far_the_nearest_click_is(dimension, data):
    shape = SHAPES[dimension]
    positions = data.draw(positions_on(shape, min_size=1, max_size=6))
    inside, outside = drawn([Click(position, 1) for position in positions], shape, overlap="max")
    away = np.ones(shape, bool)
    away[tuple(np.transpose(positions))] = False
    distance = ndimage.distance_transform_edt(away)
    near = distance <= 8  # four sigma; what lies beyond is next to nothing
    np.testing.assert_allclose(inside[near], np.exp(-((distance[near] / 2) ** 2) / 2), atol=1e-6)
    assert inside[~near].max(initial=0) <= np.exp(-(4**2) / 2)
    assert not outside.any()


def test_a_click_apart_from_a_crowd_fades_only_where_gaussians_add_up():
    clicks = [Click((5, column), 1) for column in (5, 6, 7)] + [Click((25, 30), 1)]
    assert drawn(clicks, SHAPES[2], overlap="max")[0, 25, 30] == 1
    assert drawn(clicks, SHAPES[2], overlap="sum")[0, 25, 30] < 0.4


@pytest.mark.parametrize("sigma", [0.7, 1.3, 2.0, 3.1])
def test_beyond_the_drawn_patch_next_to_nothing_is_missing(sigma):
    positions = [(16, 20), (17, 23), (2, 39)]
    inside, _ = drawn([Click(position, 1) for position in positions], SHAPES[2], sigma=sigma)
    missing = np.exp(-(4**2) / 2)
    np.testing.assert_allclose(inside, smoothed(positions, SHAPES[2], sigma, truncate=12), atol=1.1 * missing)


@pytest.mark.parametrize("dimension", [2, 3])
def test_every_channel_shows_the_clicks_of_its_own_label(dimension):
    shape = SHAPES[dimension]
    positions = {5: (4, 6, 9)[:dimension], 0: (12, 13, 14)[:dimension], 2: (20, 3, 17)[:dimension]}
    clicks = [Click(position, label) for label, position in positions.items()]
    guidance = drawn(clicks, shape, labels=(0, 2, 3, 5))
    assert guidance.shape == (4, *shape)
    for channel, label in enumerate((0, 2, 3, 5)):
        if label == 3:
            assert not guidance[channel].any()
        else:
            np.testing.assert_allclose(guidance[channel], smoothed([positions[label]], shape, sigma=2), atol=1e-6)


@some
@given(positions_on(SHAPES[2], min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_every_channel_with_a_click_spans_zero_to_one(positions, seed):
    labels = np.random.default_rng(seed).integers(0, 2, len(positions))
    guidance = drawn([Click(p, int(label)) for p, label in zip(positions, labels, strict=True)], SHAPES[2])
    for channel, label in enumerate((1, 0)):
        assert guidance[channel].min() >= 0
        assert guidance[channel].max() == (1 if label in labels else 0)


@some
@given(positions_on(SHAPES[2], min_size=1, max_size=5), st.data())
def test_padding_rows_do_not_change_anything(positions, data):
    clicks = stack_clicks([[Click(position, index % 2) for index, position in enumerate(positions)]], dimension=2)
    padded = clicks.tolist()[0]
    for _ in range(data.draw(st.integers(1, 4))):
        row = [*data.draw(st.tuples(*[st.integers(-1, 20)] * 2)), PADDING]
        padded.insert(data.draw(st.integers(0, len(padded))), row)
    bare = gaussian_guidance(clicks, (1, 0), SHAPES[2], 2.0)
    assert torch.equal(gaussian_guidance(torch.tensor([padded]), (1, 0), SHAPES[2], 2.0), bare)


def test_padding_stays_invisible_in_a_channel_that_is_asked_for_label_minus_one():
    clicks = torch.tensor([[[5, 5, PADDING], [9, 9, 1]]])
    guidance = gaussian_guidance(clicks, (PADDING, 1), (16, 16), 2.0)
    assert not guidance[0, 0].any()
    assert guidance[0, 1, 9, 9] == 1


@some
@given(positions_on(SHAPES[2], min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_the_clicks_does_not_matter(positions, random):
    clicks = [Click(position, index % 2) for index, position in enumerate(positions)]
    shuffled = random.sample(clicks, len(clicks))
    np.testing.assert_allclose(drawn(shuffled, SHAPES[2]), drawn(clicks, SHAPES[2]), atol=1e-6)


def test_a_pixel_that_is_clicked_twice_is_still_a_unit_pixel():
    once = [Click((10, 10), 1), Click((10, 25), 1), Click((20, 20), 0)]
    twice = [*once, Click((10, 10), 1), Click((10, 10), 1)]
    np.testing.assert_allclose(drawn(twice, SHAPES[2]), drawn(once, SHAPES[2]), atol=1e-6)


def test_a_pixel_that_is_clicked_inside_and_outside_shows_in_both_channels():
    guidance = drawn([Click((10, 10), 1), Click((10, 10), 0)], SHAPES[2])
    assert guidance[:, 10, 10].tolist() == [1, 1]


@pytest.mark.parametrize("corner", [(0, 0), (0, 39), (32, 0), (32, 39), (0, 17), (16, 39)])
def test_a_click_at_the_border_is_cut_off_and_does_not_wrap_around(corner):
    inside, _ = drawn([Click(corner, 1)], SHAPES[2])
    np.testing.assert_allclose(inside, smoothed([corner], SHAPES[2], sigma=2), atol=1e-6)
    rows, columns = np.indices(SHAPES[2])
    far = np.hypot(rows - corner[0], columns - corner[1]) > 8 * np.sqrt(2)
    assert not inside[far].any()


def test_a_grid_smaller_than_the_patch_holds_its_part_of_it():
    inside, _ = drawn([Click((1, 0), 1)], (3, 4))
    np.testing.assert_allclose(inside, smoothed([(1, 0)], (3, 4), sigma=2), atol=1e-6)


def test_every_image_of_a_batch_shows_its_own_clicks():
    batch = [[Click((5, 5), 1), Click((9, 30), 0)], [], [Click((20, 11), 1)]]
    together = gaussian_guidance(stack_clicks(batch, 2), (1, 0), SHAPES[2], 2.0).numpy()
    for image, clicks in zip(together, batch, strict=True):
        np.testing.assert_array_equal(image, drawn(clicks, SHAPES[2]))


def test_without_any_click_the_guidance_is_zero():
    guidance = gaussian_guidance(torch.empty(2, 0, 4, dtype=torch.int64), (1, 0), SHAPES[3], 2.0)
    assert guidance.shape == (2, 2, *SHAPES[3])
    assert guidance.dtype == torch.float32
    assert not guidance.any()


def test_clicks_of_another_dimension_than_the_grid_are_refused():
    with pytest.raises(ValueError, match="2 coordinates"):
        gaussian_guidance(stack_clicks([[Click((1, 2), 1)]], 2), (1, 0), (8, 8, 8), 2.0)


@pytest.mark.parametrize("dimension", [2, 3])
def test_memory_does_not_grow_with_the_number_of_clicks(dimension):
    def largest(number):
        generator = np.random.default_rng(0)
        rows = generator.integers(0, 12, (2, number, dimension + 1))
        rows[..., -1] %= 2
        with LargestTensor() as seen:
            gaussian_guidance(torch.tensor(rows), (1, 0), (12,) * dimension, 2.0)
        return seen.elements

    one = largest(1)
    assert one >= 17**dimension, "the patch of a click was not seen"
    assert largest(40) <= 2 * one  # of two clicks in one turn, one may be inside and one outside, or both inside
    assert largest(40) == largest(8)
