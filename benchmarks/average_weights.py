"""A mean of weights of one method, as a weights file: what a training may start from.

python benchmarks/average_weights.py FIRST.pt SECOND.pt ... --output MEAN.pt [--shares 0.5,0.5] [--set click_margin=1.0]
    [--encoder WEIGHTS.pt]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from clickseg.experiments import parse_choice
from clickseg.methods import load_model, save_weights


def main() -> None:
    """Average, and write with the recipe and card of the last, whose network adopts the others' weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="+", type=Path)
    parser.add_argument("--shares", help="of each, in their order, adding up to 1 (default: all the same)")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--set", metavar="field=value", action="append", default=[], help="of the recipe; no training")
    parser.add_argument("--encoder", type=Path, help="weights of tis whose encoder is taken as it is")
    arguments = parser.parse_args()
    count = len(arguments.weights)
    shares = [float(share) for share in arguments.shares.split(",")] if arguments.shares else [1 / count] * count
    if len(shares) != count or abs(sum(shares) - 1) > 1e-6:
        parser.error(f"--shares {arguments.shares}: wanted {count} numbers that add up to 1")
    models = [load_model(path) for path in arguments.weights]
    last = models[-1]
    states = [last.segmenter.adopt(model.segmenter.state_dict(), model.recipe) for model in models]
    mean = {
        name: sum(share * state[name] for share, state in zip(shares, states, strict=True))
        if value.is_floating_point()
        else value
        for name, value in states[-1].items()
    }
    if arguments.encoder:
        theirs = load_model(arguments.encoder).segmenter.state_dict()
        mean |= {name: value for name, value in theirs.items() if name.startswith("encoder.")}
    last.segmenter.load_state_dict(mean)
    fields = {name: value for choice in arguments.set for name, value in parse_choice(choice)[1].items()}
    save_weights(arguments.output, last.segmenter, replace(last.recipe, **fields), last.card)


if __name__ == "__main__":
    main()
