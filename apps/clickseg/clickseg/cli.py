"""The command line: `clickseg --help`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__

if TYPE_CHECKING:  # torch and monai take seconds to import: help and mistakes are answered without them
    from .clicks import Click
    from .experiments import Budget, Job
    from .geometry import Grid


RECIPE_HELP = "one of the method's (paper, practical), or a JSON file with its fields; default: that of --init, if any"
DOWNLOAD_HELP = "fetch --data first: DIR/Task09_Spleen, or another task of the Medical Segmentation Decathlon"


def _train(arguments: argparse.Namespace) -> None:
    from .datasets import CaseFolder, download_task, read_ids
    from .machine import keep_freed_memory
    from .methods import find_method
    from .training import Plan, build_trainer

    keep_freed_memory()
    method = find_method(arguments.method)
    if arguments.download:
        download_task(arguments.data)
    folder = CaseFolder.read(arguments.data, read_ids(arguments.cases))
    recipe: Any = _recipe(method, arguments).with_labels(folder.labels or folder.found_labels())
    if arguments.stage:
        recipe = recipe.of_stage(arguments.stage)
    neither = arguments.epochs is None and arguments.minutes is None
    plan = Plan(
        output=arguments.output,
        epochs=100 if neither else arguments.epochs,
        minutes=arguments.minutes,
        resume=arguments.resume,
        init=arguments.init,
        device=arguments.device,
        workers=arguments.workers,
        cache_gb=arguments.cache_gb,
        card={
            "method": arguments.method,
            "data": Path(arguments.data).resolve().name,
            "cases": [case.id for case in folder.cases],
        },
    )
    build_trainer(arguments.method, recipe, folder.cases, plan).run()


def _recipe(method: Any, arguments: argparse.Namespace) -> Any:
    """The recipe that is named, else that of the weights to start from, else the method's own."""
    from .methods.weights import read_file

    if arguments.recipe:
        return method.recipe.find(arguments.recipe)
    stored = read_file(arguments.init)["recipe"] if arguments.init else {}
    kept = method.recipe.from_dict(stored)
    return kept if "labels" in kept.fixed else dataclasses.replace(kept, labels={})


def _evaluate(arguments: argparse.Namespace) -> None:
    from .datasets import download_task, read_ids
    from .evaluation import Protocol, evaluate
    from .machine import keep_freed_memory
    from .plots import plot_curves, plot_examples

    keep_freed_memory()
    protocol = Protocol(
        clicks=_numbers(arguments.clicks, "--clicks"),
        user=arguments.user,
        seed=arguments.seed,
        limit=arguments.limit,
        labels=tuple(arguments.labels.split(",")) if arguments.labels else None,
    )
    if arguments.download:
        download_task(arguments.data)
    output = Path(arguments.output)
    done = evaluate(
        arguments.method,
        arguments.weights,
        arguments.data,
        output,
        protocol,
        cases=read_ids(arguments.cases),
        device=arguments.device,
        workers=arguments.workers,
    )
    plot_curves(done.report, output / "curves.png")
    plot_examples(done, output)
    for clicks, values in done.report["mean"].items():
        low, high = done.report["interval"][clicks]["dice"]
        print(f"{clicks:>3} clicks: Dice {values['dice']:.4f} [{low:.4f}, {high:.4f}]  MAD {values['mad_mm']} mm")
    print(f"report: {output / 'report.json'}")


def _sakinis(arguments: argparse.Namespace) -> int:
    from .experiments import Design, plan_jobs, write_sakinis_report

    cases, budget = _cases_and_budget(arguments)
    design = Design(
        data=Path(arguments.data),
        budget=budget,
        folds=arguments.folds,
        ks=_numbers(arguments.k, "--k"),
        recipe=arguments.recipe,
        known=arguments.known and Path(arguments.known),
        unknown=arguments.unknown and Path(arguments.unknown),
        leave_out=tuple(arguments.leave_out.split(",")) if arguments.leave_out else (),
        baselines=not arguments.no_baselines,
        rivals=arguments.rivals,
        cases=cases,
    )
    jobs = plan_jobs(design, Path(arguments.output))
    return _run_experiment(arguments, jobs, partial(write_sakinis_report, design))


