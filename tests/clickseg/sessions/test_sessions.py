import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel import orientations
from scipy.spatial.transform import Rotation

from clickseg.clicks import Click
from clickseg.clicks.users import innermost
from clickseg.geometry import Grid
from clickseg.images import file_identity, read_volume
from clickseg.methods import Segmenter, load_model, save_weights
from clickseg.methods.unet2d import UNet2d
from clickseg.metrics import dice
from clickseg.sessions import Session, SessionCache
from clickseg.sessions import cache as caches

LABELS = {"liver": 1, "spleen": 2, "aorta": 5}
CLICKS = [Click((20, 24, 12), 1), Click((30, 10, 12), 0), Click((24, 24, 6), 1), Click((5, 40, 3), 0)]


class Nearest(Segmenter):
    """Inside is what is nearer to a click inside than to one outside, and the surer the nearer."""

    dimension = 2

    def encode(self, image):
        return image

    def decode(self, code, clicks, previous=None):
        pixels = torch.stack(torch.meshgrid(*map(torch.arange, code.shape[2:]), indexing="ij"), dim=-1).float()
        logits = torch.zeros(len(code), 2, *code.shape[2:])
        for item, rows in enumerate(clicks.tolist()):
            for *position, label in rows:
                distance = (pixels - torch.tensor(position)).norm(dim=-1)
                logits[item, label] = torch.maximum(logits[item, label], 5 - distance / 4)
        return logits


@pytest.fixture(scope="module")
def image(phantom_study):
    return phantom_study / "imagesTr" / "phantom_000.nii.gz"


@pytest.fixture(scope="module")
def weights(tmp_path_factory, tiny_weights):
    path = tmp_path_factory.mktemp("weights") / "unet2d.pt"
    tiny_weights(path, LABELS)
    return path


@pytest.fixture
def session(image, weights):
    return SessionCache().open(image, weights)


@pytest.fixture
def reads(monkeypatch):
    """The images that sessions read from disk, in order."""
    read = []

    def reading(path, *series):
        read.append(Path(path).name)
        time.sleep(0.05)  # for others to come by meanwhile
        return read_volume(path, *series)

    monkeypatch.setattr(caches, "read_volume", reading)
    return read


# Answers


def test_a_mask_lies_on_the_grid_of_the_image(session, image):
    mask = session.predict(CLICKS)
    stored = nib.load(image)
    assert mask.shape == stored.shape == session.grid.shape
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 1}
    np.testing.assert_allclose(session.grid.affine, stored.affine)


def test_every_slice_with_a_click_inside_is_in_the_mask_and_no_other(session):
    mask = session.predict(CLICKS)
    assert np.flatnonzero(mask.any((0, 1))).tolist() == [6, 12]


def test_where_an_answer_may_hold_anything_is_known_beforehand(session):
    positions, whole = [click.position for click in CLICKS], set(range(session.grid.shape[session.axis]))
    filled = np.flatnonzero(session.predict(CLICKS).any((0, 1))).tolist()
    assert set(filled) <= set(session.reached(positions)) < whole
    assert session.reached(positions, reach=3) is None
    assert session.reached(positions, session.empty_mask()) is None


def test_a_slice_is_predicted_from_its_own_clicks_alone(session):
    mask = session.predict(CLICKS)
    np.testing.assert_array_equal(mask[..., 12], session.predict(CLICKS[:2])[..., 12])
    np.testing.assert_array_equal(mask[..., 6], session.predict(CLICKS[2:3])[..., 6])


def test_a_slice_with_background_clicks_only_stays_empty(session):
    assert not session.predict([Click((20, 24, 12), 0), Click((5, 40, 3), 0)]).any()


def test_without_clicks_the_mask_is_empty(session):
    mask = session.predict([])
    assert mask.shape == session.grid.shape
    assert not mask.any()


def test_further_clicks_change_the_answer(session):
    assert (session.predict(CLICKS[:1]) != session.predict(CLICKS[:2])).any()
    assert (session.predict(CLICKS[:1]) != session.predict([Click((8, 30, 12), 1)])).any()


