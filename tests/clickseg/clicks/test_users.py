import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from clickseg.clicks import (
    PADDING,
    AnyUser,
    DeterministicUser,
    JitteredUser,
    LiuUser,
    SakinisUser,
    SimulateClickd,
    StaticUser,
    WrongUser,
)
from clickseg.clicks.simulate import click_generator
from clickseg.clicks.users import equivalent_radius, euclidean_depth, voxels_around

some = settings(max_examples=40)

CORRECTIVE = {
    "deterministic": DeterministicUser(),
    "liu": LiuUser(),
    "liu_faces": LiuUser(corners=False),
    "any": AnyUser((DeterministicUser(), LiuUser())),
}
ALL = {
    **CORRECTIVE,
    "jittered": JitteredUser(LiuUser(), radius=2),
    "static": StaticUser(band=3),
    "wrong": WrongUser(SakinisUser(), rate=0.5),
}


@st.composite
def scenes(draw, classes=2, max_side=9):
    """Prediction and truth (B, *S) of classes, in two or three dimensions, of blobs and of salt and pepper."""
    side = st.integers(1, max_side)
    shape = draw(st.integers(2, 3).flatmap(lambda axes: st.tuples(st.integers(1, 3), *[side] * axes)))
    values = st.integers(0, classes - 1)
    prediction, truth = (draw(arrays.arrays(np.int64, shape, elements=values, fill=values)) for _ in range(2))
    return torch.from_numpy(prediction), torch.from_numpy(truth)


def logits_of(prediction, classes=2):
    return torch.nn.functional.one_hot(prediction.long(), classes).movedim(-1, 1).float()


def no_clicks(label):
    return torch.empty(len(label), 0, label.ndim, dtype=torch.int64)


def one_click(label):
    """(B, 1, D+1): every image has been clicked at its first voxel."""
    return torch.cat([torch.zeros(len(label), 1, label.ndim - 1), torch.ones(len(label), 1, 1)], dim=2).long()


def generators(number, first=0):
    return [click_generator(first + seed, turn=0) for seed in range(number)]


def ask(user, prediction, label, clicks=None, seed=0):
    """Rows (B, D+1) of a user who sees a prediction (B, *S), or None."""
    logits = (
        None if prediction is None else logits_of(prediction, max(2, int(label.max()) + 1, int(prediction.max()) + 1))
    )
    return user(logits, label, no_clicks(label) if clicks is None else clicks, generators(len(label), seed))


def ask_often(user, prediction, label, times, clicks=None):
    """(times, D+1): what a user answers to one image (*S), with a seed of its own every time."""
    many = [None if a is None else a.expand(times, *a.shape[1:]) for a in (prediction, label, clicks)]
    return ask(user, many[0], many[1].clone(), many[2]).numpy()


def picture(*rows):
    """(1, H, W) bool: the voxels marked with #."""
    return torch.tensor([[[character == "#" for character in row] for row in rows]])


def disc(side, radius):
    """(1, side, side) bool: a disc in the middle."""
    axis = torch.arange(side) - side // 2
    return (axis[:, None] ** 2 + axis[None] ** 2 <= radius**2)[None]


def brute_force_depth(mask, spacing=1.0):
    """Squared distance of every marked voxel to the nearest unmarked one, by trying all of them."""
    ring = np.pad(mask, 1)
    unmarked, marked = np.argwhere(~ring), np.argwhere(ring)
    squared = np.zeros(ring.shape)
    if len(marked):
        squared[ring] = np.square((marked[:, None] - unmarked[None]) * np.asarray(spacing)).sum(-1).min(1)
    return squared[(slice(1, -1),) * mask.ndim]


# Every user that corrects


@pytest.mark.parametrize("user", CORRECTIVE.values(), ids=CORRECTIVE)
@some
@given(scenes(), st.integers(0, 1000))
def test_a_click_lies_in_the_error_and_says_what_is_true_there(user, scene, seed):
    prediction, truth = scene
    for row, found, right in zip(ask(user, prediction, truth.bool(), seed=seed), prediction, truth, strict=True):
        if row[-1] != PADDING:
            place = tuple(row[:-1].tolist())
            assert row[-1] == right[place] != found[place]


