"""From slice to slice: on a made structure with a network that floods, and the rules that end it."""

import numpy as np
import pytest

from clickseg.clicks import Click
from clickseg.sessions.propagate import LEAST_SURE, agreed, propagate

LABELS = {"liver": 1, "spleen": 2}


def cone(shape=(40, 36, 20), radius=lambda z: 8 - abs(z - 9)):
    """A bright double cone along the last axis, widest at z = 9; its truth."""
    x, y, z = np.indices(shape)
    return (x - 18) ** 2 + (y - 17) ** 2 <= np.maximum(np.vectorize(radius)(z), -1) * np.abs(np.vectorize(radius)(z))


@pytest.fixture
def session(flooded):
    def session(truth, affine=None):
        return flooded((truth * 100).astype(np.int16), np.eye(4) if affine is None else affine, spacing=1.0)

    return session


def test_one_click_gives_the_whole_structure(session):
    truth = cone()
    mask = session(truth).predict([Click((18, 17, 9), 1)], reach=100)
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.97
    assert not mask[:, :, 0].any()


def test_it_goes_no_further_than_asked_and_nowhere_unasked(session):
    truth = cone()
    for reach in (0, 1, 3):
        mask = session(truth).predict([Click((18, 17, 9), 1)], reach=reach)
        assert np.flatnonzero(mask.any((0, 1))).tolist() == list(range(9 - reach, 9 + reach + 1))


def test_slices_are_counted_along_the_patient_whatever_the_axis(session):
    truth = cone()
    turned = np.array([[0, 0, 1.0, 0], [1.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]])  # (y, z, x) <- voxel axes
    volume = np.transpose(truth, (1, 2, 0))
    mask = session(volume, turned).predict([Click((17, 9, 18), 1)], reach=100)
    upright = session(truth).predict([Click((18, 17, 9), 1)], reach=100)
    np.testing.assert_array_equal(np.transpose(mask, (2, 0, 1)), upright)


def test_a_structure_that_leaves_its_place_has_ended(session):
    truth = cone()
    truth[:, :, 12:] = np.roll(truth[:, :, 12:], 17, axis=0)  # the mask of slice 11 has nothing under it in slice 12
    mask = session(truth).predict([Click((18, 17, 9), 1)], reach=100)
    assert np.flatnonzero(mask.any((0, 1))).max() == 11


def test_a_mask_that_runs_out_into_its_surroundings_is_not_taken(session):
    truth = cone()
    truth[:, :, 12] = True
    mask = session(truth).predict([Click((18, 17, 9), 1)], reach=100)
    assert np.flatnonzero(mask.any((0, 1))).max() == 11


def square(low, high, shape=(30, 30)):
    """Probability 1 in a square."""
    mask = np.zeros(shape, np.float32)
    mask[low:high, low:high] = 1
    return mask


def asking(ask):
    """Of a network that reads no earlier answer."""
    return lambda number, clicks, *_: ask(number, clicks)


def even(number):
    """An image that looks the same everywhere."""
    return np.full((30, 30), 50, np.int16)


def test_only_the_parts_that_touch_the_last_mask_count():
    last = square(5, 10)
    answer = np.maximum(last, square(25, 28))
    ((number, inside),) = propagate(3, last, [4], asking(lambda *_: answer), even, (1.0, 1.0))
    assert number == 4
    np.testing.assert_array_equal(inside, last)


def test_the_next_click_is_the_innermost_point_in_mm():
    last = np.zeros((30, 30), np.float32)
    last[2:9, 5:26] = 1  # 7 x 21 pixels
    last[20:27, 5:8] = 1
    asked = []
    list(
        propagate(
            0, last, [1], asking(lambda number, clicks: asked.append((number, *clicks)) or last), even, (3.0, 1.0)
        )
    )
    ((number, click),) = asked
    assert (number, click.label, click.position[0]) == (1, 1, 5)


