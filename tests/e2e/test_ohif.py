"""The OHIF that monailabel ships, in a real browser, over a real DICOM archive, with the shipped weights."""

import io
import re

import numpy as np
import pydicom
import pytest
from scipy import ndimage

from clickseg.phantom import LABELS, phantom
from clickseg.phantom.dicom import dicom_series

pytestmark = [pytest.mark.orthanc, pytest.mark.chromium]

ORGAN = "left kidney"


@pytest.fixture(scope="module")
def kidney():
    """image, truth (X, Y, Z) in LPS order and spacing: a phantom cut so that the middle voxel is deep in the kidney."""
    patient = phantom(seed=0)
    image, truth = (np.flip(array, (0, 1)) for array in (patient.image, patient.label == LABELS[ORGAN]))
    depth = ndimage.distance_transform_edt(truth)
    middle = np.unravel_index(depth.argmax(), depth.shape)
    box = tuple(slice(m - r, m + r) for m, r in zip(middle, (48, 48, 16), strict=True))
    assert image[box].shape == (96, 96, 32)
    return image[box], truth[box], tuple(np.diag(patient.affine)[:3])


@pytest.fixture(scope="module")
def page(kidney, archive, serve, browser, tmp_path_factory):
    """OHIF with the study open, connected to our server."""
    folder = tmp_path_factory.mktemp("ohif")
    image, _, spacing = kidney
    instances = dicom_series(image, spacing)
    study = pydicom.dcmread(io.BytesIO(instances[0])).StudyInstanceUID
    with archive(folder, instances) as archive_url, serve(folder, f"{archive_url}/dicom-web/") as url:
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.set_default_timeout(180_000)
        page.goto(f"{url}/ohif/monai-label?StudyInstanceUIDs={study}", wait_until="domcontentloaded")
        server = page.locator("#monailabelServerURL")
        server.wait_for()
        page.wait_for_timeout(9000)  # the viewports announce themselves in no other way
        if page.get_by_text("Confirm and Hide").count():
            page.get_by_text("Confirm and Hide").click()
        server.fill(f"{url}/")
        page.locator(".settingsTable button.actionButton").first.click()
        page.locator("label.tab-label", has_text="Point Prompts").click()
        yield page
        page.close()


def choose(page, model, label):
    page.locator("select.selectBox").filter(has=page.locator(f'option[value="{model}"]')).first.select_option(model)
    page.wait_for_timeout(1000)
    page.locator("tr.clickable-row", has_text=re.compile(f"^{label}$")).first.click()
    page.wait_for_timeout(1000)


def click_in_the_middle(page):
    box = page.locator(".cornerstone-viewport-element").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.wait_for_timeout(100)
    page.mouse.up()
    page.wait_for_timeout(1000)


def run(page):
    """The mask that the viewer gets: (X, Y, Z)."""
    with page.expect_response(lambda response: "/infer/" in response.url) as caught:
        page.locator('button.actionButton[title="Run PointPrompts"]').first.click()
    response = caught.value
    assert response.status == 200, response.text()
    body = response.body()
    shape = tuple(map(int, re.search(rb"sizes: (\d+) (\d+) (\d+)", body).groups()))
    assert b"encoding: raw" in body
    page.wait_for_timeout(2500)  # until the mask is drawn
    return np.frombuffer(body[-int(np.prod(shape)) :], np.uint8).reshape(shape, order="F")


def dice_in_the_clicked_slice(mask, truth):
    (number,) = np.flatnonzero(mask.any((0, 1)))
    return 2 * (mask[..., number] & truth[..., number]).sum() / (mask[..., number].sum() + truth[..., number].sum())


def coloured(picture):
    """How many pixels of a screenshot (PNG bytes) are not grey."""
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
    return (np.ptp(pixels, axis=2) > 60).sum()


def test_a_click_in_ohif_segments_the_organ_under_it_and_the_viewer_shows_it(page, kidney, keep):
    viewport = page.locator(".cornerstone-viewport-element").first
    choose(page, "unet2d", ORGAN)
    before = coloured(viewport.screenshot())
    click_in_the_middle(page)
    mask = run(page)
    assert set(np.unique(mask)) == {0, 1}
    assert dice_in_the_clicked_slice(mask > 0, kidney[1]) > 0.8
    assert coloured(viewport.screenshot()) > before + 500
    keep(page.screenshot(), "ohif_unet2d.png")


def test_the_model_of_named_labels_answers_with_the_value_of_the_label(page, kidney, keep):
    choose(page, "unet2d_labels", ORGAN)
    click_in_the_middle(page)
    mask = run(page)
    assert set(np.unique(mask)) == {0, 3}  # /info: 1 spleen, 2 right kidney, 3 left kidney
    assert dice_in_the_clicked_slice(mask > 0, kidney[1]) > 0.8
    keep(page.screenshot(), "ohif_unet2d_labels.png")
