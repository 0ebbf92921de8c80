import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from clickseg.clicks import PADDING, SakinisUser, SimulateClickd, chamfer_distance, simulate, simulate_click
from clickseg.clicks.simulate import bounding_box, click_generator, log_click_weights, most_probable

some = settings(max_examples=25)

METRICS = ("chessboard", "taxicab", "chamfer")
IMPOSSIBLE = 1e-4  # p-value; seeds are fixed, so a test that passes once passes always

# Concave, with a hole, touching the border, in two pieces: every way of getting a distance wrong.
ODD_SHAPE = np.array(
    [
        [character == "#" for character in row]
        for row in (
            "#########....",
            "##########...",
            "##########...",
            "##########..#",
            "###########.#",
            "##########..#",
            "##.######.##.",
            "..#######..##",
            "...####......",
        )
    ]
)
DRAWS = 1500


def brute_force_distance(mask, metric):
    """To the nearest unmarked voxel, which may lie outside the grid, by trying all of them."""
    ring = np.pad(mask, 1)
    unmarked, marked = np.argwhere(~ring), np.argwhere(ring)
    steps = np.sort(np.abs(marked[:, None] - unmarked[None]), axis=-1)[..., ::-1]
    if mask.ndim == 2:
        steps = np.concatenate([steps, np.zeros_like(steps[..., :1])], axis=-1)
    far, middle, near = np.moveaxis(steps, -1, 0)
    lengths = {
        "chessboard": far,
        "taxicab": far + middle + near,
        "chamfer": 0.955 * (far - middle) + 1.3693 * (middle - near) + 1.654 * near,
    }[metric]
    distance = np.zeros(ring.shape)
    distance[tuple(marked.T)] = lengths.min(1) if len(marked) else []
    return distance[(slice(1, -1),) * mask.ndim]


def exact_probabilities(mask, metric, scale):
    """P(x) proportional to exp(d(x)) - 1 (Sakinis 2019, III-B)."""
    weights = np.exp(brute_force_distance(mask, metric) * scale) - 1
    return weights / weights.sum()


def generators(number, first=0):
    return [click_generator(first + seed, turn=0) for seed in range(number)]


def batch(mask, number):
    return torch.from_numpy(np.broadcast_to(mask, (number, *mask.shape)).copy())


def clicks_on(mask, number, **options):
    """(number, D+1) clicks on a structure of which nothing has been found."""
    label = batch(mask, number)
    return simulate_click(torch.zeros_like(label), label, generators(number), **options).numpy()


def p_value(rows, probabilities):
    """Of the clicks under the exact probabilities, by chi-square: voxel by voxel, and depth by depth (the lower)."""
    counts = np.zeros(probabilities.shape)
    np.add.at(counts, tuple(rows[:, :-1].T), 1)
    assert not counts[probabilities == 0].any()
    counts, expected = counts[probabilities > 0], probabilities[probabilities > 0] * len(rows)
    _, depth = np.unique(expected.round(9), return_inverse=True)
    by_depth = chi_square(np.bincount(depth, counts), np.bincount(depth, expected))
    return min(by_depth, chi_square(counts, expected))


def chi_square(observed, expected):
    """p-value; what is hardly ever expected shares a bin."""
    rare = expected < 5
    kept = np.append(~rare, rare.any())
    observed, expected = (np.append(np.where(rare, 0, a), a[rare].sum())[kept] for a in (observed, expected))
    return stats.chisquare(observed, expected).pvalue if len(observed) > 1 else 1.0


def box_of(shape, *ranges):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*pair) for pair in ranges)] = True
    return mask


def masks(max_side=12):
    """Bool arrays (B, *S) of one to three images in two or three dimensions, of blobs and of salt and pepper."""
    side = st.integers(1, max_side)
    shapes = st.integers(2, 3).flatmap(lambda dimension: st.tuples(st.integers(1, 3), *[side] * dimension))
    return shapes.flatmap(lambda shape: arrays.arrays(bool, shape, fill=st.booleans()))


@st.composite
def pairs_of_masks(draw, max_side=9):
    """Prediction and label, bool tensors (B, *S)."""
    label = draw(masks(max_side))
    prediction = draw(arrays.arrays(bool, label.shape, fill=st.booleans()))
    return torch.from_numpy(prediction), torch.from_numpy(label)


# Distances


@pytest.mark.parametrize("metric", METRICS)
@some
@given(masks(max_side=7))
def test_distances_are_those_of_brute_force(metric, mask):
    expected = np.stack([brute_force_distance(item, metric) for item in mask])
    np.testing.assert_allclose(chamfer_distance(torch.from_numpy(mask), metric), expected, atol=1e-4)


