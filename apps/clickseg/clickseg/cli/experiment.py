"""`clickseg experiment`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import DATA_HELP, DOWNLOAD_HELP, RECIPE_HELP, WEIGHTS_HELP, at_least, parse_numbers

if TYPE_CHECKING:  # torch and monai take seconds to import: help and mistakes are answered without them
    from ..experiments import Budget, Job


def add_experiment(commands: Any) -> None:
    """Options of `clickseg experiment`."""
    experiment = commands.add_parser("experiment", help="many trainings and tests, and a report of them")
    kinds = experiment.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")
    sakinis = kinds.add_parser("sakinis", help="section IV of Sakinis et al. 2019, its figures beside ours")
    sakinis.set_defaults(run=_sakinis)
    _add_experiment_options(sakinis)
    _add_limits(sakinis)
    sakinis.add_argument(
        "--folds", type=int, default=3, help="folds of the cross-validation (default: %(default)s; the paper: 10)"
    )
    sakinis.add_argument(
        "--k", default="1,5,15", help="training interactions (default: %(default)s; the paper: 1,2,5,10,15)"
    )
    sakinis.add_argument("--known", metavar="DIR", help="another data set with structures that are trained on")
    sakinis.add_argument("--unknown", metavar="DIR", help="a data set with a structure that is not trained on")
    sakinis.add_argument("--leave-out", help="organs to train once without, and test on: a,b")
    _add_rivals(sakinis, "train the U-Net without clicks, and MONAI's DeepGrow, as long")
    sakinis.add_argument("--no-baselines", action="store_true", help="leave out the methods that need no training")

    weights = kinds.add_parser(
        "weights", help="what weights of unet2d are worth: every user, every baseline, every click"
    )
    weights.set_defaults(run=_weights)
    _add_experiment_options(weights, trains=False)
    _add_limits(weights)
    weights.add_argument("--weights", help=WEIGHTS_HELP)
    weights.add_argument("--unknown", metavar="DIR", help="a data set with a structure that they were not trained on")
    weights.add_argument("--users", help="who clicks beside sakinis: a,b (default: all others; none: '')")
    weights.add_argument("--no-baselines", action="store_true", help="leave out the methods that need no training")

    tis = kinds.add_parser("tis", help="section 4 of Liu et al. 2022, its figures beside ours")
    tis.set_defaults(run=_tis)
    _add_experiment_options(tis)
    tis.set_defaults(limit=None, limit_elsewhere=None)  # volumes are played whole
    tis.add_argument("--test", required=True, help="ids to test on: a,b,c or a file; the others are trained on")
    tis.add_argument("--seeds", default="0,1,2,3,4", help="seeds of the simulated user (default: %(default)s)")
    tis.add_argument("--encoder", metavar="WEIGHTS", help="weights of tis whose encoder is taken as it is")
    _add_rivals(tis, "train MONAI's DeepEdit, as long as both stages together")
    tis.add_argument("--no-arms", action="store_true", help="leave out the ablation (Table 2)")

    ablation = kinds.add_parser("ablation", help="what each choice of a recipe is worth")
    ablation.set_defaults(run=_ablation, rival_minutes=None)
    _add_experiment_options(ablation)
    _add_limits(ablation)
    ablation.add_argument("--test", required=True, help="ids to test on: a,b,c or a file; the others are trained on")
    ablation.add_argument(
        "--vary", action="append", metavar="field=value", help="a choice to test (default: those of the ADRs)"
    )


def _add_rivals(experiment: argparse.ArgumentParser, who: str) -> None:
    experiment.add_argument("--rivals", action="store_true", help=who)
    minutes = "minutes of each training of a rival (default: as long as ours, in epochs or minutes)"
    experiment.add_argument("--rival-minutes", type=float, help=minutes)


def _add_experiment_options(experiment: argparse.ArgumentParser, trains: bool = True) -> None:
    experiment.add_argument("--data", required=True, help=DATA_HELP)
    experiment.add_argument("--download", action="store_true", help=DOWNLOAD_HELP)
    experiment.add_argument("--output", required=True, help="folder for models, reports, logs and report.md")
    experiment.add_argument("--cases", help="ids to use: a,b,c or a file with one per line (default: all)")
    if trains:
        experiment.add_argument("--recipe", help=f"{RECIPE_HELP} (default: the method's own)")
        experiment.add_argument(
            "--epochs-per-run", type=int, default=10, help="epochs of each training (default: %(default)s)"
        )
        experiment.add_argument("--minutes-per-run", type=float, help="minutes of each training, instead of epochs")
        experiment.add_argument(
            "--data-parallel",
            action="store_true",
            help="all GPUs work on one training after the other, instead of one training on each GPU",
        )
    else:
        experiment.set_defaults(data_parallel=False)
    experiment.add_argument(
        "--workers", type=at_least(1), default=1, help="processes of each test on a CPU (default: %(default)s)"
    )
    experiment.add_argument(
        "--gpus", help="ids of GPUs, a,b,c, each with a job of its own (default: one job at a time)"
    )
    experiment.add_argument("--resume", action="store_true", help="continue the experiment in --output")


def _add_limits(experiment: argparse.ArgumentParser) -> None:
    most = "most slices per label in each test{} (default: %(default)s; 0: all)"
    experiment.add_argument("--limit", type=int, default=28, help=most.format(""))
    experiment.add_argument("--limit-elsewhere", type=int, default=100, help=most.format(" on another data set"))


def _sakinis(arguments: argparse.Namespace) -> int:
    from ..experiments import Design, plan_jobs, write_sakinis_report

    design = Design(
        data=Path(arguments.data),
        cases=_cases(arguments),
        budget=_budget(arguments),
        folds=arguments.folds,
        ks=parse_numbers(arguments.k, "--k"),
        recipe=arguments.recipe,
        known=arguments.known and Path(arguments.known),
        unknown=arguments.unknown and Path(arguments.unknown),
        leave_out=tuple(arguments.leave_out.split(",")) if arguments.leave_out else (),
        baselines=not arguments.no_baselines,
        rivals=arguments.rivals,
    )
    jobs = plan_jobs(design, Path(arguments.output))
    return _run_experiment(arguments, jobs, partial(write_sakinis_report, design))


def _ablation(arguments: argparse.Namespace) -> int:
    from ..datasets import read_ids
    from ..experiments import Ablation, parse_choice, plan_ablation, write_ablation_report

    choices = {"choices": dict(map(parse_choice, arguments.vary))} if arguments.vary else {}
    design = Ablation(
        data=Path(arguments.data),
        cases=_cases(arguments),
        test=tuple(read_ids(arguments.test) or ()),
        budget=_budget(arguments),
        recipe=arguments.recipe,
        **choices,
    )
    jobs = plan_ablation(design, Path(arguments.output))
    return _run_experiment(arguments, jobs, partial(write_ablation_report, design))


def _weights(arguments: argparse.Namespace) -> int:
    from ..evaluation import open_player
    from ..experiments import Budget, Examination, plan_examination, write_examination_report
    from ..methods import weights_file

    weights = weights_file(arguments.weights, "unet2d")
    open_player("unet2d", weights)  # what is no such weights file is said before hours of games
    named = arguments.users is not None
    users = {"users": tuple(user for user in arguments.users.split(",") if user)} if named else {}
    design = Examination(
        data=Path(arguments.data),
        weights=weights,
        cases=_cases(arguments),
        budget=_slices(arguments, Budget()),
        unknown=arguments.unknown and Path(arguments.unknown),
        baselines=not arguments.no_baselines,
        **users,
    )
    jobs = plan_examination(design, Path(arguments.output))
    return _run_experiment(arguments, jobs, partial(write_examination_report, design))


def _tis(arguments: argparse.Namespace) -> int:
    from ..datasets import CaseFolder, read_ids
    from ..experiments import TisDesign, plan_tis, write_tis_report
    from ..methods import weights_file

    ids = [case.id for case in CaseFolder.read(arguments.data, _cases(arguments)).cases]
    test = tuple(read_ids(arguments.test) or ())
    design = TisDesign(
        data=Path(arguments.data),
        train=tuple(name for name in ids if name not in test),
        test=test,
        budget=_budget(arguments),
        recipe=arguments.recipe,
        seeds=parse_numbers(arguments.seeds, "--seeds"),
        arms=not arguments.no_arms,
        rivals=arguments.rivals,
        encoder=arguments.encoder and weights_file(arguments.encoder, "tis"),
    )
    jobs = plan_tis(design, Path(arguments.output))
    return _run_experiment(arguments, jobs, partial(write_tis_report, design))


def _cases(arguments: argparse.Namespace) -> tuple[str, ...] | None:
    """The ids that are named, of data that is there now."""
    from ..datasets import download_task, read_ids

    if arguments.download:
        download_task(arguments.data)
    cases = read_ids(arguments.cases)
    return tuple(cases) if cases else None


def _budget(arguments: argparse.Namespace) -> Budget:
    from ..experiments import Budget

    minutes = arguments.minutes_per_run
    epochs = arguments.epochs_per_run if minutes is None else None
    return _slices(arguments, Budget(epochs, minutes, rival_minutes=arguments.rival_minutes))


def _slices(arguments: argparse.Namespace, budget: Budget) -> Budget:
    limit, elsewhere = arguments.limit or None, arguments.limit_elsewhere or None
    return dataclasses.replace(budget, limit=limit, elsewhere=elsewhere, workers=arguments.workers)


def _run_experiment(
    arguments: argparse.Namespace, jobs: Sequence[Job], write_report: Callable[[Sequence[Job], Path], Path]
) -> int:
    """Exit status 1 if a job failed; the report is written all the same, of what there is."""
    from ..experiments import ExperimentError, run_jobs

    output = Path(arguments.output)
    gpus = arguments.gpus.split(",") if arguments.gpus else []
    status = 0
    try:
        run_jobs(jobs, output, arguments.resume, gpus, data_parallel=arguments.data_parallel)
    except ExperimentError as error:
        print(f"clickseg experiment: {error}", file=sys.stderr)
        status = 1
    print(f"report: {write_report(jobs, output)}")
    return status
