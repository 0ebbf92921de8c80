"""An answer that takes long, watched as it comes from the real server."""

import json
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import pytest
import requests

from clickseg.runs import decode_runs

SHAPE = (48, 44, 40)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
CENTRE = [24, 22, 20]
CLICK = {"foreground": [CENTRE]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_tis_weights):
    """A bright ball, for the shipped weights; and tiny ones of `tis`, which say where they are."""
    folder = tmp_path_factory.mktemp("progress")
    (folder / "studies").mkdir()
    (folder / "model").mkdir()
    away = sum((index - centre) ** 2 for index, centre in zip(np.indices(SHAPE), CENTRE, strict=True))
    volume = np.where(away < 9**2, 120, -100) + np.random.default_rng(0).normal(0, 10, SHAPE)
    nib.save(nib.Nifti1Image(volume.astype(np.int16), AFFINE), folder / "studies/study.nii.gz")
    tiny_tis_weights(folder / "model/tis_abdomen.pt", {"liver": 1}, "CT")
    return folder


def watch(url, name):
    return requests.get(f"{url}/clickseg/api/progress/{name}", stream=True, timeout=120)


def told(stream):
    return [json.loads(line) for line in stream.iter_lines() if line.strip()]


def test_the_slices_of_a_propagation_are_told_as_they_come_and_make_up_the_answer(url, ask, mask_in):
    with watch(url, "a") as stream:
        response = ask(url, "unet2d", "study", **CLICK, propagate=True, progress="a", result_extension=".nrrd")
        lines = told(stream)
    mask, _ = mask_in(response)
    assert lines[0]["slice"] == CENTRE[2]
    assert len(lines) > 5, "the ball goes on for slices"
    built = np.zeros_like(mask)
    for line in lines:
        built[..., line["slice"]] = decode_runs(line["values"], line["lengths"], line["shape"])
    np.testing.assert_array_equal(built, mask)


def test_who_leaves_ends_the_propagation_and_the_server_goes_on(url, ask):
    with ThreadPoolExecutor() as pool, watch(url, "b") as stream:
        answer = pool.submit(lambda: ask(url, "unet2d", "study", **CLICK, propagate=True, progress="b"))
        next(line for line in stream.iter_lines() if line.strip())
        stream.close()
        response = answer.result()
    assert response.status_code == 400
    assert response.json()["detail"] == "given up: whoever watched this answer come has left"
    assert ask(url, "unet2d", "study", **CLICK, propagate=True, progress="b").status_code == 200


def test_the_first_look_at_a_volume_says_how_far_it_is(url, ask):
    with watch(url, "d") as stream:
        assert ask(url, "tis_abdomen", "study", progress="d").status_code == 200
        parts = [line["part"] for line in told(stream)]
    assert parts == sorted(parts)
    assert parts[-1] == 1
    assert len(parts) > 1


def test_a_name_that_is_watched_already_is_refused_and_who_was_there_first_watches_on(url, ask):
    with watch(url, "e") as stream:
        refused = watch(url, "e")
        assert ask(url, "unet2d", "study", **CLICK, progress="e").status_code == 200
        assert [line["slice"] for line in told(stream)] == [CENTRE[2]]
    assert refused.status_code == 409
    assert "choose another" in refused.json()["detail"]
