"""Small structures that are looked at closely (docs/adr/0003)."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clickseg.clicks import INSIDE, OUTSIDE, PADDING
from clickseg.methods import UNet2dRecipe
from clickseg.methods.closeup import clicks_in, close_ups, cut_out, fits, put_back
from clickseg.methods.unet2d import UNet2d

SIDE = 32
RECIPE = UNet2dRecipe(
    labels={"thing": 1}, width=4, size=32, feedback=True, looks=2, spacing=0.8, overview=1.6, closeup=SIDE
)
SHAPE = (96, 64)


def answer(*boxes, shape=SHAPE):
    """The probability (1, 1, *shape): 0.9 in the boxes (top, left, height, width), 0.2 elsewhere."""
    inside = torch.full((1, 1, *shape), 0.2)
    for top, left, height, width in boxes:
        inside[..., top : top + height, left : left + width] = 0.9
    return inside


def clicks(*rows):
    return torch.tensor([rows], dtype=torch.long).reshape(1, -1, 3)


def test_a_small_structure_lies_in_the_middle_of_its_window():
    assert close_ups(answer((40, 20, 10, 8)), clicks(), SIDE) == [(29, 8)]


def test_a_window_ends_where_the_slice_does():
    assert close_ups(answer((0, 60, 5, 4)), clicks(), SIDE) == [(0, SHAPE[1] - SIDE)]


def test_a_slice_that_is_narrower_than_a_window_is_seen_in_its_whole_width():
    assert close_ups(answer((40, 3, 4, 4), shape=(96, 20)), clicks(), SIDE) == [(26, 0)]


def test_a_structure_that_leaves_no_room_for_its_surroundings_is_not_looked_at_closely():
    assert close_ups(answer((40, 20, 24, 24)), clicks(), SIDE) == [(36, 16)]
    assert close_ups(answer((40, 20, 25, 4)), clicks(), SIDE) == [None]
    assert close_ups(answer((0, 0, 4, 4), (60, 50, 4, 4)), clicks(), SIDE) == [None], "two parts far from each other"


def test_where_nothing_is_marked_there_is_nothing_to_be_looked_at_closely():
    assert close_ups(answer(), clicks([5, 5, INSIDE]), SIDE) == [None]


def test_a_click_inside_belongs_to_the_structure_and_no_other_does():
    marked = answer((40, 20, 10, 8))
    assert close_ups(marked, clicks([54, 24, INSIDE]), SIDE) == [(31, 8)]
    assert close_ups(marked, clicks([90, 24, INSIDE]), SIDE) == [None]
    assert close_ups(marked, clicks([90, 24, OUTSIDE], [0, 0, PADDING]), SIDE) == [(29, 8)]


@given(st.data())
def test_a_window_holds_the_structure_with_its_clicks_inside_and_lies_in_the_slice(data):
    shape = data.draw(st.tuples(st.integers(8, 90), st.integers(8, 90)))
    points = data.draw(
        st.lists(st.tuples(*(st.integers(0, count - 1) for count in shape)), min_size=2, max_size=5), label="points"
    )
    marked = torch.zeros(1, 1, *shape)
    for row, column in points[1:]:
        marked[0, 0, row, column] = 1
    (corner,) = close_ups(marked, clicks([*points[0], INSIDE]), SIDE)
    extents = [max(axis) + 1 - min(axis) for axis in zip(*points, strict=True)]
    assert (corner is not None) == all(fits(extent, SIDE) for extent in extents)
    if corner is not None:
        assert cut_out(marked, [corner], SIDE).shape == (1, 1, *(min(SIDE, count) for count in shape))
        for start, count, axis in zip(corner, shape, zip(*points, strict=True), strict=True):
            assert 0 <= start <= max(0, count - SIDE)
            assert start <= min(axis)
            assert max(axis) < start + SIDE


def test_what_is_cut_out_is_put_back_where_it_was():
    maps = torch.rand(2, 3, *SHAPE, generator=torch.Generator().manual_seed(0))
    corners = [(5, 6), (64, 32)]
    parts = cut_out(maps, corners, SIDE)
    assert torch.equal(parts[1], maps[1, :, 64:, 32:])
    whole = put_back(parts, corners, torch.zeros_like(maps))
    assert torch.equal(cut_out(whole, corners, SIDE), parts)
    assert int((whole != 0).sum()) == parts.numel()


def test_clicks_are_counted_from_the_window_and_those_beyond_it_are_none():
    rows = clicks([10, 12, INSIDE], [9, 12, OUTSIDE], [41, 43, OUTSIDE], [10, 44, INSIDE], [0, 0, PADDING])
    moved = clicks_in(rows, [(10, 12)], (SIDE, SIDE))[0].tolist()
    assert [moved[0], moved[2]] == [[0, 0, INSIDE], [31, 31, OUTSIDE]]
    assert [row[-1] for row in moved] == [INSIDE, PADDING, OUTSIDE, PADDING, PADDING]


# What unet2d does with them


class Watched(UNet2d):
    """Keeps what its network looked at: the shape of each batch, and how many clicks are in it."""

    def look(self, code, clicks, previous):
        self.seen.append((tuple(code.shape), int((clicks[..., -1] != PADDING).sum()), bool(previous.any())))
        return super().look(code, clicks, previous)


def watched(recipe=RECIPE):
    torch.manual_seed(0)
    network = Watched(recipe).eval()
    network.seen = []
    return network


def slices(number=1, shape=SHAPE):
    return torch.randn(number, 1, *shape, generator=torch.Generator().manual_seed(1))


def test_the_first_look_is_at_the_whole_slice_and_the_second_at_what_the_first_has_found():
    network = watched()
    network.magnified(slices(), clicks([44, 24, INSIDE]), answer((40, 20, 10, 8)))
    assert network.seen == [((1, 1, SIDE, SIDE), 1, True)]
    network.seen = []
    network.magnified(slices(), clicks([44, 24, INSIDE]), torch.zeros(1, 1, *SHAPE))
    assert network.seen == [((1, 1, 48, 32), 1, False)]


def test_each_slice_of_a_batch_is_looked_at_as_if_it_were_alone():
    network = watched()
    code = slices(3)
    rows = torch.cat([clicks([44, 24, INSIDE]), clicks([10, 50, INSIDE]), clicks([50, 30, INSIDE])])
    before = torch.cat([answer((40, 20, 10, 8)), answer((10, 40, 6, 14)), answer((10, 10, 70, 40))])
    together = network.decode(code, rows, before)
    assert [shape for shape, _, _ in network.seen] == [(1, 1, 48, 32), (2, 1, SIDE, SIDE)]
    for item in range(3):
        one = slice(item, item + 1)
        torch.testing.assert_close(together[one], network.decode(code[one], rows[one], before[one]))


def test_beyond_a_close_up_all_is_outside_and_in_it_the_network_says():
    network = watched()
    code, rows, before = slices(), clicks([44, 24, INSIDE]), answer((40, 20, 10, 8))
    logits = network.decode(code, rows, before)
    window = (..., slice(29, 61), slice(8, 40))
    beyond = torch.ones(SHAPE, dtype=torch.bool)
    beyond[window] = False
    assert bool((logits[0, OUTSIDE] > logits[0, INSIDE])[beyond].all())
    as_it_is = network.decode(code[window], rows - torch.tensor([29, 8, 0]), before[window])
    torch.testing.assert_close(logits[window], as_it_is)


def test_a_slice_no_larger_than_a_close_up_is_looked_at_as_it_is():
    plain = watched(dataclasses.replace(RECIPE, overview=0.0))
    code, rows = slices(shape=(32, 24)), clicks([20, 10, INSIDE])
    torch.testing.assert_close(watched().decode(code, rows), plain.decode(code, rows))


def test_a_click_is_obeyed_on_the_whole_slice_as_well_as_close_up():
    network = watched(dataclasses.replace(RECIPE, click_margin=1.0, looks=1))
    everything, something = answer((0, 0, *SHAPE)), answer((40, 20, 10, 8))
    for row in range(40, 50):
        for before in (everything, something):
            for label in (INSIDE, OUTSIDE):
                logits = network.decode(slices(), clicks([44, 24, INSIDE], [row, 21, label]), before)
                assert logits[0, :, row, 21].argmax() == label, (row, label)


def test_the_name_of_a_structure_is_heard_at_each_distance():
    network = watched(dataclasses.replace(RECIPE, named=0.5))
    with torch.no_grad():
        for table in network.network.names:
            table.weight[1:] = torch.randn_like(table.weight[1:])
    code, rows = slices(), clicks([44, 24, INSIDE])
    for before in (answer((40, 20, 10, 8)), answer((0, 0, *SHAPE))):
        unnamed, named = (network.decode(network.called(code, [name]), rows, before) for name in ("", "thing"))
        assert not torch.allclose(unnamed, named)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"overview": 0.8}, r"overview must be 0, or above spacing \(0.8\) if feedback is on, got 0.8"),
        ({"feedback": False, "looks": 1}, "overview must be 0, or above spacing"),
        ({"size": 48}, r"size must be 32 \(closeup\) at most, got 48"),
        ({"closeup": 0}, "closeup must be positive, got 0"),
    ],
)
def test_an_overview_that_cannot_be_is_refused(fields, complaint):
    with pytest.raises(ValueError, match=complaint):
        dataclasses.replace(RECIPE, **fields)