@pytest.mark.parametrize("user", CORRECTIVE.values(), ids=CORRECTIVE)
@some
@given(scenes(classes=4), st.integers(0, 1000))
def test_on_a_label_map_a_click_carries_the_true_class(user, scene, seed):
    prediction, truth = scene
    for row, found, right in zip(ask(user, prediction, truth, seed=seed), prediction, truth, strict=True):
        if row[-1] != PADDING:
            place = tuple(row[:-1].tolist())
            assert row[-1] == right[place] != found[place]


@pytest.mark.parametrize("user", [*CORRECTIVE.values(), ALL["jittered"], ALL["wrong"]])
@some
@given(scenes())
def test_a_user_is_satisfied_exactly_if_prediction_and_truth_are_equal(user, scene):
    prediction, truth = scene
    prediction = torch.cat([prediction, truth])
    truth = torch.cat([truth, truth]).bool()
    satisfied = ask(user, prediction, truth)[:, -1] == PADDING
    assert torch.equal(satisfied, (prediction == truth).flatten(1).all(1))
    assert satisfied[len(truth) // 2 :].all()


@pytest.mark.parametrize("user", [*ALL.values()], ids=ALL)
def test_the_first_click_is_inside_the_structure_and_an_empty_one_gets_none(user):
    label = torch.cat([disc(15, 5), torch.zeros(1, 15, 15, dtype=torch.bool)])
    for seed in range(20):
        rows = ask(user, None, label, seed=seed)
        assert rows.dtype == torch.int64
        assert rows[0, -1] == 1
        assert label[(0, *rows[0, :-1].tolist())]
        assert rows[1].tolist() == [PADDING] * 3


@pytest.mark.parametrize("user", ALL.values(), ids=ALL)
@some
@given(scenes(), st.data())
def test_the_click_of_an_image_does_not_depend_on_its_batch_mates(user, scene, data):
    prediction, truth = scene
    seeds = data.draw(st.lists(st.integers(0, 2**31), min_size=len(truth), max_size=len(truth)))
    order = list(data.draw(st.permutations(range(len(truth)))))
    before = one_click(truth)

    def clicks(chosen):
        streams = [click_generator(seeds[index], turn=3) for index in chosen]
        return user(logits_of(prediction[chosen]), truth[chosen].bool(), before[chosen], streams)

    together = clicks(list(range(len(truth))))
    assert torch.equal(clicks(order), together[order])
    for index in range(len(truth)):
        assert torch.equal(clicks([index])[0], together[index])


@pytest.mark.parametrize("user", ALL.values(), ids=ALL)
def test_users_draw_from_no_global_random_state_and_change_nothing_they_are_given(user):
    label, prediction = disc(15, 5), disc(15, 3)
    logits, clicks = logits_of(prediction), one_click(label)
    given_to_it = [tensor.clone() for tensor in (logits, label, clicks)]
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - is watched here
    user(logits, label, clicks, generators(1))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert all(torch.equal(*pair) for pair in zip((logits, label, clicks), given_to_it, strict=True))


@pytest.mark.parametrize("user", ALL.values(), ids=ALL)
def test_a_transposed_view_is_clicked_like_its_copy(user):
    label = torch.nn.functional.pad(disc(11, 4), (3, 0, 0, 2)).transpose(1, 2)
    assert not label.is_contiguous()
    prediction = torch.roll(label, 2, dims=2)
    for seed in range(5):
        view = ask(user, prediction, label, one_click(label), seed)
        assert torch.equal(view, ask(user, prediction.contiguous(), label.contiguous(), one_click(label), seed))


@pytest.mark.parametrize("user", [*CORRECTIVE.values()], ids=CORRECTIVE)
def test_logits_and_label_must_agree_in_shape_and_every_image_needs_a_generator(user):
    label = torch.ones(2, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="differ in shape"):
        ask(user, label[:, :3], label)
    with pytest.raises(ValueError, match="1 generators for a batch of 2"):
        user(None, label, no_clicks(label), generators(1))


@pytest.mark.parametrize("name", ["sakinis", "liu", "liu_faces", "deterministic", "jittered", "static", "wrong"])
def test_every_user_of_the_benchmark_plays_a_game(name):
    from clickseg.evaluation.tasks import USERS

    label = torch.cat([disc(21, 6), disc(21, 3)])[:, None]
    click = SimulateClickd(USERS[name]((0.8, 0.8)))
    clicks = None
    for previous in (None, logits_of(label[:, 0].roll(4, dims=2)), logits_of(label[:, 0].roll(-2, dims=1))):
        clicks = click({"label": label, "previous": previous, "clicks": clicks, "seed": torch.tensor([1, 2])})["clicks"]
    assert clicks.shape == (2, 3, 3)
    assert ((clicks >= 0) & (clicks < 21)).all()
    assert set(clicks[..., -1].unique().tolist()) <= {0, 1}


# The deterministic user


@some
@given(scenes(), st.data())
def test_the_deterministic_click_is_the_innermost_point_by_brute_force(scene, data):
    prediction, truth = (tensor[:1].bool() for tensor in scene)
    missed, spilled = (truth & ~prediction)[0].numpy(), (prediction & ~truth)[0].numpy()
    spacing = data.draw(st.sampled_from([1.0, 0.7, (1.0, 2.0, 5.0)[: missed.ndim]]))
    ratio = spacing if isinstance(spacing, tuple) else 1.0
    depth = np.maximum(brute_force_depth(missed, ratio), brute_force_depth(spilled, ratio))
    assume(depth.any())
    deepest = depth == depth.max()
    inside = (deepest & missed).any()
    expected = np.argwhere(deepest & (missed if inside else spilled))[0]
    (row,) = ask(DeterministicUser(spacing), prediction, truth).tolist()
    assert row == [*expected, int(inside)]


@pytest.mark.parametrize("spacing", [1.0, (1.0, 2.5), (1.0, 2.5, 4.0)])
@some
@given(data=st.data())
def test_depths_are_those_of_brute_force(spacing, data):
    axes = len(spacing) if isinstance(spacing, tuple) else data.draw(st.integers(2, 3))
    mask = data.draw(arrays.arrays(bool, st.tuples(*[st.integers(1, 8)] * axes), fill=st.booleans()))
    np.testing.assert_allclose(euclidean_depth(mask, spacing) ** 2, brute_force_depth(mask, spacing), rtol=1e-9)


def test_depth_decides_not_area():
    thin = picture(
        "............",
        ".##########.",
        ".##########.",
        "............",
        "............",
        "............",
    )
    thick = picture(
        "............",
        "............",
        "............",
        ".###........",
        ".###........",
        ".###........",
    )
    assert thin.sum() > thick.sum()
    assert ask(DeterministicUser(), thin, thick).tolist() == [[4, 2, 1]]
    assert ask(DeterministicUser(), thick, thin).tolist() == [[4, 2, 0]]


def test_of_equal_depths_the_structure_is_clicked_and_its_first_voxel():
    left = picture("........", ".##..##.", ".##..##.", "........").clone()
    right = left.clone()
    left[..., 4:] = right[..., :4] = False
    assert ask(DeterministicUser(), left, right).tolist() == [[1, 5, 1]]
    assert ask(DeterministicUser(), right, left).tolist() == [[1, 1, 1]]


def test_beyond_the_border_nothing_is_wrong():
    label = torch.ones(1, 5, 9, dtype=torch.bool)
    assert ask(DeterministicUser(), ~label, label).tolist() == [[2, 2, 1]]


def test_a_voxel_is_clicked_once_and_then_the_next_best():
    label = disc(11, 4)
    clicks = no_clicks(label)
    for _ in range(int(label.sum())):
        rows = ask(DeterministicUser(), ~label & False, label, clicks)
        clicks = torch.cat([clicks, rows[:, None]], dim=1)
    assert clicks[0, 0].tolist() == [5, 5, 1]
    assert len(np.unique(clicks[0].numpy(), axis=0)) == label.sum()
    depth = euclidean_depth(label[0].numpy())[tuple(clicks[0, :, :-1].T.numpy())]
    assert (np.diff(depth) <= 0).all()
    assert ask(DeterministicUser(), ~label & False, label, clicks)[0, -1] == PADDING


def test_a_row_of_padding_is_no_click():
    label = disc(11, 4)
    never = torch.full((1, 1, 3), PADDING)
    sits_out = torch.tensor([[[5, 5, PADDING]]])
    for clicks in (never, sits_out):
        assert ask(DeterministicUser(), None, label, clicks).tolist() == [[5, 5, 1]]


def test_thick_slices_count_as_thick():
    label = torch.zeros(1, 9, 9, 9, dtype=torch.bool)
    label[0, 1:4, 1:4, 1:4] = True  # as deep everywhere as its thinnest side allows
    flat = torch.zeros_like(label)
    flat[0, 5:7, 1:8, 1:8] = True
    assert ask(DeterministicUser(), flat, label).tolist() == [[2, 2, 2, 1]]
    assert ask(DeterministicUser((5.0, 1.0, 1.0)), flat, label).tolist()[0][-1] == 0


@pytest.mark.parametrize("spacing", [0.0, (1.0, -1.0), float("nan")])
def test_a_spacing_is_positive(spacing):
    with pytest.raises(ValueError, match="positive"):
        DeterministicUser(spacing)
    with pytest.raises(ValueError, match="positive"):
        JitteredUser(LiuUser(), radius=1, spacing=spacing)


def test_a_spacing_fits_the_axes():
    label = disc(5, 2)
    for user in (DeterministicUser((1.0, 1.0, 1.0)), JitteredUser(LiuUser(), 1, (1.0, 1.0, 1.0))):
        with pytest.raises(ValueError, match="2 axes"):
            ask(user, None, label)


# Liu's user

RING = picture(
    ".............",
    ".###########.",
    ".###########.",
    ".###########.",
    ".###.....###.",
    ".###.....###.",
    ".###########.",
    ".###########.",
    ".###########.",
    ".............",
)


def test_without_disturbance_the_centroid_of_the_largest_region_is_clicked():
    label = picture("###.......", "..........", ".....#####", ".....#####", ".....#####")
    assert ask(LiuUser(disturbance=0), None, label).tolist() == [[3, 7, 1]]


def test_in_a_ring_a_random_voxel_off_the_edge_is_clicked():
    core = {(i, j) for i in (2, 7) for j in range(2, 11)} | {(i, j) for i in range(2, 8) for j in (2, 10)}
    core |= {(i, j) for i in (3, 6) for j in (3, 9)}  # corners: only diagonally beside the hole
    rows = ask_often(LiuUser(disturbance=0), None, RING, 400)
    assert {tuple(row[:-1]) for row in rows.tolist()} == core
    assert (rows[:, -1] == 1).all()


def test_in_a_ring_that_is_all_edge_any_of_its_voxels_is_clicked():
    ring = picture("#####", "#...#", "#...#", "#####")
    rows = ask_often(LiuUser(), None, ring, 300)
    assert {tuple(row[:-1]) for row in rows.tolist()} == {tuple(voxel) for voxel in ring[0].nonzero().tolist()}


def test_an_error_is_split_by_its_true_class_before_the_largest_is_chosen():
    truth = torch.zeros(1, 5, 12, dtype=torch.int64)
    truth[:, :, :3], truth[:, :, 3:6], truth[:, :, 6:8] = 1, 2, 1
    missed = torch.zeros_like(truth)
    assert ask(LiuUser(disturbance=0), missed, truth).tolist() == [[2, 1, 1]]  # not the 8 columns that touch each other
    found = torch.where(truth == 1, truth, 0)
    found[:, :, 8:] = 1
    assert ask(LiuUser(disturbance=0), found, truth).tolist()[0][-1] == 0  # four columns of background beat three


def test_of_regions_of_one_size_the_structure_comes_before_the_background():
    label = picture("###......", "###......", "###......")
    spilled = picture("......###", "......###", "......###")
    assert ask(LiuUser(disturbance=0), spilled, label).tolist() == [[1, 1, 1]]


def test_voxels_that_share_a_corner_are_one_region_unless_faces_alone_count():
    label = picture("##...###", "##...###", "..##....", "..##....")
    assert ask_often(LiuUser(), None, label, 50)[:, 1].max() <= 3
    assert ask_often(LiuUser(corners=False), None, label, 50)[:, 1].min() >= 5


def test_any_of_several_users_clicks_each_as_often():
    label = picture("#####......", "#####......", "#####......", "...........", "...........")
    users = tuple(LiuUser(disturbance=0) if first else StaticUser(band=3) for first in (True, False))
    rows = ask_often(AnyUser(users), None, label, 600)
    middle = (rows == [1, 2, 1]).all(1).mean()
    assert 0.45 < middle < 0.65  # the other one clicks there, too, now and then
    assert ask_often(AnyUser(users[:1]), None, label, 20).tolist() == [[1, 2, 1]] * 20
    with pytest.raises(ValueError, match="At least one user"):
        AnyUser(())


def test_the_disturbance_reaches_ten_voxels_in_a_large_structure_and_no_more():
    label = disc(101, 45)
    rows = ask_often(LiuUser(), None, label, 1500)
    steps = rows[:, :-1] - 50
    assert steps.min() == -10
    assert steps.max() == 10
    counts = np.bincount(steps[:, 0] + 10)
    assert len(counts) == 21
    assert counts.min() > 40  # of 71: even, not bell-shaped


def test_the_disturbance_shrinks_with_the_structure():
    radius = equivalent_radius(int(disc(31, 9).sum()), 2)
    assert radius == pytest.approx(9, abs=0.2)
    steps = ask_often(LiuUser(), None, disc(31, 9), 400)[:, :-1] - 15
    assert np.abs(steps).max() == int(radius / 2)
    assert (ask_often(LiuUser(), None, disc(31, 1), 50)[:, :-1] == 15).all()


def test_in_three_dimensions_the_radius_is_that_of_a_ball():
    axis = torch.arange(21) - 10
    ball = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 <= 64)[None]
    assert equivalent_radius(int(ball.sum()), 3) == pytest.approx(8, abs=0.2)
    steps = ask_often(LiuUser(), None, ball, 200)[:, :-1] - 10
    assert set(np.unique(np.abs(steps))) <= {0, 1, 2, 3, 4}
    assert np.abs(steps).max() >= 3


