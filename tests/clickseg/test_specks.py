"""Small pieces of an answer that nobody clicked on."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from clickseg.clicks import PADDING
from clickseg.methods import UNet2dRecipe
from clickseg.methods.specks import without_specks
from clickseg.methods.unet2d import UNet2d

SHARE = 0.1


def answer(*boxes, size=24):
    """Logits (1, 2, size, size) in which the boxes (top, left, height, width) lead by 3, all else trails by 2."""
    lead = torch.full((size, size), -2.0)
    for top, left, height, width in boxes:
        lead[top : top + height, left : left + width] = 3
    return torch.stack([torch.zeros(size, size), lead])[None]


def inside(logits):
    return logits[:, 1] > logits[:, 0]


ORGAN, SPECK, PART = (2, 2, 10, 10), (18, 18, 3, 3), (16, 4, 2, 5)  # 100, 9 and 10 pixels
CLICK = torch.tensor([[[5, 5, 1]]])


def test_a_piece_of_less_than_a_tenth_of_the_one_that_is_clicked_on_is_dropped():
    after = without_specks(answer(ORGAN, SPECK, PART), CLICK, SHARE)
    assert torch.equal(inside(after), inside(answer(ORGAN, PART)))


def test_outside_and_inside_change_places_in_a_speck_and_all_else_stays():
    before = answer(ORGAN, SPECK)
    kept = before.clone()
    after = without_specks(before, CLICK, SHARE)
    speck = inside(before) & ~inside(answer(ORGAN))
    assert torch.equal(after.flip(1)[:, :, speck[0]], before[:, :, speck[0]])
    assert torch.equal(after[:, :, ~speck[0]], before[:, :, ~speck[0]])
    assert torch.equal(before, kept)


def test_a_small_piece_that_is_clicked_on_stays():
    clicks = torch.tensor([[[5, 5, 1], [19, 19, 1]]])
    assert inside(without_specks(answer(ORGAN, SPECK), clicks, SHARE))[0, 19, 19]


def test_a_click_outside_does_not_keep_a_piece_and_padding_is_no_click():
    clicks = torch.tensor([[[5, 5, 1], [19, 19, 0], [20, 20, PADDING]]])
    assert not inside(without_specks(answer(ORGAN, SPECK), clicks, SHARE))[0, 19, 19]


@pytest.mark.parametrize(
    "clicks", [torch.tensor([[[23, 0, 1]]]), torch.tensor([[[5, 5, 0]]]), torch.zeros(1, 0, 3, dtype=torch.long)]
)
def test_where_no_piece_is_clicked_on_nothing_changes(clicks):
    before = answer(ORGAN, SPECK)
    assert without_specks(before, clicks, SHARE) is before


def test_pixels_that_share_a_corner_hang_together():
    before = answer(ORGAN, (12, 12, 2, 2))
    assert without_specks(before, CLICK, SHARE) is before


def test_a_piece_larger_than_the_one_that_is_clicked_on_stays():
    before = answer(ORGAN, SPECK)
    assert without_specks(before, torch.tensor([[[19, 19, 1]]]), SHARE) is before


def test_images_of_a_batch_do_not_mix():
    before = torch.cat([answer(ORGAN, SPECK), answer(SPECK)])
    after = without_specks(before, torch.tensor([[[5, 5, 1]], [[19, 19, 1]]]), SHARE)
    assert torch.equal(inside(after), inside(torch.cat([answer(ORGAN), answer(SPECK)])))


@given(
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19), st.integers(0, 1)), min_size=1, max_size=5),
    st.integers(0, 2**31),
)
def test_every_piece_that_is_left_is_clicked_on_or_large_enough_and_nothing_is_added(rows, seed):
    before = torch.randn(1, 2, 20, 20, generator=torch.Generator().manual_seed(seed))
    after = inside(without_specks(before, torch.tensor([rows]), SHARE))[0]
    assert not bool((after & ~inside(before)[0]).any())
    pieces, count = ndimage.label(after.numpy(), torch.ones(3, 3))
    clicked = {pieces[row, column] for row, column, label in rows if label} - {0}
    sizes = {piece: int((pieces == piece).sum()) for piece in range(1, count + 1)}
    least = SHARE * max((sizes[piece] for piece in clicked), default=0)
    assert all(piece in clicked or size >= least for piece, size in sizes.items())


def test_a_network_drops_specks_when_it_answers_and_not_when_it_learns(monkeypatch):
    network = UNet2d(UNet2dRecipe(width=4, speck=SHARE))
    monkeypatch.setattr(network, "run_network", lambda *_: answer(ORGAN, SPECK))
    code = torch.zeros(1, 1, 24, 24)
    assert torch.equal(inside(network.eval()(code, CLICK)), inside(answer(ORGAN)))
    assert torch.equal(network.train()(code, CLICK), answer(ORGAN, SPECK))


def test_a_click_that_the_network_ignored_keeps_the_piece_that_is_lifted_round_it(monkeypatch):
    network = UNet2d(UNet2dRecipe(width=4, speck=SHARE, click_margin=1.0)).eval()
    monkeypatch.setattr(network, "run_network", lambda *_: answer(ORGAN))
    assert inside(network(torch.zeros(1, 1, 24, 24), torch.tensor([[[5, 5, 1], [20, 20, 1]]])))[0, 20, 20]


def test_a_share_above_one_is_refused():
    with pytest.raises(ValueError, match="speck must be a share from 0 to 1"):
        UNet2dRecipe(speck=1.5)