@pytest.mark.parametrize("position", [(48, 0, 0), (0, 48, 0), (0, 0, 24), (-1, 0, 0), (0, 0, -1), (600, 3, 2)])
def test_a_click_outside_the_image_is_refused_with_both_named(session, position):
    outside = rf"click \({position[0]}, {position[1]}, {position[2]}\).*outside.*\(48, 48, 24\)"
    with pytest.raises(ValueError, match=outside):
        session.predict([CLICKS[0], Click(position, 0)])
    with pytest.raises(ValueError, match=outside):
        session.predict_labels({"liver": [(1, 1, 1)], "background": [position]}, LABELS)
    assert session.predict(CLICKS).any(), "the session still answers"


# Named labels


@pytest.fixture
def nearest(session_with):
    """A session whose answer is the neighbourhood of the clicks."""
    return session_with(Nearest(), np.zeros((40, 40, 14), np.float32), np.diag([2.0, 2, 5, 1]))


def test_a_label_is_predicted_from_its_clicks_inside_and_all_others_outside(nearest):
    clicks = {"liver": [(20, 24, 12)], "background": [(30, 24, 12)], "spleen": [(30, 30, 6)], "aorta": [(22, 30, 12)]}
    mask = nearest.predict_labels(clicks, LABELS)
    others = [Click((30, 24, 12), 0), Click((22, 30, 12), 0)]
    np.testing.assert_array_equal(mask == 1, nearest.predict([Click((20, 24, 12), 1), *others]) == 1)
    np.testing.assert_array_equal(mask == 2, nearest.predict([Click((30, 30, 6), 1)]) == 1)
    assert [mask[voxel] for voxel in ((20, 24, 12), (30, 24, 12), (22, 30, 12), (30, 30, 6))] == [1, 0, 5, 2]


def test_a_real_network_is_asked_with_the_same_signs(session):
    mask = session.predict_labels({"liver": [(20, 24, 12)], "background": [(30, 10, 12)]}, LABELS)
    np.testing.assert_array_equal(mask == 1, session.predict(CLICKS[:2]) == 1)
    assert set(np.unique(mask)) == {0, 1}


@pytest.mark.parametrize("names", [("liver", "spleen"), ("spleen", "liver")])
def test_where_two_labels_claim_a_voxel_the_more_probable_one_has_it(session_with, names):
    class Greedy(Nearest):
        """Claims everything around a click inside, whatever lies outside: neighbours overlap."""

        def decode(self, code, clicks, previous=None):
            inside = super().decode(code, clicks)[:, 1:]
            return torch.cat([torch.full_like(inside, 0.5), inside], dim=1)

    session = session_with(Greedy(), np.zeros((40, 40, 14), np.float32), np.diag([2.0, 2, 5, 1]))
    alone = [session.predict([Click((x, 20, 3), 1)])[..., 3] for x in (15, 25)]
    assert (alone[0] & alone[1]).sum() > 50
    positions = {"liver": [(15, 20, 3)], "spleen": [(25, 20, 3)]}
    mask = session.predict_labels({name: positions[name] for name in names}, {name: LABELS[name] for name in names})
    np.testing.assert_array_equal(mask[..., 3] > 0, (alone[0] | alone[1]) > 0)
    left, right = mask[:20, :, 3], mask[21:, :, 3]
    assert set(np.unique(left)) == {0, LABELS["liver"]}
    assert set(np.unique(right)) == {0, LABELS["spleen"]}


def test_every_clicked_slice_is_answered_for_every_label(nearest):
    mask = nearest.predict_labels({"liver": [(20, 24, 12), (20, 24, 7)], "aorta": [(30, 30, 3), (5, 5, 12)]}, LABELS)
    assert {k: set(np.unique(mask[..., k])) for k in range(14) if mask[..., k].any()} == {
        3: {0, 5},
        7: {0, 1},
        12: {0, 1, 5},
    }


def test_background_clicks_alone_give_an_empty_label_map(session):
    assert not session.predict_labels({"background": [(20, 24, 12)], "liver": []}, LABELS).any()


