"""Servers to be measured, each a child process on a free loopback port that is ended in any case."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests
import torch

from clickseg.methods import METHODS, save_weights
from clickseg.phantom import LABELS

ROOT = Path(__file__).resolve().parents[1]
CLICKSEG = ROOT / "apps/clickseg"
RADIOLOGY = ROOT / "benchmarks/radiology/main.py"
READY = ROOT / "benchmarks/ready/main.py"
RIVALS = ("deepedit", "deepgrow_2d", "deepgrow_3d")  # of the sample app
STOP_S = 20  # how long a server may take to end before it is killed


@dataclass(frozen=True)
class Surroundings:
    """folder: for whatever servers write. threads: of each server. start_limit: seconds."""

    folder: Path
    threads: int
    start_limit: float = 300.0

    @property
    def log(self) -> Path:
        """Of the server that runs now, or ran last."""
        return self.folder / "server.log"


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


@contextlib.contextmanager
def running(command: Sequence[str], ready: str, around: Surroundings, more: Mapping[str, str]) -> Iterator[None]:
    """A child process, from its first answer at the URL `ready` to the end of the context.

    more: variables for its environment. Raises RuntimeError with the end of its log if it does not start in time.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": str(around.threads), **more}
    with around.log.open("w") as log:
        child = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=around.folder)
    try:
        begin = time.monotonic()
        while not answers(ready):
            waited = time.monotonic() - begin
            if child.poll() is not None or waited > around.start_limit:
                what = f"does not answer after {waited:.0f} s" if child.poll() is None else f"ended ({child.poll()})"
                raise RuntimeError(f"{' '.join(command)}: {what}; the end of its log:\n{tail(around.log)}")
            time.sleep(0.2)
        yield
    finally:
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def answers(url: str) -> bool:
    """Whether there is a good reply."""
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def weights(folder: Path) -> Path:
    """The shipped weights; where there are none, random ones of the same width in `folder`/model."""
    shipped, made = CLICKSEG / "model/unet2d.pt", folder / "model/unet2d.pt"
    if shipped.exists():
        return shipped
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        recipe = METHODS["unet2d"].recipe(labels=LABELS)
        save_weights(made, METHODS["unet2d"].build(recipe), recipe)
    return made


def volume_weights(folder: Path) -> Path:
    """Random weights of `tis` at 2.5 mm in `folder`/model, whose automatic segmentation is empty."""
    made = folder / "model/tis_random.pt"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        recipe = METHODS["tis"].recipe(labels={"liver": 1, "spleen": 2}, spacing=2.5, patch=(64, 64, 64))
        network = METHODS["tis"].build(recipe)
        with torch.no_grad():
            network.encoder.head.bias[0] += 100
        save_weights(made, network, recipe)
    return made


@contextlib.contextmanager
def monai_label(app: str, studies: Path, around: Surroundings, conf: Mapping[str, str] | None = None) -> Iterator[str]:
    """MONAI Label's server with an app; gives its URL.

    app: `clickseg`, `radiology` (its own sample app), `ready` (masks that lie beside it), or the app at a path.
    conf: names and values for it.
    """
    url = f"http://127.0.0.1:{free_port()}"
    path, conf, more = Path(app), dict(conf or {}), {"MONAI_LABEL_SESSION_PATH": str(around.folder / "sessions")}
    if app == "clickseg":
        weights(around.folder)
        volume_weights(around.folder)
        path, more["CLICKSEG_MODEL_DIR"] = CLICKSEG, str(around.folder / "model")
    elif app == "radiology":
        path = around.folder / app
        conf |= {"models": ",".join(RIVALS), "use_pretrained_model": "false"}
        path.mkdir(exist_ok=True)
        shutil.copy(RADIOLOGY, path)
    elif app == "ready":
        path = around.folder / app
        path.mkdir(exist_ok=True)
        shutil.copy(READY, path)
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(path), "--studies", str(studies)]
    command += ["--host", "127.0.0.1", "--port", url.rsplit(":", 1)[1]]
    for key, value in conf.items():
        command += ["--conf", key, value]
    with running(command, f"{url}/info/", around, more):
        yield url
