"""What whoever watches is told of an answer on its way."""

import numpy as np
import pytest
import torch

from clickseg.clicks import Click
from clickseg.methods import METHODS
from clickseg.methods.tis import TisRecipe
from clickseg.progress import watched_by

TURNED = np.array([[0, 0, 1.0, 0], [1.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]])  # slices along the second axis


class Told:
    """A watcher that notes what it is told, and gives up after so many slices."""

    def __init__(self, enough=None):
        self.parts, self.slices, self.enough = [], [], enough

    def part(self, done, whole):
        self.parts.append((done, whole))

    def slice(self, axis, number, plane):
        if len(self.slices) == self.enough:
            raise ValueError("given up")
        self.slices.append((axis, number, plane.copy()))


@pytest.fixture
def ball():
    x, y, z = np.indices((40, 36, 20))
    return ((x - 18) ** 2 + (y - 17) ** 2 + (2 * (z - 9)) ** 2 <= 14**2).astype(np.int16) * 100


@pytest.mark.parametrize("affine", [np.eye(4), TURNED])
def test_each_slice_is_told_once_it_is_known_beginning_with_the_clicked_one(flooded, ball, affine):
    volume = ball if affine is not TURNED else np.transpose(ball, (1, 2, 0))
    axis, at = (2, (18, 17, 9)) if affine is not TURNED else (1, (17, 9, 18))
    told = Told()
    with watched_by(told):
        mask = flooded(volume, affine, spacing=1.0).predict([Click(at, 1)], reach=100)
    numbers = [number for _, number, _ in told.slices]
    assert numbers == sorted(range(min(numbers), max(numbers) + 1), key=lambda number: (abs(number - 9), number))
    assert min(numbers) < 9 < max(numbers)
    others = [number for number in range(mask.shape[axis]) if number not in numbers]
    assert not mask.take(others, axis).any()
    for told_axis, number, plane in told.slices:
        assert told_axis == axis
        np.testing.assert_array_equal(plane, mask.take(number, axis))


def test_clicked_slices_go_on_in_turn_the_longer_way_alone_at_last(flooded):
    volume = np.zeros((20, 20, 20), np.int16)
    volume[4:16, 4:16, 2:18] = 100
    told = Told()
    with watched_by(told):
        flooded(volume, np.eye(4), spacing=1.0).predict([Click((9, 9, 3), 1), Click((9, 9, 10), 1)], reach=100)
    assert [number for _, number, _ in told.slices] == [3, 10, 2, 4, 9, 11, 5, 8, 12, 6, 7, 13, 14, 15, 16, 17]


def test_of_named_labels_each_slice_is_told_again_when_another_label_comes_there(flooded, ball):
    labels = {"liver": 1, "spleen": 2}
    ball[:, :2, 9] = 100  # a piece apart
    told = Told()
    with watched_by(told):
        clicks = {"liver": [(18, 17, 9)], "spleen": [(18, 1, 9)]}
        mask = flooded(ball, np.eye(4), spacing=1.0).predict_labels(clicks, labels)
    assert [number for _, number, _ in told.slices] == [9, 9]
    assert [sorted(np.unique(plane)) for _, _, plane in told.slices] == [[0, 1], [0, 1, 2]]
    np.testing.assert_array_equal(told.slices[-1][2], mask[..., 9])


def test_a_watcher_who_gives_up_ends_the_answer_and_whoever_asks_again_is_answered(flooded, ball):
    session = flooded(ball, np.eye(4), spacing=1.0)
    told = Told(enough=3)
    with watched_by(told), pytest.raises(ValueError, match="given up"):
        session.predict([Click((18, 17, 9), 1)], reach=100)
    assert [number for _, number, _ in told.slices] == [9, 8, 10]
    whole = flooded(ball, np.eye(4), spacing=1.0).predict([Click((18, 17, 9), 1)], reach=100)
    np.testing.assert_array_equal(session.predict([Click((18, 17, 9), 1)], reach=100), whole)
    assert len(told.slices) == 3, "nobody watches that"


@pytest.mark.parametrize("shape", [(16, 16, 16), (40, 16, 33), (17, 50, 9)])
@pytest.mark.parametrize("overlap", [0.25, 0.5, 0.625])
def test_the_first_look_at_a_volume_is_told_patch_by_patch(shape, overlap):
    recipe = TisRecipe(labels={"liver": 1}, patch=(16, 16, 16), overlap=overlap, width=2, tokens=4, heads=2, layers=1)
    segmenter = METHODS["tis"].build(recipe).eval()
    told = Told()
    with watched_by(told), torch.inference_mode():
        segmenter.encode(torch.randn(1, 1, *shape))
    whole = told.parts[-1][1]
    assert told.parts == [(done, whole) for done in range(1, whole + 1)]
    assert whole >= np.prod([max(1, side // 16) for side in shape])