def test_an_unknown_label_is_refused_with_the_known_ones(session):
    with pytest.raises(ValueError, match=r"unknown label kidney; known: liver, spleen, aorta"):
        session.predict_labels({"kidney": [(1, 1, 1)]}, LABELS)


# What is kept and what is made again


def test_an_evicted_session_answers_as_a_cached_one(image, weights):
    roomy, cramped = SessionCache(), SessionCache(max_bytes=0)
    warm = roomy.open(image, weights)
    assert roomy.open(image, weights) is warm
    assert cramped.open(image, weights) is not cramped.open(image, weights)
    for count in range(1, len(CLICKS) + 1):
        answer = warm.predict(CLICKS[:count])
        np.testing.assert_array_equal(cramped.open(image, weights).predict(CLICKS[:count]), answer)


def test_a_warm_session_answers_as_a_cold_one_whatever_was_asked_before(image, weights):
    warm = SessionCache().open(image, weights)
    for clicks in itertools.permutations(CLICKS, 2):
        warm.predict(clicks)
        warm.predict_labels({"liver": [clicks[0].position], "background": [clicks[1].position]}, LABELS)
    cold = SessionCache().open(image, weights)
    np.testing.assert_array_equal(warm.predict(CLICKS), cold.predict(CLICKS))


def test_an_answer_belongs_to_whom_it_was_given(session):
    mask = session.predict(CLICKS)
    kept = mask.copy()
    mask[:] = 7
    np.testing.assert_array_equal(session.predict(CLICKS), kept)


def test_more_answers_than_are_remembered_are_right_all_the_same(session):
    clicks = [Click((x, y, 12), 1) for x in range(4, 44, 4) for y in range(4, 44, 4)]
    assert len(clicks) > session.remembered_answers
    first = [session.predict([click]) for click in clicks[:2]]
    for click in clicks:
        session.predict([click])
    for click, answer in zip(clicks, first, strict=False):
        np.testing.assert_array_equal(session.predict([click]), answer)


@pytest.mark.parametrize("feedback", [False, True])
def test_one_more_click_asks_the_network_once_however_many_slices_are_clicked(
    tmp_path, image, tiny_weights, monkeypatch, feedback
):
    tiny_weights(tmp_path / "weights.pt", LABELS, feedback=feedback)
    monkeypatch.setattr(Session, "remembered_answers", 16)
    session = SessionCache().open(image, tmp_path / "weights.pt")
    clicks = [Click((20 + turn, 24, k), 1) for turn in (0, 1) for k in range(session.grid.shape[2])]
    assert len(clicks) > 2 * session.remembered_answers
    session.predict(clicks)
    asked = []
    original = UNet2d.decode
    monkeypatch.setattr(UNet2d, "decode", lambda *given: asked.append(1) or original(*given))
    for turn in range(3):
        session.predict(clicks := [*clicks, Click((24 + turn, 26, 12), 0)])
    assert len(asked) == 3 + 2 * feedback, "but for what came before the first, which is not kept whole"


def test_an_image_is_read_once(image, weights, reads):
    cache = SessionCache()
    for _ in range(3):
        cache.open(image, weights).predict(CLICKS)
    assert reads == [image.name]
    cache.clear()
    cache.open(image, weights)
    assert reads == [image.name] * 2


def test_eight_threads_get_one_threads_answers_and_the_image_is_read_once(image, weights, reads):
    alone = SessionCache().open(image, weights)
    questions = [[Click((4 + 5 * n, 24, 12), 1), Click((24, 4 + 5 * n, n), n % 2)] for n in range(8)]
    expected = [alone.predict(clicks) for clicks in questions]
    reads.clear()
    cache, start = SessionCache(), Barrier(8)

    def ask(clicks):
        start.wait()
        return [cache.open(image, weights).predict(clicks) for _ in range(3)]

    with ThreadPoolExecutor(8) as pool:
        for answers, wanted in zip(pool.map(ask, questions), expected, strict=True):
            for answer in answers:
                np.testing.assert_array_equal(answer, wanted)
    assert reads == [image.name]


