"""How far an answer is, told from the threads that compute to whoever reads in the event loop."""

import asyncio
import gc
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fastapi import HTTPException

from clickseg.progress import tell_part, tell_slice
from lib.server import progress as module
from lib.server.progress import progress, watched

MASK = np.zeros((4, 3, 5), np.uint8)


def in_a_loop(main):
    """What a coroutine returns, run in a thread of its own: the tests of a browser leave one in theirs."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(main())).result()


async def read(response):
    """What the lines of a stream hold, to its end."""
    lines = [line async for line in response.body_iterator]
    return [json.loads(line) for line in lines if line.strip()]


def told_in_a_thread(watch, *tell):
    """Computes as the server does: in a thread of its own."""

    def compute():
        with watched(watch):
            for one in tell:
                one()

    thread = threading.Thread(target=compute)
    thread.start()
    return thread


def test_a_stream_holds_what_is_told_of_the_answer_and_ends_with_it():
    async def main():
        response = await progress("mine")
        mask = MASK.copy()
        mask[1, :2, 4] = 3
        told_in_a_thread("mine", lambda: tell_part(1, 3), lambda: tell_slice(2, 4, mask[..., 4]))
        return await read(response)

    first, second = in_a_loop(main)
    assert first == {"part": 0.3333}
    assert second == {"axis": 2, "slice": 4, "shape": [4, 3], "values": [0, 3, 0], "lengths": [3, 2, 7]}
    assert not module._streams


def test_an_answer_that_fails_ends_the_stream_too():
    async def main():
        response = await progress("mine")

        def compute():
            with pytest.raises(ValueError, match="no such thing"), watched("mine"):
                raise ValueError("no such thing")

        thread = threading.Thread(target=compute)
        thread.start()
        return await read(response)

    assert in_a_loop(main) == []


def test_who_leaves_gives_up_what_goes_from_slice_to_slice_and_lets_the_first_look_at_a_volume_end():
    async def main():
        response = await progress("mine")
        lines = response.body_iterator
        await anext(lines)
        begun, left = threading.Event(), threading.Event()
        raised = []

        def compute():
            with watched("mine"):
                begun.set()
                left.wait(10)
                tell_part(1, 1)
                try:
                    tell_slice(2, 0, MASK[..., 0])
                except ValueError as error:
                    raised.append(str(error))

        thread = threading.Thread(target=compute)
        thread.start()
        begun.wait(10)
        await lines.aclose()
        left.set()
        await asyncio.to_thread(thread.join, 10)
        return raised

    assert in_a_loop(main) == ["given up: whoever watched this answer come has left"]


def test_a_stream_says_something_now_and_then_even_if_there_is_nothing_to_say(monkeypatch):
    monkeypatch.setattr(module, "LONGEST_SILENCE", 0.01)

    async def main():
        response = await progress("mine")
        done = threading.Event()
        thread = told_in_a_thread("mine", lambda: done.wait(10))
        lines = [await anext(response.body_iterator) for _ in range(9)]
        done.set()
        thread.join(10)
        return lines

    assert in_a_loop(main) == ["\n"] * 9


def test_an_answer_that_nobody_asks_for_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(module, "LONGEST_SILENCE", 0.01)

    async def main():
        return await read(await progress("mine"))

    assert in_a_loop(main) == []
    assert not module._streams


def test_who_is_gone_before_the_stream_begins_leaves_nothing():
    async def main():
        await progress("mine")
        gc.collect()
        return list(module._streams)

    assert in_a_loop(main) == []


def test_two_cannot_watch_under_one_name_at_once():
    async def main():
        response = await progress("mine")
        await anext(response.body_iterator)
        with pytest.raises(HTTPException, match="watched already"):
            await progress("mine")
        await response.body_iterator.aclose()
        await (await progress("mine")).body_iterator.aclose()

    in_a_loop(main)


@pytest.mark.parametrize("watch", [None, "nobody's", 7, ["mine"], {"mine": 1}])
def test_what_nobody_watches_is_computed_nevertheless(watch):
    with watched(watch):
        tell_part(1, 2)
        tell_slice(2, 0, MASK[..., 0])
