"""The OHIF that monailabel ships, in a real browser, over a real DICOM archive, with the shipped weights."""

import io
import json
import re
import time

import nibabel as nib
import numpy as np
import pydicom
import pytest
import requests
from monailabel.client import MONAILabelClient
from scipy import ndimage

from clickseg.archive import studies
from clickseg.methods import shipped_weights
from clickseg.metrics import dice
from clickseg.phantom import LABELS, phantom
from clickseg.phantom.dicom import dicom_series
from clickseg.sessions import SessionCache

pytestmark = [pytest.mark.orthanc, pytest.mark.chromium]

ORGAN = "left kidney"
CLICKED = "cornerstoneTools.annotation.state.getAllAnnotations()"


@pytest.fixture(scope="module")
def kidney():
    """image, label (X, Y, Z) in LPS order and spacing: a phantom cut so that the middle voxel is deep in the kidney."""
    patient = phantom(seed=0)
    image, label = (np.flip(array, (0, 1)) for array in (patient.image, patient.label))
    depth = ndimage.distance_transform_edt(label == LABELS[ORGAN])
    middle = np.unravel_index(depth.argmax(), depth.shape)
    box = tuple(slice(m - r, m + r) for m, r in zip(middle, (48, 48, 16), strict=True))
    assert image[box].shape == (96, 96, 32)
    return image[box], label[box], tuple(np.diag(patient.affine)[:3])


@pytest.fixture(scope="module")
def archive_url(kidney, archive, tmp_path_factory):
    image, _, spacing = kidney
    with archive(tmp_path_factory.mktemp("archive"), dicom_series(image, spacing)) as url:
        yield url


@pytest.fixture(scope="module")
def url(archive_url, serve, tmp_path_factory):
    with serve(tmp_path_factory.mktemp("ohif"), f"{archive_url}/dicom-web/") as url:
        yield url


@pytest.fixture(scope="module")
def page(url, archive_url, browser):
    """OHIF with the study open, connected to our server."""
    (study,) = studies(archive_url)
    page = browser.new_page(viewport={"width": 1500, "height": 900})
    page.set_default_timeout(180_000)
    page.goto(f"{url}/ohif/monai-label?StudyInstanceUIDs={study}", wait_until="domcontentloaded")
    server = page.locator("#monailabelServerURL")
    server.wait_for()
    page.wait_for_function("window.cornerstone?.getEnabledElements().some(({ viewport }) => viewport.getImageData?.())")
    page.wait_for_timeout(2000)  # that the image is drawn and the tools are ready is announced in no way
    if page.get_by_text("Confirm and Hide").count():
        page.get_by_text("Confirm and Hide").click()
    server.fill(f"{url}/")
    page.locator(".settingsTable button.actionButton").first.click()
    page.locator("label.tab-label", has_text="Point Prompts").click()
    yield page
    page.close()


def choose_model(page, model):
    page.locator("select.selectBox").filter(has=page.locator(f'option[value="{model}"]')).first.select_option(model)
    page.wait_for_timeout(300)


def click(page, label, i=0, j=0):
    """With the row of a label chosen, so many voxels to the right of the middle and below it."""
    page.locator("tr.clickable-row", has_text=re.compile(f"^{label}$")).first.click()
    page.wait_for_timeout(300)
    before = page.evaluate(f"{CLICKED}.length")
    box = page.locator(".cornerstone-viewport-element").first.bounding_box()
    pixels = min(box["width"], box["height"]) / 96 / 1.1  # the image is fitted into the viewport, with a margin
    page.mouse.move(box["x"] + box["width"] / 2 + i * pixels, box["y"] + box["height"] / 2 + j * pixels)
    page.mouse.down()
    page.wait_for_timeout(100)
    page.mouse.up()
    page.wait_for_function(f"(before) => {CLICKED}.length > before", arg=before)
    page.wait_for_timeout(200)


def run(page):
    """What the viewer sends, and the mask (X, Y, Z) that it gets, as an array and as the file's content."""
    with page.expect_response(lambda response: "/infer/" in response.url) as caught:
        page.locator('button.actionButton[title="Run PointPrompts"]').first.click()
    response = caught.value
    assert response.status == 200, response.text()
    sent = json.loads(re.search(rb'name="params"\r\n\r\n(.*?)\r\n--', response.request.post_data_buffer, re.DOTALL)[1])
    body = response.body()
    shape = tuple(map(int, re.search(rb"sizes: (\d+) (\d+) (\d+)", body).groups()))
    assert b"encoding: raw" in body
    page.wait_for_timeout(500)  # for the viewer to take the mask over
    return sent, np.frombuffer(body[-int(np.prod(shape)) :], np.uint8).reshape(shape, order="F"), body


def neighbour(label, number, known, least=3):
    """An organ that is known, beside ours in a slice, and where it is widest: (name, i, j)."""
    plane = label[:, :, number]
    depths = {
        name: ndimage.distance_transform_edt(plane == value)
        for name, value in LABELS.items()
        if name != ORGAN and name in known and (plane == value).any()
    }
    name = max(depths, key=lambda name: depths[name].max())
    assert depths[name].max() >= least
    return name, *(int(index) for index in np.unravel_index(depths[name].argmax(), plane.shape))


