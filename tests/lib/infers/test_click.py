from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from monailabel.interfaces.tasks.infer_v2 import InferType

from clickseg.clicks import Click
from clickseg.geometry import Grid
from clickseg.images import read_volume, write_mask
from clickseg.sessions import Session, SessionCache
from lib.infers.click import ClickInfer


@pytest.fixture(autouse=True)
def replies_stay_in_the_tests_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def cache():
    return SessionCache()


@pytest.fixture
def structure(weights, cache):
    return ClickInfer(InferType.DEEPGROW, weights, "one", cache)


@pytest.fixture
def named(weights, cache):
    return ClickInfer(InferType.DEEPEDIT, weights, "several", cache)


def test_the_mask_is_the_sessions(structure, datastore, cache, weights):
    image = datastore.get_image_uri("a")
    path, params = structure({"image": image, "foreground": [[12, 10, 5]], "background": [[1, 1, 5]]})
    mask, grid = read_volume(path)
    session = cache.open(image, weights.current)
    assert np.array_equal(mask, session.predict([Click((12, 10, 5), 1), Click((1, 1, 5), 0)]))
    assert np.array_equal(grid.affine, session.grid.affine)
    assert params["volume_ml"] == {"foreground": pytest.approx(mask.sum() * 30 / 1000, abs=1e-3)}
    assert params["area_mm2"] == {"foreground": {"5": pytest.approx(mask[:, :, 5].sum() * 6)}}


def test_the_session_is_told_what_the_structure_is_called(structure, datastore, monkeypatch):
    told = []
    original = Session.predict
    monkeypatch.setattr(
        Session, "predict", lambda self, *given, **more: told.append(more["name"]) or original(self, *given, **more)
    )
    request = {"image": datastore.get_image_uri("a"), "foreground": [[12, 10, 5]], "label": "liver"}
    structure(request)
    structure.preview(request)
    structure({**request, "label": ""})
    assert told == ["liver", "liver", "foreground"]


def test_an_answer_to_what_is_no_ct_says_so_and_models_say_what_they_are_for(structure, datastore, caplog):
    image = datastore.get_image_uri("a")
    assert "warning" not in structure({"image": image, "foreground": [[12, 10, 5]]})[1]
    volume, grid = read_volume(image)
    write_mask(image, (volume - volume.min()).clip(0, 250).astype(np.uint8), grid)
    _, params = structure({"image": image, "foreground": [[12, 10, 5]]})
    assert "nothing in the image is below 0" in params["warning"]
    assert params["warning"] in caplog.text
    assert structure.info()["modality"] == "CT"


def test_named_labels_are_numbered_without_gaps(named, datastore):
    path, params = named({"image": datastore.get_image_uri("a"), "liver": [[12, 10, 5]], "spleen": [[6, 6, 7]]})
    assert set(np.unique(read_volume(path)[0])) <= {0, 1, 2}
    assert params["label_names"] == {"background": 0, "spleen": 1, "liver": 2}


def test_only_clicked_labels_are_measured(named, datastore):
    _, params = named({"image": datastore.get_image_uri("a"), "liver": [[12, 10, 5]], "background": [[1, 1, 2]]})
    assert list(params["volume_ml"]) == ["liver"]
    assert params["area_mm2"]["liver"].keys() == {"2", "5"}


def test_both_types_say_in_info_what_clients_read_there(structure, named):
    assert structure.info()["labels"] == ["spleen", "liver"]
    assert named.info()["labels"] == {"background": 0, "spleen": 1, "liver": 2}
    for task in (structure, named):
        assert task.info()["dimension"] == 3  # so that clients send the clicks of all slices


def test_published_weights_are_used_by_the_next_click(structure, named, datastore, weights, tiny_weights):
    request = {"image": datastore.get_image_uri("a"), "foreground": [[12, 10, 5]]}
    before = read_volume(structure(request)[0])[0]
    tiny_weights(weights.trained, {"tumour": 1}, seed=3)
    after = read_volume(structure(request)[0])[0]
    assert not np.array_equal(before, after)
    assert named.info()["labels"] == {"background": 0, "tumour": 1}


@pytest.mark.parametrize("spoiled", [b"", b"no weights"])
def test_weights_that_do_not_load_make_a_model_invalid_and_its_clicks_refused(structure, weights, datastore, spoiled):
    weights.trained.write_bytes(spoiled)
    assert not structure.is_valid()
    with pytest.raises(ValueError, match="weights"):
        structure({"image": datastore.get_image_uri("a"), "foreground": [[1, 1, 1]]})


def test_missing_weights_make_a_model_invalid(structure, weights):
    weights.trained.unlink()
    assert not structure.is_valid()
    with pytest.raises(ValueError, match="weights"):
        structure({"image": "any", "foreground": [[1, 1, 1]]})


@pytest.mark.parametrize("wrong", [{"foreground": [[99, 0, 0]]}, {}, {"foreground": [[1, 1, 1]], "device": "abacus"}])
def test_bad_requests_raise_value_errors(structure, datastore, wrong):
    with pytest.raises(ValueError, match=r"outside|no clicks|device"):
        structure({"image": datastore.get_image_uri("a"), **wrong})


def test_an_image_that_has_grown_is_read_again(structure, datastore, tmp_path):
    """A series that is opened while its scanner still sends has more slices later, at the same path."""
    image = tmp_path / "growing.nii.gz"
    volume, grid = read_volume(datastore.get_image_uri("a"))
    for slices in (8, 12):
        write_mask(image, volume[:, :, :slices].astype(np.uint8), Grid((24, 20, slices), grid.affine))
        answer = structure({"image": str(image), "foreground": [[12, 10, 5]]})
        assert read_volume(answer[0])[1].shape == (24, 20, slices)


def test_threads_get_the_answers_to_their_own_clicks(structure, datastore):
    requests = [
        {"image": datastore.get_image_uri(name), "foreground": [[2 * step, step, step]]}
        for step in range(6)
        for name in ("a", "b")
    ]
    alone = [read_volume(structure(request)[0])[0] for request in requests]
    structure.cache.clear()
    with ThreadPoolExecutor(4) as pool:
        together = [read_volume(path)[0] for path, _ in pool.map(structure, requests)]
    assert all(map(np.array_equal, alone, together))


def test_a_mask_goes_on_from_slice_to_slice_if_the_request_says_so(structure, named, datastore, cache, weights):
    image = datastore.get_image_uri("a")
    session = cache.open(image, weights.current)
    path, _ = structure({"image": image, "foreground": [[12, 10, 5]], "propagate": True})
    np.testing.assert_array_equal(read_volume(path)[0], session.predict([Click((12, 10, 5), 1)], reach=12))
    path, _ = named({"image": image, "liver": [[12, 10, 5]], "propagate": "2"})
    expected = session.predict_labels({"liver": [(12, 10, 5)]}, weights.label_values, reach=2)
    np.testing.assert_array_equal(read_volume(path)[0], expected)


def test_a_preview_stays_in_its_slice(structure, datastore, cache, weights):
    image = datastore.get_image_uri("a")
    found = structure.preview({"image": image, "foreground": [[12, 10, 5], [12, 10, 6]], "propagate": True}, 5)
    np.testing.assert_array_equal(
        found.mask, cache.open(image, weights.current).predict([Click((12, 10, 5), 1)])[:, :, 5]
    )
