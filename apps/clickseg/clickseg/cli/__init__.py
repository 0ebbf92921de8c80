"""The command line: `clickseg --help`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from .. import __version__
from .demo import add_demo_ohif
from .evaluate import add_evaluate
from .experiment import add_experiment
from .importing import add_import
from .pack import add_pack_bundle
from .predict import add_predict
from .train import add_collect, add_import_nnunet, add_plan, add_train
from .use import add_phantom, add_preview, add_serve

__all__ = ["main"]

COMMANDS = (
    add_serve, add_demo_ohif, add_import, add_predict, add_preview, add_phantom,
    add_collect, add_plan, add_train, add_import_nnunet, add_evaluate, add_experiment, add_pack_bundle,
)  # fmt: skip

STOPPED = 128 + signal.SIGINT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="clickseg", description="Click-based segmentation of medical images.")
    parser.add_argument("--version", action="version", version=f"clickseg {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    parser.set_defaults(goes_on="")  # how a command that was stopped goes on, where it has no --resume
    return parser


def _with_clicks_attached(argv: Sequence[str]) -> list[str]:
    """`--click -3,4,5` -> `--click=-3,4,5`: argparse takes a click that begins with a minus for an option."""
    attached: list[str] = []
    for text in argv:
        if attached and attached[-1] == "--click":
            attached[-1] += f"={text}"
        else:
            attached.append(text)
    return attached


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status.

    0; with a sentence on standard error 2 for bad input or a place that cannot be written, 1 for an experiment that
    failed and for a folder of images of which some could not be read or predicted, and 130, as shells have it, for
    what was stopped with Ctrl-C.
    """
    arguments = _parser().parse_args(_with_clicks_attached(sys.argv[1:] if argv is None else argv))
    try:
        return arguments.run(arguments) or 0
    except (ValueError, OSError) as error:  # the latter for a folder that cannot be written, or a full disk
        print(f"clickseg {arguments.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        goes_on = "the same command with --resume goes on" if hasattr(arguments, "resume") else arguments.goes_on
        print(f"\nclickseg {arguments.command}: stopped{goes_on and f'; {goes_on}'}", file=sys.stderr)
        return STOPPED