def _ablation(arguments: argparse.Namespace) -> int:
    from .datasets import read_ids
    from .experiments import Ablation, parse_choice, plan_ablation, write_ablation_report

    cases, budget = _cases_and_budget(arguments)
    choices = {"choices": dict(map(parse_choice, arguments.vary))} if arguments.vary else {}
    design = Ablation(
        data=Path(arguments.data),
        test=tuple(read_ids(arguments.test) or ()),
        budget=budget,
        recipe=arguments.recipe,
        cases=cases,
        **choices,
    )
    jobs = plan_ablation(design, Path(arguments.output))
    return _run_experiment(arguments, jobs, partial(write_ablation_report, design))


def _tis(arguments: argparse.Namespace) -> int:
    from .datasets import CaseFolder, read_ids
    from .experiments import TisDesign, plan_tis, write_tis_report

    cases, budget = _cases_and_budget(arguments)
    ids = [case.id for case in CaseFolder.read(arguments.data, cases).cases]
    test = tuple(read_ids(arguments.test) or ())
    design = TisDesign(
        data=Path(arguments.data),
        train=tuple(name for name in ids if name not in test),
        test=test,
        budget=dataclasses.replace(budget, limit=None),
        recipe=arguments.recipe,
        seeds=_numbers(arguments.seeds, "--seeds"),
        arms=not arguments.no_arms,
        rivals=arguments.rivals,
        encoder=arguments.encoder and Path(arguments.encoder),
    )
    jobs = plan_tis(design, Path(arguments.output))
    return _run_experiment(arguments, jobs, partial(write_tis_report, design))


def _cases_and_budget(arguments: argparse.Namespace) -> tuple[tuple[str, ...] | None, Budget]:
    from .datasets import download_task, read_ids
    from .experiments import Budget

    if arguments.download:
        download_task(arguments.data)
    cases = read_ids(arguments.cases)
    minutes = arguments.minutes_per_run
    epochs = arguments.epochs_per_run if minutes is None else None
    budget = Budget(epochs, minutes, limit=arguments.limit or None, workers=arguments.workers)
    return tuple(cases) if cases else None, budget


def _run_experiment(
    arguments: argparse.Namespace, jobs: Sequence[Job], write_report: Callable[[Sequence[Job], Path], Path]
) -> int:
    """Exit status 1 if a job failed; the report is written all the same, of what there is."""
    from .experiments import ExperimentError, run_jobs

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


def _predict(arguments: argparse.Namespace) -> None:
    import numpy as np

    from .images import is_nifti, write_mask
    from .machine import keep_freed_memory, pick_device
    from .methods import shipped_weights
    from .sessions import SessionCache

    keep_freed_memory()
    if not is_nifti(arguments.output):
        raise ValueError(f"--output must end in .nii or .nii.gz, got {arguments.output}")
    weights = arguments.weights or shipped_weights(arguments.method)
    session = SessionCache().open(arguments.image, weights, pick_device(arguments.device))
    clicks = [parse_click(text, session.grid, arguments.ras) for text in arguments.click]
    mask = session.predict(clicks)
    write_mask(arguments.output, mask, session.grid)
    millilitres = mask.sum() * abs(np.linalg.det(session.grid.affine[:3, :3])) / 1000
    print(f"{arguments.output}: {int(mask.sum())} voxels, {millilitres:.2f} ml")


def parse_click(text: str, grid: Grid, ras: bool) -> Click:
    """`x,y,z[:label]` -> Click; voxel indices, or with `ras` mm that are rounded to the nearest voxel."""
    from .clicks import Click

    position, _, label = text.partition(":")
    try:
        numbers = [float(number) for number in position.split(",")]
        sign = int(label or 1)
    except ValueError as error:
        raise ValueError(f"click {text!r} is not of the form x,y,z or x,y,z:label") from error
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"click {text!r} needs three finite numbers x,y,z")
    if ras:
        numbers = [float(round(index)) for index in grid.from_ras([numbers])[0]]
    if any(number != int(number) for number in numbers):
        raise ValueError(f"click {text!r}: voxel indices are whole numbers (use --ras for mm)")
    return Click(tuple(int(number) for number in numbers), sign)


