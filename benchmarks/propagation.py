"""One click, one organ: the volume Dice that propagation reaches from a single click in the organ's largest slice.

    python benchmarks/propagation.py --data DIR --cases img0010,img0021 [--labels liver,spleen] [--output FOLDER]

The click is the innermost point of the organ there.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from clickseg.clicks import Click
from clickseg.clicks.users import innermost
from clickseg.datasets import CaseFolder, read_ids
from clickseg.images import read_volume
from clickseg.methods import load_model, shipped_weights
from clickseg.metrics import dice
from clickseg.sessions import Session, SessionCache
from publish import publish


def first_click(session: Session, truth: NDArray[np.bool_]) -> Click:
    """The innermost point of the largest slice."""
    slices = session.slices
    count = truth.shape[slices.axis]
    number = int(np.argmax([slices.view(truth, index).sum() for index in range(count)]))
    where = np.zeros(truth.shape, bool)
    slices.view(where, number)[innermost(np.ascontiguousarray(slices.view(truth, number)), slices.spacing)] = True
    i, j, k = (int(index) for index in np.argwhere(where)[0])
    return Click((i, j, k), 1)


def measure(session: Session, name: str, truth: NDArray[np.bool_]) -> dict[str, Any]:
    """Of one organ: its Dice, and how many slices were missed and added."""
    click = first_click(session, truth)
    mask = session.predict([click], reach=truth.shape[session.axis], name=name) > 0
    others = tuple(axis for axis in range(3) if axis != session.axis)
    held, marked = truth.any(others), mask.any(others)
    return {
        "click": list(click.position),
        "dice": float(dice(mask, truth)),
        "slices": int(held.sum()),
        "missed": int((held & ~marked).sum()),
        "added": int((marked & ~held).sum()),
    }


def markdown(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = ["| organ | Dice | of the cases | slices missed | added | slices |", "|---|---|---|---|---|---|"]
    for name, found in report["organs"].items():
        dices = [case["dice"] for case in found.values()]
        sums = [sum(case[key] for case in found.values()) for key in ("missed", "added", "slices")]
        each = ", ".join(f"{value:.3f}" for value in dices)
        lines.append(f"| {name} | **{np.mean(dices):.3f}** | {each} | {' | '.join(map(str, sums))} |")
    head = f"One click in the largest slice of each organ, {report['weights']}, {', '.join(report['cases'])}."
    return "\n".join(["# Propagation", "", head, "", *lines])


def main() -> None:
    """Measure and write propagation.md and propagation.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--cases", help="a,b,c or a file with one id per line (default: all)")
    parser.add_argument("--labels", help="a,b,c (default: all)")
    parser.add_argument("--weights", type=Path, default=shipped_weights("unet2d"))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    folder = CaseFolder.read(options.data, read_ids(options.cases))
    labels = folder.labels or load_model(options.weights).recipe.labels
    names = options.labels.split(",") if options.labels else list(labels)
    organs: dict[str, dict[str, Any]] = {name: {} for name in names}
    for case in tqdm(folder.cases, unit="case"):
        session = SessionCache().open(case.image, options.weights)
        assert isinstance(session, Session)
        label, _ = read_volume(case.label)
        for name in names:
            truth = label == labels[name]
            if truth.any():
                organs[name][case.id] = measure(session, name, truth)
    report = {
        "schema": 1,
        "weights": options.weights.name,
        "cases": [case.id for case in folder.cases],
        "organs": organs,
    }
    publish("propagation", markdown(report), report, options.output)


if __name__ == "__main__":
    main()
