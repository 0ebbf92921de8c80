"""How long a click takes over HTTP: clickseg against MONAI Label's own radiology app and others, in one run.

    python benchmarks/click_latency.py                   the whole table: an hour on two cores (DeepEdit takes most)
    python benchmarks/click_latency.py --ours            without the rivals: some minutes
    python benchmarks/click_latency.py --quick           a smoke run: a small volume, one warm click, without the rivals
    python benchmarks/click_latency.py --peers FOLDER    with SAM2 and nnInteractive from the environments in FOLDER

Each row has a server process of its own, one at a time, and gets the same clicks on the same CT as OHIF sends them:
all clicks so far or, for a 2D model, those of the current slice. Cold clicks are the first on their image: the first of
all with a server that has just started, the others on copies. Every warm click is a new voxel, in a slice not clicked
before while there is one. Each kind of reply is asked for: OHIF's raw NRRD, NRRD with gzip, and .nii.gz, which is what
MONAI Label's Python client asks for. After each click another one asks for the server's own account of its time.

The floor under it: the bare network, before and after the row of `unet2d`, and an app whose mask lies ready.
Peers run in processes of their own, without HTTP (benchmarks/peers/README.md). Run this in the environment of
`make install`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import requests

from click_table import markdown
from clickseg.geometry import Grid
from clickseg.images import read_volume
from clickseg.phantom import LABELS, write_phantoms
from floors import network_alone, write_ready_masks
from publish import machine, publish
from servers import ROOT, Surroundings, monai_label, tail

STRUCTURE = "liver"  # that is clicked: DeepEdit has it, and so has the phantom
OHIF = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False, "restore_label_idx": False}
REPLIES = {"raw": OHIF, "gzip": {**OHIF, "result_compress": True}, "nii.gz": {**OHIF, "result_extension": ".nii.gz"}}
SHAPES = ((512, 512, 50), (512, 512, 100), (512, 512, 300))
CLICK_LIMIT_S = 900
PEERS = ("sam2", "nninteractive")


@dataclass
class Reply:
    """Of one kind: seconds of warm clicks, bytes, and the server's own account of its time (medians)."""

    warm_s: list[float] = field(default_factory=list)
    bytes: int = 0
    stages_s: dict[str, float] = field(default_factory=dict)


@dataclass
class Row:
    """A model on a CT, how many warm clicks of each kind and first clicks it gets, and what came of them."""

    app: str
    model: str
    shape: Sequence[int]
    clicks: int
    colds: int
    cold_s: list[float] = field(default_factory=list)
    cold_stages_s: dict[str, float] = field(default_factory=dict)
    replies: dict[str, Reply] = field(default_factory=dict)
    failed: str = ""


def say(text: str) -> None:
    """Progress, with the time of day."""
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", flush=True)


def positions(label: Path, number: int) -> list[list[int]]:
    """Different voxels of the structure, each in a slice of its own while there are so many."""
    mask = np.asarray(nib.load(label).dataobj) == LABELS[STRUCTURE]
    sizes, found = mask.sum((0, 1)), []
    for rank in range(0, mask.size, 7):  # from the middle outwards
        slices = np.flatnonzero(sizes > rank)
        count = min(len(slices), number - len(found))
        for z in slices[np.linspace(0, len(slices) - 1, count).round().astype(int)]:
            pixels = np.argwhere(mask[:, :, z])
            nearest = np.square(pixels - np.median(pixels, axis=0)).sum(1).argsort(kind="stable")
            found.append([int(index) for index in (*pixels[nearest[rank]], z)])
        if len(found) == number:
            return found
    raise ValueError(f"{label.name} has fewer than {number} places to click on")


def params(
    model: Mapping[str, Any], clicks: Sequence[Sequence[int]], reply: Mapping[str, Any] = OHIF
) -> dict[str, Any]:
    """What OHIF sends for these clicks, the last of them new, on the structure. model: its entry in /info."""
    if model["dimension"] == 2:
        clicks = [click for click in clicks if click[2] == clicks[-1][2]]
    if model["type"] == "deepgrow":
        return {"foreground": clicks, "background": [], **reply}
    names = [name for name in model["labels"] if name != "background"]
    return {"background": [], STRUCTURE if STRUCTURE in names else names[0]: clicks, **reply}