def _phantom(arguments: argparse.Namespace) -> None:
    from .phantom import write_phantoms

    for path in write_phantoms(arguments.output, cases=arguments.cases, seed=arguments.seed):
        print(path)


def _serve(arguments: argparse.Namespace) -> None:
    from .phantom import write_phantoms

    app = app_folder()
    studies = arguments.studies
    if studies is None:
        folder = Path.home() / ".local" / "share" / "clickseg" / "phantom"
        write_phantoms(folder)
        studies = str(folder / "imagesTr")
    elif not studies.startswith(("http://", "https://")) and not Path(studies).is_dir():
        raise ValueError(f"--studies: no folder {studies} (a folder of images, or the URL of a DICOMweb server)")
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app), "--studies", studies]
    command += ["--host", arguments.host, "--port", str(arguments.port)]
    for pair in arguments.conf or []:
        command += ["--conf", *pair]
    print(f"clickseg: serving {studies} on http://{arguments.host}:{arguments.port}/ (OHIF: /ohif/)", flush=True)
    os.environ.setdefault("MONAI_LABEL_TRACKING_ENABLED", "false")
    os.execv(sys.executable, command)


def app_folder() -> Path:
    """The MONAI Label app that this library lies in. ValueError for an installation without it."""
    app = Path(__file__).resolve().parents[1]
    if not (app / "main.py").exists():
        raise ValueError("the server app is not beside the library: run from a clone of the project (pip install -e .)")
    return app


def _import_nnunet(arguments: argparse.Namespace) -> None:
    from .nnunet import import_nnunet

    options = {name: getattr(arguments, name) for name in ("fold", "checkpoint", "orientation")}
    recipe = import_nnunet(arguments.folder, arguments.output, **options)
    print(f"{arguments.output}: {', '.join(recipe.labels)}; patches of {recipe.patch} voxels of {recipe.spacing} mm")


def _plan(arguments: argparse.Namespace) -> None:
    from .datasets import download_task, read_ids
    from .planning import plan_recipe

    if arguments.download:
        download_task(arguments.data)
    recipe = plan_recipe(arguments.data, arguments.patch_voxels, read_ids(arguments.cases))
    output = Path(arguments.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(recipe.to_dict(), indent=1) + "\n")
    for name in ("labels", "modality", "spacing", "patch", "window", "mean", "deviation"):
        print(f"{name}: {getattr(recipe, name)}")


def _numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise ValueError(f"{option}: {text!r} is not a list of whole numbers such as 1,2,5") from error


def _add_train(commands: Any) -> None:
    train = commands.add_parser("train", help="train a method on labelled studies")
    train.set_defaults(run=_train)
    train.add_argument("--method", default="unet2d", help="or a rival: automatic, deepgrow, deepedit")
    train.add_argument("--data", required=True, help="folder with imagesTr/ and labelsTr/")
    train.add_argument("--download", action="store_true", help=DOWNLOAD_HELP)
    train.add_argument("--output", required=True, help="folder for checkpoint, weights, log and curves")
    train.add_argument("--cases", help="ids to train on: a,b,c or a file with one per line (default: all)")
    train.add_argument("--recipe", help=RECIPE_HELP)
    train.add_argument("--stage", help="of tis: encoder, then refiner with --init")
    train.add_argument("--epochs", type=int)
    train.add_argument("--minutes", type=float)
    train.add_argument("--init", help="weights to start from")
    train.add_argument("--resume", action="store_true", help="continue from the checkpoint in --output")
    train.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    train.add_argument("--workers", type=int, default=0, help="data loader processes")
    train.add_argument(
        "--cache-gb", type=float, default=50.0, help="of tis: the most that the encoder's codes may take"
    )


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="let a simulated user click on labelled studies and measure")
    evaluate.set_defaults(run=_evaluate)
    evaluate.add_argument("--method", default="unet2d", help="a method, a rival or a baseline")
    evaluate.add_argument("--data", required=True, help="folder with imagesTr/ and labelsTr/")
    evaluate.add_argument("--download", action="store_true", help=DOWNLOAD_HELP)
    evaluate.add_argument("--cases", help="ids to evaluate: a,b,c or a file with one per line (default: all)")
    evaluate.add_argument("--labels", help="structures to evaluate: a,b,c (default: all of the data)")
    evaluate.add_argument("--weights", help="weights file (default: the shipped one)")
    evaluate.add_argument(
        "--clicks", default="1,2,5,10,15", help="when to measure (0: before the first; 1 to 20: for NoC)"
    )
    evaluate.add_argument("--user", default="sakinis", help="who clicks")
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument("--limit", type=int, help="at most so many slices per label, drawn by the seed")
    evaluate.add_argument("--workers", type=int, default=1, help="processes on a CPU")
    evaluate.add_argument("--device", default="auto")
    evaluate.add_argument("--output", required=True, help="folder for report.json, curves.png and overlays")


