"""`clickseg collect`, `plan`, `train` and `import-nnunet`."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from .options import AUTO_DEVICE_HELP, DATA_HELP, DOWNLOAD_HELP, RECIPE_HELP, at_least


def add_collect(commands: Any) -> None:
    """Options of `clickseg collect`."""
    collecting = commands.add_parser("collect", help="a data folder of what was labelled on a server, to train on")
    collecting.set_defaults(run=_collect)
    collecting.add_argument("studies", metavar="STUDIES", help="the server's folder of studies (its --studies)")
    collecting.add_argument("--output", required=True, metavar="DIR", help="new folder, for --data of other commands")
    collecting.add_argument(
        "--init",
        metavar="WEIGHTS",
        help="weights that are to learn on from it, a file or the name of a shipped model: their labels keep their "
        "values, and are what values without a name mean",
    )
    collecting.add_argument(
        "--copy-images", action="store_true", help="copy the images, for another machine (default: link them)"
    )


def _collect(arguments: argparse.Namespace) -> None:
    from ..labelled import collect, read_studies
    from ..methods import weights_file
    from ..methods.weights import read_file

    known = read_file(weights_file(arguments.init, "unet2d"))["recipe"]["labels"] if arguments.init else {}
    labelled, others = read_studies(arguments.studies)
    found = collect(labelled, arguments.output, known, arguments.copy_images)
    left_out = f"; {len(others)} without a label left out" if others else ""
    print(f"{arguments.output}: {len(labelled)} images{left_out}")
    for name, (value, count) in found.items():
        print(f"  {value}: {name}, in {count} of them")


def add_plan(commands: Any) -> None:
    """Options of `clickseg plan`."""
    plan = commands.add_parser("plan", help="a recipe of tis from the spacing, size and intensities of a data set")
    plan.set_defaults(run=_plan)
    plan.add_argument("--data", required=True, help=DATA_HELP)
    plan.add_argument("--download", action="store_true", help=DOWNLOAD_HELP)
    plan.add_argument("--cases", help="ids to look at: a,b,c or a file with one per line (default: all)")
    plan.add_argument(
        "--patch-voxels",
        type=int,
        default=80_000,
        help="most voxels in a training patch (default: %(default)s; for a large GPU: 2000000)",
    )
    plan.add_argument("--hold-out", type=int, metavar="N", help="keep N cases for testing, of which none is looked at")
    plan.add_argument(
        "--seed", type=at_least(0), default=0, help="seed that draws the cases of --hold-out (default: %(default)s)"
    )
    plan.add_argument(
        "--output", required=True, help="recipe to write (.json); with --hold-out train.txt and test.txt beside it"
    )


def _plan(arguments: argparse.Namespace) -> None:
    from ..datasets import CaseFolder, download_task, hold_out, read_ids
    from ..files import write_text
    from ..planning import plan_recipe

    if not arguments.output.endswith(".json"):  # train.txt, say, would be written over the list of that name
        raise ValueError(f"--output must end in .json, got {arguments.output}")
    if arguments.download:
        download_task(arguments.data)
    ids = [case.id for case in CaseFolder.read(arguments.data, read_ids(arguments.cases)).cases]
    parts = {}
    if arguments.hold_out is not None:
        ids, held = hold_out(ids, arguments.hold_out, arguments.seed)
        parts = {"train.txt": ids, "test.txt": held}
    recipe = plan_recipe(arguments.data, arguments.patch_voxels, ids)
    output = Path(arguments.output)
    texts = {output.with_name(name): "\n".join(part) + "\n" for name, part in parts.items()}
    texts[output] = json.dumps(recipe.to_dict(), indent=1) + "\n"
    other = [str(path) for path, text in texts.items() if path.exists() and path.read_bytes() != text.encode()]
    if other:  # a training may have begun with them
        raise ValueError(f"{', '.join(other)} would be replaced by another: name another output")
    for path, text in texts.items():
        write_text(path, text)
    for name in ("labels", "modality", "spacing", "patch", "window", "mean", "deviation"):
        print(f"{name}: {getattr(recipe, name)}")


def add_train(commands: Any) -> None:
    """Options of `clickseg train`."""
    train = commands.add_parser("train", help="train a method on labelled studies")
    train.set_defaults(run=_train)
    train.add_argument(
        "--method",
        default="unet2d",
        help="method to train: unet2d (default), tis, or a rival: automatic, deepgrow, deepedit",
    )
    train.add_argument("--data", required=True, help=DATA_HELP)
    train.add_argument("--download", action="store_true", help=DOWNLOAD_HELP)
    train.add_argument("--output", required=True, help="folder for checkpoint, weights, log and curves")
    train.add_argument("--cases", help="ids to train on: a,b,c or a file with one per line (default: all)")
    train.add_argument("--recipe", help=f"{RECIPE_HELP} (default: that of --init, else the method's own)")
    train.add_argument(
        "--stage", help="stage of tis to train: encoder, then refiner with --init (default: the recipe's, encoder)"
    )
    train.add_argument("--epochs", type=int, help="how many epochs to train (default: 100, unless there are --minutes)")
    train.add_argument("--minutes", type=float, help="minutes to train; the learning rate follows the clock")
    train.add_argument("--init", help="weights to start from: a file, or the name of a shipped model")
    train.add_argument("--resume", action="store_true", help="continue from the checkpoint in --output")
    train.add_argument("--device", default="auto", help=AUTO_DEVICE_HELP)
    train.add_argument(
        "--workers", type=at_least(0), default=0, help="data loader processes (default: %(default)s, none of their own)"
    )
    train.add_argument(
        "--cache", metavar="DIR", help="folder for cases made ready, which trainings may share (default: OUTPUT/cache)"
    )
    train.add_argument(
        "--cache-gb",
        type=float,
        default=50.0,
        help="tis: most gigabytes that the encoder's codes may take there (default: 50)",
    )


def _train(arguments: argparse.Namespace) -> None:
    from ..datasets import CaseFolder, download_task, read_ids
    from ..machine import keep_freed_memory
    from ..methods import find_method, recipe_to_train, weights_file
    from ..planning import check_modality
    from ..training import Plan, build_trainer

    keep_freed_memory()
    method = find_method(arguments.method)
    arguments.init = arguments.init and weights_file(arguments.init, arguments.method)
    if arguments.download:
        download_task(arguments.data)
    folder = CaseFolder.read(arguments.data, read_ids(arguments.cases))
    named = method.recipe.find(arguments.recipe) if arguments.recipe else None
    recipe: Any = folder.completed(named or recipe_to_train(arguments.method, init=arguments.init))
    if arguments.stage:
        recipe = recipe.of_stage(arguments.stage)
    check_modality(recipe, arguments.data)
    if not arguments.stage and os.environ.get("RANK", "0") == "0":  # of the processes that train together one says it
        _say_stage(recipe, arguments)
    neither = arguments.epochs is None and arguments.minutes is None
    plan = Plan(
        output=arguments.output,
        epochs=100 if neither else arguments.epochs,
        minutes=arguments.minutes,
        resume=arguments.resume,
        init=arguments.init,
        device=arguments.device,
        workers=arguments.workers,
        cache=arguments.cache,
        cache_gb=arguments.cache_gb,
        card={"method": arguments.method, **folder.card},
    )
    build_trainer(arguments.method, recipe, folder.cases, plan).run()


def _say_stage(recipe: Any, arguments: argparse.Namespace) -> None:
    """Of tis: which stage is trained where none was named, and how the other comes after it."""
    if recipe.method != "tis":
        return
    weights = Path(arguments.output) / "weights.pt"
    then = f"; the refiner follows with --stage refiner --init {weights}" if recipe.stage == "encoder" else ""
    print(f"stage: the {recipe.stage} of tis{then}")  # not as the sentence that says why a training has failed


def add_import_nnunet(commands: Any) -> None:
    """Options of `clickseg import-nnunet`."""
    importing = commands.add_parser("import-nnunet", help="what nnU-Net has trained, as weights of tis")
    importing.set_defaults(run=_import_nnunet)
    importing.add_argument(
        "folder", metavar="RESULT_DIR", help="folder of results, such as .../nnUNetTrainer__nnUNetPlans__3d_fullres"
    )
    importing.add_argument("--output", required=True, help="a weights file, to be served: tis_<name>.pt")
    importing.add_argument("--fold", default="0", help="fold to take: a number, or all (default: %(default)s)")
    importing.add_argument(
        "--checkpoint", default="checkpoint_final.pth", help="checkpoint of the fold to take (default: %(default)s)"
    )
    importing.add_argument(
        "--orientation",
        required=True,
        help="how the axes of the training's image files run, LPS, RAS, LAS, ...: what nibabel.aff2axcodes says of the "
        "affine of one of them; a wrong one turns left and right, or front and back, about",
    )


def _import_nnunet(arguments: argparse.Namespace) -> None:
    from ..nnunet import import_nnunet

    options = {name: getattr(arguments, name) for name in ("fold", "checkpoint", "orientation")}
    recipe = import_nnunet(arguments.folder, arguments.output, **options)
    print(f"{arguments.output}: {', '.join(recipe.labels)}; patches of {recipe.patch} voxels of {recipe.spacing} mm")
