import dataclasses
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel import orientations
from scipy.spatial.transform import Rotation

from clickseg import sessions
from clickseg.clicks import Click
from clickseg.geometry import Grid
from clickseg.images import read_volume
from clickseg.methods import Model, Segmenter, UNet2dRecipe, save_weights
from clickseg.methods.unet2d import UNet2d
from clickseg.sessions import Session, SessionCache

RECIPE = UNet2dRecipe(labels={"spleen": 2, "liver": 1}, width=2, spacing=10.0, size=32)
LABELS = {"liver": 1, "spleen": 2, "aorta": 5}
CLICKS = [Click((20, 24, 12), 1), Click((30, 10, 12), 0), Click((24, 24, 6), 1), Click((5, 40, 3), 0)]


def write_weights(path, seed=0):
    """Random ones, whose answer depends on the clicks and is neither empty nor full."""
    torch.manual_seed(seed)
    network = UNet2d(RECIPE)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    network.train()
    with torch.no_grad():  # batch statistics that fit the weights
        for step in range(20):
            generator = torch.Generator().manual_seed(step)
            image = torch.randn(4, 1, 32, 32, generator=generator) * 150
            network(image, torch.randint(0, 32, (4, 3, 3), generator=generator) % torch.tensor([32, 32, 2]))
    save_weights(path, network, RECIPE, {"seed": seed})
    return path


@pytest.fixture(scope="module")
def image(phantom_study):
    return phantom_study / "imagesTr" / "phantom_000.nii.gz"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "unet2d.pt")


@pytest.fixture
def session(image, weights):
    return SessionCache().open(image, weights)


@pytest.fixture
def reads(monkeypatch):
    """The images that sessions read from disk, in order."""
    read = []

    def reading(path):
        read.append(Path(path).name)
        return read_volume(path)

    monkeypatch.setattr(sessions, "read_volume", reading)
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


def test_a_label_is_predicted_from_its_clicks_inside_and_all_others_outside(session):
    clicks = {"liver": [(20, 24, 12)], "background": [(30, 10, 12)]}
    mask = session.predict_labels(clicks, LABELS)
    np.testing.assert_array_equal(mask == 1, session.predict(CLICKS[:2]) == 1)
    assert set(np.unique(mask)) == {0, 1}
    clicks = {"aorta": [(20, 24, 12)], "spleen": [(30, 10, 6)]}
    mask = session.predict_labels(clicks, LABELS)
    np.testing.assert_array_equal(mask[..., 12] == 5, session.predict(CLICKS[:1])[..., 12] == 1)
    np.testing.assert_array_equal(mask[..., 6] == 2, session.predict([Click((30, 10, 6), 1)])[..., 6] == 1)


def test_where_two_labels_claim_a_voxel_the_more_probable_one_has_it(session):
    liver, spleen = (20, 24, 12), (28, 24, 12)
    mask = session.predict_labels({"liver": [liver], "spleen": [spleen]}, LABELS)[..., 12]

    def probability(inside, outside):
        return session._inside(12, [Click(inside[:2], 1), Click(outside[:2], 0)])

    first, second = probability(liver, spleen), probability(spleen, liver)
    if not ((first > 0.5) & (second > 0.5)).any():
        first, second = (session._inside(12, clicks) for clicks in _in_order(liver, spleen))
    assert ((first > 0.5) & (second > 0.5)).any(), "no voxel is claimed twice: this could not have failed"
    expected = np.where(np.maximum(first, second) > 0.5, np.where(second > first, 2, 1), 0)
    np.testing.assert_array_equal(mask, expected)


def _in_order(liver, spleen):
    return [Click(liver[:2], 1), Click(spleen[:2], 0)], [Click(liver[:2], 0), Click(spleen[:2], 1)]


def test_the_order_of_the_names_does_not_matter_where_answers_differ(session):
    clicks = {"liver": [(20, 24, 12)], "spleen": [(30, 30, 12)]}
    mask = session.predict_labels(clicks, LABELS)
    swapped = session.predict_labels(dict(reversed(clicks.items())), dict(reversed(LABELS.items())))
    assert (mask != swapped).mean() < 1e-4  # the clicks' order may round differently


def test_every_clicked_slice_is_answered_for_every_label(session):
    mask = session.predict_labels({"liver": [(20, 24, 12), (20, 24, 7)], "aorta": [(30, 30, 3)]}, LABELS)
    assert np.flatnonzero(mask.any((0, 1))).tolist() == [3, 7, 12]
    assert set(np.unique(mask[..., 3])) == {0, 5}
    assert set(np.unique(mask[..., 7])) == {0, 1}


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


def test_new_weights_in_the_same_place_are_used_for_the_next_click(tmp_path, image):
    path = write_weights(tmp_path / "unet2d.pt", seed=0)
    cache = SessionCache()
    before = cache.open(image, path).predict(CLICKS)
    write_weights(path, seed=1)
    after = cache.open(image, path)
    assert after.card == {"seed": 1}
    assert (after.predict(CLICKS) != before).any()
    np.testing.assert_array_equal(after.predict(CLICKS), SessionCache().open(image, path).predict(CLICKS))


def test_new_weights_do_not_read_the_image_again(tmp_path, image, reads):
    path = write_weights(tmp_path / "unet2d.pt", seed=0)
    cache = SessionCache()
    cache.open(image, path)
    write_weights(path, seed=1)
    cache.open(image, path)
    assert reads == [image.name]


def test_a_changed_image_is_read_again(tmp_path, image, weights):
    path = tmp_path / "image.nii.gz"
    path.write_bytes(image.read_bytes())
    cache = SessionCache()
    before = cache.open(path, weights).predict(CLICKS)
    stored = nib.load(image)
    nib.save(nib.Nifti1Image(np.asarray(stored.dataobj)[::-1], stored.affine), path)
    assert (cache.open(path, weights).predict(CLICKS) != before).any()