def _add_experiment(commands: Any) -> None:
    experiment = commands.add_parser("experiment", help="many trainings and tests, and a report of them")
    kinds = experiment.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")
    sakinis = kinds.add_parser("sakinis", help="section IV of Sakinis et al. 2019, its figures beside ours")
    sakinis.set_defaults(run=_sakinis)
    _add_experiment_options(sakinis)
    sakinis.add_argument("--folds", type=int, default=3, help="of the cross-validation (the paper: 10)")
    sakinis.add_argument("--k", default="1,5,15", help="training interactions (the paper: 1,2,5,10,15)")
    sakinis.add_argument("--known", metavar="DIR", help="another data set with structures that are trained on")
    sakinis.add_argument("--unknown", metavar="DIR", help="a data set with a structure that is not")
    sakinis.add_argument("--leave-out", help="organs to train once without, and test on: a,b")
    sakinis.add_argument(
        "--rivals",
        action="store_true",
        help="train the U-Net without clicks, and MONAI's DeepGrow, as long",
    )
    sakinis.add_argument("--no-baselines", action="store_true", help="leave out the methods that need no training")

    tis = kinds.add_parser("tis", help="section 4 of Liu et al. 2022, its figures beside ours")
    tis.set_defaults(run=_tis)
    _add_experiment_options(tis)
    tis.add_argument("--test", required=True, help="ids to test on: a,b,c or a file; the others are trained on")
    tis.add_argument("--seeds", default="0,1,2,3,4", help="of the simulated user")
    tis.add_argument("--encoder", metavar="WEIGHTS", help="weights of tis whose encoder is taken as it is")
    tis.add_argument("--rivals", action="store_true", help="train MONAI's DeepEdit, as long as both stages together")
    tis.add_argument("--no-arms", action="store_true", help="leave out the ablation (Table 2)")

    ablation = kinds.add_parser("ablation", help="what each choice of a recipe is worth")
    ablation.set_defaults(run=_ablation)
    _add_experiment_options(ablation)
    ablation.add_argument("--test", required=True, help="ids to test on: a,b,c or a file; the others are trained on")
    ablation.add_argument("--vary", action="append", metavar="field=value", help="(default: the choices of the ADRs)")