@pytest.mark.parametrize("metric", METRICS)
@some
@given(masks())
def test_relaxation_gives_the_distances_of_the_libraries(metric, mask):
    mask = torch.from_numpy(mask)
    relaxed = simulate._chamfer_relaxation(mask, metric)
    assert relaxed.dtype == torch.float32
    torch.testing.assert_close(relaxed, chamfer_distance(mask, metric), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("metric", METRICS)
def test_what_lies_outside_the_grid_is_unmarked(metric, dimension):
    everything = torch.ones(1, *[5] * dimension, dtype=torch.bool)
    for distance in (chamfer_distance(everything, metric), simulate._chamfer_relaxation(everything, metric)):
        step = 0.955 if metric == "chamfer" else 1
        assert float(distance[(0, *[0] * dimension)]) == pytest.approx(step, abs=1e-4)
        assert float(distance[(0, *[2] * dimension)]) == pytest.approx(3 * step, abs=1e-4)


def test_an_unknown_metric_is_refused():
    label = torch.ones(1, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"'euclidean'.*chessboard, taxicab, chamfer"):
        simulate_click(~label, label, generators(1), metric="euclidean")


@some
@given(masks().map(lambda mask: mask[0]))
def test_the_bounding_box_is_the_smallest_that_holds_every_marked_voxel(mask):
    box = bounding_box(mask)
    voxels = np.argwhere(mask)
    if len(voxels) == 0:
        assert box is None
    else:
        assert [side.start for side in box] == voxels.min(0).tolist()
        assert [side.stop - 1 for side in box] == voxels.max(0).tolist()


# The paper's distribution


@pytest.mark.parametrize("scale", [1.0, 1.25])
@pytest.mark.parametrize("metric", METRICS)
def test_clicks_are_distributed_as_the_papers_formula_says(metric, scale):
    rows = clicks_on(ODD_SHAPE, DRAWS, metric=metric, scale=scale)
    assert (rows[:, -1] == 1).all()
    assert p_value(rows, exact_probabilities(ODD_SHAPE, metric, scale)) > IMPOSSIBLE


def test_the_chi_square_test_notices_another_metric_scale_or_formula():
    rows = clicks_on(ODD_SHAPE, DRAWS)
    without_minus_one = np.where(ODD_SHAPE, np.exp(brute_force_distance(ODD_SHAPE, "chessboard")), 0)
    for wrong in (
        exact_probabilities(ODD_SHAPE, "taxicab", 1.0),
        exact_probabilities(ODD_SHAPE, "chamfer", 1.0),
        exact_probabilities(ODD_SHAPE, "chessboard", 1.25),
        without_minus_one / without_minus_one.sum(),
    ):
        assert p_value(rows, wrong) < IMPOSSIBLE


@pytest.mark.parametrize("metric", ["chessboard", "taxicab"])  # SciPy's; "chamfer" is compared path with path below
def test_clicks_in_three_dimensions_are_distributed_as_the_formula_says(metric):
    mask = np.stack([ODD_SHAPE, ODD_SHAPE, ODD_SHAPE[::-1]])
    rows = clicks_on(mask, 1000, metric=metric)
    assert p_value(rows, exact_probabilities(mask, metric, 1.0)) > IMPOSSIBLE


def test_clicks_on_false_positives_follow_the_same_formula():
    prediction = batch(ODD_SHAPE, DRAWS)
    rows = simulate_click(prediction, torch.zeros_like(prediction), generators(DRAWS)).numpy()
    assert (rows[:, -1] == 0).all()
    assert p_value(rows, exact_probabilities(ODD_SHAPE, "chessboard", 1.0)) > IMPOSSIBLE


def test_only_what_is_still_wrong_decides_where_the_click_goes():
    label = np.ones(ODD_SHAPE.shape, bool)
    missed = batch(ODD_SHAPE, DRAWS)
    rows = simulate_click(~missed, torch.from_numpy(label).expand_as(missed), generators(DRAWS)).numpy()
    assert p_value(rows, exact_probabilities(ODD_SHAPE, "chessboard", 1.0)) > IMPOSSIBLE


# The first click


def test_the_first_click_is_that_on_a_prediction_of_nothing():
    label = batch(ODD_SHAPE, 50)
    none = torch.empty(50, 0, 3, dtype=torch.int64)
    first = SakinisUser(metric="taxicab", scale=1.25)(None, label, none, generators(50))
    assert torch.equal(first, simulate_click(~label & label, label, generators(50), metric="taxicab", scale=1.25))


def test_a_first_click_anywhere_is_even_over_the_structure():
    label = batch(ODD_SHAPE, DRAWS)
    user = SakinisUser(first="anywhere")
    rows = user(None, label, torch.empty(DRAWS, 0, 3, dtype=torch.int64), generators(DRAWS)).numpy()
    assert (rows[:, -1] == 1).all()
    assert p_value(rows, ODD_SHAPE / ODD_SHAPE.sum()) > IMPOSSIBLE


@pytest.mark.parametrize("first", ["interior", "anywhere"])
def test_nobody_clicks_on_a_structure_that_is_not_there(first):
    label = torch.stack([torch.zeros(4, 5, dtype=torch.bool), torch.ones(4, 5, dtype=torch.bool)])
    rows = SakinisUser(first=first)(None, label, torch.empty(2, 0, 3, dtype=torch.int64), generators(2))
    assert rows[0].tolist() == [PADDING] * 3
    assert rows[1, -1] == 1


def test_the_user_compares_the_most_probable_class_with_the_truth():
    label = torch.from_numpy(box_of((1, 8, 8), (0, 1), (2, 6), (2, 6)))
    logits = torch.zeros(1, 2, 8, 8)
    logits[:, 1] = torch.where(label, 0.1, -0.1)
    satisfied = SakinisUser()(logits, label, torch.tensor([[[3, 3, 1]]]), generators(1))
    assert satisfied[0, -1] == PADDING
    logits[:, 0, :, :4] += 1
    row = SakinisUser()(logits, label, torch.tensor([[[3, 3, 1]]]), generators(1))[0]
    assert row[-1] == 1
    assert 2 <= row[1] < 4


# Inside or outside


def test_the_larger_error_by_area_is_clicked_and_not_the_deeper_one():
    label = torch.from_numpy(box_of((1, 12, 30), (0, 1), (1, 6), (1, 6)))  # 25 voxels missed, 3 deep
    prediction = torch.from_numpy(box_of((1, 12, 30), (0, 1), (9, 10), (2, 28)))  # 26 voxels spilled, 1 deep
    row = simulate_click(prediction, label, generators(1))[0]
    assert row[-1] == 0
    assert row[0] == 9
    row = simulate_click(label, prediction, generators(1))[0]
    assert row[-1] == 1
    assert row[0] == 9


@pytest.mark.parametrize(("spilled", "inside"), [(24, 1), (25, 1), (26, 0)])
def test_a_tie_of_areas_goes_to_the_false_negatives(spilled, inside):
    label = torch.from_numpy(box_of((1, 12, 30), (0, 1), (1, 6), (1, 6)))
    prediction = torch.from_numpy(box_of((1, 12, 30), (0, 1), (9, 10), (0, spilled)))
    assert simulate_click(prediction, label, generators(1))[0, -1] == inside


def test_a_user_with_nothing_to_correct_is_satisfied():
    label = torch.stack([torch.from_numpy(ODD_SHAPE), torch.zeros(ODD_SHAPE.shape, dtype=torch.bool)])
    assert simulate_click(label.clone(), label, generators(2)).tolist() == [[PADDING] * 3] * 2


@some
@given(pairs_of_masks(), st.sampled_from(METRICS), st.sampled_from([0.5, 1.0, 3.0]))
def test_a_click_lies_in_the_error_that_it_corrects(masks, metric, scale):
    prediction, label = masks
    rows = simulate_click(prediction, label, generators(len(label)), metric=metric, scale=scale)
    assert rows.shape == (len(label), label.ndim)
    assert rows.dtype == torch.int64
    for row, p, t in zip(rows.tolist(), prediction.numpy(), label.numpy(), strict=True):
        missed, spilled = (t & ~p), (p & ~t)
        if row[-1] == PADDING:
            assert not missed.any()
            assert not spilled.any()
        elif row[-1] == 1:
            assert missed[tuple(row[:-1])]
            assert missed.sum() >= spilled.sum()
        else:
            assert row[-1] == 0
            assert spilled[tuple(row[:-1])]
            assert spilled.sum() > missed.sum()


# Large distances


def test_log_weights_are_exact_where_the_exponential_fits_and_finite_where_it_does_not():
    distance = torch.tensor([0.0, 0.955, 1, 5, 80, 89, 250, 5000], dtype=torch.float64)
    weights = log_click_weights(distance)
    np.testing.assert_allclose(weights[1:5], np.log(np.expm1(distance[1:5])), rtol=1e-12)
    np.testing.assert_allclose(weights[5:], distance[5:], rtol=1e-12)
    assert weights[0] == -torch.inf
    assert torch.isfinite(log_click_weights(distance.float())[1:]).all()


def test_a_structure_deeper_than_the_exponential_reaches_is_clicked_near_its_middle():
    rows, columns = np.indices((450, 470))
    disc = np.hypot(rows - 225, columns - 235) < 220
    clicks = clicks_on(disc, 5)
    depth = peeled_depth(disc)
    assert depth.max() > 150
    assert (depth[tuple(clicks[:, :-1].T)] > depth.max() - 15).all()
    assert len(np.unique(clicks, axis=0)) > 1


@pytest.mark.parametrize("mask", [ODD_SHAPE, np.stack([ODD_SHAPE] * 3)], ids=["2D", "3D"])
def test_both_paths_survive_distances_of_hundreds(mask):
    label = batch(mask, 20)
    draws = np.linspace(0.01, 0.99, 20)
    for metric, scale in (("chessboard", 250.0), ("chamfer", 500.0)):
        rows = simulate._click_torch(torch.zeros_like(label), label, draws, metric, scale)
        assert (rows[:, -1] == 1).all()
        depth = chamfer_distance(label, metric)[0].numpy()
        assert depth.max() * scale > 400
        for found in (rows.numpy(), clicks_on(mask, 20, metric=metric, scale=scale)):
            np.testing.assert_allclose(depth[tuple(found[:, :-1].T)], depth.max(), atol=1e-4)


def peeled_depth(mask):
    """Chessboard depth of a large mask, by peeling."""
    depth, left = np.zeros(mask.shape, int), mask.copy()
    while left.any():
        depth += left
        padded = np.pad(left, 1)
        left = np.all(
            [padded[i : i + mask.shape[0], j : j + mask.shape[1]] for i in range(3) for j in range(3)], axis=0
        )
    return depth


# One function, however it is called


@pytest.mark.parametrize("metric", METRICS)
@some
@given(pairs_of_masks(), st.integers(0, 2**32 - 1))
def test_the_torch_path_clicks_where_the_library_path_does(metric, masks, seed):
    prediction, label = masks
    expected = simulate_click(prediction, label, generators(len(label), seed), metric=metric, scale=1.25)
    draws = [float(torch.rand((), generator=g, dtype=torch.float64)) for g in generators(len(label), seed)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate, "chamfer_distance", simulate._chamfer_relaxation)
        assert torch.equal(simulate._click_torch(prediction, label, draws, metric, 1.25), expected)


@some
@given(pairs_of_masks(), st.data())
def test_the_click_of_an_image_does_not_depend_on_its_batch_mates(masks, data):
    prediction, label = masks
    seeds = data.draw(st.lists(st.integers(0, 2**31), min_size=len(label), max_size=len(label)))
    order = data.draw(st.permutations(range(len(label))))

    def clicks(chosen):
        streams = [click_generator(seeds[index], turn=3) for index in chosen]
        return simulate_click(prediction[list(chosen)], label[list(chosen)], streams)

    together = clicks(range(len(label)))
    assert torch.equal(clicks(order), together[list(order)])
    for index in range(len(label)):
        assert torch.equal(clicks([index])[0], together[index])


def test_every_generator_is_advanced_by_one_number_even_where_nothing_is_wrong():
    label = torch.stack([torch.from_numpy(ODD_SHAPE), torch.zeros(ODD_SHAPE.shape, dtype=torch.bool)])
    used, fresh = generators(2), generators(2)
    simulate_click(torch.zeros_like(label), label, used)
    for one, other in zip(used, fresh, strict=True):
        torch.rand((), generator=other, dtype=torch.float64)
        assert torch.equal(one.get_state(), other.get_state())


def test_a_transposed_view_is_clicked_like_its_copy():
    label = torch.from_numpy(np.pad(ODD_SHAPE, ((0, 3), (2, 0))))[None].transpose(1, 2)
    assert not label.is_contiguous()
    for seed in range(20):
        view = simulate_click(torch.zeros_like(label), label, generators(1, seed), metric="chamfer")
        copy = simulate_click(torch.zeros_like(label), label.contiguous(), generators(1, seed), metric="chamfer")
        assert torch.equal(view, copy)


def test_prediction_and_label_must_agree_in_shape_and_every_image_needs_a_generator():
    label = torch.ones(2, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="differ in shape"):
        simulate_click(label[:, :3], label, generators(2))
    with pytest.raises(ValueError, match="1 generators for a batch of 2"):
        simulate_click(~label, label, generators(1))


# The MONAI transform


def request(**more):
    """Two images of one structure each, as the click loop asks about them."""
    label = torch.from_numpy(np.stack([ODD_SHAPE, ODD_SHAPE[::-1, ::-1].copy()])).float()[:, None]
    return {"label": label, "seed": torch.tensor([11, 12]), **more}


def test_the_transform_appends_one_row_per_image_and_keeps_the_rest():
    before = torch.tensor([[[1, 2, 1]], [[3, 4, 0]]])
    data = request(clicks=before, previous=None, image="untouched")
    result = SimulateClickd()(data)
    assert result["clicks"].shape == (2, 2, 3)
    assert torch.equal(result["clicks"][:, :1], before)
    assert result["image"] == "untouched"
    assert data["clicks"] is before


def test_without_clicks_the_transform_makes_the_first():
    result = SimulateClickd()(request())["clicks"]
    assert result.shape == (2, 1, 3)
    for row, mask in zip(result[:, 0].tolist(), request()["label"][:, 0].bool(), strict=True):
        assert row[-1] == 1
        assert mask[tuple(row[:-1])]
    assert torch.equal(SimulateClickd()(request(clicks=None, previous=None))["clicks"], result)


def test_the_transform_corrects_the_previous_prediction():
    data = request(clicks=torch.tensor([[[1, 2, 1]], [[3, 4, 1]]]))
    label = data["label"][:, 0].bool()
    data["previous"] = torch.stack([torch.zeros_like(data["label"][:, 0]), torch.where(label, 5.0, -5.0)], dim=1)
    data["previous"][0, 1, 0, 9:] = 5.0  # spilled over what is right of the structure
    (_, first), (_, second) = SimulateClickd()(data)["clicks"].tolist()
    assert first[-1] == 0
    assert first[0] == 0
    assert 9 <= first[1] <= 12
    assert second[-1] == PADDING


def test_the_same_seed_gives_the_same_click_and_another_seed_another():
    transform = SimulateClickd()
    assert torch.equal(transform(request())["clicks"], transform(request())["clicks"])
    label = batch(ODD_SHAPE, 200)[:, None]
    clicks = transform({"label": label, "seed": torch.arange(200)})["clicks"]
    assert len(np.unique(clicks.numpy(), axis=0)) > 10


def test_the_seed_gives_every_turn_a_click_of_its_own():
    label = batch(ODD_SHAPE, 1)[:, None]
    clicks = None
    for _ in range(40):
        clicks = SimulateClickd()({"label": label, "seed": torch.tensor([5]), "clicks": clicks})["clicks"]
    assert len(np.unique(clicks[0].numpy(), axis=0)) > 10
    again = SimulateClickd()({"label": label, "seed": torch.tensor([5]), "clicks": clicks[:, :7]})["clicks"]
    assert torch.equal(again, clicks[:, :8])


def test_clicks_of_many_seeds_and_turns_follow_the_formula_together():
    label = batch(ODD_SHAPE, DRAWS)[:, None]
    transform = SimulateClickd(metric="taxicab", scale=0.5)
    for turn in (0, 4):
        before = torch.full((DRAWS, turn, 3), PADDING)
        rows = transform({"label": label, "seed": torch.arange(DRAWS), "clicks": before})["clicks"][:, -1].numpy()
        assert p_value(rows, exact_probabilities(ODD_SHAPE, "taxicab", 0.5)) > IMPOSSIBLE


def test_the_transform_takes_a_user_or_the_papers_options():
    assert SimulateClickd(metric="taxicab", scale=2.0).user == SakinisUser(metric="taxicab", scale=2.0)

    def always_the_origin(logits, label, clicks, generators):
        return torch.zeros(len(label), label.ndim, dtype=torch.int64)

    assert SimulateClickd(always_the_origin)(request())["clicks"].tolist() == [[[0, 0, 0]]] * 2
    with pytest.raises(ValueError, match="not both"):
        SimulateClickd(always_the_origin, metric="taxicab")


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_the_most_probable_class_is_the_first_of_the_highest(classes):
    logits = torch.randint(0, 3, (2, classes, 7, 6, 5), generator=torch.Generator().manual_seed(0)).float()
    np.testing.assert_array_equal(most_probable(logits), logits.numpy().argmax(1))
