"""How long a click takes over HTTP: clickseg against MONAI Label's own radiology app, in one run on one machine.

    python benchmarks/click_latency.py            the table (DeepEdit alone takes minutes)
    python benchmarks/click_latency.py --quick    a smoke run: a small volume, one warm click, without the peers

Each row has a server process of its own, one at a time, and gets the same clicks on the same CT as OHIF sends them:
all clicks so far or, for a 2D model, those of the current slice; the reply is raw NRRD. The first click is the cold
one. Each warm click is new, in a slice not clicked before. One more asks for the server's own account of its time.
Under the table stands the floor: the bare network, and the bare transfer. Run it in the environment of `make install`.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import requests
import torch

from clickseg.geometry import AxialSlices, Grid, resized_shape
from clickseg.machine import half_precision, keep_freed_memory
from clickseg.methods import load_model
from clickseg.networks import UNet
from clickseg.phantom import LABELS, write_phantoms
from servers import ROOT, Surroundings, files, monai_label, tail, weights

STRUCTURE = "liver"  # that is clicked: DeepEdit has it, and so has the phantom
OHIF = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False, "restore_label_idx": False}
DEEPEDIT = "deepedit"
FLOOR_REPEATS = 10
CLICK_LIMIT_S = 900
NOTES = """\
Cold: the first click after the server has started. The p95 of few clicks is near their maximum.

DeepEdit and DeepGrow 2D are MONAI Label's sample app `radiology` as installed, with random weights (the published ones
would have to be downloaded; time does not depend on them). benchmarks/radiology/main.py, which serves it, hides the
text `image_path` from MONAI 1.6.1's `Spacingd`, without which DeepGrow fails, and stands in for torchvision where that
cannot be imported.
"""


@dataclass
class Row:
    """A model, how many warm clicks it gets, and the seconds that they took. stages: as its server accounts for one."""

    app: str
    model: str
    clicks: int
    cold: float = 0.0
    warm: list[float] = field(default_factory=list)
    reply_bytes: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    failed: str = ""

    @property
    def median(self) -> float:
        """Seconds of a warm click."""
        return float(np.median(self.warm))

    def summary(self, deepedit: Row | None) -> dict[str, Any]:
        """As the JSON has it."""
        named = {"app": self.app, "model": self.model}
        if self.failed:
            return {**named, "failed": self.failed}
        times = {"cold_s": self.cold, "warm_s": self.warm, "median_s": self.median}
        times["p95_s"] = float(np.percentile(self.warm, 95))
        ratio = deepedit.median / self.median if deepedit and not deepedit.failed else None
        more = {"reply_bytes": self.reply_bytes, "stages_s": self.stages, "times_faster_than_deepedit": ratio}
        return {**named, **times, **more}


def say(text: str) -> None:
    """Progress, with the time of day."""
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", flush=True)


def positions(label: Path, number: int) -> list[list[int]]:
    """Voxels of the structure, each in a slice of its own (while there are so many)."""
    mask = np.asarray(nib.load(label).dataobj) == LABELS[STRUCTURE]
    slices = np.flatnonzero(mask.any((0, 1)))
    found = []
    for z in slices[np.linspace(0, len(slices) - 1, number).round().astype(int)]:
        pixels = np.argwhere(mask[:, :, z])
        middle = pixels[np.square(pixels - np.median(pixels, axis=0)).sum(1).argmin()]
        found.append([int(middle[0]), int(middle[1]), int(z)])
    return found


def params(model: Mapping[str, Any], clicks: Sequence[Sequence[int]]) -> dict[str, Any]:
    """What OHIF sends for these clicks, the last of them new, on the structure. model: its entry in /info."""
    if model["dimension"] == 2:
        clicks = [click for click in clicks if click[2] == clicks[-1][2]]
    if model["type"] == "deepgrow":
        return {"foreground": clicks, "background": [], **OHIF}
    names = [name for name in model["labels"] if name != "background"]
    return {"background": [], STRUCTURE if STRUCTURE in names else names[0]: clicks, **OHIF}


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


def click_through(row: Row, image: Path, around: Surroundings) -> None:
    """Start the server of a row, click, and fill the row in; what goes wrong is noted there."""
    places = positions(image.parents[1] / "labelsTr" / image.name, row.clicks + 2)
    try:
        with monai_label(row.app, image.parent, around) as url:
            model = requests.get(f"{url}/info/", timeout=60).json()["models"][row.model]

            def click(number: int, output: str) -> tuple[float, bytes]:
                form = {"params": (None, json.dumps(params(model, places[: number + 1])))}
                query = {"image": image.name.removesuffix(".nii.gz"), "output": output}
                sent: dict[str, Any] = {"params": query, "files": form, "timeout": CLICK_LIMIT_S, "stream": True}
                return timed(lambda: requests.post(f"{url}/infer/{row.model}", **sent))

            for number in range(row.clicks + 1):
                seconds, body = click(number, "image")
                if not body.startswith(b"NRRD"):
                    raise RuntimeError(f"the reply is no NRRD: {body[:80]!r}")
                say(f"  {row.model}: {'warm' if number else 'cold'} click {seconds:.3f} s, {len(body):,} bytes")
                row.reply_bytes = len(body)
                if number:
                    row.warm.append(seconds)
                else:
                    row.cold = seconds
            stages = json.loads(click(row.clicks + 1, "json")[1])["latencies"]
            row.stages = {name: value for name, value in stages.items() if isinstance(value, int | float)}
    except RuntimeError as error:
        row.failed = str(error)
        say(f"  {row.model} failed: {row.failed}\nThe end of the server's log:\n{tail(around.log)}")


def network_alone(image: Path, around: Surroundings) -> float:
    """Seconds (median) of the bare network on one slice of the image, in this process."""
    keep_freed_memory()  # as the server does
    torch.set_num_threads(around.threads)
    header = nib.load(image)
    model, slices = load_model(weights(around.folder)), AxialSlices(Grid(header.shape, header.affine))
    shape = [n + -n % UNet.divisor for n in resized_shape(slices.shape, slices.spacing, model.recipe.spacing)]
    channels = next(model.segmenter.network.parameters()).shape[1]
    x = torch.randn(1, channels, *shape, generator=torch.Generator().manual_seed(0))
    x = x.to(memory_format=torch.channels_last)
    seconds = []
    with torch.inference_mode(), half_precision("cpu"):
        for _ in range(1 + FLOOR_REPEATS):
            begin = time.perf_counter()
            model.segmenter.network(x)
            seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds[1:]))


def transfer_alone(size: int, around: Surroundings) -> float:
    """Seconds (median) for so many bytes from Python's own file server over loopback HTTP."""
    folder = around.folder / "files"
    folder.mkdir(exist_ok=True)
    (folder / "reply.nrrd").write_bytes(bytes(size))
    with files(folder, around) as url:
        get = [timed(lambda: requests.get(f"{url}/reply.nrrd", stream=True)) for _ in range(1 + FLOOR_REPEATS)]
    return float(np.median([seconds for seconds, _ in get[1:]]))