def _add_experiment_options(experiment: argparse.ArgumentParser) -> None:
    experiment.add_argument("--data", required=True, help="folder with imagesTr/ and labelsTr/")
    experiment.add_argument("--download", action="store_true", help=DOWNLOAD_HELP)
    experiment.add_argument("--output", required=True, help="folder for models, reports, logs and report.md")
    experiment.add_argument("--cases", help="ids to use: a,b,c or a file with one per line (default: all)")
    experiment.add_argument("--recipe", help="paper, practical, or a JSON file with recipe fields")
    experiment.add_argument("--epochs-per-run", type=int, default=10, help="of each training")
    experiment.add_argument("--minutes-per-run", type=float, help="of each training, instead of epochs")
    experiment.add_argument("--limit", type=int, default=28, help="slices per label in each test; 0: all")
    experiment.add_argument("--workers", type=int, default=1, help="processes of each test on a CPU")
    experiment.add_argument("--gpus", help="ids: one job runs on each at a time")
    experiment.add_argument("--data-parallel", action="store_true", help="each training on all the GPUs instead")
    experiment.add_argument("--resume", action="store_true", help="continue the experiment in --output")


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser("predict", help="one image and some clicks to a mask, or a label map")
    predict.set_defaults(run=_predict)
    predict.add_argument("image", help="NIfTI file, DICOM folder, or what ITK reads")
    predict.add_argument(
        "--click",
        action="append",
        required=True,
        metavar="x,y,z[:label]",
        help="1 inside (default), 0 outside; for tis the value of a label",
    )
    predict.add_argument("--ras", action="store_true", help="clicks are RAS mm, not voxel indices")
    predict.add_argument("--method", default="unet2d")
    predict.add_argument("--weights", help="weights file (default: the shipped one)")
    predict.add_argument("--device", default="cpu")
    predict.add_argument("--output", required=True, help="mask to write (.nii or .nii.gz)")


def _add_phantom(commands: Any) -> None:
    phantom = commands.add_parser("phantom", help="write synthetic abdominal CT studies with labels")
    phantom.set_defaults(run=_phantom)
    phantom.add_argument("output", metavar="OUT_DIR")
    phantom.add_argument("--cases", type=int, default=1)
    phantom.add_argument("--seed", type=int, default=0)


def _add_import_nnunet(commands: Any) -> None:
    importing = commands.add_parser("import-nnunet", help="what nnU-Net has trained, as weights of tis")
    importing.set_defaults(run=_import_nnunet)
    importing.add_argument("folder", metavar="RESULT_DIR", help="nnUNetTrainer__nnUNetPlans__3d_fullres")
    importing.add_argument("--output", required=True, help="a weights file, to be served: tis_<name>.pt")
    importing.add_argument("--fold", default="0", help="a number, or all")
    importing.add_argument("--checkpoint", default="checkpoint_final.pth")
    importing.add_argument(
        "--orientation", default="LPS", help="how the axes of the training's image files run: LPS, RAS, LAS, ..."
    )


def _add_plan(commands: Any) -> None:
    plan = commands.add_parser("plan", help="a recipe of tis from the spacing, size and intensities of a data set")
    plan.set_defaults(run=_plan)
    plan.add_argument("--data", required=True, help="folder with imagesTr/ and labelsTr/")
    plan.add_argument("--download", action="store_true", help=DOWNLOAD_HELP)
    plan.add_argument("--cases", help="ids to look at: a,b,c or a file with one per line (default: all)")
    plan.add_argument("--patch-voxels", type=int, default=80_000, help="that a patch may have (a large GPU: 2000000)")
    plan.add_argument("--output", required=True, help="recipe to write (.json)")


def _add_serve(commands: Any) -> None:
    serve = commands.add_parser("serve", help="start the server for OHIF and 3D Slicer")
    serve.set_defaults(run=_serve)
    serve.add_argument("--studies", help="folder of images or DICOMweb URL (default: a phantom study)")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("--conf", nargs=2, action="append", metavar=("NAME", "VALUE"), help="as for monailabel")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="clickseg", description="Click-based segmentation of medical images.")
    parser.add_argument("--version", action="version", version=f"clickseg {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_plan,
        _add_train,
        _add_evaluate,
        _add_experiment,
        _add_predict,
        _add_phantom,
        _add_import_nnunet,
        _add_serve,
    ):
        add(commands)
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

    0; 2 for bad input, and 1 for an experiment that failed, with a sentence on standard error.
    """
    arguments = _parser().parse_args(_with_clicks_attached(sys.argv[1:] if argv is None else argv))
    try:
        return arguments.run(arguments) or 0
    except ValueError as error:
        print(f"clickseg {arguments.command}: {error}", file=sys.stderr)
        return 2
