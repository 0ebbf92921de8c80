"""A 3D method behind the real server: labels of all classes in one answer, before the first click and after."""

import nibabel as nib
import numpy as np
import pytest
import requests
from monailabel.client import MONAILabelClient

from clickseg.sessions import SessionCache

LABELS = {"anterior": 1, "posterior": 3}  # with a gap, which clients must not see
SERVED = {"anterior": 1, "posterior": 2}
INSIDE, OTHER = [9, 12, 7], [4, 5, 6]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_tis_weights):
    folder = tmp_path_factory.mktemp("tis")
    (folder / "studies").mkdir()
    (folder / "model").mkdir()
    volume = np.random.default_rng(0).normal(500, 80, (20, 24, 16)).astype(np.int16)
    nib.save(nib.Nifti1Image(volume, np.diag([-1.0, 1.0, 1.5, 1.0])), folder / "studies/brain.nii.gz")
    tiny_tis_weights(folder / "model/tis_brain.pt", LABELS, "MR")
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


def write_mask_file(path, array, shift=0.0):
    affine = np.diag([-1.0, 1.0, 1.5, 1.0])
    affine[0, 3] = shift
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def test_a_mask_that_is_sent_along_is_corrected_by_the_stock_client(url, session, tmp_path):
    start = np.zeros((20, 24, 16), np.uint8)
    start[2:8, 3:9, 4:9], start[10:15, 12:20, 4:12] = 1, 2
    client = MONAILabelClient(url, str(tmp_path))
    label = write_mask_file(tmp_path / "start.nii.gz", start)
    wish = {"result_extension": ".nii.gz", "result_dtype": "uint8"}
    unchanged, _ = client.infer("tis_brain", "brain", wish, label_in=str(label))
    np.testing.assert_array_equal(nib.load(unchanged).get_fdata(), start)
    corrected, params = client.infer("tis_brain", "brain", {**wish, "anterior": [INSIDE]}, label_in=str(label))
    mask = nib.load(corrected).get_fdata()
    np.testing.assert_array_equal(mask, session.predict_labels({"anterior": [INSIDE]}, SERVED, start=start))
    assert mask[tuple(INSIDE)] == 1
    assert set(params["volume_ml"]) == set(SERVED)


@pytest.mark.parametrize(
    ("shape", "value", "shift", "name", "sentence"),
    [
        ((20, 24, 15), 1, 0.0, "start.nii.gz", "has shape (20, 24, 15), but its image (20, 24, 16)"),
        ((20, 24, 16), 7, 0.0, "start.nii.gz", "the mask to start from holds [7]; the labels are [0, 1, 2]"),
        ((20, 24, 16), 1, 9.0, "start.nii.gz", "lies elsewhere in the patient than its image"),
        ((20, 24, 16), 1, 0.0, "start.txt.nii.gz.png", "a file ending in .nii.gz or .nii or .nrrd is needed"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(url, tmp_path, shape, value, shift, name, sentence):
    path = write_mask_file(tmp_path / "start.nii.gz", np.full(shape, value, np.uint8), shift)
    with path.open("rb") as file:
        response = requests.post(f"{url}/infer/tis_brain?image=brain", files={"label": (name, file)}, timeout=300)
    assert response.status_code == 400, response.text
    assert sentence in response.json()["detail"]


def test_a_file_of_the_server_cannot_be_named_as_the_mask_to_start_from(ask, url, folder, tmp_path, session, mask_in):
    secret = write_mask_file(tmp_path / "secret.nii.gz", np.ones((20, 24, 16), np.uint8))
    wish = {"result_extension": ".nrrd", "result_dtype": "uint8", "start": str(secret), "label": str(secret)}
    mask, _ = mask_in(ask(url, "tis_brain", "brain", **wish))
    np.testing.assert_array_equal(mask, session.predict_labels({}, SERVED))


def test_the_stock_client_gets_the_volume_of_every_label_without_a_click(url, tmp_path):
    _, params = MONAILabelClient(url, str(tmp_path)).infer("tis_brain", "brain", {})
    assert set(params["volume_ml"]) == set(SERVED)


def test_a_click_under_an_unknown_label_is_refused(ask, url):
    response = ask(url, "tis_brain", "brain", spleen=[[1, 1, 1]])
    assert response.status_code == 400
    assert "unknown label 'spleen'" in response.json()["detail"]


def test_the_uncertainty_strategy_scores_volumes(url):
    assert MONAILabelClient(url).next_sample("uncertainty", {})["id"] == "brain"


def test_a_3d_model_does_not_go_from_slice_to_slice(ask, url):
    response = ask(url, "tis_brain", "brain", anterior=[INSIDE], propagate=True)
    assert response.status_code == 400
    assert "answers in 3D as it is" in response.json()["detail"]
