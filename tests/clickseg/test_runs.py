import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from clickseg.runs import decode_runs, encode_runs


@given(arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6), elements=st.integers(0, 2)))
def test_what_is_decoded_is_what_was_encoded(labels):
    values, lengths = encode_runs(labels)
    np.testing.assert_array_equal(decode_runs(values, lengths, labels.shape), labels)
    assert all(one != next_one for one, next_one in itertools.pairwise(values))


def test_the_last_axis_runs_fastest_whatever_the_order_in_memory():
    labels = np.asfortranarray([[0, 0, 1], [1, 1, 0]], np.uint8)
    assert encode_runs(labels) == ([0, 1, 0], [2, 3, 1])


def test_runs_that_do_not_fill_the_slice_are_refused():
    with pytest.raises(ValueError, match="runs of 5 voxels in all do not fill"):
        decode_runs([0, 1], [2, 3], (2, 3))
    with pytest.raises(ValueError, match="do not fill"):
        decode_runs([0], [2, 4], (2, 3))