def timed(send: Callable[[], requests.Response]) -> tuple[float, bytes]:
    """Seconds until the whole body of a streamed answer is here, and the body. RuntimeError if it is not 200."""
    begin = time.perf_counter()
    try:
        with send() as response:
            body = response.raw.read(decode_content=True)  # at once: `content` gathers pieces of 10 KB
    except requests.RequestException as error:
        raise RuntimeError(f"no answer after {time.perf_counter() - begin:.0f} s: {error}") from error
    seconds = time.perf_counter() - begin
    if response.status_code != 200:
        raise RuntimeError(f"HTTP {response.status_code}: {body[:300].decode(errors='replace')}")
    return seconds, body


@dataclass
class Clicker:
    """Somebody who clicks on the structure of one image after another. model: its name. entry: that in /info."""

    url: str
    model: str
    entry: Mapping[str, Any]
    places: Sequence[Sequence[int]]
    done: int = 0

    def click(self, image: str, reply: Mapping[str, Any], output: str = "image") -> tuple[float, bytes]:
        """Seconds and body of the answer to all clicks so far and a new one."""
        self.done += 1
        form = {"params": (None, json.dumps(params(self.entry, self.places[: self.done], reply)))}
        sent: dict[str, Any] = {"params": {"image": image, "output": output}, "files": form, "timeout": CLICK_LIMIT_S}
        return timed(lambda: requests.post(f"{self.url}/infer/{self.model}", stream=True, **sent))

    def account(self, image: str, reply: Mapping[str, Any]) -> dict[str, float]:
        """How the server says that its time went in such a click, by stage."""
        return stages(json.loads(self.click(image, reply, "json")[1])["latencies"])


def stages(latencies: Mapping[str, Any]) -> dict[str, float]:
    """A server's account in one language; that of MONAI Label's tasks has it by transform."""
    if "pre" not in latencies:
        return {name: seconds for name, seconds in latencies.items() if isinstance(seconds, int | float)}
    read = sum(seconds for name, seconds in latencies["transform"]["pre"].items() if name.startswith("LoadImage"))
    before, after = latencies["pre"] - read, latencies["invert"] + latencies["post"]
    account = {"read": read, "preprocess": before, "decode": latencies["infer"], "map_back": after}
    return {**account, "write": latencies["write"], "total": latencies["total"]}