def test_an_image_is_known_by_its_identity_where_its_file_moves(tmp_path, image, weights, reads):
    moved = tmp_path / "moved.nii.gz"
    moved.write_bytes(image.read_bytes())
    cache = SessionCache()
    session = cache.open(image, weights, identity="series 1.2.3")
    assert cache.open(moved, weights, identity="series 1.2.3") is session
    assert cache.open(moved, weights, identity="series 4.5.6") is not session
    assert len(reads) == 2


class Clockwork:
    """A clock that the test moves."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """What the caches go by."""
    clock = Clockwork()
    original = sessions.TTLCache
    monkeypatch.setattr(sessions, "TTLCache", lambda *args, **options: original(*args, timer=clock, **options))
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
    assert codes > 0
    assert codes + answers <= session.bytes


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
    assert SessionCache().recipe(weights) == RECIPE


# Frames


class SameTissue(Segmenter):
    """Inside is what has the value of a voxel clicked inside, unless that value was clicked outside too."""

    dimension = 2

    def encode(self, image):
        return image

    def decode(self, code, clicks, previous=None):
        inside = torch.zeros_like(code)
        for label in (1, 0):
            for item, i, j in (
                (b, *row[:2]) for b, rows in enumerate(clicks.tolist()) for row in rows if row[2] == label
            ):
                inside[item][code[item] == code[item, 0, i, j]] = label
        return torch.cat([1 - inside, inside], dim=1) * 9


TISSUE = np.zeros((24, 26, 10), np.float32)
for value, corner in enumerate(itertools.product((1, 13), (2, 15), (0, 5)), start=1):
    TISSUE[tuple(slice(start, start + size) for start, size in zip(corner, (9, 8, 4), strict=True))] = 10 * value
UPRIGHT = np.array([[2.0, 0, 0, -20], [0, 2, 0, 5], [0, 0, 5, -100], [0, 0, 0, 1]])


def turned(affine, *degrees):
    oblique = affine.copy()
    oblique[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ affine[:3, :3]
    return oblique


COPIES = {
    **{codes: (codes, UPRIGHT) for codes in ("RAS", "LPS", "LAS", "RAI", "PIR", "ASL", "SLP", "IPL")},
    "oblique RAS": ("RAS", turned(UPRIGHT, 10, -12, 15)),
    "oblique PIR": ("PIR", turned(UPRIGHT, 10, -12, 15)),
    "anisotropic in plane": ("RAS", UPRIGHT @ np.diag([1, 2, 1, 1])),
    "anisotropic LPS": ("LPS", UPRIGHT @ np.diag([2, 0.5, 1, 1])),
}


@pytest.mark.parametrize("spacing", [2.0, 1.0])
@pytest.mark.parametrize("copy", COPIES)
def test_the_mask_of_any_copy_of_a_volume_lands_on_the_clicked_structure(copy, spacing):
    codes, affine = COPIES[copy]
    image = nib.Nifti1Image(TISSUE, affine)
    turn = orientations.ornt_transform(orientations.io_orientation(affine), orientations.axcodes2ornt(codes))
    image = image.as_reoriented(turn)
    volume, grid = np.asarray(image.dataobj), Grid(image.shape, image.affine)
    assert grid.axcodes == tuple(codes)
    recipe = dataclasses.replace(RECIPE, spacing=spacing)
    session = Session(volume, grid, Model(SameTissue(), recipe), "cpu")
    for value in np.unique(TISSUE)[1:]:
        # The same place in the patient, whatever the file's axes: from the original's voxels through RAS mm.
        voxel_original = np.rint(np.argwhere(value == TISSUE).mean(0))
        (voxel,) = np.rint(grid.from_ras(Grid(TISSUE.shape, affine).to_ras([voxel_original]))).astype(int)
        mask = session.predict([Click(tuple(voxel), 1)])
        expected = volume == value
        number = session.slices.locate(voxel)[0]
        for k in range(grid.shape[session.slices.axis]):
            inside, wanted = session.slices.view(mask, k) == 1, session.slices.view(expected, k)
            if k == number:
                agreement = 2 * (inside & wanted).sum() / (inside.sum() + wanted.sum())
                assert agreement == 1 if session.slices.spacing == (spacing, spacing) else agreement > 0.8
            else:
                assert not inside.any()


def test_named_labels_land_on_their_structures_in_a_flipped_volume():
    volume = TISSUE[::-1, ::-1]
    session = Session(volume, Grid(TISSUE.shape, np.diag([-2.0, -2, 5, 1])), Model(SameTissue(), RECIPE_AT_2MM), "cpu")
    liver, aorta = (tuple(np.argwhere(volume == value)[0]) for value in (10, 30))
    assert liver[2] == aorta[2]
    mask = session.predict_labels({"liver": [liver], "aorta": [aorta]}, LABELS)
    expected = np.zeros(mask.shape, np.uint8)
    for value, label in ((10, 1), (30, 5)):
        expected[..., liver[2]][volume[..., liver[2]] == value] = label
    np.testing.assert_array_equal(mask, expected)


RECIPE_AT_2MM = dataclasses.replace(RECIPE, spacing=2.0)


def test_file_identity_tells_files_apart_by_path_time_and_size(tmp_path):
    path = tmp_path / "file"
    path.write_text("one")
    first = sessions.file_identity(path)
    assert sessions.file_identity(str(path)) == first
    os.utime(path, ns=(first[1], first[1] + 1000))
    assert sessions.file_identity(path) != first
    with pytest.raises(ValueError, match="no file at"):
        sessions.file_identity(tmp_path / "nowhere")
