"""The trainings that wait for one another in the server, stopped together."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import Executor
from datetime import datetime
from typing import Any

import psutil
from monailabel.endpoints import train as stock_train
from monailabel.utils.async_tasks.utils import background_executors, tasks

QUEUE = threading.Lock()
LOOKS, SECONDS = 100, 0.1  # how often, and how long each time, a stop waits for the end of what runs


def queueing(run_sync: bool) -> contextlib.AbstractContextManager[Any]:
    """For as long as this lasts nothing is stopped, so that what one request begins is stopped together.

    A training whose request waits for its end is in no queue.
    """
    return contextlib.nullcontext() if run_sync else QUEUE


def stop_trainings() -> dict[str, Any] | None:
    """Stop the training that runs and those that wait for it; the stock function ends the first, and the next begins.

    Returns the task of the first, or None without any.
    """
    with QUEUE:
        begun = [task for task in tasks("train") if task["status"] in ("SUBMITTED", "RUNNING")]
        if executor := background_executors.pop("train", None):  # the next training makes itself a new one
            executor.shutdown(wait=False, cancel_futures=True)
            _end(executor)
        for task in begun:
            if task["status"] != "DONE":
                task |= {"status": "STOPPED", "end_ts": datetime.today().strftime("%Y-%m-%d %H:%M:%S")}
                task.setdefault("details", ["stopped before it began"])  # 3D Slicer shows the last of them
    return begun[0] if begun else None


def _end(executor: Executor) -> None:
    """Kill what runs until it is over; a process that is only just being made is not there at the first look."""
    waiting = threading.Thread(target=executor.shutdown, daemon=True)
    waiting.start()
    for _ in range(LOOKS):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended by itself just now
            stock_train.stop()
        waiting.join(SECONDS)
        if not waiting.is_alive():
            return