def test_an_answer_that_runs_out_is_corrected_by_clicks_outside():
    last, leak = square(2, 12), square(2, 12)
    leak[5:7, 12:30] = 1
    leak[4:9, 24:30] = 1

    def ask(number, clicks):
        asked.append(list(clicks))
        return leak if len(clicks) == 1 else last

    asked = []
    ((_, inside),) = propagate(0, last, [1], asking(ask), even, (1.0, 1.0))
    np.testing.assert_array_equal(inside, last)
    first, corrected = asked
    assert first == corrected[:1]
    (correction,) = corrected[1:]
    assert correction.label == 0
    assert leak[correction.position] == 1
    assert correction.position[1] >= 22, "within 10 mm of the last mask there is nothing to correct"


def test_an_answer_that_has_lost_the_depth_of_the_structure_is_corrected_by_clicks_inside():
    last, half = square(0, 30), square(0, 30)
    half[:, 10:] = 0
    asked = []
    answers = lambda number, clicks: asked.append(list(clicks)) or (half if len(clicks) == 1 else last)  # noqa: E731
    ((_, inside),) = propagate(0, last, [1], asking(answers), even, (1.0, 1.0))
    np.testing.assert_array_equal(inside, last)
    assert asked[1][1].label == 1
    assert half[asked[1][1].position] == 0


def test_a_click_that_is_not_to_go_on_costs_nothing():
    def never(*_):
        raise AssertionError("nobody is asked")

    assert list(propagate(0, square(2, 14), range(0), never, never, (1.0, 1.0))) == []


def test_an_answer_is_corrected_twice_at_most():
    last, leak, asked = square(2, 14), square(2, 14), []
    leak[5:7, 14:30] = 1
    list(propagate(0, last, [1], asking(lambda number, clicks: asked.append(len(clicks)) or leak), even, (1.0, 1.0)))
    assert asked == [1, 2, 3]


def test_an_answer_in_other_tissue_is_the_end_of_the_structure():
    last, noise = square(5, 20), np.random.default_rng(0).normal(0, 10, (30, 30))
    brightness = {0: 50, 1: 70, 2: 30, 3: 150, 4: 50}
    look = lambda number: (noise + brightness[number]).astype(np.int16)  # noqa: E731
    found = propagate(0, last, [1, 2, 3, 4], asking(lambda *_: last), look, (1.0, 1.0))
    assert [number for number, _ in found] == [1, 2]


@pytest.mark.parametrize(("lead", "slices"), [(LEAST_SURE + 0.05, [1, 2]), (LEAST_SURE - 0.05, [])])
def test_where_the_network_is_unsure_the_structure_has_ended(lead, slices):
    answer = square(5, 20) * np.float32((1 + lead) / 2)
    found = propagate(0, square(5, 20), [1, 2], asking(lambda *_: answer), even, (1.0, 1.0))
    assert [number for number, _ in found] == slices


def test_each_slice_is_asked_with_the_answer_in_the_slice_before_and_a_correction_with_the_answer_it_corrects():
    last, leak, read = square(2, 12), square(2, 12), []
    leak[5:7, 12:30] = 0.9

    def ask(number, clicks, answer, follows):
        read.append(("follow" if follows else "correct", number, answer))
        if not follows:
            return last * np.float32(0.9)
        return leak if number == 1 else last * np.float32(0.95)

    list(propagate(0, last, [1, 2], ask, even, (1.0, 1.0)))
    expected = [("follow", 1, last), ("correct", 1, leak), ("follow", 2, last * np.float32(0.9))]
    assert [entry[:2] for entry in read] == [entry[:2] for entry in expected]
    for (*_, before), (*_, wanted) in zip(read, expected, strict=True):
        np.testing.assert_array_equal(before, wanted)


def test_what_the_reader_of_the_last_mask_denies_is_not_taken_and_what_it_adds_is_neither():
    clicked, read = np.array([0.9, 0.9, 0.6, 0.1], np.float32), np.array([0.8, 0.05, 0.6, 0.99], np.float32)
    np.testing.assert_array_equal(agreed(clicked, read) > 0.5, [True, False, True, False])


