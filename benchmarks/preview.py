"""What a live preview costs beside the bare network, and whether others are answered meanwhile.

    python benchmarks/preview.py [--previews 40] [--output benchmarks/results]
    python benchmarks/preview.py --quick --output FOLDER    a smoke run on a small volume

A click is dragged over the liver of a phantom CT, every position a new one; the client waits for each answer. The
network alone runs in this process with as many threads, before each preview that counts, so that both know the same
machine: other processes of a shared one come and go.
`/info` is asked for while two annotators drag. The reply is decoded before the clock stops.
"""

from __future__ import annotations

import argparse
import datetime
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import requests

from click_latency import positions, say
from clickseg.client import PreviewClient
from clickseg.phantom import write_phantoms
from floors import bare_network
from publish import machine, publish
from servers import ROOT, Surroundings, monai_label

SHAPES = ((512, 512, 100), (512, 512, 300))
QUICK = ((64, 64, 16),)
WARM_UP = 3
REST_S = 0.2  # until the threads of the network in this process no longer wait for work on the processors


def drag(
    client: PreviewClient, begin: Sequence[int], previews: int, before: Callable[[], None] = lambda: None
) -> list[float]:
    """Seconds of each preview, of a click that moves by a voxel each time. before: called before each."""
    seconds = []
    for step in range(WARM_UP + previews):
        click = [begin[0] + step % 20, begin[1] + step // 20, begin[2]]
        before()
        start = time.perf_counter()
        client.preview({"foreground": [click]})
        seconds.append(time.perf_counter() - start)
    return seconds[WARM_UP:]


def ask_for_info(url: str, done: threading.Event) -> list[float]:
    """Seconds of GET /info/, again and again until `done`."""
    seconds = []
    with requests.Session() as session:
        while not done.is_set():
            start = time.perf_counter()
            session.get(f"{url}/info/", timeout=60).raise_for_status()
            seconds.append(time.perf_counter() - start)
            time.sleep(0.05)
    return seconds


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median and p95."""
    return {"median_s": float(np.median(seconds)), "p95_s": float(np.percentile(seconds, 95))}


def measure(shape: tuple[int, int, int], previews: int, around: Surroundings, cache: Path) -> dict[str, Any]:
    """One row: a server of its own on a CT of this shape."""
    image = write_phantoms(cache / "x".join(map(str, shape)), shape=shape)[0]
    (begin,) = positions(image.parents[1] / "labelsTr" / image.name, 1)
    forward, alone = bare_network(image, around), list[float]()

    def run_network() -> None:
        time.sleep(REST_S)
        alone.append(forward())
        time.sleep(REST_S)

    with monai_label("clickseg", image.parent, around) as url:
        name = image.name.removesuffix(".nii.gz")
        clients = [PreviewClient(url, "unet2d", name) for _ in range(2)]
        seconds = drag(clients[0], begin, previews, run_network)
        done, answered = threading.Event(), []
        asking = threading.Thread(target=lambda: answered.extend(ask_for_info(url, done)))
        other = threading.Thread(target=drag, args=(clients[1], [*begin[:2], begin[2] + 1], previews))
        asking.start()
        other.start()
        drag(clients[0], [begin[0], begin[1] + 10, begin[2]], previews)
        other.join()
        done.set()
        asking.join()
    network = float(np.median(alone[WARM_UP:]))
    row = {"shape": shape, "network_s": network, "preview": quantiles(seconds), "info": quantiles(answered)}
    say(f"{shape}: network {network:.3f} s, preview {row['preview']}, /info of two annotators {row['info']}")
    return row


def markdown(report: Mapping[str, Any]) -> str:
    """The report for people."""
    m = report["machine"]
    lines = [
        "# Live previews",
        "",
        f"`unet2d`, a dragged click, {report['previews']} previews over HTTP. {m['cpu']}: {m['cores']} cores, "
        f"{m['threads']} threads, load before {m['load_before']}. "
        f"torch {m['torch']}. {m['date']}, commit {m['commit']}.",
        "",
        "| CT | network alone, ms | preview: median, ms | p95, ms | 1.3 x network + 10 ms "
        "| /info beside two annotators: p95, ms |",
        "|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        wanted = 1.3 * row["network_s"] + 0.01
        numbers = row["network_s"], row["preview"]["median_s"], row["preview"]["p95_s"], wanted, row["info"]["p95_s"]
        cells = [" x ".join(map(str, row["shape"])), *(f"{1000 * seconds:.0f}" for seconds in numbers)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and write preview.md and preview.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64 x 64 x 16")
    parser.add_argument("--previews", type=int, default=40)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "clickseg-benchmarks")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    parser.add_argument("--date", default=f"{datetime.date.today()}", help="as the report gives it")
    options = parser.parse_args()
    report: dict[str, Any] = {"schema": 1, "machine": machine(options.threads, options.date)}
    with tempfile.TemporaryDirectory(prefix="clickseg-preview-") as folder:
        around = Surroundings(Path(folder), options.threads)
        shapes = QUICK if options.quick else SHAPES
        report["rows"] = [measure(shape, options.previews, around, options.cache) for shape in shapes]
    report["previews"] = options.previews
    publish("preview", markdown(report), report, options.output)


if __name__ == "__main__":
    main()
