"""A stranger's walk, with a clock: from `git clone` to the first organ, on the page and in OHIF.

    python benchmarks/walk.py [--source URL_OR_FOLDER] [--output benchmarks/results]

Clones into a folder that is removed afterwards, does there what the README says, and drives a headless Chromium as a
person would. How long the installation takes is a matter of the network and the disk, too. OHIF is left out where
Orthanc is not installed.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, Response

from browser import chromium, open_page, place_of
from clickseg.archive import PLUGIN
from clickseg.clicks.users import innermost
from clickseg.images import read_volume
from clickseg.metrics import dice
from clickseg.phantom import LABELS, phantom
from publish import machine, publish
from servers import ROOT, answers, free_port

ORGAN = "left kidney"
VOXELS = """(label) => {
    const editor = clickseg.editor(), value = editor.labels.value(label), voxels = [];
    editor.frame.sourceOrder(editor.map).forEach((one, at) => one === value && voxels.push(at));
    return voxels;
}"""

GROWN = """() => {
    const { display, map } = clickseg.editor();
    return display.some((one, at) => one && !map[at]);
}"""


class Walk:
    """Steps and how long each took (s)."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self._begin = time.monotonic()

    def step(self, what: str, see: Callable[[], str] = str) -> None:
        """The end of a step, and what was seen there: looking at it takes no time of any step."""
        seconds = time.monotonic() - self._begin
        self.steps.append({"step": what, "seconds": round(seconds, 1), "seen": see()})
        print(f"{seconds:7.1f} s  {what}  {self.steps[-1]['seen']}", flush=True)
        self._begin = time.monotonic()