def test_a_disturbance_that_leaves_the_region_is_taken_back():
    band = torch.zeros(1, 5, 60, dtype=torch.bool)
    band[:, 2] = True
    rows = ask_often(LiuUser(), None, band, 300)
    assert (rows[:, 0] == 2).all()
    assert (rows[:, 1] == 30).mean() > 0.5  # two shifts of three leave the line
    assert len(np.unique(rows[:, 1])) > 2


# A trembling hand


@some
@given(scenes(), st.integers(0, 1000), st.floats(0, 20))
def test_a_trembling_hand_never_leaves_the_image_nor_its_side_of_the_truth(scene, seed, radius):
    prediction, truth = scene
    user = JitteredUser(DeterministicUser(), radius)
    for row, label in zip(ask(user, prediction, truth.bool(), seed=seed).tolist(), truth, strict=True):
        if row[-1] != PADDING:
            assert min(row) >= 0
            assert label[tuple(row[:-1])] == row[-1]


def test_a_trembling_hand_never_leaves_its_class_of_a_label_map():
    truth = (torch.arange(30) // 10).expand(1, 30, 30).clone()
    user = JitteredUser(DeterministicUser(), radius=8)
    rows = ask_often(user, torch.zeros_like(truth), truth, 200)
    assert (truth[0].numpy()[tuple(rows[:, :-1].T)] == rows[:, -1]).all()
    assert len(np.unique(rows, axis=0)) > 50


def test_a_hand_of_radius_zero_is_steady():
    label = disc(15, 5)
    assert torch.equal(ask(JitteredUser(LiuUser(), 0), None, label), ask(LiuUser(), None, label))


def test_the_tremble_is_a_gaussian_in_mm():
    label = torch.ones(1, 121, 121, dtype=torch.bool)
    rows = ask_often(JitteredUser(DeterministicUser(), radius=6, spacing=(1.0, 2.0)), None, label, 1000)
    steps = rows[:, :-1] - 60
    np.testing.assert_allclose(steps.std(0), [6, 3], rtol=0.1)
    assert (np.abs(steps.mean(0)) < [0.6, 0.3]).all()  # three standard errors; rounding down would shift by half


def test_a_click_with_nowhere_else_to_go_stays():
    label = torch.zeros(1, 41, 41, dtype=torch.bool)
    label[:, 7, 30] = True
    assert (ask_often(JitteredUser(DeterministicUser(), 15), None, label, 20) == [7, 30, 1]).all()


def test_a_tremble_that_is_negative_is_refused():
    with pytest.raises(ValueError, match="radius"):
        JitteredUser(LiuUser(), radius=-1)
    with pytest.raises(ValueError, match="disturbance"):
        LiuUser(disturbance=-1)


# Control arms


@some
@given(scenes(), st.integers(0, 1000))
def test_the_static_user_is_blind_to_predictions(scene, seed):
    prediction, truth = scene
    for clicks in (None, one_click(truth)):
        seen = ask(StaticUser(), prediction, truth.bool(), clicks, seed)
        assert torch.equal(seen, ask(StaticUser(), None, truth.bool(), clicks, seed))
        assert torch.equal(seen, ask(StaticUser(), truth, truth.bool(), clicks, seed))


def test_the_static_users_first_click_is_the_papers():
    label = disc(31, 9)
    for seed in range(20):
        expected = ask(SakinisUser(scale=0.8), None, label, seed=seed)
        assert torch.equal(ask(StaticUser(scale=0.8), ~label, label, seed=seed), expected)
        sat_out = torch.full((1, 2, 3), PADDING)
        assert torch.equal(ask(StaticUser(scale=0.8), ~label, label, sat_out, seed=seed), expected)


def test_later_static_clicks_are_inside_or_in_the_band_around_with_equal_chance():
    label = disc(41, 6)
    rows = ask_often(StaticUser(scale=0.5, band=2.0), None, label, 1000, one_click(label))
    inside = rows[:, -1] == 1
    assert 0.45 < inside.mean() < 0.55
    assert (label[0].numpy()[tuple(rows[:, :-1].T)] == inside).all()
    distance = np.sqrt(np.square(rows[~inside, None, :-1] - label[0].nonzero().numpy()).sum(-1).min(1))
    assert distance.min() == 1
    assert 3.5 < distance.max() <= 4  # 2 mm of half a mm each
    beyond = (distance > 2).mean()
    whole = voxels_around(label[0].numpy(), 4)
    far = len(whole) - len(voxels_around(label[0].numpy(), 2))
    assert beyond == pytest.approx(far / len(whole), abs=0.08)  # all voxels of the band alike


@some
@given(arrays.arrays(bool, st.tuples(*[st.integers(1, 8)] * 3), fill=st.booleans()), st.floats(0.5, 12))
def test_the_band_holds_every_outer_voxel_that_is_near_enough(mask, width):
    expected = np.zeros(mask.shape, bool)
    if mask.any():
        expected = ~mask & (brute_force_depth_to(mask) <= width**2)
    assert np.array_equal(voxels_around(mask, width), np.argwhere(expected))


def brute_force_depth_to(mask):
    """Squared distance of every voxel to the nearest marked one."""
    grid = np.stack(np.indices(mask.shape), axis=-1)
    return np.square(grid[..., None, :] - np.argwhere(mask)).sum(-1).min(-1)


def test_a_structure_that_fills_the_image_is_clicked_inside():
    label = torch.ones(1, 5, 5, dtype=torch.bool)
    assert (ask_often(StaticUser(), None, label, 30, one_click(label))[:, -1] == 1).all()


def test_the_wrong_user_clicks_where_the_wrapped_one_does_and_says_the_opposite_now_and_then():
    label = disc(31, 9)
    prediction = label.roll(3, dims=2)
    before = one_click(label).expand(2000, -1, -1)
    right = ask_often(SakinisUser(), prediction, label, 2000, before[:1])
    wrong = ask_often(WrongUser(SakinisUser(), rate=0.1), prediction, label, 2000, before[:1])
    assert np.array_equal(wrong[:, :-1], right[:, :-1])
    assert set(np.unique(wrong[:, -1])) == {0, 1}
    assert 0.08 < (wrong[:, -1] != right[:, -1]).mean() < 0.12


@pytest.mark.parametrize("prediction", [None, disc(31, 9).roll(3, dims=2)])
def test_the_first_click_is_never_wrong(prediction):
    label = disc(31, 9)
    always = WrongUser(DeterministicUser(), rate=1.0)
    assert torch.equal(ask(always, prediction, label), ask(DeterministicUser(), prediction, label))
    sat_out = torch.full((1, 2, 3), PADDING)
    assert torch.equal(ask(always, prediction, label, sat_out), ask(DeterministicUser(), prediction, label))
    later = ask(always, prediction, label, one_click(label))
    assert later[0, -1] == 1 - ask(DeterministicUser(), prediction, label, one_click(label))[0, -1]


def test_a_satisfied_user_is_not_made_to_err():
    label = disc(15, 4)
    assert ask(WrongUser(LiuUser(), rate=1.0), label, label, one_click(label)).tolist() == [[PADDING] * 3]


@pytest.mark.parametrize("user", [StaticUser(), WrongUser(LiuUser())])
def test_the_control_arms_know_one_structure_only(user):
    with pytest.raises(ValueError, match="one structure"):
        ask(user, None, torch.ones(1, 4, 4, dtype=torch.int64))


def test_a_control_arm_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="rate"):
        WrongUser(LiuUser(), rate=1.5)
    with pytest.raises(ValueError, match="positive"):
        StaticUser(band=0)
    with pytest.raises(ValueError, match="euclidean"):
        StaticUser(metric="euclidean")