def test_a_network_that_reads_the_last_mask_keeps_a_leak_out(session_with, rooted):
    truth = cone()
    leaking = truth.copy()
    leaking[18:38, 16:18, 11] = True  # a bridge of 20 mm
    opened = session_with(rooted, (leaking * 100).astype(np.int16), np.eye(4), spacing=1.0)
    mask = opened.predict([Click((18, 17, 9), 1)], reach=100)
    assert not (mask[..., 11] & ~truth[..., 11])[30:].any()
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.95
    before = rooted.asked
    np.testing.assert_array_equal(opened.predict([Click((18, 17, 9), 1)], reach=100), mask)
    assert rooted.asked == before, "answers that are remembered cost nothing"


def test_what_is_remembered_of_a_slice_is_of_the_answer_that_was_read_there(session_with, rooted):
    truth = cone()
    truth[26:28, 17, 10] = True  # beside the mask of slice 9, and not beside that of slice 11
    volume = (truth * 100).astype(np.int16)
    opened, other = (session_with(rooted, volume, np.eye(4), spacing=1.0) for _ in range(2))
    clicks = [Click((18, 17, 9), 1)], [Click((18, 17, 11), 1)]  # slice 10 is asked with the same click from both
    from_wide, from_narrow = (opened.predict(own, reach=1)[..., 10] for own in clicks)
    np.testing.assert_array_equal(other.predict(clicks[1], reach=1)[..., 10], from_narrow)
    assert from_narrow.sum() < from_wide.sum()


def test_a_correction_is_remembered_with_the_answer_that_it_corrects(session_with, rooted):
    opened = session_with(rooted, (cone() * 100).astype(np.int16), np.eye(4), spacing=1.0)
    clicks, answers = [Click((18, 17), 1), Click((2, 2), 0)], [np.zeros((40, 36), np.float32) for _ in range(2)]
    for side, answer in enumerate(answers):
        answer[16 + side : 19 + side, 16:19] = 1
    first, second, again = (
        opened._claim_reading(9, clicks, "", answer, follows=False).whole() for answer in (*answers, answers[0])
    )
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(again, first)
    assert rooted.asked == 2


def test_a_network_that_reads_no_answer_is_asked_once_for_each_slice(session_with, rooted):
    rooted.feedback = False
    opened = session_with(rooted, (cone() * 100).astype(np.int16), np.eye(4), spacing=1.0)
    opened.predict([Click((18, 17, 9), 1)], reach=2)
    assert rooted.asked == 5


def test_two_clicked_slices_meet_half_way_and_keep_their_own_answers(session):
    truth = cone()
    opened = session(truth)
    clicks = [Click((18, 17, 6), 1), Click((18, 17, 12), 1), Click((18, 17, 9), 0)]
    mask = opened.predict(clicks, reach=100)
    alone = opened.predict(clicks)
    for number in (6, 12):
        np.testing.assert_array_equal(mask[:, :, number], alone[:, :, number])
    assert not mask[:, :, 9].any(), "the click outside there holds"
    assert mask[:, :, 8].any()
    assert mask[:, :, 10].any()


def test_labels_go_on_each_for_itself_and_share_no_voxel(session):
    liver = cone((48, 36, 20))
    spleen = np.roll(liver, 19, axis=0)
    opened = session(liver | spleen)
    mask = opened.predict_labels({"liver": [(18, 17, 9)], "spleen": [(37, 17, 9)]}, LABELS, reach=100)
    for value, truth in ((1, liver), (2, spleen)):
        found = mask == value
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.95


def test_a_start_stays_where_the_structure_does_not_reach(session):
    truth = cone()
    start = np.zeros(truth.shape, np.uint8)
    start[2:4, 2:4, :] = 1
    mask = session(truth).predict([Click((18, 17, 9), 1)], start, reach=2)
    assert mask[2, 2, 0] == 1
    assert mask[2, 2, 9] == 0


@pytest.mark.parametrize("reach", [1, 100])
def test_a_rebuilt_session_goes_the_same_way(session, reach):
    truth = cone()
    opened = session(truth)
    first = opened.predict([Click((18, 17, 9), 1)], reach=reach)
    opened.predict([Click((18, 17, 4), 1)], reach=reach)
    np.testing.assert_array_equal(opened.predict([Click((18, 17, 9), 1)], reach=reach), first)
    np.testing.assert_array_equal(session(truth).predict([Click((18, 17, 9), 1)], reach=reach), first)
