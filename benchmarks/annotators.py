"""Several annotators on one server, a cache smaller than what they work on, and a training beside them.

    python benchmarks/annotators.py [--annotators 16] [--minutes 10] [--output benchmarks/results]

Each annotator clicks through studies in an order of its own with MONAI Label's Python client: one click more each time,
inside a random organ or beside it, then the next study. The server keeps open images in less memory than all of them
need, and trains on some of them all the while. Every mask is compared, voxel by voxel, with the answer that the library
gives to the same clicks alone, computed beforehand. Memory: the most that the server's process had beyond what it had
after its first click, against the bound.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import torch
from monailabel.client import MONAILabelClient

from click_latency import say
from clickseg.clicks import Click, wire
from clickseg.images import read_volume
from clickseg.phantom import write_phantoms
from clickseg.sessions import SessionCache
from publish import machine, publish
from servers import Surroundings, monai_label, weights

MODEL = "unet2d"
CLICKS = 4  # on a study, before the annotator goes on to the next
TRAINED_ON = 2  # studies
WISH = {"result_extension": ".nii.gz", "result_dtype": "uint8"}


@dataclass(frozen=True)
class Task:
    """The clicks on a study, one after another, and for each number of them the mask's digest."""

    image: str
    clicks: Sequence[Click]
    answers: Sequence[bytes]


@dataclass
class Tally:
    """What the annotators met with."""

    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def digest(mask: np.ndarray) -> bytes:
    """Of the voxels and the shape."""
    return hashlib.sha256(repr(mask.shape).encode() + np.asfortranarray(mask, np.uint8).tobytes(order="F")).digest()


def some_clicks(label: np.ndarray, generator: np.random.Generator) -> list[Click]:
    """In the slices of a random organ, the first inside it, the others in or beside it in the same or another slice."""
    values = [value for value in np.unique(label) if value]
    inside = np.argwhere(label == generator.choice(values))
    clicks = [Click(tuple(generator.choice(inside).tolist()), 1)]
    while len(clicks) < CLICKS:
        i, j, k = generator.choice(inside).tolist()
        if generator.random() < 0.3:
            i, j = (int(generator.integers(0, count)) for count in label.shape[:2])
        clicks.append(Click((i, j, k), int(label[i, j, k] == label[tuple(clicks[0].position)])))
    return clicks


def prepare(images: Sequence[Path], around: Surroundings, per_image: int) -> tuple[list[Task], int]:
    """Tasks with the answers of the library, one after the other in this process, and the bytes of all sessions."""
    torch.set_num_threads(around.threads)
    generator, tasks, working_set = np.random.default_rng(0), [], 0
    for image in images:
        label, _ = read_volume(image.parents[1] / "labelsTr" / image.name)
        session = SessionCache(max_bytes=0).open(image, weights(around.folder))
        working_set += session.bytes
        for _ in range(per_image):
            clicks = some_clicks(label, generator)
            requests = [wire.dump_structure(clicks[: count + 1]) for count in range(len(clicks))]
            answers = [digest(session.predict(wire.parse_structure(request))) for request in requests]  # in its order
            tasks.append(Task(image.name.removesuffix(".nii.gz"), clicks, answers))
    return tasks, working_set


def annotate(url: str, tasks: Sequence[Task], seed: int, pause: float, done: threading.Event, tally: Tally) -> None:
    """One annotator, until `done`."""
    generator = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="clickseg-annotator-") as folder:
        client = MONAILabelClient(url, folder)
        while not done.is_set():
            task = tasks[generator.integers(len(tasks))]
            for count, answer in enumerate(task.answers, start=1):
                request = {**wire.dump_structure(task.clicks[:count]), **WISH}
                begin = time.perf_counter()
                try:
                    path, _ = client.infer(MODEL, task.image, request)
                    tally.seconds.append(time.perf_counter() - begin)
                    if digest(np.asarray(nib.load(path).dataobj)) != answer:
                        tally.wrong.append(f"{task.image} {task.clicks[:count]}")
                    Path(path).unlink()
                except Exception as error:  # whatever it is, it counts
                    tally.errors.append(f"{task.image} {task.clicks[:count]}: {error!r}")
                if done.wait(generator.exponential(pause)):
                    return


class Memory(threading.Thread):
    """Watches the server: the most of its resident memory in bytes, and the niceness of the training beside it."""

    def __init__(self, server: psutil.Process) -> None:
        super().__init__(daemon=True)
        self._server = server
        self.most, self.niceness = 0, 0
        self.end = threading.Event()

    def run(self) -> None:
        while not self.end.wait(0.5):
            self.most = max(self.most, self._server.memory_info().rss)
            for child in self._server.children():
                if "train" in child.cmdline():
                    self.niceness = child.nice()


