"""What every baseline promises: a new line in BASELINES is tested here by itself."""

import pickle
import tracemalloc

import cv2
import pytest
import torch

from clickseg.clicks import INSIDE, OUTSIDE, PADDING, Click, stack_clicks, unstack_clicks
from clickseg.methods import BASELINES, Segmenter
from clickseg.methods.baselines import graph_cut
from clickseg.metrics import dice

SIDE = 64  # pixels of 1.25 mm
MIDDLE = (SIDE // 2, SIDE // 2)
LOOKING = ("random_walker", "grabcut", "graph_cut")  # at the image
LEAST_DICE = 0.95  # of one click in the middle of a bright disc


@pytest.fixture(params=BASELINES)
def name(request):
    return request.param


@pytest.fixture(params=LOOKING)
def looking(request):
    """The name of a baseline that looks at the image."""
    return request.param


@pytest.fixture
def segmenter(name):
    return BASELINES[name]()


@pytest.fixture
def image():
    """(2, 1, H, W), HU: noise."""
    return 150 * torch.randn(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def clicks():
    """(2, 4, 3): three clicks on the first image, two of them close; four on the second, one in a corner."""
    return stack_clicks(
        [
            [Click((20, 30), INSIDE), Click((21, 30), OUTSIDE), Click((50, 11), INSIDE)],
            [Click((63, 63), INSIDE), Click((32, 32), INSIDE), Click((40, 50), OUTSIDE), Click((32, 33), INSIDE)],
        ],
        dimension=2,
    )


def rows_columns(height=SIDE, width=SIDE):
    return torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")


def ball(row, column, radius):
    """(H, W) bool: a disc, in pixels."""
    rows, columns = rows_columns()
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def enhanced(mask):
    """(1, 1, H, W), HU: a structure of 150 in fat of -80, both with a noise of 25."""
    noise = torch.randn(mask.shape, generator=torch.Generator().manual_seed(2))
    return torch.where(mask, 150.0, -80.0).add(noise, alpha=25)[None, None]


def answer(segmenter, image, *clicks):
    """(H, W) bool for one slice."""
    return segmenter(image, stack_clicks([clicks], 2)).argmax(1)[0] == INSIDE


def test_it_is_a_segmenter_of_slices(segmenter):
    assert isinstance(segmenter, Segmenter)
    assert segmenter.dimension == 2


def test_logits_are_finite_and_lie_on_the_grid_of_the_image(segmenter, image, clicks):
    logits = segmenter(image, clicks)
    assert logits.shape == (2, 2, SIDE, SIDE)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("shape", [(33, 35), (64, 50), (7, 90), (8, 8), (1, 1)])
def test_slices_of_any_size_are_answered(segmenter, shape):
    image = 150 * torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(3))
    clicked = (shape[0] // 2, shape[1] // 3)
    mask = answer(segmenter, image, Click(clicked, INSIDE))
    assert mask.shape == shape
    assert mask[clicked]


def test_clicked_pixels_have_their_label(segmenter, image, clicks):
    masks = segmenter(image, clicks).argmax(1)
    for mask, own in zip(masks, unstack_clicks(clicks), strict=True):
        assert [int(mask[click.position]) for click in own] == [click.label for click in own]


def test_of_two_clicks_on_one_pixel_the_later_counts(segmenter, image):
    inside, outside = Click(MIDDLE, INSIDE), Click(MIDDLE, OUTSIDE)
    assert not answer(segmenter, image[:1], inside, outside)[MIDDLE]
    assert answer(segmenter, image[:1], outside, inside)[MIDDLE]


def test_without_an_inside_click_all_is_background(segmenter, image):
    assert not answer(segmenter, image[:1]).any()
    assert not answer(segmenter, image[:1], Click(MIDDLE, OUTSIDE)).any()


def test_padding_rows_change_nothing(segmenter, image, clicks):
    rows = torch.full((2, 2, 3), PADDING)
    rows[:, 1, :-1] = 4  # where a padding row points does not matter
    padded = torch.cat([rows[:, :1], clicks, rows[:, 1:]], dim=1)
    assert torch.equal(segmenter(image, padded), segmenter(image, clicks))


def test_an_image_is_answered_alone_as_in_company(segmenter, image, clicks):
    together = segmenter(image, clicks)
    for index, own in enumerate(unstack_clicks(clicks)):
        alone = segmenter(image[index : index + 1], stack_clicks([own], 2))
        assert torch.equal(alone[0], together[index])


def test_the_same_question_has_the_same_answer(segmenter, image, clicks):
    """Whatever OpenCV drew in between; and decoding leaves the code as it was."""
    code = segmenter.encode(image)
    first = segmenter.decode(code, clicks)
    cv2.setRNGSeed(99)
    cv2.randu(code.new_zeros(3).numpy(), 0, 1)
    assert torch.equal(segmenter.decode(code, clicks), first)
    assert torch.equal(code, segmenter.encode(image))


def test_it_can_be_sent_to_another_process(segmenter, image, clicks):
    assert torch.equal(pickle.loads(pickle.dumps(segmenter))(image, clicks), segmenter(image, clicks))


def test_a_constant_image_is_answered(segmenter):
    mask = answer(segmenter, torch.zeros(1, 1, SIDE, SIDE), Click(MIDDLE, INSIDE), Click((10, 10), OUTSIDE))
    assert mask[MIDDLE]
    assert not mask[10, 10]


@pytest.mark.parametrize("corner", [(0, 0), (0, SIDE - 1), (SIDE - 1, 0), (SIDE - 1, SIDE - 1)])
def test_a_click_in_a_corner_of_the_slice_is_answered(segmenter, corner):
    mask = answer(segmenter, enhanced(ball(*corner, radius=20)), Click(corner, INSIDE))
    assert mask[corner]
    assert not (mask & ~ball(*corner, radius=25)).any()


def test_what_is_far_from_all_inside_clicks_is_background(name):
    """Pixels of 10 mm: 64 of them reach much farther than 100 mm."""
    mask = answer(BASELINES[name](spacing=10.0), torch.full((1, 1, SIDE, SIDE), 50.0), Click(MIDDLE, INSIDE))
    assert not (mask & ~ball(*MIDDLE, radius=10)).any()


def test_the_spacing_says_how_many_pixels_a_millimetre_is(name, image):
    fine, coarse = (BASELINES[name](spacing=spacing) for spacing in (0.5, 2.0))
    blank = torch.zeros(1, 1, SIDE, SIDE)
    assert answer(fine, blank, Click(MIDDLE, INSIDE)).sum() > answer(coarse, blank, Click(MIDDLE, INSIDE)).sum()


def test_impossible_questions_are_refused(name, segmenter, image, clicks):
    with pytest.raises(ValueError, match="initial mask"):
        segmenter(image, clicks, previous=torch.zeros(2, 1, SIDE, SIDE))
    with pytest.raises(ValueError, match=r"outside grid \(64, 64\)"):
        answer(segmenter, image[:1], Click((5, SIDE), INSIDE))
    with pytest.raises(ValueError, match="spacing must be a positive number"):
        BASELINES[name](spacing=0)


def test_a_bright_disc_is_found_from_a_click_in_its_middle(looking):
    structure = ball(*MIDDLE, radius=16)
    mask = answer(BASELINES[looking](), enhanced(structure), Click(MIDDLE, INSIDE))
    assert dice(mask.numpy(), structure.numpy()) > LEAST_DICE


def test_a_background_click_in_a_false_positive_shrinks_it(looking):
    """Two bright discs with a wide bridge: one of them is wanted."""
    wanted, other = ball(32, 20, radius=10), ball(32, 44, radius=10)
    rows, columns = rows_columns()
    image = enhanced(wanted | other | ((rows - 32).abs() <= 6) & (columns >= 20) & (columns <= 44))
    segmenter, inside = BASELINES[looking](), Click((32, 20), INSIDE)
    before = answer(segmenter, image, inside) & other
    assert before.any(), "nothing to shrink"
    spot = tuple(before.nonzero()[before.sum() // 2].tolist())
    after = answer(segmenter, image, inside, Click(spot, OUTSIDE))
    assert (after & other).sum() < before.sum()
    assert not (after & ball(*spot, radius=2)).any()
    assert after[inside.position]


def test_a_background_click_cuts_the_disc(image):
    segmenter, inside = BASELINES["disc"](), Click(MIDDLE, INSIDE)
    before = answer(segmenter, image[:1], inside)
    after = answer(segmenter, image[:1], inside, Click((32, 38), OUTSIDE))
    assert 0 < after.sum() < before.sum()
    assert not (after & ~before).any()


def test_the_graph_cut_keeps_no_memory_of_its_answers():
    """numpymaxflow 0.0.7 never releases the array that it returns."""
    image = enhanced(ball(*MIDDLE, radius=16))[0, 0].clamp(0, 1).numpy()
    graph_cut(image, [Click(MIDDLE, INSIDE)], 1.25)
    tracemalloc.start()
    try:
        for _ in range(20):
            graph_cut(image, [Click(MIDDLE, INSIDE)], 1.25)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2 * image.nbytes
