"""Of one kind the newest only; what a preview holds is tested with the running server."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from lib.infers.click import Slice
from lib.server import preview as module
from lib.server.preview import NewestOnly, PreviewRequest, preview


def waiting(turns, kind, answers, name):
    """A thread that asks for a turn, and has asked when this returns."""
    thread = threading.Thread(target=lambda: answers.append((name, enter(turns, kind))))
    before = turns._newest.get(kind)
    thread.start()
    while turns._newest.get(kind) is before:
        time.sleep(0.001)
    return thread


def enter(turns, kind):
    with turns.turn(kind) as wanted:
        return wanted


def test_of_those_that_wait_only_the_newest_is_let_in_and_the_others_leave_at_once():
    turns, answers = NewestOnly(), []
    with turns.turn("a") as wanted:
        assert wanted
        second = waiting(turns, "a", answers, "second")
        third = waiting(turns, "a", answers, "third")
        second.join(10)
        assert answers == [("second", False)]
    third.join(10)
    assert answers == [("second", False), ("third", True)]


def test_other_clients_and_other_images_do_not_wait():
    turns = NewestOnly()
    with turns.turn("a"):
        assert enter(turns, "b")


def test_a_failure_lets_the_next_one_in_and_nothing_is_kept():
    turns = NewestOnly()
    with pytest.raises(ValueError, match="broken"), turns.turn("a"):
        raise ValueError("broken")
    assert enter(turns, "a")
    assert not turns._newest
    assert not turns._busy


def test_clients_without_an_id_never_supersede_each_other(monkeypatch):
    inside = threading.Barrier(2, timeout=10)

    def found(request, number):
        inside.wait()  # passes only if both are computed at once
        return Slice(2, 4, np.zeros((3, 2), np.uint8), {"background": 0})

    monkeypatch.setattr(module, "app_instance", lambda: SimpleNamespace(preview=found))
    request = PreviewRequest(model="unet2d", image="a", params={})
    statuses = []
    threads = [threading.Thread(target=lambda: statuses.append(preview(request).status_code)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert statuses == [200, 200]
