"""The README's pictures of clicks: shipped weights, sample study, an organ that they know and one that they do not.

python benchmarks/readme_pictures.py [--weights FILE] [--output docs/images]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from clickseg.datasets import CaseFolder
from clickseg.evaluation import Game, Protocol, Task
from clickseg.methods import load_model, shipped_weights
from clickseg.phantom import LABELS, write_phantoms
from clickseg.plots import plot_turns

CLICKS = (1, 2, 3, 5)
# file -> structure, slice, caption
PICTURES = {
    "clicks_known.png": ("left kidney", 36, "an organ of the training: the left kidney"),
    "clicks_unknown.png": ("spine", 3, "a structure that no training has shown: a vertebra"),
}


def main() -> None:
    """Play and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=shipped_weights("unet2d"))
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[1] / "docs/images")
    arguments = parser.parse_args()
    model = load_model(arguments.weights)
    protocol = Protocol(clicks=CLICKS)
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(folder)
        (case,) = CaseFolder.read(folder).cases
        game = Game(model.segmenter, model.recipe.spacing, case)
        for name, (structure, number, caption) in PICTURES.items():
            task = Task(case, number, structure, LABELS[structure])
            image, truth = game.stack([task])
            turns = [(turn.masks[0], turn.clicks[0]) for turn in game.turns([task], protocol, "cpu")]
            plot_turns(image[0, 0].numpy(), truth[0, 0].numpy(), turns, caption, arguments.output / name)


if __name__ == "__main__":
    main()