def test_new_weights_in_the_same_place_are_used_for_the_next_click(tmp_path, image, tiny_weights):
    path = tmp_path / "unet2d.pt"
    tiny_weights(path, LABELS)
    cache = SessionCache()
    before = cache.open(image, path).predict(CLICKS)
    tiny_weights(path, LABELS, seed=5)
    after = cache.open(image, path)
    assert (after.predict(CLICKS) != before).any()
    np.testing.assert_array_equal(after.predict(CLICKS), SessionCache().open(image, path).predict(CLICKS))


def test_new_weights_do_not_read_the_image_again(tmp_path, image, reads, tiny_weights):
    path = tmp_path / "unet2d.pt"
    tiny_weights(path, LABELS)
    cache = SessionCache()
    cache.open(image, path)
    tiny_weights(path, LABELS, seed=5)
    cache.open(image, path)
    assert reads == [image.name]


def test_a_changed_image_is_read_again(tmp_path, image, weights):
    path = tmp_path / "image.nii.gz"
    path.write_bytes(image.read_bytes())
    cache = SessionCache()
    before = cache.open(path, weights).predict(CLICKS)
    path.write_bytes(image.with_name("phantom_001.nii.gz").read_bytes())
    assert (cache.open(path, weights).predict(CLICKS) != before).any()


