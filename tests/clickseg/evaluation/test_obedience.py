import math

import numpy as np
import pytest

from clickseg.clicks import Click
from clickseg.evaluation.obedience import contained, obeyed

SHAPE = (40, 50)
SPACING = (2.0, 1.0)


def nothing():
    return np.zeros(SHAPE, bool)


def block(rows, columns):
    mask = nothing()
    mask[slice(*rows), slice(*columns)] = True
    return mask


TRUTH = block((10, 30), (10, 40))


def test_a_click_that_mends_the_error_under_it_is_obeyed():
    before = block((10, 20), (10, 40))
    assert obeyed(Click((25, 25), 1), before, TRUTH, TRUTH) == 1
    assert obeyed(Click((25, 25), 1), before, before, TRUTH) == 0


def test_one_pixel_of_the_disc_left_wrong_is_disobedience_and_one_outside_the_disc_is_not():
    for offset, kept in (((0, 2), 0), ((0, 4), 1), ((3, 3), 1)):
        after = TRUTH.copy()
        after[25 + offset[0], 25 + offset[1]] = False
        assert obeyed(Click((25, 25), 1), nothing(), after, TRUTH) == kept


def test_what_was_right_already_is_not_asked_for():
    before = block((10, 26), (10, 40))
    after = before.copy()
    after[26:30] = TRUTH[26:30]
    after[24, 25] = False  # was right, is wrong now: another matter
    assert obeyed(Click((26, 25), 1), before, after, TRUTH) == 1


def test_a_background_click_is_obeyed_when_the_spill_under_it_goes():
    spill = TRUTH | block((30, 36), (10, 20))
    assert obeyed(Click((33, 15), 0), spill, TRUTH, TRUTH) == 1
    assert obeyed(Click((33, 15), 0), spill, spill, TRUTH) == 0


def test_a_click_where_nothing_was_wrong_cannot_be_obeyed_or_not():
    assert math.isnan(obeyed(Click((20, 20), 1), TRUTH, nothing(), TRUTH))


def test_the_foreground_near_a_background_click_must_not_grow():
    before = block((20, 30), (20, 30))
    near, far = before | block((18, 20), (20, 30)), before | block((32, 36), (20, 30))
    click = Click((22, 22), 0)
    assert contained(click, before, before, SPACING) == 1
    assert contained(click, before, near, SPACING) == 0
    assert contained(click, before, far, SPACING) == 1  # 20 mm away: rows are 2 mm
    assert math.isnan(contained(Click((22, 22), 1), before, near, SPACING))


def test_a_hundredth_more_is_allowed():
    before = block((0, 40), (0, 50))
    before[20, 25] = False
    grown = block((0, 40), (0, 50))
    assert contained(Click((20, 25), 0), before, grown, SPACING) == 1


@pytest.mark.parametrize("corner", [(0, 0), (39, 49), (0, 49)])
def test_a_click_in_a_corner_is_measured_on_what_there_is_of_its_disc(corner):
    everything = block((0, 40), (0, 50))
    assert obeyed(Click(corner, 1), nothing(), everything, everything) == 1
    assert contained(Click(corner, 0), everything, everything, SPACING) == 1