def medians(accounts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each stage."""
    names = dict.fromkeys(name for account in accounts for name in account)
    return {name: float(np.median([account.get(name, 0.0) for account in accounts])) for name in names}


def click_through(row: Row, image: Path, kinds: Sequence[str], around: Surroundings) -> None:
    """Start the server of a row, click, and fill the row in; what goes wrong is noted there."""
    studies = around.folder / "studies" / "x".join(map(str, row.shape))
    names = [f"ct_{number}" for number in range(row.colds + 1)]
    studies.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(image, studies / f"{name}.nii.gz")  # a link would be known as the same image
    label = image.parents[1] / "labelsTr" / image.name
    places = positions(label, row.colds + 1 + 2 * row.clicks * len(kinds))
    try:
        with monai_label(row.app, studies, around) as url:
            entry = requests.get(f"{url}/info/", timeout=60).json()["models"][row.model]
            user = Clicker(url, row.model, entry, places)
            row.cold_s = [user.click(name, REPLIES[kinds[0]])[0] for name in names[1:]]
            row.cold_stages_s = user.account(names[0], REPLIES[kinds[0]])
            say(f"  {row.model}: cold {[round(seconds, 2) for seconds in row.cold_s]} s")
            for kind in kinds:
                reply, accounts = row.replies.setdefault(kind, Reply()), []
                for _ in range(row.clicks):
                    seconds, body = user.click(names[0], REPLIES[kind])
                    if not body.startswith(b"\x1f\x8b" if kind == "nii.gz" else b"NRRD"):
                        raise RuntimeError(f"the reply is not what was asked for, {kind}: {body[:80]!r}")
                    reply.warm_s.append(seconds)
                    reply.bytes = len(body)
                    accounts.append(user.account(names[0], REPLIES[kind]))
                reply.stages_s = medians(accounts)
                say(f"  {row.model}: {kind}, {np.median(reply.warm_s):.3f} s, {reply.bytes:,} bytes")
    except RuntimeError as error:
        row.failed = str(error)
        say(f"  {row.model} failed: {row.failed}\nThe end of the server's log:\n{tail(around.log)}")


def click_in_process(row: Row, image: Path, around: Surroundings, peers: Path | None) -> None:
    """The row of a peer that has an environment of its own; what goes wrong is noted there."""
    script = ROOT / f"benchmarks/peers/{row.model}_clicks.py"
    if peers is None or not (peers / row.model / "bin/python").exists():
        row.failed = "no environment for it was given (benchmarks/peers/README.md, --peers)"
        return
    places = positions(image.parents[1] / "labelsTr" / image.name, row.colds + row.clicks)
    command = [str(peers / row.model / "bin/python"), str(script), str(image), json.dumps(places), str(row.colds)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(around.threads), "PYTHONPATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=around.folder)
    if done.returncode:
        row.failed = done.stderr.strip().splitlines()[-1]
        say(f"  {row.model} failed:\n{done.stderr[-3000:]}")
        return
    found = json.loads(done.stdout.splitlines()[-1])
    row.cold_s, row.cold_stages_s = found["cold_s"], found["cold_stages_s"]
    row.replies = {"array": Reply(found["warm_s"], 0, found["stages_s"])}
    say(f"  {row.model}: cold {row.cold_s}, warm {row.replies['array'].warm_s}")


def one_slice(image: Path) -> tuple[np.ndarray, Grid]:
    """A mask of the structure in one slice, and its grid."""
    path = image.parents[1] / "labelsTr" / image.name
    label, grid = read_volume(path)
    mask = np.zeros(grid.shape, np.uint8, order="F")
    ((*_, number),) = positions(path, 1)
    mask[:, :, number] = label[:, :, number] == LABELS[STRUCTURE]
    return mask, grid


def rows_of(shape: Sequence[int], options: argparse.Namespace) -> list[Row]:
    """What is measured on a CT of this shape, in this order."""
    clicks = 1 if options.quick else options.clicks
    rows = [
        Row("ready", "ready", shape, clicks, 1),
        Row("clickseg", "unet2d", shape, clicks, 1 if options.quick else 3),
    ]
    if options.quick:
        return rows
    rows += [Row("clickseg", "unet2d_labels", shape, clicks, 3), Row("clickseg", "tis_random", shape, 3, 1)]
    if options.ours or (options.rivals_slices and shape[2] not in options.rivals_slices):
        return rows
    rows += [Row("radiology", "deepgrow_2d", shape, 3, 2), Row("radiology", "deepgrow_3d", shape, 2, 1)]
    return [*rows, Row("radiology", "deepedit", shape, 1, 1), *(Row("peer", peer, shape, 2, 1) for peer in PEERS)]


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every row was measured, those of peers without an environment left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64 x 64 x 16, one warm click, without the rivals")
    parser.add_argument("--ours", action="store_true", help="without the rivals")
    parser.add_argument("--clicks", type=int, default=10, help="warm clicks of each kind of reply for our 2D models")
    parser.add_argument("--slices", type=int, nargs="+", help="of the CTs (50 100 300)")
    parser.add_argument("--rivals-slices", type=int, nargs="+", help="of the CTs on which the rivals are run (all)")
    parser.add_argument("--peers", type=Path, help="folder with the environments sam2 and nninteractive")
    parser.add_argument("--output", type=Path, help="folder for click_latency.md and .json (benchmarks/results)")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "clickseg-benchmarks")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    parser.add_argument("--start-limit", type=float, default=300.0, help="seconds that a server may take to start")
    parser.add_argument("--date", default=f"{datetime.date.today()}", help="as the report gives it")
    parser.add_argument("--note", default="", help="a sentence for the report, such as what else ran on the machine")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else nobody would end the server
    report: dict[str, Any] = {"schema": 2, "machine": machine(options.threads, options.date), "note": options.note}
    shapes = [(64, 64, 16)] if options.quick else SHAPES
    if options.slices:
        shapes = [(512, 512, slices) for slices in options.slices]
    rows, networks = [], []
    with tempfile.TemporaryDirectory(prefix="clickseg-latency-") as folder:
        around = Surroundings(Path(folder), options.threads, options.start_limit)
        for shape in shapes:
            say(f"making a CT of {shape} voxels, unless it is there")
            image = write_phantoms(options.cache / "x".join(map(str, shape)), shape=shape)[0].resolve()
            write_ready_masks(around.folder / "ready", *one_slice(image), REPLIES)
            for row in rows_of(shape, options):
                say(f"{row.model} ({row.app}) on {shape}")
                before = network_alone(image, around)
                if row.app == "peer":
                    click_in_process(row, image, around, options.peers)
                else:
                    click_through(row, image, list(REPLIES), around)
                rows.append(row)
                if row.model == "unet2d":
                    networks.append((before + network_alone(image, around)) / 2)
    report |= {"shapes": shapes, "rows": [asdict(row) for row in rows], "network_s": networks}
    output = options.output or (options.cache / "quick" if options.quick else ROOT / "benchmarks/results")
    publish("click_latency", markdown(report), report, output)
    return any(row.failed for row in rows if row.app != "peer")


if __name__ == "__main__":
    sys.exit(main())
