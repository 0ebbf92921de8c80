import functools
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from clickseg.clicks import Click
from clickseg.sessions import SessionCache
from clickseg.sessions.turns import Turns, turns_on
from clickseg.stopwatch import stage, stopwatch

LABELS = {"liver": 1, "spleen": 5}


@pytest.fixture
def turns():
    return Turns("cpu")


def test_one_at_a_time_in_the_order_in_which_they_came(turns):
    order, inside, first = [], [], threading.Event()

    def compute(number):
        inside.append(number)
        assert len(inside) == 1
        time.sleep(0.01)
        order.append(number)
        inside.remove(number)

    threads = [threading.Thread(target=turns.take, args=(first.wait,))]
    threads[0].start()
    for number in range(12):
        threads.append(threading.Thread(target=turns.take, args=(functools.partial(compute, number),)))
        threads[-1].start()
        time.sleep(0.02)  # until it stands in the queue
    first.set()
    for thread in threads:
        thread.join()
    assert order == list(range(12))


def test_one_thread_computes_for_all_that_ask(turns):
    with ThreadPoolExecutor(4) as askers:
        found = set(askers.map(lambda _: (time.sleep(0.01), turns.take(threading.get_ident))[1], range(12)))
    assert len(found) == 1


def test_in_a_process_that_only_answers_the_thread_that_computes_alone_has_helpers(starter, repository, tmp_path):
    program = """if True:
        import torch
        from concurrent.futures import ThreadPoolExecutor
        from clickseg.sessions import compute_in_one_thread
        from clickseg.sessions.turns import turns_on
        torch.set_num_threads(3)
        compute_in_one_thread()
        others = ThreadPoolExecutor(1).submit(torch.get_num_threads).result()
        print(turns_on("cpu").take(torch.get_num_threads), torch.get_num_threads(), others)
    """
    (tmp_path / "program.py").write_text(program)
    environment = os.environ | {"PYTHONPATH": str(repository / "apps/clickseg")}
    said = starter.run([tmp_path / "program.py"], environment, tmp_path, tmp_path / "output")
    assert said.split() == ["3", "1", "1"]


def test_somebody_with_much_to_ask_does_not_keep_others_waiting(turns):
    order = []

    def ask(name, times):
        for _ in range(times):
            turns.take(lambda: (order.append(name), time.sleep(0.005)))

    much = threading.Thread(target=ask, args=("much", 40))
    much.start()
    while not order:
        time.sleep(0.001)
    ask("little", 5)
    asked_meanwhile = order.count("much")
    much.join()
    assert asked_meanwhile < 20


def waiting(turns, count):
    """Until so many short computations stand in the queue."""
    while len(turns._short) < count:
        time.sleep(0.001)


def test_who_clicks_is_answered_in_the_pauses_of_what_takes_long_and_what_takes_long_is_not_cut_up(turns):
    order, begun, go_on = [], threading.Event(), threading.Event()

    def long(name):
        order.append(f"{name} begins")
        begun.set()
        go_on.wait()
        turns.let_others()
        order.append(f"{name} ends")

    def fail():
        order.append("fails")
        raise ValueError("for who asked alone")

    def ask_in_vain():
        with pytest.raises(ValueError, match="alone"):
            turns.take(fail)

    askers = [threading.Thread(target=turns.take, args=(functools.partial(long, "first"), True))]
    askers[0].start()
    begun.wait()
    askers.append(threading.Thread(target=turns.take, args=(functools.partial(long, "second"), True)))
    askers[1].start()
    askers.append(threading.Thread(target=ask_in_vain))
    askers[2].start()
    waiting(turns, 1)
    askers.append(threading.Thread(target=turns.take, args=(lambda: order.append("click"),)))
    askers[3].start()
    waiting(turns, 2)
    go_on.set()
    for asker in askers:
        asker.join()
    assert order == ["first begins", "fails", "click", "first ends", "second begins", "second ends"]
    assert turns.take(lambda: 5) == 5


def test_who_fails_hears_of_it_and_the_next_is_served(turns):
    with pytest.raises(ZeroDivisionError):
        turns.take(lambda: 1 / 0)
    assert turns.take(lambda: 5) == 5


def test_the_time_in_the_queue_and_that_of_the_computation_are_accounted_for(turns):
    def hold():
        held.set()
        time.sleep(0.2)

    def compute():
        with stage("decode"):
            time.sleep(0.1)

    held = threading.Event()
    other = threading.Thread(target=turns.take, args=(hold,))
    other.start()
    held.wait()
    with stopwatch() as seconds:
        turns.take(compute)
    other.join()
    assert seconds["wait"] > 0.1
    assert seconds["decode"] >= 0.1
    assert seconds["wait"] + seconds["decode"] <= seconds["total"] + 0.001


def test_what_is_computed_needs_no_gradients(turns):
    assert turns.take(torch.is_inference_mode_enabled)


def test_models_on_one_device_share_its_turns():
    assert turns_on("cpu") is turns_on("cpu")
    assert turns_on("cpu") is not turns_on("cuda:0")


def test_images_and_sessions_together_stay_under_the_bound_and_answer_as_if_kept(phantom_study, tiny_weights, tmp_path):
    weights = tmp_path / "unet2d.pt"
    tiny_weights(weights, LABELS)
    images = sorted((phantom_study / "imagesTr").glob("*.nii.gz"))
    alone = {image: SessionCache().open(image, weights) for image in images}
    bound = int(1.5 * alone[images[0]].bytes)
    cache, seen = SessionCache(max_bytes=bound), []
    for turn in range(3):
        for image in images:
            clicks = [Click((20 + turn, 24, 12), 1)]
            seen.append(cache.open(image, weights))
            np.testing.assert_array_equal(seen[-1].predict(clicks), alone[image].predict(clicks))
            kept = list(cache._opened._entries.values())
            assert seen[-1] in kept
            assert sum(opened.bytes for opened in kept) <= bound
    assert len(set(map(id, seen))) == 6, "there was no room for two"
