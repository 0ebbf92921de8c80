import importlib

import pytest

from clickseg.methods import METHODS
from clickseg.settings import cache_bytes
from lib.configs import CONFIGS, select, unet2d
from lib.weights import Weights

SHIPPED = ["unet2d", "unet2d_labels", "unet2d_general", "unet2d_general_labels"]


def test_all_is_every_model_and_a_list_is_what_it_names():
    everything = [model.name for models in CONFIGS.values() for model in models]
    assert [model.name for model in select("all")] == everything
    assert [model.name for model in select("unet2d")] == SHIPPED


def test_every_method_is_served():
    assert list(CONFIGS) == list(METHODS)


@pytest.mark.parametrize("names", ["unet3d", "unet2d,unet3d", "", ","])
def test_an_unknown_model_is_refused_and_the_known_ones_are_named(names):
    with pytest.raises(ValueError, match=r"known: all, unet2d"):
        select(names)


@pytest.mark.parametrize(("text", "number"), [("2", 2**31), ("0.5", 2**29), ("0", 0)])
def test_the_memory_for_open_images_is_configured_in_gigabytes(text, number):
    assert cache_bytes({"cache_gb": text}) == number


@pytest.mark.parametrize("text", ["much", "-1", "nan", "inf", ""])
def test_memory_that_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="a number of gigabytes is needed"):
        cache_bytes({"cache_gb": text})


def test_every_weights_file_is_trained_by_one_model():
    trained = [model.weights for models in CONFIGS.values() for model in models if model.trains]
    assert len(set(trained)) == len(trained)
    assert set(trained) == {model.weights for models in CONFIGS.values() for model in models}


def test_names_of_served_models_are_unique():
    names = [model.name for models in CONFIGS.values() for model in models]
    assert len(set(names)) == len(names)


def test_further_weights_are_models_of_their_own_name(monkeypatch, tmp_path, tiny_weights):
    tiny_weights(tmp_path / "unet2d_k15.pt", {"spleen": 1})
    with monkeypatch.context() as patched:
        patched.setenv("CLICKSEG_MODEL_DIR", str(tmp_path))
        names = [model.name for model in importlib.reload(unet2d).MODELS]
    assert names == [*SHIPPED, "unet2d_k15", "unet2d_k15_labels"]
    importlib.reload(unet2d)


def test_trained_weights_win_over_shipped_ones(weights, monkeypatch, tmp_path, tiny_weights):
    monkeypatch.setattr("lib.weights.MODEL_DIR", tmp_path / "shipped")
    assert weights.current == weights.trained
    tiny_weights(weights.shipped, {"spleen": 1})
    assert weights.current == weights.trained
    weights.trained.unlink()
    assert weights.current == weights.shipped


def test_missing_weights_say_where_they_were_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("CLICKSEG_MODEL_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=r"no weights nothing\.pt: neither .*nothing\.pt nor .*nothing\.pt exists"):
        _ = Weights("nothing.pt").recipe


def test_clients_offer_to_go_on_from_slice_to_slice_where_a_model_can():
    offered = {model.name: "propagate" in model.infer(None).info()["config"] for model in select("all")}
    assert offered["unet2d"]
    assert offered["unet2d_labels"]
    assert not any(offers for name, offers in offered.items() if name.startswith("tis"))