class Clockwork:
    """A clock that the test moves."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """What the caches go by."""
    clock = Clockwork()
    original = caches.TTLCache
    monkeypatch.setattr(caches, "TTLCache", lambda *args, **options: original(*args, timer=clock, **options))
    return clock


def test_an_unused_session_is_forgotten_after_its_time_and_a_used_one_is_not(image, weights, clock, reads):
    cache = SessionCache(ttl_s=100)
    session = cache.open(image, weights)
    for _ in range(3):
        clock.now += 70
        assert cache.open(image, weights) is session
    clock.now += 101
    assert cache.open(image, weights) is not session
    assert len(reads) == 2


def test_the_least_recently_used_session_makes_room(phantom_study, weights):
    first, second = sorted((phantom_study / "imagesTr").glob("*.nii.gz"))
    one = SessionCache().open(first, weights)
    cache = SessionCache(max_bytes=int(1.5 * one.bytes))
    kept = cache.open(first, weights)
    assert cache.open(first, weights) is kept
    cache.open(second, weights)
    assert cache.open(first, weights) is not kept
    two = SessionCache(max_bytes=int(2.5 * one.bytes))
    kept = two.open(first, weights)
    two.open(second, weights)
    assert two.open(first, weights) is kept


def test_a_sessions_size_covers_what_it_holds(session):
    for k in range(session.grid.shape[2]):
        for n in range(4):
            session.predict([Click((4 + n, 24, k), 1)])
    codes = sum(code.numel() * code.element_size() for code in session._codes.values())
    answers = sum(answer.nbytes for answer in session._answers.values())
    claims = sum(claim.bytes for claim in session._claims.values())
    assert min(codes, answers, claims) > 0
    assert session._volume.nbytes + codes + answers + claims <= session.bytes


@pytest.mark.parametrize("broken", ["image", "weights"])
def test_what_cannot_be_opened_is_refused_each_time_and_works_once_mended(tmp_path, image, weights, broken):
    paths = {"image": tmp_path / "image.nii.gz", "weights": tmp_path / "unet2d.pt"}
    for name, source in (("image", image), ("weights", weights)):
        content = source.read_bytes()
        paths[name].write_bytes(content[: len(content) // 2] if name == broken else content)
    cache = SessionCache()
    for _ in range(2):
        with pytest.raises(ValueError, match=paths[broken].name):
            cache.open(paths["image"], paths["weights"])
    paths[broken].write_bytes({"image": image, "weights": weights}[broken].read_bytes())
    assert cache.open(paths["image"], paths["weights"]).predict(CLICKS).any()


def test_missing_files_are_refused_by_name(tmp_path, image, weights):
    with pytest.raises(ValueError, match=r"nowhere\.nii"):
        SessionCache().open(tmp_path / "nowhere.nii", weights)
    with pytest.raises(ValueError, match=r"nowhere\.pt"):
        SessionCache().open(image, tmp_path / "nowhere.pt")


def test_the_recipe_of_weights_is_known_without_an_image(weights):
    assert SessionCache().recipe(weights).labels == LABELS


# Frames


TISSUE = np.zeros((24, 26, 10), np.float32)
STRUCTURES = [
    tuple(slice(start, start + size) for start, size in zip(corner, (9, 8, 4), strict=True))
    for corner in itertools.product((1, 13), (2, 15), (0, 5))
]
for structure in STRUCTURES:
    TISSUE[structure] = 100
UPRIGHT = np.array([[2.0, 0, 0, -20], [0, 2, 0, 5], [0, 0, 5, -100], [0, 0, 0, 1]])


def turned(affine, *degrees):
    oblique = affine.copy()
    oblique[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ affine[:3, :3]
    return oblique


COPIES = {
    **{codes: (codes, UPRIGHT) for codes in ("RAS", "LPS", "LAS", "RAI", "PIR", "ASL", "SLP", "IPL")},
    "oblique RAS": ("RAS", turned(UPRIGHT, 10, -12, 15)),
    "oblique PIR": ("PIR", turned(UPRIGHT, 10, -12, 15)),
    "anisotropic RAS": ("RAS", UPRIGHT @ np.diag([1, 2, 1, 1])),
    "anisotropic LPS": ("LPS", UPRIGHT @ np.diag([2, 0.5, 1, 1])),
}


def copy_of(volume, codes, affine):
    """The same anatomy with its axes running as `codes` say: (volume, affine)."""
    image = nib.Nifti1Image(volume, affine)
    turn = orientations.ornt_transform(orientations.io_orientation(affine), orientations.axcodes2ornt(codes))
    image = image.as_reoriented(turn)
    return np.asarray(image.dataobj), image.affine


@pytest.mark.parametrize("spacing", [2.0, 1.0])
@pytest.mark.parametrize("copy", COPIES)
def test_the_mask_of_any_copy_of_a_volume_lands_on_the_clicked_structure(flooded, copy, spacing):
    codes, affine = COPIES[copy]
    session = flooded(*copy_of(TISSUE, codes, affine), spacing)
    assert session.grid.axcodes == tuple(codes)
    for structure in STRUCTURES:
        clicked = tuple(side.start + 3 for side in structure)
        wanted = np.zeros(TISSUE.shape, np.uint8)
        wanted[(*structure[:2], clicked[2])] = 1
        # The same place in the patient, whatever the file's axes: from the original's voxels through RAS mm.
        (voxel,) = np.rint(session.grid.from_ras(Grid(TISSUE.shape, affine).to_ras([clicked]))).astype(int)
        mask = session.predict([Click(tuple(voxel), 1)])
        expected, _ = copy_of(wanted, codes, affine)
        if session.slices.spacing[0] == session.slices.spacing[1]:
            np.testing.assert_array_equal(mask, expected)
        else:  # one axis is resampled by a half: up to half a voxel at the edges
            assert dice(mask, expected) > 0.85


def test_named_labels_land_on_their_structures_in_a_flipped_volume(flooded):
    session = flooded(*copy_of(TISSUE, "LPI", UPRIGHT))
    clicks, expected = {}, np.zeros(TISSUE.shape, np.uint8)
    for name, structure in zip(("liver", "aorta"), (STRUCTURES[0], STRUCTURES[6]), strict=True):
        clicked = [side.start + 2 for side in structure]
        expected[(*structure[:2], clicked[2])] = LABELS[name]
        (voxel,) = np.rint(session.grid.from_ras(Grid(TISSUE.shape, UPRIGHT).to_ras([clicked]))).astype(int)
        clicks[name] = [tuple(voxel)]
    mask = session.predict_labels(clicks, LABELS)
    np.testing.assert_array_equal(mask, copy_of(expected, "LPI", UPRIGHT)[0])
    assert set(np.unique(mask)) == {0, 1, 5}


@pytest.fixture
def started(image, weights):
    """A session, and label maps to start from: a box of each of two labels through all slices."""
    session = SessionCache().open(image, weights)
    start = np.zeros(session.grid.shape, np.uint8)
    start[2:8, 2:8], start[20:26, 20:30] = LABELS["liver"], LABELS["spleen"]
    return session, start


def test_slices_that_are_not_clicked_keep_the_mask_that_was_given(started):
    session, start = started
    fresh = session.predict_labels({"liver": [(20, 24, 12)]}, LABELS)
    mask = session.predict_labels({"liver": [(20, 24, 12)]}, LABELS, start=start)
    others = [k for k in range(start.shape[2]) if k != 12]
    np.testing.assert_array_equal(mask[..., others], start[..., others])
    liver = LABELS["liver"]
    np.testing.assert_array_equal(mask[..., 12] == liver, fresh[..., 12] == liver)
    untouched = fresh[..., 12] != liver
    np.testing.assert_array_equal((mask[..., 12] == 2)[untouched], (start[..., 12] == 2)[untouched])
    one = session.predict([Click((20, 24, 12), 1)], start=(start == liver).astype(np.uint8))
    np.testing.assert_array_equal(one[..., others], (start == liver)[..., others])
    np.testing.assert_array_equal(one[..., 12], session.predict([Click((20, 24, 12), 1)])[..., 12])


def test_a_frozen_label_of_a_slice_is_neither_lost_nor_won(started):
    session, start = started
    clicks = {"liver": [(22, 24, 12)], "spleen": [(22, 25, 12)]}
    free = session.predict_labels(clicks, LABELS, start=start)
    held = session.predict_labels(clicks, LABELS, frozen=["spleen"], start=start)
    np.testing.assert_array_equal(held == LABELS["spleen"], start == LABELS["spleen"])
    assert not np.array_equal(free == LABELS["spleen"], start == LABELS["spleen"])
    with pytest.raises(ValueError, match="unknown label lung"):
        session.predict_labels(clicks, LABELS, frozen=["lung"])


def two_boxes():
    """A mask to start from: a large and a small box through all slices."""
    start = np.zeros((50, 50, 14), np.uint8)
    start[LARGE], start[SMALL] = 1, 1
    return start


@pytest.fixture
def corrected(session_with):
    """A session whose network says what is nearer to a click inside than to one outside, and `two_boxes`."""
    return session_with(Nearest(), np.zeros((50, 50, 14), np.float32), np.diag([2.0, 2, 5, 1])), two_boxes()


LARGE, SMALL = (slice(10, 30), slice(10, 20)), (slice(40, 44), slice(10, 14))


def test_a_click_outside_corrects_the_given_mask_where_no_click_is_inside(corrected):
    session, start = corrected
    mask = session.predict([Click((28, 15, 7), 0)], start=start)
    others = [k for k in range(start.shape[2]) if k != 7]
    np.testing.assert_array_equal(mask[..., others], start[..., others])
    assert not mask[28, 15, 7], "it is obeyed"
    assert mask[15, 15, 7], "the rest of the structure is left"
    assert not (mask[..., 7] > start[..., 7]).any(), "nothing grows"
    np.testing.assert_array_equal(mask[SMALL], start[SMALL])


def test_a_click_outside_in_an_island_takes_it_away_and_leaves_the_structure(corrected):
    session, start = corrected
    mask = session.predict([Click((41, 11, 7), 0)], start=start)
    assert not mask[(*SMALL, 7)].any()
    np.testing.assert_array_equal(mask[(*LARGE, 7)], start[(*LARGE, 7)])


def test_a_click_outside_in_the_very_middle_of_a_given_mask_takes_that_piece_away(corrected):
    session, start = corrected
    middle = innermost(np.ascontiguousarray(session.slices.view(start, 7)) > 0)
    click = next(
        Click((x, y, 7), 0)
        for x, y in np.argwhere(start[..., 7]).tolist()
        if session.slices.locate((x, y, 7))[1] == middle
    )
    mask = session.predict([click], start=start)
    assert not mask[(*LARGE, 7)].any()
    np.testing.assert_array_equal(mask[SMALL], start[SMALL])


@pytest.mark.parametrize("reach", [0, 2])
def test_where_clicks_inside_decide_nothing_of_the_given_mask_is_corrected(flooded, reach):
    volume, start = np.zeros((50, 50, 14), np.int16), two_boxes()
    volume[30:38, 30:40] = 100
    session = flooded(volume, np.diag([2.0, 2, 5, 1]))
    clicks = {"background": [(28, 15, 7), (28, 15, 8)], "liver": [(34, 35, 7)]}
    mask = session.predict_labels(clicks, {"liver": 1}, start=start, reach=reach)
    decided = slice(7 - reach, 8 + reach)
    np.testing.assert_array_equal(mask[..., decided], volume[..., decided] > 50)
    if not reach:
        assert 0 < (start[..., 8] > mask[..., 8]).sum() < start[..., 8].sum(), "there it is corrected"
    others = [number for number in range(14) if number not in (8, *range(14)[decided])]
    np.testing.assert_array_equal(mask[..., others], start[..., others])


def test_a_click_outside_beside_the_given_mask_changes_nothing(corrected):
    session, start = corrected
    np.testing.assert_array_equal(session.predict([Click((2, 2, 7), 0)], start=start), start)


def test_a_click_on_the_background_corrects_the_label_that_it_lies_in_and_no_other_nor_a_frozen_one(corrected):
    session, start = corrected
    start = start * LABELS["liver"]
    start[10:30, 30:40] = LABELS["spleen"]
    clicks = {"background": [(28, 15, 7)]}
    mask = session.predict_labels(clicks, LABELS, start=start)
    assert mask[28, 15, 7] == 0
    assert mask[15, 15, 7] == LABELS["liver"]
    np.testing.assert_array_equal(mask == LABELS["spleen"], start == LABELS["spleen"])
    frozen = session.predict_labels(clicks, LABELS, start=start, frozen=["liver"])
    np.testing.assert_array_equal(frozen, start)


def test_a_network_that_reads_its_last_answer_reads_the_given_mask(session_with):
    read, start = [], two_boxes()

    class Reading(Nearest):
        feedback = True

        def decode(self, code, clicks, previous=None):
            read.append(previous)
            return super().decode(code, clicks)

    session = session_with(Reading(), np.zeros(start.shape, np.float32), np.diag([2.0, 2, 5, 1]))
    session.predict([Click((28, 15, 7), 0), Click((12, 12, 7), 0)], start=start)
    np.testing.assert_array_equal(read[0][0, 0], session.slices.view(start, 7))
    assert len(read) == 2, "then its answer to the first click"
    assert not torch.equal(read[1], read[0])
    session.predict([Click((28, 15, 7), 0)], start=np.roll(start, 1, axis=1))
    assert len(read) == 3, "another mask has other answers"


def test_a_mask_to_start_from_must_fit(started):
    session, start = started
    with pytest.raises(ValueError, match=r"has shape \(3, 3, 3\), the image"):
        session.predict([Click((20, 24, 12), 1)], start=start[:3, :3, :3])
    with pytest.raises(ValueError, match=r"holds \[2\]; the labels are \[0, 1\]"):
        session.predict([Click((20, 24, 12), 1)], start=start)


def test_file_identity_tells_files_apart_by_path_time_and_size(tmp_path):
    path = tmp_path / "file"
    path.write_text("one")
    first = file_identity(path)
    assert file_identity(str(path)) == first
    os.utime(path, ns=(first[1], first[1] + 1000))
    assert file_identity(path) != first
    with pytest.raises(ValueError, match="no file at"):
        file_identity(tmp_path / "nowhere")


# Weights that read their answer before the last click


@pytest.mark.parametrize("more", [{}, {"looks": 2, "speck": 0.1}], ids=["one look", "two looks"])
def test_a_session_that_has_kept_its_answers_agrees_with_one_that_replays_them(tmp_path, image, tiny_weights, more):
    weights = tmp_path / "feedback.pt"
    tiny_weights(weights, LABELS, feedback=True, **more)
    clicks = [Click((20, 24, 12), 1), Click((30, 10, 12), 0), Click((24, 24, 12), 1)]
    warm = SessionCache().open(image, weights)
    masks = {count: warm.predict(clicks[:count]) for count in (1, 2, 3, 2, 1)}
    assert masks[3].any()
    for count, mask in masks.items():
        np.testing.assert_array_equal(SessionCache().open(image, weights).predict(clicks[:count]), mask)


def test_a_label_replays_its_own_clicks_and_not_those_of_others(tmp_path, image, tiny_weights, monkeypatch):
    weights = tmp_path / "feedback.pt"
    tiny_weights(weights, LABELS, feedback=True)
    asked = []
    original = UNet2d.decode
    monkeypatch.setattr(
        UNet2d, "decode", lambda self, code, clicks, *more: asked.append(clicks) or original(self, code, clicks, *more)
    )
    session = SessionCache().open(image, weights)
    clicks = {"liver": [(20, 24, 12), (22, 24, 12)], "spleen": [(30, 10, 12), (31, 12, 12), (28, 9, 12)]}
    mask = session.predict_labels(clicks, LABELS)
    assert len(asked) == 2 + 3
    session.predict_labels({**clicks, "spleen": [*clicks["spleen"], (29, 11, 12)]}, LABELS)
    assert len(asked) == 5 + 2 + 1, "the spleen was asked about its new click alone, the liver anew"
    np.testing.assert_array_equal(SessionCache().open(image, weights).predict_labels(clicks, LABELS), mask)


# Weights that know names


@pytest.fixture
def hearing(tmp_path, image, tiny_weights):
    """The path of weights that answer otherwise to each name."""
    path = tmp_path / "named.pt"
    tiny_weights(path, LABELS, feedback=True, named=0.5)
    model = load_model(path)
    torch.manual_seed(0)
    with torch.no_grad():
        for table in model.segmenter.network.names:
            table.weight[1:] = torch.randn_like(table.weight[1:]) / 40
    save_weights(path, model.segmenter, model.recipe)
    return path


def test_a_session_says_what_a_structure_is_called_and_keeps_the_answers_apart(image, hearing):
    warm, clicks = SessionCache().open(image, hearing), CLICKS[:2]
    names = ("", "liver", "spleen", "Liver", "tumour")
    masks = {name: warm.predict(clicks, name=name) for name in (*names, *names)}
    assert (masks["liver"] != masks["spleen"]).any()
    assert (masks["liver"] != masks[""]).any()
    np.testing.assert_array_equal(masks["Liver"], masks["liver"])
    np.testing.assert_array_equal(masks["tumour"], masks[""])
    for name in names:
        np.testing.assert_array_equal(SessionCache().open(image, hearing).predict(clicks, name=name), masks[name])


def test_labels_are_called_by_their_names(image, hearing):
    session = SessionCache().open(image, hearing)
    mask = session.predict_labels({"spleen": [(20, 24, 12)]}, LABELS)
    alone = session.predict([Click((20, 24, 12), 1)], name="spleen")
    assert alone.any()
    np.testing.assert_array_equal(mask == LABELS["spleen"], alone == 1)
    start = np.zeros_like(mask)
    start[10:30, 15:30, 12] = LABELS["spleen"]
    corrected = session.predict_labels({"background": [(12, 16, 12)]}, LABELS, start=start)
    one = session.predict([Click((12, 16, 12), 0)], start=(start > 0).astype(np.uint8), name="spleen")
    np.testing.assert_array_equal(corrected > 0, one > 0)


@pytest.mark.parametrize("feedback", [False, True])
def test_undo_gives_the_earlier_answer_bit_for_bit_without_asking_the_network(
    tmp_path, image, tiny_weights, monkeypatch, feedback
):
    weights = tmp_path / "weights.pt"
    tiny_weights(weights, LABELS, feedback=feedback)
    session = SessionCache().open(image, weights)
    clicks = [Click((20 + step, 24, 12), step % 2) for step in (1, 2, 3, 4)]
    masks = [session.predict(clicks[:count]) for count in range(1, 5)]
    monkeypatch.setattr(UNet2d, "decode", lambda *_: pytest.fail("the network was asked again"))
    for count in (3, 2, 1, 4):
        np.testing.assert_array_equal(session.predict(clicks[:count]), masks[count - 1])
