import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clickseg.active import click_entropies, foreground_entropy, spread
from clickseg.geometry import Grid
from clickseg.methods import Segmenter


def two_classes(foreground):
    foreground = torch.as_tensor(foreground, dtype=torch.float64)
    return torch.stack([1 - foreground, foreground])[None]


def test_a_sure_prediction_has_no_entropy_and_a_coin_toss_has_all_of_it():
    assert foreground_entropy(two_classes([0.0, 1.0, 1.0])) == 0
    assert foreground_entropy(two_classes([0.5, 0.5])) == pytest.approx(1)
    assert foreground_entropy(torch.full((1, 4, 5), 0.25)) == pytest.approx(1)


def test_the_score_is_the_entropy_weighted_by_the_foreground():
    def entropy(p):
        return -(p * math.log(p) + (1 - p) * math.log(1 - p)) / math.log(2)

    expected = (0.9 * entropy(0.9) + 0.2 * entropy(0.2)) / (0.9 + 0.2)
    assert foreground_entropy(two_classes([[0.9, 0.2], [0.0, 0.0]])) == pytest.approx(expected)


def test_sure_background_does_not_dilute_the_score():
    small = foreground_entropy(two_classes([0.7, 0.6]))
    large = foreground_entropy(two_classes([0.7, 0.6] + [0.0] * 10_000))
    assert large == pytest.approx(small)


def test_an_empty_prediction_scores_zero():
    assert foreground_entropy(two_classes([0.0, 0.0])) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_score_lies_between_zero_and_one(foreground):
    assert 0 <= foreground_entropy(two_classes(foreground)) <= 1 + 1e-9


@pytest.mark.parametrize(
    "wrong", [torch.ones(3), torch.ones(1, 1, 3), torch.ones(1, 2, 3), torch.tensor([[[-1.0], [2]]])]
)
def test_what_is_no_probability_is_refused(wrong):
    with pytest.raises(ValueError, match="probabilities"):
        foreground_entropy(wrong)


@given(st.integers(0, 500), st.integers(1, 20))
def test_spread_numbers_are_different_ordered_and_inside(count, wanted):
    numbers = spread(count, wanted)
    assert len(numbers) == min(count, wanted)
    assert numbers == sorted(set(numbers))
    assert all(0 <= number < count for number in numbers)


def test_spread_numbers_keep_away_from_both_ends():
    assert spread(10, 2) == [2, 7]


class Threshold(Segmenter):
    """As sure as the image is bright, everywhere alike."""

    dimension = 2

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.clicks = []

    def encode(self, image):
        return image

    def decode(self, code, clicks, previous=None):
        self.clicks.append(clicks)
        return torch.cat([-code, code], dim=1)


def test_a_dim_volume_is_less_sure_than_a_bright_one():
    grid = Grid((12, 10, 8), np.diag([2.0, 2.0, 5.0, 1.0]))
    dim, bright = (np.full(grid.shape, value, dtype=np.int16) for value in (0, 5))
    unsure = click_entropies(Threshold(), 1.0, dim, grid, wanted=3)
    sure = click_entropies(Threshold(), 1.0, bright, grid, wanted=3)
    assert list(unsure) == list(sure) == spread(8, 3)
    assert min(unsure.values()) == pytest.approx(1, abs=1e-5)
    assert max(sure.values()) < 0.01


def test_slices_are_counted_along_the_patients_long_axis_and_clicked_inside():
    turned = np.array([[0, 0, 1.0, 0], [1.0, 0, 0, 0], [0, 3.0, 0, 0], [0, 0, 0, 1]])
    segmenter = Threshold()
    found = click_entropies(segmenter, 1.0, np.zeros((6, 4, 9)), Grid((6, 4, 9), turned), wanted=9)
    assert list(found) == [0, 1, 2, 3]
    clicks = torch.cat(segmenter.clicks)
    assert clicks.shape == (4 * 9, 1, 3)
    assert clicks[..., 0].max() < 9
    assert clicks[..., 1].max() < 6
