"""The one train task: it prepares the datastore's labels, calls build_trainer, and publishes what comes out."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from clickseg.datasets import CaseFolder
from clickseg.evaluation import Protocol, Validation
from clickseg.evaluation.tasks import default_user
from clickseg.files import held_alone, whole_file
from clickseg.labelled import LabelledImage, write_data_folder
from clickseg.methods import Recipe, learnt_from, load_model
from clickseg.methods.weights import read_file, recipe_to_train
from clickseg.training import ClickTrainer, Plan, build_trainer
from lib.weights import Weights, publish

from .labels import labelled_images, pinned_images, whole_studies
from .wishes import Wishes, finite

logger = logging.getLogger(__name__)

APP_DIR = Path(__file__).resolve().parents[2]
SENTENCE = "clickseg train: "  # how the command line begins to say what is wrong
SLICES = 10  # per label and image, to validate on


@dataclasses.dataclass(frozen=True)
class TrainingLog:
    """epochs: epoch, loss, seconds, ... of those that are over, of `total_epochs`."""

    total_epochs: int
    epochs: list[dict[str, float]]


class ClickTrainTask(TrainTask):
    """Learns on from the weights in use, from all final labels of the datastore; the next click uses the result.

    The keys of its requests are those of `Wishes`.
    """

    def __init__(self, name: str, method: str, weights: Weights) -> None:
        super().__init__(f"Train {name} on the final labels of the datastore")
        self.name = name
        self.method = method
        self.weights = weights

    def config(self) -> dict[str, Any]:
        """The request keys that clients offer to change, with their defaults."""
        return Wishes.offered()

    def info(self) -> dict[str, Any]:
        """As /info shows it."""
        labels: list[str] = []
        with contextlib.suppress(ValueError):  # weights that do not load must not take the whole of /info down
            labels = list(self._known_labels())
        return {**super().info(), "labels": labels}

    def check(self, datastore: Datastore) -> None:
        """Raise ValueError, saying what is wrong, if there is nothing fit to train on."""
        self._fit(labelled_images(datastore))

    def _fit(self, items: list[LabelledImage]) -> list[LabelledImage]:
        """Those of the labelled images that this model can learn from; ValueError if there are none."""
        known = self._known_labels()
        if known and "labels" in self.weights.recipe.fixed:
            return whole_studies(items, self.name, known, self._served_labels())
        return items

    def stats(self) -> dict[str, Any]:
        """How far the last training is; OHIF shows epoch, total_epochs, total_time (set once it is over)."""
        stats = self._read_stats()
        epochs = _read_log(stats)
        return {**stats, **(epochs[-1] if epochs else {})}

    def log(self) -> TrainingLog:
        """The epochs of the last training, also while it runs."""
        stats = self._read_stats()
        return TrainingLog(int(stats.get("total_epochs", 0)), _read_log(stats))

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train, publish, and return the stats. Raises ValueError for labels or wishes that do not work."""
        start = time.time()
        wishes = Wishes.read(request)
        output = self._output(wishes.name, wishes.resume)
        init = self._start(wishes.pretrained)
        with self._scratch(keep=wishes.resume) as (folder, cache):
            items = self._fit(pinned_images(datastore, folder / "labels"))
            items, held_out = _split(items, wishes.val_split, _learnt(init) | _learnt(output / "weights.pt"))
            data = folder / "studies"
            served = self._served_labels()
            labels = write_data_folder(items, data, self._known_labels(), served)
            recipe, studies = self._recipe(labels), CaseFolder.read(data)
            plan = Plan(
                output=output,
                epochs=wishes.max_epochs,
                resume=wishes.resume,
                cache=cache,
                init=init,
                device=wishes.device,
                card={"method": self.method, **studies.card},
                progress=False,
            )
            self._write_stats({"total_epochs": plan.epochs, "epoch": 0, "output": str(output)})
            processes = _processes(wishes, recipe)
            if processes > 1:
                _train_in_processes(processes, self.method, recipe, data, plan)
            else:
                trainer = build_trainer(self.method, recipe, studies.cases, plan)
                trainer.add_event_handler(Events.EPOCH_COMPLETED, _log_epoch)
                trainer.run()
            publish(output / "weights.pt", self.weights.trained)
            logger.info("published %s", self.weights.trained)
            found = {}
            if held_out:
                try:
                    write_data_folder(held_out, folder / "held_out", labels, served)
                    found = _validate(folder / "held_out", output / "weights.pt", plan.device)
                except ValueError as error:  # what was learnt is there all the same
                    logger.warning("no figures from the images kept out of training: %s", error)
        seconds = round(time.time() - start, 1)
        self._write_stats({"total_epochs": plan.epochs, "total_time": seconds, "output": str(output), **found})
        return self.stats()

    @contextlib.contextmanager
    def _scratch(self, keep: bool) -> Iterator[tuple[Path, Path]]:
        """Folders for the data of one training, and for what is made of it; gone at its end, however it ends.

        A training that is stopped is killed: what it left goes when the next one begins, unless that `keep`s it to
        resume. Raises ValueError while another server trains these weights; this one has a queue.
        """
        runs = self.weights.trained.parent / "runs" / self.name
        scratch = runs / ".scratch"
        otherwise = (
            f"{self.name} is being trained already, by another server that keeps its weights in {runs.parents[1]}: "
            "wait for its end, or give each server a folder of its own (CLICKSEG_MODEL_DIR)"
        )
        with held_alone(runs, otherwise):
            shutil.rmtree(scratch / "data", ignore_errors=True)
            if not keep:
                shutil.rmtree(scratch, ignore_errors=True)
            (scratch / "data").mkdir(parents=True)
            try:
                yield scratch / "data", scratch / "cache"
            finally:
                shutil.rmtree(scratch, ignore_errors=True)

    @property
    def _stats_path(self) -> Path:
        return self.weights.trained.with_suffix(".stats.json")

    def _write_stats(self, stats: Mapping[str, Any]) -> None:
        with whole_file(self._stats_path) as file:
            file.write(json.dumps(stats).encode())

    def _read_stats(self) -> dict[str, Any]:
        """Empty where there are none, or none that can be read: nobody should lose the server to a file of figures."""
        with contextlib.suppress(OSError, ValueError):
            stats = json.loads(self._stats_path.read_text())
            if isinstance(stats, dict):
                return stats
        return {}

    def _output(self, name: str, resume: bool) -> Path:
        """The run's folder: a new one, or the newest of that name."""
        runs = self.weights.trained.parent / "runs" / self.name / name
        earlier = sorted(path for path in runs.glob("*") if (path / "checkpoint.pt").exists())
        if resume and earlier:
            return earlier[-1]
        return runs / datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")

    def _known_labels(self) -> dict[str, int]:
        return dict(self.weights.recipe.labels) if self.weights.current.exists() else {}

    def _served_labels(self) -> dict[str, int]:
        return self.weights.label_values if self.weights.current.exists() else {}

    def _recipe(self, labels: Mapping[str, int]) -> Recipe:
        """That of the weights that are served, also where a training starts from nothing."""
        return recipe_to_train(self.method, {"labels": dict(labels)}, self._start(pretrained=True))

    def _start(self, pretrained: bool) -> Path | None:
        return self.weights.current if pretrained and self.weights.current.exists() else None


