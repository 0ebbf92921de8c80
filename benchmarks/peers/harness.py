"""Cold and warm clicks of a peer, in its own environment; click_latency.py reads the JSON that this prints."""

import contextlib
import json
import os
import statistics
import sys
import time

import nibabel as nib
import numpy as np
import torch

THREADS = int(os.environ["OMP_NUM_THREADS"])


class Stages:
    """Seconds by stage."""

    def __init__(self):
        self.seconds = {}

    @contextlib.contextmanager
    def __call__(self, name):
        """What happens here is of this stage."""
        begin = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin


def medians(accounts):
    """Of each stage."""
    names = dict.fromkeys(name for account in accounts for name in account)
    return {name: statistics.median(account.get(name, 0.0) for account in accounts) for name in names}


def run(open_image, click):
    """Click and print.

    open_image(volume, stage): keep an image (X, Y, Z) of HU. click(position, stage): mask (X, Y, Z) of uint8. The
    arguments of the process: the image's path, JSON with the positions, and how many of them are first clicks.
    """
    path, places, colds = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(THREADS)
    found = {"cold_s": [], "warm_s": []}
    accounts = {"cold_s": [], "warm_s": []}
    with torch.inference_mode():
        for number, place in enumerate(places):
            stage, kind = Stages(), "cold_s" if number < colds else "warm_s"
            begin = time.perf_counter()
            if kind == "cold_s":
                with stage("read"):
                    volume = np.asarray(nib.load(path).dataobj)
                open_image(volume, stage)
            mask = click(place, stage)
            seconds = time.perf_counter() - begin
            if mask.shape != volume.shape or mask.dtype != np.uint8:
                raise RuntimeError(f"the mask is {mask.dtype} of shape {mask.shape}")
            found[kind].append(seconds)
            accounts[kind].append({**stage.seconds, "total": seconds})
    print(json.dumps({**found, "cold_stages_s": medians(accounts["cold_s"]), "stages_s": medians(accounts["warm_s"])}))
