"""What several commands share."""

from __future__ import annotations

DOWNLOAD_HELP = "fetch --data first: DIR/Task09_Spleen, or another task of the Medical Segmentation Decathlon"


def parse_numbers(text: str, option: str) -> tuple[int, ...]:
    """`1,2,5` -> (1, 2, 5); ValueError naming the option for anything else."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise ValueError(f"{option}: {text!r} is not a list of whole numbers such as 1,2,5") from error
