"""`clickseg predict`: of an image and clicks, or of a folder of images."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .clicks import FOREGROUND, STRUCTURE, add_click, have_labels, named_clicks
from .importing import looking, tell_left_out
from .options import DEVICE_HELP, WEIGHTS_HELP, at_least

if TYPE_CHECKING:  # torch takes seconds to import: help and mistakes are answered without it
    from collections.abc import Mapping

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ..methods import Model, Recipe
    from ..sessions import Session, VolumeSession

SEGMENTATION = ".dcm"  # a DICOM segmentation, by its ending
SUFFIXES = (".nii.gz", ".nii", SEGMENTATION)
INSIDE = "inside"  # what a mask of one structure is called here


def add_predict(commands: Any) -> None:
    """Options of `clickseg predict`."""
    predict = commands.add_parser(
        "predict", help="one image and some clicks to a mask, or a label map; a folder of images to label maps"
    )
    predict.set_defaults(run=_predict)
    predict.add_argument(
        "image",
        help="NIfTI file, DICOM folder or enhanced file, or what ITK reads; or a folder of images, or a tree of DICOM "
        "files",
    )
    predict.add_argument(
        "--series", metavar="UID", help="which DICOM series of a folder, or enhanced file, with several"
    )
    add_click(predict, required=False, more=" (needed, but for weights that answer by themselves, as those of tis do)")
    predict.add_argument("--ras", action="store_true", help="clicks are RAS mm, not voxel indices")
    predict.add_argument(
        "--propagate",
        nargs="?",
        type=at_least(0),
        const=sys.maxsize,
        default=0,
        metavar="N",
        help="unet2d: go on from the clicked slices to their neighbours, at most N on either side (default: 0; "
        "without N: until the structure ends)",
    )
    predict.add_argument("--start", metavar="MASK", help="mask or label map on the image's grid, to be corrected")
    predict.add_argument(
        "--frozen",
        action="append",
        default=[],
        metavar="NAME",
        help="a label that must not change, of --start, or of what tis finds by itself; may be given several times",
    )
    predict.add_argument("--method", help="unet2d or tis (default: that of the weights, unet2d without any)")
    predict.add_argument("--weights", help=WEIGHTS_HELP)
    predict.add_argument("--device", default="cpu", help=f"{DEVICE_HELP} (default: cpu)")
    predict.add_argument(
        "--output",
        required=True,
        help="mask, or label map, to write (.nii or .nii.gz, or .dcm for a DICOM segmentation of a DICOM series); of a "
        "folder of images the folder to write to, where the same command goes on if it was stopped",
    )
    predict.add_argument(
        "--suffix", choices=SUFFIXES, help="ending of the label maps of a folder of images (default: .nii.gz)"
    )
    predict.add_argument(
        "--overwrite", action="store_true", help="predict all images of a folder anew, whatever lies in --output"
    )


def _predict(arguments: argparse.Namespace) -> int:
    from ..machine import keep_freed_memory, pick_device

    keep_freed_memory()
    output = arguments.output
    if output.endswith(SUFFIXES):
        _refuse(arguments, ("suffix", "overwrite"), f"for a folder of images, and {output} is a file")
        _predict_image(arguments, pick_device(arguments.device))
        return 0
    if not Path(arguments.image).exists():
        raise ValueError(f"no image, and no folder of images, at {arguments.image}")
    if not Path(arguments.image).is_dir():
        raise ValueError(f"--output must end in .nii or .nii.gz, or in .dcm for a DICOM segmentation, got {output}")
    for_one = f"for one image, whose --output ends in .nii, .nii.gz or .dcm, and {output} would be a folder"
    _refuse(arguments, ("click", "start", "frozen", "propagate", "series", "ras"), for_one)
    return _predict_folder(arguments, pick_device(arguments.device))


def _refuse(arguments: argparse.Namespace, names: tuple[str, ...], what_for: str) -> None:
    """ValueError if any of these options is given. what_for: what they are for, and what is asked."""
    given = [f"--{name}" for name in names if getattr(arguments, name)]
    if given:
        raise ValueError(f"{', '.join(given)}: {what_for}")


def _predict_image(arguments: argparse.Namespace, device: torch.device) -> None:
    from ..cohort import label_volumes
    from ..files import check_apart
    from ..images import write_mask
    from ..progress import watched_by
    from .watching import Bars

    for read in filter(None, (arguments.image, arguments.start)):
        check_apart(arguments.output, read)
    if arguments.output.endswith(SEGMENTATION) and not Path(arguments.image).is_dir():
        raise ValueError(
            f"--output {arguments.output} would be a DICOM segmentation, which refers to a DICOM series, and "
            f"{arguments.image} is no folder of one: name a .nii.gz"
        )
    session = _session(arguments, device)
    if session.doubt:
        print(f"clickseg predict: warning: {session.doubt}", file=sys.stderr)
    with Bars() as bars, watched_by(bars):
        mask, values = _answer(session, arguments)
    if arguments.output.endswith(SEGMENTATION):
        _write_segmentation(arguments, mask, session, values)
    else:
        write_mask(arguments.output, mask, session.grid)
    print(f"{arguments.output}:")
    for name, (voxels, ml) in label_volumes(mask, values, session.grid).items():
        if voxels or len(values) == 1:
            print(f"  {name}: {voxels} voxels, {ml:.2f} ml")


def _write_segmentation(
    arguments: argparse.Namespace, mask: NDArray[np.uint8], session: Session | VolumeSession, values: Mapping[str, int]
) -> None:
    from ..dicom import series_files
    from ..dicom_seg import Segment, write_segmentation

    automatic = not (arguments.click or arguments.start)
    names = {value: FOREGROUND if name == INSIDE else name for name, value in values.items()}
    segments = {value: Segment(name, automatic=automatic) for value, name in names.items()}
    files = series_files(Path(arguments.image), arguments.series)
    write_segmentation(arguments.output, files, mask, session.grid, segments)


def _session(arguments: argparse.Namespace, device: torch.device) -> Session | VolumeSession:
    """The image, opened with the weights.

    ValueError for those of another method than the one that is named, and for those that need clicks where there are
    none.
    """
    from ..sessions import SessionCache

    weights = _weights(arguments)
    cache = SessionCache(max_bytes=sys.maxsize)  # one image is opened, whatever it needs
    recipe = cache.recipe(weights, device)
    _check_method(arguments, weights, recipe)
    if recipe.dimension == 2 and not arguments.click:
        raise ValueError(f"weights of {recipe.method} answer clicks alone: at least one --click x,y,z is needed")
    try:
        return cache.open(arguments.image, weights, device, arguments.series)
    except ValueError as error:
        if _holds_images(arguments.image):
            raise ValueError(f"{error}; to predict all images in it, name a folder as --output") from error
        raise


def _holds_images(path: str) -> bool:
    from ..sources import find_images

    try:
        return Path(path).is_dir() and bool(find_images(path).by_id)
    except ValueError:
        return False


def _weights(arguments: argparse.Namespace) -> Path:
    """The weights file that is named. ValueError for an unknown method, whatever the weights."""
    from ..methods import find_method, weights_file

    method = arguments.method or "unet2d"
    find_method(method)
    return weights_file(arguments.weights, method)


def _check_method(arguments: argparse.Namespace, weights: Path, recipe: Recipe) -> None:
    if arguments.method not in (None, recipe.method):
        raise ValueError(f"{weights} holds {recipe.method} weights, not {arguments.method}")


def _answer(
    session: Session | VolumeSession, arguments: argparse.Namespace
) -> tuple[NDArray[np.uint8], Mapping[str, int]]:
    """The mask or label map, and what its values stand for by name."""
    from ..clicks import wire
    from ..images import read_label
    from ..sessions import Session

    texts, reach, labels = arguments.click or [], arguments.propagate, session.recipe.labels
    ras = session.grid if arguments.ras else None
    start = read_label(arguments.start, session.grid) if arguments.start else None
    if isinstance(session, Session) and not (arguments.frozen or have_labels(texts, labels)):
        clicks = wire.parse_structure(named_clicks(texts, STRUCTURE, ras, labels))
        return session.predict(clicks, start, reach), {INSIDE: 1}
    named = wire.parse_labels(named_clicks(texts, {"background": 0, **labels}, ras), list(labels), needed=False)
    return session.predict_labels(named, labels, arguments.frozen, start, reach), labels


def _predict_folder(arguments: argparse.Namespace, device: torch.device) -> int:
    """Exit status 1 if an image has no label map at the end, or there are DICOM files that cannot be read."""
    from tqdm import tqdm

    from ..cohort import Predictions, predict_image
    from ..files import check_apart
    from ..methods import load_model

    check_apart(arguments.output, arguments.image)
    weights = _weights(arguments)
    model = load_model(weights, device)
    _check_method(arguments, weights, model.recipe)
    _check_answers_first(model)
    predictions = Predictions(
        arguments.output, arguments.suffix or SUFFIXES[0], arguments.image, weights, arguments.overwrite, looking
    )
    tell_left_out("predict", Path(arguments.image), predictions.left_out)
    arguments.goes_on = "the same command goes on"
    left, failed = predictions.left(), {}
    for name in tqdm(left, desc="predicting", unit="image", disable=not left):
        try:
            predictions.begin(name)
            found = predict_image(predictions.images[name], model, device)
            if found.doubt:
                tqdm.write(f"clickseg predict: warning: {name}: {found.doubt}", file=sys.stderr)
            predictions.keep(name, found, model.recipe.labels)
        except ValueError as error:
            failed[name] = error
    images = len(predictions.images)
    print(f"{arguments.output}: {images - len(failed)} label maps, {images - len(left)} of them made before")
    print(f"{predictions.table}: how much each image has of each label")
    if failed:
        reasons = "\n".join(f"  {name}: {error}" for name, error in failed.items())
        print(f"clickseg predict: {len(failed)} of {images} images have no label map\n{reasons}", file=sys.stderr)
    unreadable = any(each.unreadable for each in predictions.left_out)
    return 1 if failed or unreadable else 0


def _check_answers_first(model: Model) -> None:
    if model.segmenter.dimension != 3 or not model.segmenter.answers_first:
        raise ValueError(
            f"weights of {model.recipe.method} answer clicks alone, and a folder of images has none: name weights that "
            "answer by themselves (--weights tis_abdomen)"
        )