def lay_out(images: Sequence[Path], folder: Path) -> Path:
    """A datastore with these studies, some of which are labelled."""
    (folder / "labels/final").mkdir(parents=True)
    for image in images:
        shutil.copy(image, folder)
    for image in images[:TRAINED_ON]:
        shutil.copy(image.parents[1] / "labelsTr" / image.name, folder / "labels/final")
    return folder


def measure(options: argparse.Namespace, around: Surroundings) -> dict[str, Any]:
    """The run."""
    shape = tuple(options.shape)
    folder = options.cache / f"{options.studies}x{'x'.join(map(str, shape))}"
    images = write_phantoms(folder, cases=options.studies, shape=shape)
    say("computing the answers one by one")
    tasks, working_set = prepare(images, around, options.tasks)
    conf = {"models": "unet2d", "cache_gb": str(options.cache_mb / 2**10)}
    tally, done = Tally(), threading.Event()
    with monai_label("clickseg", lay_out(images, around.folder / "studies"), around, conf) as url:
        (server,) = psutil.Process().children()
        client = MONAILabelClient(url, str(around.folder))
        client.infer(MODEL, tasks[0].image, {**wire.dump_structure(tasks[0].clicks), **WISH})
        idle = server.memory_info().rss
        memory = Memory(server)
        memory.start()
        client.train_start(MODEL, {"max_epochs": 10**6, "name": "beside"})
        given = [(url, tasks, seed, options.pause, done, tally) for seed in range(options.annotators)]
        annotators = [threading.Thread(target=annotate, args=own) for own in given]
        say(f"{options.annotators} annotators begin")
        for annotator in annotators:
            annotator.start()
        done.wait(60 * options.minutes)
        training = client.train_status(check_if_running=True)
        done.set()
        for annotator in annotators:
            annotator.join()
        memory.end.set()
        memory.join()
        client.train_stop()
    return {
        "annotators": options.annotators, "minutes": options.minutes, "studies": options.studies, "shape": shape,
        "bound_bytes": options.cache_mb * 2**20, "working_set_bytes": working_set, "idle_bytes": idle,
        "most_bytes": memory.most, "trained_all_the_while": bool(training), "niceness": memory.niceness,
        "clicks": len(tally.seconds), "wrong": tally.wrong, "errors": tally.errors,
        "median_s": float(np.median(tally.seconds)), "p95_s": float(np.percentile(tally.seconds, 95)),
    }  # fmt: skip


def markdown(report: Mapping[str, Any]) -> str:
    """The report for people."""
    m, mb = report["machine"], 2**20
    grown = (report["most_bytes"] - report["idle_bytes"]) / mb
    return "\n".join(
        [
            "# Several annotators on one server",
            "",
            f"{report['annotators']} annotators for {report['minutes']:g} minutes on {report['studies']} CTs of "
            f"{' x '.join(map(str, report['shape']))} (phantoms), a training beside them. {m['cpu']}: {m['cores']} "
            f"cores, {m['threads']} threads, load before {m['load_before']}. torch {m['torch']}, monailabel "
            f"{m['monailabel']}. {m['date']}, commit {m['commit']}. {report['note']}".rstrip(),
            "",
            "| clicks | errors | wrong masks | median, s | p95, s | cache bound, MB | all images open would need, MB "
            "| server beyond idle, at most, MB | training beside them |",
            "|---|---|---|---|---|---|---|---|---|",
            f"| {report['clicks']} | {len(report['errors'])} | {len(report['wrong'])} | {report['median_s']:.2f} "
            f"| {report['p95_s']:.2f} | {report['bound_bytes'] / mb:.0f} | {report['working_set_bytes'] / mb:.0f} "
            f"| {grown:.0f} | {'running' if report['trained_all_the_while'] else 'ended'}, niceness "
            f"{report['niceness']} |",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if there was no error, no wrong mask, and the memory stayed under the bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotators", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--studies", type=int, default=24)
    parser.add_argument("--shape", type=int, nargs=3, default=(192, 192, 64))
    parser.add_argument("--tasks", type=int, default=4, help="for each study")
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between clicks, on average")
    parser.add_argument("--cache-mb", type=int, default=300, help="bound of the server's memory for open images")
    parser.add_argument("--output", type=Path, help="folder for annotators.md and .json")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "clickseg-benchmarks")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    parser.add_argument("--date", default=f"{datetime.date.today()}", help="as the report gives it")
    parser.add_argument("--note", default="", help="a sentence for the report, such as what else ran on the machine")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else nobody would end the server
    report: dict[str, Any] = {"machine": machine(options.threads, options.date), "note": options.note}
    with tempfile.TemporaryDirectory(prefix="clickseg-annotators-") as folder:
        report |= measure(options, Surroundings(Path(folder), options.threads))
    publish("annotators", markdown(report), report, options.output)
    over = report["most_bytes"] - report["idle_bytes"] > report["bound_bytes"]
    return bool(report["errors"] or report["wrong"] or over)


if __name__ == "__main__":
    sys.exit(main())