def _learnt(weights: Path | None) -> set[str]:
    """The ids of the images that a file of weights has learnt from; none without such a file."""
    if weights is None or not weights.exists():
        return set()
    return set().union(*learnt_from(read_file(weights).get("card", {})).values())


def _split(
    items: Sequence[LabelledImage], val_split: float, learnt: Set[str] = frozenset()
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """The images to train on, at least one, and those kept out: a share, drawn by chance.

    What was kept out once is so again, unless images come that are drawn before it, and what was `learnt` already
    never is: figures of it would be too good.
    """
    count = min(round(val_split * len(items)), len(items) - 1)
    new = sorted((item.id for item in items if item.id not in learnt), key=_lot)[:count]
    if len(new) < count:
        logger.warning("%d of %d images to keep out: the weights have learnt from the others", len(new), count)
    return [item for item in items if item.id not in new], [item for item in items if item.id in new]


def _lot(image: str) -> bytes:
    """By which an image is drawn, the same whatever other images there are."""
    return hashlib.sha256(image.encode()).digest()


def _validate(data: Path, weights: Path, device: str) -> dict[str, float]:
    """Dice of simulated clicks on images that training did not see; OHIF shows best_metric, of five clicks."""
    model = load_model(weights, device)
    protocol = Protocol(clicks=(1, 5), user=default_user(model.recipe.dimension), limit=SLICES)
    validation = Validation(CaseFolder.read(data), model.recipe, protocol)
    found = validation(model.segmenter)
    logger.info("on the images kept out of training: %s", found)
    return {**found, "best_metric": found["dice@5"]} if found else {}


def _processes(wishes: Wishes, recipe: Recipe) -> int:
    """How many processes train together: one per GPU that we are given. Logs why if it is only one."""
    given = torch.cuda.device_count() if wishes.gpus == "all" else len(wishes.gpus.split(","))
    if not wishes.device.startswith("cuda"):
        reason = f"the device is {wishes.device}"
    elif not wishes.multi_gpu:
        reason = "multi_gpu is off"
    elif given < 2:
        reason = f"there is {given} GPU"
    else:
        fitting = max(count for count in range(1, given + 1) if recipe.batch % count == 0)
        logger.info("training in %d processes on %d GPUs (a batch of %d)", fitting, given, recipe.batch)
        return fitting
    logger.info("training in one process: %s", reason)
    return 1


def _train_in_processes(processes: int, method: str, recipe: Recipe, data: Path, plan: Plan) -> None:
    """The same training by `torchrun -m clickseg train`, one process per GPU."""
    (data / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["-m", "clickseg", "train", "--method", method, "--data", str(data), "--output", str(plan.output)]
    command += ["--recipe", str(data / "recipe.json"), "--epochs", str(plan.epochs), "--device", plan.device]
    command += ["--init", str(plan.init)] if plan.init else []
    command += ["--resume"] if plan.resume else []
    command += ["--cache", str(plan.cache)] if plan.cache else []
    path = os.pathsep.join([str(APP_DIR), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "TQDM_DISABLE": "1"}  # bars would fill the log
    reason = "the lines above say why"
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None, "it was asked for"
        for line in training.stderr:
            sys.stderr.write(line)
            if line.startswith(SENTENCE):  # torchrun says much after it
                reason = line.removeprefix(SENTENCE).strip()
    if training.returncode != 0:
        raise RuntimeError(f"training failed with exit status {training.returncode}: {reason}")


def _log_epoch(trainer: ClickTrainer) -> None:
    state = trainer.state
    logger.info("epoch %d of %d, loss %.4f", state.epoch, state.max_epochs, state.metrics["loss"])


def _read_log(stats: Mapping[str, Any]) -> list[dict[str, float]]:
    """Of each epoch of the run that wrote these stats: epoch, loss, and what else has a value that is a number."""
    path = Path(stats.get("output", "")) / "log.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = [{name: finite(value) for name, value in row.items()} for row in csv.DictReader(file)]
    # What is no number is the rest of a line that was cut off, or a loss that JSON cannot hold.
    kept = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return [row for row in kept if "epoch" in row]