@contextlib.contextmanager
def made(target: str, clone: Path, arguments: str, ready: str) -> Iterator[Path]:
    """`make TARGET` until it is interrupted, from its first answer at `ready` on. Its log."""
    log = clone.parent / f"{target}.log"
    environment = {name: value for name, value in os.environ.items() if name not in ("VENV", "PYTHONPATH")}
    with log.open("w") as file:
        child = subprocess.Popen(
            ["make", target, f"ARGS={arguments}"],
            cwd=clone, env=environment | {"HOME": str(clone.parent)}, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    try:
        while not answers(ready):
            if child.poll() is not None:
                raise RuntimeError(f"make {target} ended:\n{log.read_text()[-2000:]}")
            time.sleep(0.5)
        yield log
    finally:
        os.killpg(child.pid, 2)
        child.wait(120)


def walk_page(clone: Path, browser: Browser, pictures: Path) -> list[dict[str, Any]]:
    """`make serve`, the page, an organ by one click and propagation, saved."""
    walk, port = Walk(), free_port()
    truth = phantom(seed=0).label == LABELS[ORGAN]
    number = int(truth.sum((0, 1)).argmax())
    with made("serve", clone, f"--port {port}", f"http://127.0.0.1:{port}/info/"):
        walk.step("`make serve`, until it answers", lambda: "installation and sample study included")
        page = open_page(browser, f"http://127.0.0.1:{port}/clickseg/")
        walk.step("the page is opened", page.locator("#study-name").inner_text)
        page.locator("#labels button", has_text=ORGAN).click()
        place = place_of(page, [*innermost(truth[..., number]), number])
        walk.step("an organ is looked for", lambda: f"{ORGAN} (the time of a script, not of a person)")
        page.mouse.click(*place)
        page.evaluate("clickseg.editor().idle()")
        walk.step(
            "one click", lambda: f"Dice {dice(_shown(page, truth)[..., number], truth[..., number]):.3f} of the slice"
        )
        page.keyboard.press("p")
        page.wait_for_function(GROWN)
        walk.step("*Propagate*, until a further slice is seen")
        page.evaluate("clickseg.editor().idle()")
        walk.step("until the structure ends", lambda: f"Dice {dice(_shown(page, truth), truth):.3f} of the organ")
        page.screenshot(path=str(pictures / "walk_page.png"))
        page.locator("#accept").click()
        page.locator("#status", has_text="is saved").wait_for()
        walk.step("*Accept and save*")
    return walk.steps


def _shown(page: Page, truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The page's mask of the organ, in the order of the file."""
    mask = np.zeros(truth.size, bool)
    mask[page.evaluate(VOXELS, ORGAN)] = True
    return mask.reshape(truth.shape, order="F")


def walk_ohif(clone: Path, browser: Browser, pictures: Path) -> list[dict[str, Any]]:
    """`make demo-ohif`, the viewer, one click, Run."""
    walk, port = Walk(), free_port()
    truth = np.flip(phantom(seed=0).label == LABELS[ORGAN], (0, 1))  # LPS, as the viewer has it
    arguments = f"--port {port} --archive-port {free_port()}"
    with made("demo-ohif", clone, arguments, f"http://127.0.0.1:{port}/info/") as log:
        walk.step("`make demo-ohif`, until it answers", lambda: "after `make serve`: nothing is installed again")
        (address,) = set(re.findall(r"http\S+StudyInstanceUIDs=\S+", log.read_text()))
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.set_default_timeout(300_000)
        page.goto(address, wait_until="domcontentloaded")
        server = page.locator("#monailabelServerURL")
        server.wait_for()
        page.wait_for_timeout(9000)  # the viewports announce themselves in no other way
        if page.get_by_text("Confirm and Hide").count():
            page.get_by_text("Confirm and Hide").click()
        walk.step("OHIF shows the study", lambda: "nine seconds of which are waited, to be sure")
        server.fill(f"http://127.0.0.1:{port}/")
        page.locator(".settingsTable button.actionButton").first.click()
        page.locator("label.tab-label", has_text="Point Prompts").click()
        page.locator("select.selectBox").filter(has=page.locator('option[value="unet2d"]')).first.select_option(
            "unet2d"
        )
        page.wait_for_timeout(1000)
        page.locator("tr.clickable-row", has_text=re.compile(f"^{ORGAN}$")).first.click()
        page.wait_for_timeout(500)
        walk.step("server, Point Prompts, `unet2d`, a label", lambda: ORGAN)
        page.mouse.click(*_place_in_ohif(page, truth[..., truth.shape[2] // 2]))
        page.wait_for_timeout(500)
        with page.expect_response(lambda response: "/infer/" in response.url) as caught:
            page.locator('button.actionButton[title="Run PointPrompts"]').first.click()
        walk.step("one click and *Run*", lambda: _answered(caught.value, truth, log.parent))
        page.wait_for_timeout(2500)
        page.screenshot(path=str(pictures / "walk_ohif.png"))
    return walk.steps


def _answered(reply: Response, truth: NDArray[np.bool_], folder: Path) -> str:
    """What a reply to one click is worth."""
    (folder / "reply.nrrd").write_bytes(reply.body())
    mask = read_volume(folder / "reply.nrrd")[0] > 0
    (number,) = np.flatnonzero(mask.any((0, 1)))
    return f"HTTP {reply.status}, Dice {dice(mask[..., number], truth[..., number]):.3f} of the slice"


def _place_in_ohif(page: Page, truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Where on the screen the innermost point of an organ (L, P) lies in the slice that OHIF opens a study with."""
    box = page.locator(".cornerstone-viewport-element").first.bounding_box()
    assert box is not None
    pixel = min(box["width"], box["height"]) / max(truth.shape) / 1.1  # fitted into the view, with a margin
    i, j = (index + 0.5 - count / 2 for index, count in zip(innermost(truth), truth.shape, strict=True))
    return box["x"] + box["width"] / 2 + i * pixel, box["y"] + box["height"] / 2 + j * pixel


def markdown(record: dict[str, Any]) -> str:
    """The report for people."""
    lines = ["# A stranger's walk", "", f"{record['cpu']}, {record['cores']} cores, no GPU, {record['date']}."]
    for title, steps in record["walks"].items():
        total = sum(step["seconds"] for step in steps)
        lines += ["", f"## {title}: {total:.0f} s", "", "| step | seconds | |", "|---|---|---|"]
        lines += [f"| {step['step']} | {step['seconds']} | {step['seen']} |" for step in steps]
    return "\n".join(lines)


def main() -> None:
    """Walk."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default=str(ROOT), help="what is cloned")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    record = machine(os.cpu_count() or 1, datetime.datetime.now(datetime.UTC).date().isoformat())
    with tempfile.TemporaryDirectory(prefix="clickseg-walk-") as folder, chromium(arguments.chromium) as browser:
        clone, pictures = Path(folder) / "clickseg", arguments.output or Path(folder)
        begin = Walk()
        subprocess.run(["git", "clone", "-q", arguments.source, clone], check=True)
        begin.step("`git clone`")
        walks = {"The page": begin.steps + walk_page(clone, browser, pictures)}
        if PLUGIN.exists():
            walks["OHIF"] = walk_ohif(clone, browser, pictures)
    record["walks"] = walks
    publish("walk", markdown(record), record, arguments.output)


if __name__ == "__main__":
    main()
