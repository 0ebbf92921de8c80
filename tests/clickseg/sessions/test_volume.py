"""Sessions of a 3D method."""

import itertools
import threading
import time

import numpy as np
import pytest
import torch

from clickseg.clicks import Click
from clickseg.geometry import FineSlices, Grid, UprightVolume
from clickseg.images import read_volume
from clickseg.methods import load_model
from clickseg.methods.tis import Tis, TisRecipe
from clickseg.sessions import SessionCache, VolumeSession
from clickseg.sessions import volume as volume_module

LABELS = {"liver": 1, "spleen": 4}
# What is far from all clicks stays as it is: there are slices to pass over.
RECIPE = TisRecipe(
    labels=LABELS, spacing=16.0, patch=(8, 8, 8), width=2, tokens=4, heads=2, layers=1, reach=1, horizon=1
)


@pytest.fixture(scope="module")
def image(phantom_study):
    return phantom_study / "imagesTr" / "phantom_000.nii.gz"


@pytest.fixture(scope="module")
def weights(tmp_path_factory, tiny_tis_weights):
    path = tmp_path_factory.mktemp("weights") / "tis.pt"
    tiny_tis_weights(path, RECIPE)
    return path


@pytest.fixture
def session(image, weights):
    return SessionCache().open(image, weights)


def test_a_3d_method_gets_a_session_of_its_kind(session):
    assert isinstance(session, VolumeSession)


def test_without_clicks_the_label_map_is_the_automatic_segmentation(session, image):
    mask = session.predict_labels({}, LABELS)
    volume, grid = read_volume(image)
    assert mask.shape == volume.shape == grid.shape
    assert set(np.unique(mask)) <= {0, 1, 4}
    assert len(np.unique(mask)) > 1


def test_while_a_volume_is_encoded_a_click_elsewhere_is_answered(session, image, weights, monkeypatch):
    expected = SessionCache().open(image, weights).predict_labels({}, LABELS)
    turns, done, clicker = session._turns, [], []

    def encode_patch(network, patch):
        if not clicker:
            clicker.append(threading.Thread(target=turns.take, args=(lambda: done.append("click"),)))
            clicker[0].start()
            while not turns._short:
                time.sleep(0.001)
        found = whole(network, patch)
        done.append("patch")
        return found

    whole = Tis.encode_patch
    monkeypatch.setattr(Tis, "encode_patch", encode_patch)
    assert np.array_equal(session.predict_labels({}, LABELS), expected)
    clicker[0].join()
    assert done[0] == "click"
    assert done.count("patch") > 1


def test_a_clicked_voxel_has_its_label_and_a_later_click_wins(session):
    position = (20, 24, 12)
    for name, value in LABELS.items():
        assert session.predict_labels({name: [position]}, LABELS)[position] == value
    both = session.predict_labels({"liver": [position], "background": [position]}, LABELS)
    assert both[position] == 0


def test_the_values_are_those_that_are_asked_for(session):
    wanted = {"liver": 7, "spleen": 2}
    clicks = {"liver": [(20, 24, 12)], "spleen": [(30, 10, 6)]}
    own, other = session.predict_labels(clicks, LABELS), session.predict_labels(clicks, wanted)
    np.testing.assert_array_equal(np.where(own == 1, 7, np.where(own == 4, 2, 0)), other)


def test_clicks_with_values_are_clicks_with_names(session):
    clicks = [Click((20, 24, 12), 4), Click((5, 5, 5), 0)]
    named = session.predict_labels({"spleen": [(20, 24, 12)], "background": [(5, 5, 5)]}, LABELS)
    np.testing.assert_array_equal(session.predict(clicks), named)
    with pytest.raises(ValueError, match="unknown label 2; known: 0 background, 1 liver, 4 spleen"):
        session.predict([Click((1, 1, 1), 2)])


def test_bad_clicks_are_refused_with_a_sentence(session):
    with pytest.raises(ValueError, match="outside the image"):
        session.predict_labels({"liver": [(20, 24, 999)]}, LABELS)
    with pytest.raises(ValueError, match="unknown label lung; known: liver, spleen"):
        session.predict_labels({"lung": [(1, 1, 1)]}, LABELS)


def test_a_rebuilt_session_answers_as_a_warm_one(session, image, weights):
    clicks = {"liver": [(20, 24, 12), (22, 20, 10)], "background": [(5, 40, 3)]}
    session.predict_labels({}, LABELS)
    warm = session.predict_labels(clicks, LABELS)
    np.testing.assert_array_equal(SessionCache().open(image, weights).predict_labels(clicks, LABELS), warm)


def test_a_frozen_label_stays_as_it_was_bit_for_bit_and_others_are_corrected(session):
    before = session.predict_labels({}, LABELS)
    assert (before == 1).any()
    within = tuple(int(index) for index in np.argwhere(before == 1)[0])
    clicks = {"spleen": [within, (20, 24, 12)], "background": [(5, 5, 5)]}
    free, held = session.predict_labels(clicks, LABELS), session.predict_labels(clicks, LABELS, frozen=["liver"])
    assert not np.array_equal(free == 1, before == 1)
    np.testing.assert_array_equal(held == 1, before == 1)
    assert not np.array_equal(held, before)
    with pytest.raises(ValueError, match="unknown label lung"):
        session.predict_labels(clicks, LABELS, frozen=["lung"])


