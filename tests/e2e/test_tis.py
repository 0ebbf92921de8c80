"""A 3D method behind the real server: labels of all classes in one answer, before the first click and after."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monailabel.client import MONAILabelClient

from clickseg.methods import METHODS, save_weights
from clickseg.methods.tis import TisRecipe
from clickseg.sessions import SessionCache

LABELS = {"anterior": 1, "posterior": 3}  # with a gap, which clients must not see
SERVED = {"anterior": 1, "posterior": 2}
INSIDE, OTHER = [9, 12, 7], [4, 5, 6]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tis")
    (folder / "studies").mkdir()
    (folder / "model").mkdir()
    volume = np.random.default_rng(0).normal(500, 80, (20, 24, 16)).astype(np.int16)
    nib.save(nib.Nifti1Image(volume, np.diag([-1.0, 1.0, 1.5, 1.0])), folder / "studies/brain.nii.gz")
    torch.manual_seed(0)
    recipe = TisRecipe(labels=LABELS, modality="MR", patch=(16, 16, 16), width=4, tokens=8, heads=2, layers=2)
    save_weights(folder / "model/tis_brain.pt", METHODS["tis"].build(recipe), recipe)
    return folder


@pytest.fixture(scope="module")
def url(folder, serve):
    with serve(folder, str(folder / "studies"), "--conf", "models", "tis") as url:
        yield url


@pytest.fixture(scope="module")
def session(folder):
    return SessionCache().open(folder / "studies/brain.nii.gz", folder / "model/tis_brain.pt")


def test_weights_that_lie_beside_those_a_team_trains_are_served_by_their_name(url):
    models = MONAILabelClient(url).info()["models"]
    assert models["tis_brain"]["type"] == "deepedit"
    assert models["tis_brain"]["labels"] == {"background": 0, **SERVED}


@pytest.mark.parametrize(
    "clicks",
    [{}, {"anterior": [INSIDE]}, {"anterior": [INSIDE], "posterior": [OTHER], "background": [[2, 2, 2]]}],
    ids=["no clicks", "one label", "all labels"],
)
def test_ohif_gets_all_labels_at_once_as_the_library_computes_them(ask, url, session, mask_in, clicks):
    sent = {"background": [], "anterior": [], "posterior": [], **clicks}
    response = ask(url, "tis_brain", "brain", result_extension=".nrrd", result_dtype="uint8", **sent)
    assert response.status_code == 200, response.text
    mask, _ = mask_in(response)
    np.testing.assert_array_equal(mask, session.predict_labels(clicks, SERVED))
    assert {1, 2} & set(np.unique(mask).tolist())
    for name, positions in clicks.items():
        for position in positions:
            assert mask[tuple(position)] == SERVED.get(name, 0)


def test_a_frozen_label_is_kept_whatever_is_clicked(ask, url, session, mask_in):
    clicks = {"posterior": [INSIDE], "background": [OTHER]}
    wish = {"result_extension": ".nrrd", "result_dtype": "uint8", "frozen": ["anterior"]}
    mask, _ = mask_in(ask(url, "tis_brain", "brain", **clicks, **wish))
    np.testing.assert_array_equal(mask == 1, session.predict_labels({}, SERVED) == 1)
    assert not np.array_equal(mask, session.predict_labels({}, SERVED))
    refused = ask(url, "tis_brain", "brain", **clicks, frozen=["spleen"])
    assert refused.status_code == 400
    assert "frozen: unknown label spleen" in refused.json()["detail"]


def test_the_stock_client_gets_the_volume_of_every_label_without_a_click(url, tmp_path):
    _, params = MONAILabelClient(url, str(tmp_path)).infer("tis_brain", "brain", {})
    assert set(params["volume_ml"]) == set(SERVED)


def test_a_click_under_an_unknown_label_is_refused(ask, url):
    response = ask(url, "tis_brain", "brain", spleen=[[1, 1, 1]])
    assert response.status_code == 400
    assert "unknown label 'spleen'" in response.json()["detail"]


def test_the_uncertainty_strategy_scores_volumes(url):
    assert MONAILabelClient(url).next_sample("uncertainty", {})["id"] == "brain"