def rim(label, number):
    """Beside our organ in a slice, where it is narrow: a voxel two outside its edge, (i, j)."""
    away = ndimage.distance_transform_edt(label[:, :, number] != LABELS[ORGAN])
    found = np.argwhere((away > 3) & (away <= 5))
    return tuple(int(index) for index in found[0])


def coloured(picture):
    """How many pixels of a screenshot (PNG bytes) are not grey."""
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
    return (np.ptp(pixels, axis=2) > 60).sum()


def test_three_clicks_in_ohif_segment_the_organ_and_the_viewer_shows_it(page, kidney, keep):
    _, label, _ = kidney
    viewport = page.locator(".cornerstone-viewport-element").first
    choose_model(page, "unet2d")
    before = coloured(viewport.screenshot())
    click(page, ORGAN)
    sent, mask, _ = run(page)
    assert set(np.unique(mask)) == {0, 1}
    ((i, j, number),) = sent["foreground"]
    truth = label == LABELS[ORGAN]
    assert truth[i, j, number]
    assert dice(mask[..., number] > 0, truth[..., number]) > 0.8
    deadline = time.monotonic() + 60
    while coloured(viewport.screenshot()) <= before + 500:  # until the mask is drawn
        assert time.monotonic() < deadline

    outside = rim(label, number)
    click(page, "background", outside[0] - i, outside[1] - j)
    sent, corrected, _ = run(page)
    assert np.abs(np.subtract(sent["background"], [*outside, number])).max() <= 1
    assert len(sent["foreground"]) == 1
    assert (corrected != mask).any()

    click(page, ORGAN, 3, 3)
    sent, mask, _ = run(page)
    assert len(sent["foreground"]) == 2
    assert len(sent["background"]) == 1
    assert dice(mask[..., number] > 0, truth[..., number]) >= 0.9
    keep(page.screenshot(), "ohif_unet2d.png")


def test_named_labels_are_clicked_saved_and_archived_whole(page, kidney, url, archive_url, keep, tmp_path):
    _, label, _ = kidney
    client = MONAILabelClient(url, str(tmp_path))
    choose_model(page, "unet2d_labels")
    click(page, ORGAN)
    sent, mask, _ = run(page)
    values = client.info()["models"]["unet2d_labels"]["labels"]
    assert set(np.unique(mask)) == {0, values[ORGAN]}
    ((i, j, number),) = sent[ORGAN]
    name, *place = neighbour(label, number, values)
    click(page, name, place[0] - i, place[1] - j)
    _, mask, content = run(page)
    assert set(np.unique(mask)) == {0, values[ORGAN], values[name]}
    for organ in (ORGAN, name):
        assert dice(mask[..., number] == values[organ], label[..., number] == LABELS[organ]) > 0.8
    keep(page.screenshot(), "ohif_unet2d_labels.png")

    # This OHIF has no button that saves: its mask goes to the server as another client's does.
    (tmp_path / "from_ohif.nrrd").write_bytes(content)
    (series,) = client.datastore()["objects"]
    names = [{"name": organ, "idx": value} for organ, value in values.items() if value]
    client.save_label(series, str(tmp_path / "from_ohif.nrrd"), params={"label_info": names})
    files = [
        pydicom.dcmread(io.BytesIO(requests.get(f"{archive_url}/instances/{item['ID']}/file", timeout=60).content))
        for item in requests.get(f"{archive_url}/instances?expand", timeout=60).json()
    ]
    (archived,) = [file for file in files if file.Modality == "SEG"]
    assert {segment.SegmentLabel for segment in archived.SegmentSequence} == {ORGAN, name}
    assert archived.pixel_array.sum() == (mask > 0).sum()
    reread = requests.get(f"{url}/datastore/label", {"label": series, "tag": "final"}, timeout=120)
    (tmp_path / "reread.nii.gz").write_bytes(reread.content)
    np.testing.assert_array_equal(nib.load(tmp_path / "reread.nii.gz").dataobj, mask)


def test_a_model_in_3d_answers_with_all_labels_and_is_corrected(page, kidney, tmp_path, keep):
    image, label, spacing = kidney
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    nib.save(nib.Nifti1Image(image.astype(np.int16), affine), tmp_path / "series.nii.gz")
    session = SessionCache().open(tmp_path / "series.nii.gz", shipped_weights("tis_abdomen"))
    values = session.recipe.labels
    choose_model(page, "tis_abdomen")
    click(page, ORGAN)
    sent, mask, _ = run(page)
    clicks = {name: sent.get(name) or [] for name in (*values, "background")}
    assert clicks[ORGAN]
    assert mask[tuple(clicks[ORGAN][0])] == values[ORGAN]
    np.testing.assert_array_equal(mask, session.predict_labels(clicks, values))
    truth, automatic = label == LABELS[ORGAN], session.predict_labels({}, values)
    assert dice(mask == values[ORGAN], truth) > dice(automatic == values[ORGAN], truth)
    keep(page.screenshot(), "ohif_tis.png")
