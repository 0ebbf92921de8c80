"""Who computes next on a device."""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from ..machine import half_precision
from ..stopwatch import stage

Found = TypeVar("Found")


class Turns:
    """One computation at a time, in the order in which they were asked for, all in one thread.

    Somebody who clicks waits for the answer before clicking again, so that several are served in turn and nobody's
    propagation, which takes a turn for every slice, keeps the others waiting. Each thread that computes would have
    helpers of its own. As soon as two have, there are more of them than processors, and OpenMP (GNU's) sends them to
    sleep after each layer of a network instead of letting them wait; to be woken so often costs a U-Net on a virtual
    machine up to two thirds of its time again.

    What takes seconds, the first look at a volume, pauses now and then: clicks that wait are answered in its pauses.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._short: deque[Callable[[], None]] = deque()  # computations that wait, and do not pause
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"clickseg on {device}")

    def take(self, compute: Callable[[], Found], pauses: bool = False) -> Found:
        """What it returns, computed after all that was asked for before: for inference, in half precision if fast.

        It must not take a turn itself. pauses: whether it calls `let_others` on its way.
        """
        with contextlib.ExitStack() as waiting:
            waiting.enter_context(stage("wait"))

            def begin() -> Found:
                waiting.close()
                with torch.inference_mode(), half_precision(self._device):
                    return compute()

            run = functools.partial(contextvars.copy_context().run, begin)
            if pauses:
                return self._thread.submit(run).result()
            found: Future[Found] = Future()
            self._short.append(functools.partial(_settle, found, run))
            self._thread.submit(self._next)
            return found.result()

    def let_others(self) -> None:
        """Compute what waits and is short, in the midst of something long."""
        while self._short:
            self._next()

    def _next(self) -> None:
        """Compute what has waited longest of what is short, unless it was done in another's pause."""
        if self._short:
            self._short.popleft()()

    def load(self, make: Callable[[], Found]) -> Found:
        """What it returns, a model, made by the thread that computes: a thread that makes one gets helpers, too."""
        return self._thread.submit(make).result()


def _settle(future: Future[Found], compute: Callable[[], Found]) -> None:
    try:
        future.set_result(compute())
    except BaseException as error:  # whoever waits for it hears of it
        future.set_exception(error)


@functools.cache
def turns_on(device: str) -> Turns:
    """Those of a device, by its name: all models on it share them."""
    return Turns(device)


def compute_in_one_thread() -> None:
    """For a process that does nothing but answer: the thread of the CPU's turns alone has torch's helpers from now on.

    Call it from the main thread, before any other uses torch.
    """
    turns_on("cpu").take(torch.get_num_threads)  # a thread keeps the number that holds when it first asks
    torch.set_num_threads(1)
