"""A headless Chromium without a GPU, and the clickseg page in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from playwright.sync_api import Browser, Page, sync_playwright

SOFTWARE = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
PLACE = """(ras) => {
    const { nv, canvas, frame } = clickseg.viewer;
    clickseg.viewer.moveTo(ras);
    const place = canvas.getBoundingClientRect(), scale = place.width / canvas.width;
    const [left, top, width, height] = nv.screenSlices[0].leftTopWidthHeight;
    return [place.left + (left + width * (1 - (ras[0] + 0.5) / frame.shownDims[0])) * scale,
            place.top + (top + height * (1 - (ras[1] + 0.5) / frame.shownDims[1])) * scale];
}"""


@contextlib.contextmanager
def chromium(path: str) -> Iterator[Browser]:
    """The browser at a path, until the end of the context."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=SOFTWARE)
        yield browser
        browser.close()


def open_page(browser: Browser, url: str) -> Page:
    """The page, once it shows a study. Whatever is waited for there is waited for five minutes."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.set_default_timeout(300_000)
    page.goto(url)
    page.evaluate("clickseg.ready")
    return page


def place_of(page: Page, ras: Sequence[int]) -> tuple[float, float]:
    """Where on the screen a voxel (RAS order) lies in the axial view; the views are cut through it."""
    x, y = page.evaluate(PLACE, list(ras))
    page.wait_for_timeout(500)
    return x, y
