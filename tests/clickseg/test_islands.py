"""Islands: what lies far from all else is no structure, and others go as a whole when a click denies them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clickseg.clicks import PADDING
from clickseg.methods.islands import denied_islands, without_denied, without_strays

ORGAN, ISLAND, FAR = (6, 6, 6), (6, 6, 30), (6, 6, 50)
SHAPE = (13, 13, 60)


def found(*centres, radius=4, label=1):
    """Balls of a class round these voxels."""
    axes = torch.meshgrid(*map(torch.arange, SHAPE), indexing="ij")
    volume = torch.zeros(SHAPE, dtype=torch.int64)
    for centre in centres:
        volume[sum((axis - index) ** 2 for axis, index in zip(axes, centre, strict=True)) <= radius**2] = label
    return volume


def clicked(*clicks):
    return torch.tensor(clicks).reshape(-1, 4)


def test_a_background_click_in_the_core_of_an_island_takes_all_of_it():
    volume = found(ORGAN, ISLAND)
    assert torch.equal(denied_islands(volume, clicked((*ISLAND, 0))), found(ISLAND) == 1)


def test_the_click_of_another_structure_denies_it_too():
    volume = torch.maximum(found(ORGAN, ISLAND), found(FAR, label=2))
    assert torch.equal(denied_islands(volume, clicked((*ISLAND, 2))), found(ISLAND) == 1)


@pytest.mark.parametrize(
    ("volume", "clicks", "why"),
    [
        (found(ORGAN), [(*ORGAN, 0)], "it is all that there is"),
        (torch.maximum(found(ORGAN, radius=5), found(ISLAND)), [(*ORGAN, 0)], "the largest piece may be the organ"),
        (found(ORGAN, ISLAND), [(6, 6, 33, 0)], "the click is at its rim"),
        (found(ORGAN, ISLAND), [(*ISLAND, 0), (5, 6, 30, 1)], "a click says that it belongs to the class"),
        (found(ORGAN, (6, 6, 16)), [(*ORGAN, 0)], "an organ in pieces is one"),
        (found(ORGAN, ISLAND), [(*ISLAND, 1)], "the click agrees"),
        (found(ORGAN, ISLAND), [(0, 0, 20, 0)], "nothing is there"),
        (found(ORGAN, ISLAND), [(*ISLAND, PADDING)], "that is no click"),
        (found(ORGAN, ISLAND), [], "nobody has clicked"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_an_island_stays_where(volume, clicks, why):
    assert not denied_islands(volume, clicked(*clicks)).any(), why


def test_of_two_islands_that_are_denied_one_after_the_other_the_organ_is_left():
    volume = found(ORGAN, ISLAND, FAR)
    assert torch.equal(denied_islands(volume, clicked((*ISLAND, 0), (*FAR, 0))), found(ISLAND, FAR) == 1)
    everything = denied_islands(volume, clicked((*ISLAND, 0), (*FAR, 0), (*ORGAN, 0)))
    assert torch.equal(everything, found(ISLAND, FAR) == 1)


def test_once_a_larger_island_is_denied_no_smaller_one_counts_as_the_organ_instead():
    volume = torch.maximum(found(ORGAN), torch.maximum(found(ISLAND, radius=3), found(FAR)))
    denied = denied_islands(volume, clicked((*FAR, 0), (*ORGAN, 0)))
    assert torch.equal(denied, found(FAR) == 1)


def test_what_is_denied_becomes_what_was_next_likely_and_all_else_stays():
    logits = torch.zeros(3, *SHAPE)
    logits[1] = torch.where(found(ORGAN, ISLAND) == 1, 2.0, -1.0)
    logits[2, ..., 30:] = 1.0
    after = without_denied(logits[None], clicked((*ISLAND, 0))[None], -50.0)[0]
    denied = found(ISLAND) == 1
    assert torch.equal(after[:, ~denied], logits[:, ~denied])
    assert after.argmax(0)[6, 6, 29] == 0
    assert after.argmax(0)[6, 6, 31] == 2
    assert (after[1, denied] == -50).all()


@given(st.lists(st.tuples(*(st.integers(0, side - 1) for side in SHAPE), st.integers(0, 2)), max_size=6))
def test_whatever_is_clicked_some_of_each_class_is_left_and_asserted_voxels_are(clicks):
    volume = torch.maximum(found(ORGAN, ISLAND), found(FAR, label=2))
    left = torch.where(denied_islands(volume, clicked(*clicks)), 0, volume)
    assert set(left.unique().tolist()) == {0, 1, 2}
    for *place, label in clicks:
        if volume[tuple(place)] == label:
            assert left[tuple(place)] == label


def as_logits(volume, sure=3.0):
    """(1, 3, *SHAPE): of the class of each voxel `sure`, of the others noise below it."""
    noise = torch.rand(1, 3, *SHAPE, generator=torch.Generator().manual_seed(0))
    return noise.scatter(1, volume[None, None], sure)


def test_what_lies_apart_from_the_largest_part_of_all_structures_is_background():
    volume = torch.maximum(found(ORGAN), found((6, 6, 15), radius=3, label=2))
    stray = found(FAR, radius=3, label=2)
    kept = without_strays(as_logits(torch.maximum(volume, stray)), gap=4).argmax(1)[0]
    assert torch.equal(kept, volume), "organs side by side are one part, whatever their classes; the far ball is none"


@pytest.mark.parametrize(("gap", "stays"), [(9, False), (10, False), (11, True), (12, True)])
def test_pieces_within_the_gap_belong_together(gap, stays):
    organ, piece = found(ORGAN), found((6, 6, 24), radius=2)  # 11 voxels are free between them
    kept = without_strays(as_logits(torch.maximum(organ, piece)), gap).argmax(1)[0]
    assert torch.equal(kept, torch.maximum(organ, piece) if stays else organ)


def test_where_nothing_is_apart_logits_stay_as_they_are():
    for volume in (found(ORGAN), torch.zeros(SHAPE, dtype=torch.int64)):
        logits = as_logits(volume)
        assert without_strays(logits, gap=4) is logits


def test_of_what_is_apart_background_and_class_change_places_and_the_input_stays():
    logits = as_logits(torch.maximum(found(ORGAN), found(FAR, radius=2, label=2)))
    before, apart = logits.clone(), found(FAR, radius=2) == 1
    after = without_strays(logits, gap=4)
    assert torch.equal(logits, before)
    assert torch.equal(after[0, :, apart], before[0][[2, 1, 0]][:, apart])
    assert torch.equal(after[0, :, ~apart], before[0, :, ~apart])


def test_each_image_of_a_batch_keeps_its_own_largest_part():
    small, large = found(ORGAN, radius=2), found(FAR, radius=4)
    both = as_logits(torch.maximum(small, large))
    mirrored = torch.cat([both, both.flip(4)])
    kept = without_strays(mirrored, gap=4).argmax(1)
    assert torch.equal(kept[0], large)
    assert torch.equal(kept[1], large.flip(2))
