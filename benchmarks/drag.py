"""A click dragged on the page at ten events per second: is the last place shown soon after the mouse stops?

    python benchmarks/drag.py [--output benchmarks/results]
    python benchmarks/drag.py --quick --output FOLDER    a smoke run on a small volume

The real page in a headless Chromium without a GPU, which draws on the same processors as the network computes on. A
preview's time is that from a mouse move after a rest until its mask is drawn.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page

from browser import chromium, open_page, place_of
from click_latency import STRUCTURE, positions, say
from clickseg.phantom import write_phantoms
from publish import machine, publish
from servers import ROOT, Surroundings, free_port, running

SHAPE, QUICK = (512, 512, 100), (64, 64, 16)
INTERVAL_MS, REST_MS = 100, 500
STEP, QUICK_STEP = 3, 12  # pixels of the screen: another voxel each time
WATCH = """() => {
    const seen = (window.seen = { moved: 0, shown: 0, at: "" }), viewer = document.getElementById("viewer");
    new MutationObserver(() => (seen.shown = performance.now())).observe(
        viewer, { attributeFilter: ["data-previewed"] });
    viewer.addEventListener("pointermove", (event) => {
        seen.moved = performance.now();
        seen.at = `${Math.round(event.clientX)},${Math.round(event.clientY)}`;
    });
}"""
SHOWN = """(at) => seen.at === at && seen.shown > seen.moved && document.getElementById("viewer").dataset.previewed
    === String(clickseg.viewer.frame.toSource(clickseg.viewer.cursor))"""
REQUESTS = """() => performance.getEntriesByType("resource").filter(({ name }) => name.includes("/preview"))
    .map(({ startTime, responseEnd }) => [startTime, responseEnd])"""


def drag(page: Page, places: Sequence[tuple[int, int]]) -> float:
    """Seconds from the last of these moves of the mouse until the mask of that place was drawn."""
    for x, y in places[:-1]:
        page.mouse.move(x, y)
        page.wait_for_timeout(INTERVAL_MS)
    x, y = places[-1]
    page.mouse.move(x, y)
    page.wait_for_function(SHOWN, arg=f"{x},{y}")
    return float(page.evaluate("(seen.shown - seen.moved) / 1000"))


def measure(page: Page, place: tuple[float, float], moves: int, drags: int, step: int) -> dict[str, Any]:
    """Single moves after a rest, then drags; each to a place that was not asked for before, `step` pixels away."""
    x, y = map(round, place)
    rows = ([(x - step * column, y + step * row) for column in range(1, moves + 1)] for row in itertools.count())
    page.evaluate(WATCH)
    page.mouse.move(x, y)
    page.mouse.down()
    single = []
    for move in next(rows):
        page.wait_for_timeout(REST_MS)
        single.append(drag(page, [move]))
    page.evaluate("performance.setResourceTimingBufferSize(1e6); performance.clearResourceTimings()")
    last = []
    for path in itertools.islice(rows, drags):
        page.wait_for_timeout(REST_MS)
        last.append(drag(page, path))
    requests = sorted(page.evaluate(REQUESTS))
    page.mouse.up()
    page.evaluate("clickseg.editor().idle()")
    return {
        "single_s": single,
        "last_after_s": last,
        "moves": moves * drags,
        "previews": len(requests),
        "at_once": 1 + sum(end > begin + 1 for (_, end), (begin, _) in itertools.pairwise(requests)),
    }


def markdown(report: Mapping[str, Any]) -> str:
    """The report for people."""
    m, single = report["machine"], 1000 * float(np.median(report["single_s"]))
    last = 1000 * np.array(report["last_after_s"])
    soon = int((last <= 2 * single).sum())
    shape = " x ".join(map(str, report["shape"]))
    return "\n".join(
        [
            "# A drag on the page",
            "",
            f"`unet2d`, CT of {shape}, Chromium without a GPU, a mouse move every {INTERVAL_MS} ms. {m['cpu']}: "
            f"{m['cores']} cores, load before {m['load_before']}. torch {m['torch']}. {m['date']}, "
            f"commit {m['commit']}.",
            "",
            "| mouse moves | previews computed | at once, at most | one preview, ms (median) "
            "| last place shown after the mouse stops, ms (median) | at most, ms | within two previews |",
            "|---|---|---|---|---|---|---|",
            f"| {report['moves']} | {report['previews']} | {report['at_once']} | {single:.0f} | {np.median(last):.0f} "
            f"| {last.max():.0f} | {soon} of {len(last)} drags |",
        ]
    )


def main() -> None:
    """Measure and write drag.md and drag.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64 x 64 x 16")
    parser.add_argument("--moves", type=int, default=30, help="of each drag")
    parser.add_argument("--drags", type=int, default=30)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "clickseg-benchmarks")
    parser.add_argument("--date", default=f"{datetime.date.today()}", help="as the report gives it")
    options = parser.parse_args()
    shape = QUICK if options.quick else SHAPE
    threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    report: dict[str, Any] = {"machine": machine(threads, options.date), "shape": shape}
    image = write_phantoms(options.cache / "x".join(map(str, shape)), shape=shape)[0]
    (begin,) = positions(image.parents[1] / "labelsTr" / image.name, 1)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="clickseg-drag-") as folder:
        command = [sys.executable, "-m", "clickseg", "serve", "--studies", str(image.parent), "--port", str(port)]
        around = Surroundings(Path(folder), threads)
        with running(command, f"http://127.0.0.1:{port}/info/", around, {}), chromium(options.chromium) as browser:
            page = open_page(browser, f"http://127.0.0.1:{port}/clickseg/")
            page.locator("#labels button", has_text=STRUCTURE).click()
            step = QUICK_STEP if options.quick else STEP
            report |= measure(page, place_of(page, begin), options.moves, options.drags, step)
    say(f"single {report['single_s']}, last {report['last_after_s']}")
    publish("drag", markdown(report), report, options.output)


if __name__ == "__main__":
    main()