def machine(threads: int, date: str) -> dict[str, Any]:
    """What the numbers depend on."""
    info = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = [line.split(":", 1)[1].strip() for line in info if line.startswith("model name")]
    commit, changes = (
        subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
        for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--", "apps", "benchmarks/*.py"])
    )
    return {
        "date": date,
        "commit": commit + (" with changes" if changes else ""),
        "cpu": (cpu or [platform.processor()])[0],
        "cores": os.cpu_count(),
        "threads": threads,
        "load_before": round(os.getloadavg()[0], 2),
        **{name: importlib.metadata.version(name) for name in ("torch", "monai", "monailabel")},
    }


def markdown(report: Mapping[str, Any]) -> str:
    """The report for people."""
    m, floor = report["machine"], report["floor"]
    lines = [
        "# Click latency",
        "",
        f"A click over HTTP on a CT of {' x '.join(map(str, report['shape']))} voxels (a phantom, .nii.gz). "
        f"{m['cpu']}: {m['cores']} cores, {m['threads']} threads, load before {m['load_before']}. torch {m['torch']}, "
        f"monai {m['monai']}, monailabel {m['monailabel']}. {m['date']}, commit {m['commit']}.",
        "",
        "| model | cold, s | warm: median, s | p95, s | clicks | reply, MB | in the server, s | DeepEdit takes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        cells = [f"{row['model']} ({row['app']})"]
        if "failed" in row:
            cells += [f"failed: {row['failed'].splitlines()[0]}", *[""] * 6]
        else:
            cells += [
                f"{row['cold_s']:.2f}",
                f"**{row['median_s']:.3f}**",
                f"{row['p95_s']:.3f}",
                f"{len(row['warm_s'])}",
            ]
            cells += [f"{row['reply_bytes'] / 1e6:.1f}"]
            cells += [", ".join(f"{name} {seconds:.3g}" for name, seconds in row["stages_s"].items())]
            ratio = row["times_faster_than_deepedit"]
            cells += [f"{ratio:.1f} times as long" if ratio else ""]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"Floor: the network of `unet2d` alone, one slice, {floor['network_s']:.3f} s; "
        f"a reply of {floor['reply_bytes'] / 1e6:.1f} MB alone, {floor['transfer_s']:.3f} s.",
    ]
    return "\n".join([*lines, "", NOTES])


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every row was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64 x 64 x 16, one warm click, without the peers")
    parser.add_argument("--clicks", type=int, default=5, help="warm clicks for the models of clickseg")
    parser.add_argument("--output", type=Path, help="folder for click_latency.md and .json (benchmarks/results)")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "clickseg-benchmarks")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    parser.add_argument("--start-limit", type=float, default=300.0, help="seconds that a server may take to start")
    parser.add_argument("--date", default=f"{datetime.date.today()}", help="as the report gives it")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else nobody would end the server
    report = {"schema": 1, "machine": machine(options.threads, options.date)}
    shape = (64, 64, 16) if options.quick else (512, 512, 100)
    rows = [Row("clickseg", "unet2d", 1 if options.quick else options.clicks)]
    if not options.quick:
        rows += [Row("clickseg", "unet2d_labels", options.clicks)]
        rows += [Row("radiology", "deepgrow_2d", 3), Row("radiology", DEEPEDIT, 2)]
    say(f"making a CT of {shape} voxels, unless it is there")
    image = write_phantoms(options.cache / "x".join(map(str, shape)), shape=shape)[0]
    with tempfile.TemporaryDirectory(prefix="clickseg-latency-") as folder:
        around = Surroundings(Path(folder), options.threads, options.start_limit)
        for row in rows:
            say(f"starting a server for {row.model} ({row.app})")
            click_through(row, image, around)
        size = rows[0].reply_bytes
        floor = {"network_s": network_alone(image, around), "transfer_s": transfer_alone(size, around)}
    deepedit = next((row for row in rows if row.model == DEEPEDIT), None)
    report |= {"shape": shape, "rows": [row.summary(deepedit) for row in rows], "floor": {**floor, "reply_bytes": size}}
    output = options.output or (options.cache / "quick" if options.quick else ROOT / "benchmarks/results")
    output.mkdir(parents=True, exist_ok=True)
    (output / "click_latency.json").write_text(json.dumps(report, indent=2) + "\n")
    (output / "click_latency.md").write_text(markdown(report))
    print(markdown(report))
    return any(row.failed for row in rows)


if __name__ == "__main__":
    sys.exit(main())
