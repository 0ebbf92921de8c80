import numpy as np
import pytest
from fastapi import HTTPException
from monailabel.interfaces.datastore import DefaultLabelTag

from lib.activelearning import STRATEGIES, ForegroundEntropy


@pytest.fixture
def scoring(weights):
    return ForegroundEntropy(weights)


@pytest.fixture(params=STRATEGIES)
def strategy(request):
    return STRATEGIES[request.param]()


def label(datastore, *images):
    for image in images:
        datastore.save_label(image, datastore.get_image_uri(image), DefaultLabelTag.FINAL, {})


def test_every_strategy_passes_over_what_is_labeled(strategy, datastore):
    label(datastore, "a")
    assert {strategy({"strategy": "x"}, datastore)["id"] for _ in range(8)} == {"b"}


def test_every_strategy_says_so_when_everything_is_labeled(strategy, datastore):
    label(datastore, "a", "b")
    assert strategy({"strategy": "x"}, datastore) is None


def test_random_names_every_image_sooner_or_later_and_a_seed_repeats_it(datastore):
    strategy = STRATEGIES["random"]()
    assert {strategy({"seed": seed}, datastore)["id"] for seed in range(20)} == {"a", "b"}
    assert strategy({"seed": 7}, datastore) == strategy({"seed": 7}, datastore)


def test_every_unlabeled_image_is_scored_once_per_weights(scoring, datastore, weights, tiny_weights):
    label(datastore, "a")
    assert scoring.waiting(datastore) == ["b"]
    result = scoring({}, datastore)
    assert 0 <= result["b"] <= 1
    assert datastore.get_image_info("b")["foreground_entropy"] == result["b"]
    assert scoring.waiting(datastore) == []
    assert scoring({}, datastore) == {}
    tiny_weights(weights.trained, {"spleen": 1}, seed=3)
    assert scoring.waiting(datastore) == ["b"]


def test_a_damaged_image_gets_no_score_and_does_not_stop_the_others(scoring, datastore, tmp_path):
    (tmp_path / "studies/a.nii.gz").write_bytes(b"no image")
    result = scoring({}, datastore)
    assert result["a"] is None
    assert result["b"] is not None
    assert STRATEGIES["uncertainty"]()({}, datastore)["id"] == "b"


def test_uncertainty_names_the_highest_score_and_scored_images_before_the_others(datastore):
    strategy = STRATEGIES["uncertainty"]()
    assert strategy({}, datastore) == {"id": "a", "foreground_entropy": None}
    datastore.update_image_info("b", {"foreground_entropy": 0.0})
    assert strategy({}, datastore) == {"id": "b", "foreground_entropy": 0.0}
    datastore.update_image_info("a", {"foreground_entropy": 0.4})
    assert strategy({}, datastore) == {"id": "a", "foreground_entropy": 0.4}


def test_scores_that_another_process_wrote_are_seen(datastore, tmp_path):
    other = type(datastore)(str(tmp_path / "studies"), extensions=("*.nii.gz",))
    other.update_image_info("b", {"foreground_entropy": 0.9})
    assert STRATEGIES["uncertainty"]()({}, datastore)["id"] == "b"


def test_more_slices_are_looked_at_when_asked_for(scoring, datastore, monkeypatch):
    looked = []
    monkeypatch.setattr(
        "lib.activelearning.uncertainty.click_entropies",
        lambda segmenter, spacing, volume, grid, wanted: looked.append(wanted) or {0: np.float64(0.5)},
    )
    scoring({"slices": 3, "max_samples": 1}, datastore)
    assert looked == [3]


def test_an_image_that_its_archive_does_not_give_out_does_not_stop_the_others(scoring, datastore, monkeypatch):
    find = datastore.get_image_uri

    def refuse(image):
        if image == "a":
            raise HTTPException(404, "the archive has no such series")
        return find(image)

    monkeypatch.setattr(datastore, "get_image_uri", refuse)
    result = scoring({}, datastore)
    assert result["a"] is None
    assert result["b"] is not None
    assert scoring.waiting(datastore) == []


@pytest.mark.parametrize("seed", [-1, "abc", 0.5])
def test_a_seed_that_is_none_is_refused(datastore, seed):
    with pytest.raises(ValueError, match="seed must be a whole number from 0 up"):
        STRATEGIES["random"]()({"seed": seed}, datastore)
