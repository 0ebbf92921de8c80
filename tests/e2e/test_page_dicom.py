"""The app's own page over a real DICOM archive: a series is opened, clicked on, and its label archived."""

import io

import numpy as np
import pydicom
import pytest
import requests
from browsing import map_in_file_order

from clickseg.phantom.dicom import dicom_series

pytestmark = [pytest.mark.orthanc, pytest.mark.chromium]

SHAPE, SPACING = (48, 40, 12), (2.0, 1.5, 5.0)


@pytest.fixture(scope="module")
def volume():
    return np.random.default_rng(0).normal(50, 80, SHAPE).astype(np.int16)


def test_a_series_is_opened_and_its_label_is_archived_and_read_again(
    volume, archive, serve, browser, tiny_weights, ask, mask_in, tmp_path
):
    tiny_weights(tmp_path / "model/unet2d.pt", {"spleen": 1, "liver": 2})
    instances = dicom_series(volume, SPACING)
    series = pydicom.dcmread(io.BytesIO(instances[0])).SeriesInstanceUID
    with archive(tmp_path, instances) as archive_url, serve(tmp_path, f"{archive_url}/dicom-web/") as url:
        page = browser.new_page(viewport={"width": 1000, "height": 700})
        page.set_default_timeout(180_000)
        page.goto(f"{url}/clickseg/")
        page.evaluate("clickseg.ready")
        assert page.locator("#study-name").inner_text() == series
        row = page.locator("#studies button")
        assert row.locator(".name").inner_text().split("\n") == ["Nobody · 0", "2024-01-01 · CT"]
        assert row.get_attribute("title") == series
        assert page.locator("#adding").is_hidden(), "studies come from the archive alone"
        assert page.evaluate("clickseg.viewer.frame.dims") == list(SHAPE)

        click = {"position": [24, 20, 6], "label": "liver", "inside": True}
        page.evaluate("(click) => clickseg.editor().add(click)", click)
        page.evaluate("clickseg.editor().idle()")
        answer, _ = mask_in(ask(url, "unet2d", series, foreground=[click["position"]], result_extension=".nrrd"))
        shown = map_in_file_order(page)
        assert np.array_equal(shown > 0, answer > 0)
        assert answer.any()

        page.locator("#accept").click()
        page.locator("#studies .done").wait_for()
        archived = requests.get(f"{archive_url}/dicom-web/series?Modality=SEG", timeout=60).json()
        assert len(archived) == 1
        page.reload()
        page.evaluate("clickseg.ready")
        assert np.array_equal(map_in_file_order(page), shown)
        page.close()
