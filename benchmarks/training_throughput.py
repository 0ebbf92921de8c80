"""Training steps with simulated clicks: ours against MONAI's deepgrow Interaction, same network, same slices, one run.

    python benchmarks/training_throughput.py [--output benchmarks/results]

A step: a batch of 16 phantom slices of 256 x 256 and one structure each, K = 5 interactions at most, the U-Net of
Sakinis 2019 of width 16, Dice loss, Adam. Both through ignite's trainer, data in memory, so that neither waits for a
disk. MONAI's loop: `Interaction` with the click transforms of MONAI Label's radiology app. It predicts all images K
times; ours predicts an image only when it has a new click, so the time per executed prediction is printed as well.
The first row is MONAI's loop as it comes. The second has what our entry points do for the processor, too: channels last
in memory, and an allocator that keeps what it has (`clickseg.machine.keep_freed_memory`). Each row is a process of its
own, for the allocator's sake.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from monai.apps.deepgrow.interaction import Interaction
from monai.apps.deepgrow.transforms import (
    AddGuidanceSignald,
    AddInitialSeedPointd,
    AddRandomGuidanced,
    FindDiscrepancyRegionsd,
)
from monai.data import list_data_collate
from monai.engines import SupervisedTrainer
from monai.losses import DiceLoss
from monai.transforms import Activationsd, Compose, ToNumpyd, ToTensord

from clickseg.clicks import SimulateClickd
from clickseg.machine import keep_freed_memory
from clickseg.methods import METHODS, UNet2dRecipe
from clickseg.networks import UNet
from clickseg.phantom import phantom
from clickseg.training import Interact
from publish import publish

BATCH, SIZE, K, WIDTH = 16, 256, 5, 16


def slices() -> tuple[np.ndarray, np.ndarray]:
    """(B, 1, H, W) HU and 0/1: slices of a phantom with one of the structures in them."""
    patient = phantom(seed=0, shape=(SIZE, SIZE, 32))
    pairs = [
        (k, value) for k in range(32) for value in patient.labels.values() if (patient.label[..., k] == value).any()
    ]
    chosen = np.random.default_rng(0).choice(len(pairs), BATCH, replace=False)
    images = [patient.image[..., pairs[index][0]] for index in chosen]
    labels = [patient.label[..., pairs[index][0]] == pairs[index][1] for index in chosen]
    return np.stack(images)[:, None].astype(np.float32), np.stack(labels)[:, None].astype(np.float32)


class Counted(torch.nn.Module):
    """A network that counts the images it has predicted without learning."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.images = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            self.images += len(x)
        return self.network(x)


def monai_trainer(
    images: np.ndarray, labels: np.ndarray, memory_format: torch.memory_format = torch.contiguous_format
) -> tuple[Callable[[int], Any], Counted]:
    """One step of MONAI's loop, and its network."""
    network = Counted(UNet(3, 1, WIDTH).to(memory_format=memory_format))
    clicks = Compose(
        [
            Activationsd("pred", sigmoid=True),
            ToNumpyd(("image", "label", "pred")),
            FindDiscrepancyRegionsd(),
            AddRandomGuidanced(),
            AddGuidanceSignald(),
            ToTensord(("image", "label")),
        ]
    )
    first = Compose([AddInitialSeedPointd(), AddGuidanceSignald(), ToTensord(("image", "label"))])
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[None],
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), 1e-3),
        loss_function=DiceLoss(sigmoid=True, squared_pred=True),
        decollate=False,
    )
    loop = Interaction(clicks, K, train=True)

    def step(seed: int) -> Any:
        clicks.set_random_state(seed)
        items = [
            first({"image": image, "label": label}) for image, label in zip((images + 56.4) / 97.7, labels, strict=True)
        ]
        return loop(trainer, list_data_collate(items))

    return step, network


def our_trainer(images: np.ndarray, labels: np.ndarray) -> tuple[Callable[[int], Any], Counted]:
    """One step of ours, and its network."""
    recipe = UNet2dRecipe(width=WIDTH, max_clicks=K)
    segmenter: Any = METHODS["unet2d"].build(recipe)
    segmenter.network = Counted(segmenter.network.to(memory_format=torch.channels_last))
    engine = SimpleNamespace(
        state=SimpleNamespace(device=torch.device("cpu")),
        network=segmenter,
        optimizer=torch.optim.Adam(segmenter.parameters(), 1e-3),
        loss_function=METHODS["unet2d"].loss,
    )
    iterate = Interact(SimulateClickd(recipe.user(recipe.spacing)), K, recipe.reading)
    tensors = {"image": torch.from_numpy(images), "label": torch.from_numpy(labels)}

    def step(seed: int) -> Any:
        return iterate(engine, {**tensors, "seed": torch.arange(BATCH) + BATCH * seed})

    return step, segmenter.network


def measure(step: Callable[[int], Any], network: Counted, rounds: int) -> dict[str, float]:
    """Median seconds of a step after one to warm up, and of that per image predicted without learning."""
    step(0)
    network.images, times = 0, []
    for number in range(1, rounds + 1):
        start = time.perf_counter()
        step(number)
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times)
    predicted = network.images / rounds
    return {"seconds": seconds, "slices_per_second": BATCH / seconds, "predicted_per_step": predicted}


ROWS: dict[str, tuple[Callable[..., tuple[Callable[[int], Any], Counted]], bool]] = {
    "MONAI deepgrow Interaction": (monai_trainer, False),
    "the same, channels last, our allocator setting": (partial(monai_trainer, memory_format=torch.channels_last), True),
    "clickseg Interact": (our_trainer, True),
}


def run_row(name: str, rounds: int) -> dict[str, float]:
    """One row, in this process."""
    make, keep = ROWS[name]
    if keep:
        keep_freed_memory()
    return measure(*make(*slices()), rounds)


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="folder for training_throughput.json and .md")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rows = {}
    for name in ROWS:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            rows[name] = process.submit(run_row, name, arguments.rounds).result()
    peer = next(iter(rows.values()))["seconds"]
    lines = [
        "| training step | s | slices/s | faster | predictions per step | ms of the step per prediction |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        each = 1000 * row["seconds"] / row["predicted_per_step"]
        lines.append(
            f"| {name} | {row['seconds']:.2f} | {row['slices_per_second']:.1f} | {peer / row['seconds']:.1f} x "
            f"| {row['predicted_per_step']:.0f} | {each:.0f} |"
        )
    publish("training_throughput", "\n".join(lines), {"rows": rows}, arguments.output)


if __name__ == "__main__":
    main()
