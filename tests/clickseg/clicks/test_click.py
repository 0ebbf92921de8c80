import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clickseg.clicks import PADDING, Click, append_clicks, stack_clicks, unstack_clicks

some = settings(max_examples=40)


@st.composite
def batches(draw):
    """A batch of click lists of one dimension, and that dimension."""
    dimension = draw(st.integers(2, 3))
    click = st.builds(Click, st.tuples(*[st.integers(0, 600)] * dimension), st.integers(0, 20))
    return draw(st.lists(st.lists(click, max_size=5), min_size=1, max_size=4)), dimension


@some
@given(batches())
def test_unstacking_gives_back_what_was_stacked(case):
    batch, dimension = case
    assert unstack_clicks(stack_clicks(batch, dimension)) == batch


@some
@given(batches())
def test_a_click_tensor_is_as_long_as_the_longest_list(case):
    batch, dimension = case
    stacked = stack_clicks(batch, dimension)
    assert stacked.shape == (len(batch), max(map(len, batch)), dimension + 1)
    assert stacked.dtype == torch.int64


def test_rows_hold_the_position_and_then_the_label():
    stacked = stack_clicks([[Click((3, 4, 5), 2)]], dimension=3)
    assert stacked.tolist() == [[[3, 4, 5, 2]]]


def test_short_lists_are_padded_at_their_end_with_label_minus_one():
    stacked = stack_clicks([[Click((1, 2), 0), Click((3, 4), 1)], [Click((5, 6), 1)], []], dimension=2)
    assert PADDING == -1
    assert stacked[0].tolist() == [[1, 2, 0], [3, 4, 1]]
    assert stacked[1, 0].tolist() == [5, 6, 1]
    assert stacked[:, :, -1].tolist() == [[0, 1], [1, PADDING], [PADDING, PADDING]]


def test_the_voxel_at_the_origin_with_label_zero_is_a_click_and_not_padding():
    batch = [[Click((0, 0), 0)], []]
    assert unstack_clicks(stack_clicks(batch, dimension=2)) == batch


@pytest.mark.parametrize("position", [(1,), (1, 2), (1, 2, 3, 4)])
def test_a_click_of_another_dimension_is_refused(position):
    with pytest.raises(ValueError, match=f"{len(position)} coordinates; this method wants 3"):
        stack_clicks([[Click(position, 1)]], dimension=3)


@some
@given(batches(), st.data())
def test_an_appended_row_is_each_images_last_click(case, data):
    batch, dimension = case
    clicks = stack_clicks(batch, dimension)
    rows = [[*data.draw(st.tuples(*[st.integers(0, 9)] * dimension)), data.draw(st.integers(0, 3))] for _ in batch]
    longer = append_clicks(clicks, torch.tensor(rows))
    assert longer.shape == (len(batch), clicks.shape[1] + 1, dimension + 1)
    assert unstack_clicks(longer) == [
        [*before, Click(tuple(row[:-1]), row[-1])] for before, row in zip(batch, rows, strict=True)
    ]


def test_an_appended_row_of_label_minus_one_is_no_click():
    batch = [[Click((1, 2), 1)], []]
    longer = append_clicks(stack_clicks(batch, dimension=2), torch.tensor([[7, 7, PADDING], [8, 8, PADDING]]))
    assert longer.shape[1] == 2
    assert unstack_clicks(longer) == batch


def test_clicks_can_be_appended_to_none():
    none = stack_clicks([[], []], dimension=3)
    assert none.shape == (2, 0, 4)
    longer = append_clicks(none, torch.tensor([[1, 2, 3, 1], [4, 5, 6, 0]]))
    assert unstack_clicks(longer) == [[Click((1, 2, 3), 1)], [Click((4, 5, 6), 0)]]


def test_appending_leaves_the_clicks_so_far_as_they_were():
    clicks = stack_clicks([[Click((1, 2), 1)]], dimension=2)
    append_clicks(clicks, torch.tensor([[3, 4, 0]]))[:] = 9
    assert clicks.tolist() == [[[1, 2, 1]]]


def test_a_click_can_be_a_key_and_cannot_be_changed():
    assert {Click((1, 2, 3), 1): "here"}[Click((1, 2, 3), 1)] == "here"
    with pytest.raises(AttributeError):
        Click((1, 2, 3), 1).label = 0
