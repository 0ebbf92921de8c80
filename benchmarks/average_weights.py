"""The mean of several weights of one recipe, as a weights file: what a training may start from.

python benchmarks/average_weights.py FIRST.pt SECOND.pt ... --output MEAN.pt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from clickseg.methods import load_model, save_weights


def main() -> None:
    """Average, and write with the card of the last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    models = [load_model(path) for path in arguments.weights]
    states = [model.segmenter.state_dict() for model in models]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in states[-1].items()
    }
    last = models[-1]
    last.segmenter.load_state_dict(mean)
    save_weights(arguments.output, last.segmenter, last.recipe, last.card)


if __name__ == "__main__":
    main()
