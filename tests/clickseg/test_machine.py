import sys

import numpy as np
import psutil
import pytest

from clickseg.machine import zeros


@pytest.mark.parametrize("count", [0, 1, 5000, 2**22 + 3])
def test_zeros_are_zeros_and_can_be_written_to(count):
    found = zeros(count)
    assert found.dtype == np.uint8
    assert found.shape == (count,)
    assert not found.any()
    found[-1:] = 7
    assert found.sum() == 7 * bool(count)
    assert not zeros(count).any()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they are numpy's")
def test_zeros_that_nobody_writes_to_take_no_memory_and_the_others_give_it_back():
    process, size = psutil.Process(), 2**28
    before = process.memory_info().rss
    found = zeros(size)
    found[:4096] = 1
    assert process.memory_info().rss - before < size / 2
    found[:] = 1
    assert process.memory_info().rss - before > size / 2
    del found
    assert process.memory_info().rss - before < size / 2
