"""Clicks that a network ignores."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clickseg.clicks import PADDING
from clickseg.methods import UNet2dRecipe
from clickseg.methods.insist import insist
from clickseg.methods.unet2d import UNet2d

MARGIN, SIGMA = 1.0, 2.0


def flat(lead, size=24):
    """Logits (1, 2, size, size) in which inside leads by `lead` everywhere."""
    return torch.stack([torch.zeros(size, size), torch.full((size, size), float(lead))])[None]


def lead_of(logits):
    return logits[:, 1] - logits[:, 0]


def test_an_ignored_click_leads_by_the_margin_at_its_pixel_and_what_is_far_stays():
    before = flat(-3)
    after = lead_of(insist(before, torch.tensor([[[10, 12, 1]]]), MARGIN, SIGMA))
    assert after[0, 10, 12] == pytest.approx(MARGIN)
    assert (after[0] > 0).sum() > 1
    assert after[0, 10, 15] < after[0, 10, 14] < after[0, 10, 12]
    assert torch.equal(after[0, :, 21:], lead_of(before)[0, :, 21:])


def test_a_click_that_is_obeyed_changes_nothing():
    logits = flat(2)
    assert insist(logits, torch.tensor([[[10, 12, 1]]]), MARGIN, SIGMA).equal(logits)
    assert insist(flat(-2), torch.tensor([[[10, 12, 0], [0, 0, PADDING]]]), MARGIN, SIGMA).equal(flat(-2))


def test_padding_is_no_click_and_images_do_not_mix():
    logits = flat(-3).repeat(2, 1, 1, 1)
    clicks = torch.tensor([[[5, 5, PADDING]], [[5, 5, 1]]])
    after = insist(logits, clicks, MARGIN, SIGMA)
    assert torch.equal(after[0], logits[0])
    assert lead_of(after)[1, 5, 5] == pytest.approx(MARGIN)


def test_of_two_clicks_at_a_pixel_the_last_counts():
    after = lead_of(insist(flat(0), torch.tensor([[[10, 8, 1], [10, 8, 0]]]), MARGIN, SIGMA))[0]
    assert after[10, 8] == pytest.approx(-MARGIN)


def test_between_two_clicks_the_nearest_counts():
    clicks = torch.tensor([[[10, 8, 1], [10, 13, 0]]])
    after = lead_of(insist(flat(0), clicks, MARGIN, SIGMA))[0]
    assert after[10, 8] == pytest.approx(MARGIN)
    assert after[10, 13] == pytest.approx(-MARGIN)
    assert after[10, 10] > 0 > after[10, 11]


positions = st.tuples(st.integers(0, 11), st.integers(0, 11), st.integers(0, 1))


@given(st.lists(positions, min_size=1, max_size=6, unique_by=lambda row: row[:2]), st.integers(0, 2**31))
def test_every_clicked_pixel_has_its_label_wherever_it_is(rows, seed):
    logits = torch.randn(1, 2, 12, 12, generator=torch.Generator().manual_seed(seed)) * 3
    after = lead_of(insist(logits, torch.tensor([rows]), MARGIN, SIGMA))[0]
    for row, column, label in rows:
        assert (1 if label else -1) * after[row, column] >= MARGIN - 1e-4


def test_a_network_insists_when_it_answers_and_not_when_it_learns():
    torch.manual_seed(0)
    recipe = UNet2dRecipe(width=4)
    plain = UNet2d(recipe)
    stubborn = UNet2d(dataclasses.replace(recipe, click_margin=MARGIN))
    stubborn.load_state_dict(plain.state_dict())
    code = torch.randn(1, 1, 32, 32)
    first = torch.tensor([[[16, 16, 1]]])
    ignored = 1 if lead_of(plain.eval()(code, first))[0, 16, 16] < 0 else 0
    clicks = torch.tensor([[[16, 16, ignored]]])
    answer = lead_of(stubborn.eval()(code, clicks))[0, 16, 16]
    assert (answer > 0) == bool(ignored)
    assert torch.equal(stubborn.train()(code, clicks), plain.train()(code, clicks))
