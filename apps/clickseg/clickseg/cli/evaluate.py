"""`clickseg evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import AUTO_DEVICE_HELP, DATA_HELP, DOWNLOAD_HELP, WEIGHTS_HELP, at_least, parse_numbers

METHOD_HELP = (
    "unet2d (default) or tis; a rival: automatic, deepgrow, deepedit; a baseline: disc, random_walker, grabcut, "
    "graph_cut, tis_ball, tis_rule"
)
USER_HELP = "who clicks: sakinis, liu, liu_faces, deterministic, jittered, static or wrong"


def add_evaluate(commands: Any) -> None:
    """Options of `clickseg evaluate`."""
    evaluate = commands.add_parser("evaluate", help="let a simulated user click on labelled studies and measure")
    evaluate.set_defaults(run=_evaluate)
    evaluate.add_argument("--method", default="unet2d", help=METHOD_HELP)
    evaluate.add_argument("--data", required=True, help=DATA_HELP)
    evaluate.add_argument("--download", action="store_true", help=DOWNLOAD_HELP)
    evaluate.add_argument("--cases", help="ids to evaluate: a,b,c or a file with one per line (default: all)")
    evaluate.add_argument(
        "--labels", help="structures to evaluate: a,b,c, or a=6 where nobody names its value (default: all)"
    )
    evaluate.add_argument("--weights", help=WEIGHTS_HELP)
    evaluate.add_argument(
        "--clicks",
        default="1,2,5,10,15",
        help="after how many clicks to measure (default: %(default)s; 0: before the first; all from 1 to 20: for NoC)",
    )
    evaluate.add_argument("--user", help=f"{USER_HELP} (default: sakinis, and liu in 3D)")
    evaluate.add_argument("--seed", type=at_least(0), default=0, help="seed of user and slices (default: %(default)s)")
    evaluate.add_argument("--limit", type=int, help="most slices per label, drawn by the seed (default: all)")
    evaluate.add_argument("--separately", action="store_true", help="3D: a game for each structure, not one for all")
    evaluate.add_argument("--unnamed", action="store_true", help="do not tell weights what each structure is called")
    evaluate.add_argument("--workers", type=at_least(1), default=1, help="processes on a CPU (default: %(default)s)")
    evaluate.add_argument("--device", default="auto", help=AUTO_DEVICE_HELP)
    evaluate.add_argument("--output", required=True, help="folder for report.json, curves.png and overlays")
    evaluate.add_argument("--resume", action="store_true", help="continue the evaluation in --output")


def _evaluate(arguments: argparse.Namespace) -> None:
    from ..datasets import download_task, read_ids
    from ..evaluation import Protocol, evaluate
    from ..evaluation.tasks import default_user
    from ..machine import keep_freed_memory
    from ..methods import METHODS, dimension_of, weights_file
    from ..plots import plot_curves, plot_examples

    keep_freed_memory()
    names, values = _named_values(arguments.labels)
    protocol = Protocol(
        clicks=parse_numbers(arguments.clicks, "--clicks"),
        user=arguments.user or default_user(dimension_of(arguments.method)),
        seed=arguments.seed,
        limit=arguments.limit,
        labels=names,
        values=values,
        separately=arguments.separately,
        named=not arguments.unnamed,
    )
    weights = weights_file(arguments.weights, arguments.method) if arguments.method in METHODS else arguments.weights
    if arguments.download:
        download_task(arguments.data)
    output = Path(arguments.output)
    done = evaluate(
        arguments.method,
        weights,
        arguments.data,
        output,
        protocol,
        cases=read_ids(arguments.cases),
        device=arguments.device,
        workers=arguments.workers,
        resume=arguments.resume,
    )
    curves = output / "curves.png"
    if not (done.before and curves.exists()):  # drawn last: then all pictures are there
        plot_examples(done, output)
        plot_curves(done.report, curves)
    for clicks, values in done.report["mean"].items():
        low, high = done.report["interval"][clicks]["dice"]
        interval = "" if None in (low, high) else f" [{low:.4f}, {high:.4f}]"  # of very few patients there is none
        print(f"{clicks:>3} clicks: Dice {values['dice']:.4f}{interval}  MAD {values['mad_mm']} mm")
    print(f"report: {output / 'report.json'}{' (finished before: nothing was played)' if done.before else ''}")


def _named_values(text: str | None) -> tuple[tuple[str, ...] | None, dict[str, int]]:
    """`a,b=6` -> (a, b), {b: 6}."""
    if not text:
        return None, {}
    pairs = [item.partition("=") for item in text.split(",")]
    wrong = [f"{name}={value}" for name, equals, value in pairs if equals and not value.isdecimal()]
    if wrong:
        raise ValueError(f"--labels {text}: {', '.join(wrong)} should be a name, or a name=value such as liver=6")
    return tuple(name for name, *_ in pairs), {name: int(value) for name, equals, value in pairs if equals}
