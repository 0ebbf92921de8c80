"""What several commands share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

DOWNLOAD_HELP = "fetch --data first: DIR/Task09_Spleen, or another task of the Medical Segmentation Decathlon"

RECIPE_HELP = (
    "a recipe of the method by its name (unet2d: paper, practical; tis: abdomen, hippocampus), or a JSON file with its "
    "fields"
)

DATA_HELP = "folder with imagesTr/ and labelsTr/"

DEVICE_HELP = "device to compute on: auto, cpu, cuda or cuda:N"

AUTO_DEVICE_HELP = f"{DEVICE_HELP} (default: auto, the first GPU, else the CPU)"

WEIGHTS_HELP = (
    "weights file, or name of a shipped model such as tis_abdomen (default: those of unet2d; there are several of tis)"
)

APP = Path(__file__).resolve().parents[2]  # where the MONAI Label app lies in a clone of the project


def parse_numbers(text: str, option: str) -> tuple[int, ...]:
    """`1,2,5` -> (1, 2, 5); ValueError naming the option for anything else."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise ValueError(f"{option}: {text!r} is not a list of whole numbers such as 1,2,5") from error


def at_least(least: int) -> Callable[[str], int]:
    """The type of an option: whole numbers from `least` up. What is none is refused by argparse, with its name."""

    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return int(text)

    return number


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port (1 to 65535)")
    return int(text)


PORT: dict[str, Any] = {"type": _port, "metavar": "PORT"}  # of an option


def app_folder() -> Path:
    """The MONAI Label app that this library lies in. ValueError for an installation without it."""
    if not (APP / "main.py").exists():
        raise ValueError("the server app is not beside the library: run from a clone of the project (pip install -e .)")
    return APP


def server_command(studies: str, host: str, port: int) -> list[str]:
    """What starts MONAI Label's server with this app. ValueError as `app_folder`."""
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app_folder())]
    return [*command, "--studies", studies, "--host", host, "--port", str(port)]


def server_environment() -> dict[str, str]:
    """This process's environment with what the server needs, unless it says something else itself.

    GOMP_SPINCOUNT: how often a helper of torch's looks for work before it sleeps. Enough to stay awake from one layer
    of a network to the next; much more, as OpenMP (GNU's) has it, takes the processors from a browser on this machine.
    """
    return {"MONAI_LABEL_TRACKING_ENABLED": "false", "GOMP_SPINCOUNT": "10000", **os.environ}