def test_a_mask_from_outside_is_corrected_instead_of_the_automatic_one(session):
    start = np.zeros(session.grid.shape, np.uint8)
    start[10:20, 12:24, 4:12] = 4
    np.testing.assert_array_equal(session.predict_labels({}, LABELS, start=start), start)
    corrected = session.predict_labels({"liver": [(30, 40, 10)]}, LABELS, start=start)
    assert corrected[30, 40, 10] == 1
    assert (corrected == 4).sum() > 0
    held = session.predict_labels({"liver": [(15, 15, 6)]}, LABELS, frozen=["spleen"], start=start)
    np.testing.assert_array_equal(held == 4, start == 4)


SEVERAL = {"liver": [(20, 24, 12), (22, 20, 10)], "background": [(5, 40, 3)]}


@pytest.mark.parametrize("frozen", [(), ("liver",)], ids=["free", "frozen"])
@pytest.mark.parametrize("clicks", [{}, SEVERAL], ids=["no clicks", "clicks"])
def test_one_slice_is_that_of_the_whole_answer_voxel_by_voxel(image, weights, clicks, frozen):
    whole = SessionCache().open(image, weights).predict_labels(clicks, LABELS, frozen)
    session = SessionCache().open(image, weights)
    for number in range(whole.shape[2]):
        mask = session.predict_labels(clicks, LABELS, frozen, only=number)
        np.testing.assert_array_equal(mask[..., number], whole[..., number])
        assert not np.delete(mask, number, axis=2).any()
    np.testing.assert_array_equal(session.predict_labels(clicks, LABELS, frozen), whole)


@pytest.mark.parametrize("given", [False, True], ids=["automatic", "given"])
@pytest.mark.parametrize("frozen", [(), ("liver",)], ids=["free", "frozen"])
def test_what_is_passed_over_would_be_the_same(image, weights, monkeypatch, given, frozen):
    start = np.zeros(SessionCache().open(image, weights).grid.shape, np.uint8)
    start[10:20, 12:24, 4:12], start[25:40, 25:40] = 4, 1
    asked = (SEVERAL, LABELS, frozen, start if given else None)
    found, marked = SessionCache().open(image, weights).predict_labels(*asked), []
    everything = lambda own, shape: marked.append(own) or FineSlices(torch.ones_like(own), shape)  # noqa: E731
    monkeypatch.setattr(volume_module, "FineSlices", everything)
    np.testing.assert_array_equal(SessionCache().open(image, weights).predict_labels(*asked), found)
    assert not marked[-1].any(0).any(0).all(), "there was nothing to pass over"


def test_a_mask_from_outside_has_to_fit(session):
    with pytest.raises(ValueError, match=r"has shape \(3, 3, 3\), the image"):
        session.predict_labels({}, LABELS, start=np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(ValueError, match=r"holds \[9\]; the labels are \[0, 1, 4\]"):
        session.predict_labels({}, LABELS, start=np.full(session.grid.shape, 9, np.uint8))


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3)))[::2])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (-1, -1, 1)])
def test_a_turned_copy_of_a_volume_gets_the_turned_label_map(weights, axes, flips, image):
    volume, grid = read_volume(image)
    session = VolumeSession(volume, grid, load_model(weights), "cpu")
    expected = session.predict_labels({"spleen": [(20, 24, 12)]}, LABELS)
    turn = tuple(slice(None, None, flip) for flip in flips)
    turned = np.ascontiguousarray(volume.transpose(axes)[turn])
    moves = np.eye(4)
    moves[:3, :3] = np.eye(3)[:, axes] * flips
    moves[:3, 3] = [0, 0, 0]
    for axis, (source, flip) in enumerate(zip(axes, flips, strict=True)):
        if flip < 0:
            moves[source, 3] = turned.shape[axis] - 1
    turned_grid = Grid(turned.shape, grid.affine @ moves)
    position = np.rint(np.linalg.inv(moves) @ [20, 24, 12, 1])[:3].astype(int).tolist()
    answer = VolumeSession(turned, turned_grid, load_model(weights), "cpu").predict_labels(
        {"spleen": [position]}, LABELS
    )
    np.testing.assert_array_equal(answer, expected.transpose(axes)[turn])
    upright = UprightVolume(turned_grid)
    np.testing.assert_array_equal(upright.view(turned), UprightVolume(grid).view(volume))
    assert upright.locate(position) == UprightVolume(grid).locate((20, 24, 12))


def test_a_large_volume_is_encoded_once_whatever_the_size_of_its_answers(image, weights, monkeypatch):
    """As many answers are remembered as there is room for, and one in any case."""
    encoded = []
    encode = Tis.encode
    monkeypatch.setattr(Tis, "encode", lambda self, volume: encoded.append(1) or encode(self, volume))
    whole = SessionCache().open(image, weights)
    right = [whole.predict_labels(clicks, LABELS) for clicks in ({}, SEVERAL, {})]
    assert len(encoded) == 1
    monkeypatch.setattr(VolumeSession, "remembered_bytes", 1)
    cache = SessionCache(max_bytes=whole.bytes)
    for expected, clicks in zip(right, ({}, SEVERAL, {}), strict=True):
        assert np.array_equal(cache.open(image, weights).predict_labels(clicks, LABELS), expected)
    assert len(encoded) == 2


def test_an_image_that_is_too_large_to_be_kept_says_so_in_the_log(image, weights, caplog):
    SessionCache(max_bytes=1000).open(image, weights)
    assert "an image is opened anew for each click" in caplog.text
    assert "--conf cache_gb" in caplog.text
