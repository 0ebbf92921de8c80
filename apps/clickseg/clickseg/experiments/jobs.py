"""A long experiment as a list of ordinary `clickseg` commands: resumable, each with its log, several GPUs at once."""

from __future__ import annotations

import json
import os
import queue
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..files import held_alone, write_text

PLAN = "plan.json"  # in the folder of an experiment: its jobs


class ExperimentError(Exception):
    """Some jobs of an experiment failed; the message says which, and where their logs are."""


@dataclass(frozen=True)
class Job:
    """One command. name: unique, names its log. command: arguments of `clickseg`. needs: names of earlier jobs."""

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        return re.sub(r"[^\w.-]+", "_", self.name)


def run_jobs(
    jobs: Sequence[Job], folder: Path, resume: bool, gpus: Sequence[str] = (), data_parallel: bool = False
) -> None:
    """Run what is not done yet, in order, and remember in `folder` what is.

    gpus: ids of CUDA devices; one job runs on each at a time, or with `data_parallel` each job on all of them. Without
    any, one job at a time runs on the CPU. A job whose needs failed is left out.

    Raises:
        ValueError: `folder` holds an experiment and `resume` is not asked for, or another one, or one that runs now.
        ExperimentError: after all that can be run has been, if something failed.
    """
    _check_plan(jobs, folder, resume)
    done = {job.name for job in jobs if is_done(folder, job)}
    waiting = [job for job in jobs if job.name not in done]
    workplaces = [",".join(gpus)] if data_parallel or not gpus else list(gpus)
    places: queue.Queue[str] = queue.Queue()
    for place in workplaces:
        places.put(place)
    failed: list[str] = []
    running: dict[Future[bool], Job] = {}
    otherwise = f"{folder}: this experiment is being run already: wait for its end, or name another output folder"
    with (
        held_alone(folder, otherwise),
        ThreadPoolExecutor(len(workplaces)) as pool,
        tqdm(total=len(jobs), initial=len(done), desc="experiment", unit="job") as bar,
    ):
        while waiting or running:
            for job in _ready(waiting, done)[: len(workplaces) - len(running)]:
                waiting.remove(job)
                running[pool.submit(_run, job, folder, places, data_parallel)] = job
            if not running:
                break  # what still waits needs what failed
            bar.set_postfix_str(", ".join(job.name for job in running.values()))
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                (done.add if future.result() else failed.append)(job.name)
                bar.update()
    if failed:
        raise ExperimentError(
            f"{', '.join(failed)} failed ({folder / 'logs'} says why); {len(waiting)} other jobs need them"
        )


def is_done(folder: Path, job: Job) -> bool:
    """Whether this experiment has run this job to its end."""
    return _marker(folder, job).exists()


def _ready(waiting: Sequence[Job], done: set[str]) -> list[Job]:
    """In the order given, so that a model is measured as soon as it is trained."""
    return [job for job in waiting if set(job.needs) <= done]


def _check_plan(jobs: Sequence[Job], folder: Path, resume: bool) -> None:
    assert len({job.file_name for job in jobs}) == len(jobs), "names of jobs are unique"
    path = folder / PLAN
    plan = {job.name: list(job.command) for job in jobs}
    if path.exists():
        if not resume:
            raise ValueError(f"{folder} holds an experiment: resume it (--resume), or name another output folder")
        theirs = json.loads(path.read_text())
        other = [name for name in plan if name in theirs and theirs[name] != plan[name]]
        if other:
            raise ValueError(f"{folder} holds another experiment: {', '.join(other[:3])} would be another command")
        plan = theirs | plan
    write_text(path, json.dumps(plan, indent=1) + "\n")


def _marker(folder: Path, job: Job) -> Path:
    return folder / "done" / job.file_name


def _run(job: Job, folder: Path, places: queue.Queue[str], data_parallel: bool) -> bool:
    place = places.get()
    try:
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": place} if place else dict(os.environ)
        processes = place.count(",") + 1 if data_parallel and job.command[0] == "train" else 1
        launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
        log = folder / "logs" / f"{job.file_name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write(f"clickseg {shlex.join(job.command)}\n")
            file.flush()
            command = [sys.executable, "-m", *(launcher if processes > 1 else []), "clickseg", *job.command]
            status = subprocess.run(command, stdout=file, stderr=file, env=environment, check=False).returncode
        if status == 0:
            marker = _marker(folder, job)
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()
        return status == 0
    finally:
        places.put(place)
