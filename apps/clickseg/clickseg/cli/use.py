"""`clickseg predict`, `preview`, `phantom` and `serve`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .clicks import STRUCTURE, add_click, have_labels, named_clicks
from .options import DEVICE_HELP, PORT, WEIGHTS_HELP, at_least, server_command, server_environment

if TYPE_CHECKING:  # torch takes seconds to import: help and mistakes are answered without it
    from collections.abc import Mapping

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ..sessions import Session, VolumeSession

CONF_HELP = (
    "a setting of the server, may be given several times: models all, unet2d or tis (default: all); cache_gb N: "
    "gigabytes of memory for open images (default: 2)"
)


def add_predict(commands: Any) -> None:
    """Options of `clickseg predict`."""
    predict = commands.add_parser("predict", help="one image and some clicks to a mask, or a label map")
    predict.set_defaults(run=_predict)
    predict.add_argument("image", help="NIfTI file, DICOM folder, or what ITK reads")
    predict.add_argument("--series", metavar="UID", help="which DICOM series of a folder with several")
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
    predict.add_argument("--output", required=True, help="mask, or label map, to write (.nii or .nii.gz)")


def _predict(arguments: argparse.Namespace) -> None:
    import numpy as np

    from ..files import check_apart
    from ..images import is_nifti, write_mask
    from ..machine import keep_freed_memory, pick_device

    keep_freed_memory()
    if not is_nifti(arguments.output):
        raise ValueError(f"--output must end in .nii or .nii.gz, got {arguments.output}")
    for read in filter(None, (arguments.image, arguments.start)):
        check_apart(arguments.output, read)
    session = _session(arguments, pick_device(arguments.device))
    if session.doubt:
        print(f"clickseg predict: warning: {session.doubt}", file=sys.stderr)
    mask, values = _answer(session, arguments)
    write_mask(arguments.output, mask, session.grid)
    voxel_ml = abs(np.linalg.det(session.grid.affine[:3, :3])) / 1000
    print(f"{arguments.output}:")
    for name, value in values.items():
        count = int((mask == value).sum())
        if count or len(values) == 1:
            print(f"  {name}: {count} voxels, {count * voxel_ml:.2f} ml")


def _session(arguments: argparse.Namespace, device: torch.device) -> Session | VolumeSession:
    """The image, opened with the weights.

    ValueError for those of another method than the one that is named, and for those that need clicks where there are
    none.
    """
    from ..methods import find_method, weights_file
    from ..sessions import SessionCache

    method = arguments.method or "unet2d"
    find_method(method)  # an unknown one is said whatever the weights
    cache = SessionCache(max_bytes=sys.maxsize)  # one image is opened, whatever it needs
    weights = weights_file(arguments.weights, method)
    recipe = cache.recipe(weights, device)
    if arguments.method not in (None, recipe.method):
        raise ValueError(f"{weights} holds {recipe.method} weights, not {arguments.method}")
    if recipe.dimension == 2 and not arguments.click:
        raise ValueError(f"weights of {recipe.method} answer clicks alone: at least one --click x,y,z is needed")
    return cache.open(arguments.image, weights, device, arguments.series)


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
        return session.predict(clicks, start, reach), {"inside": 1}
    named = wire.parse_labels(named_clicks(texts, {"background": 0, **labels}, ras), list(labels), needed=False)
    return session.predict_labels(named, labels, arguments.frozen, start, reach), labels


def add_preview(commands: Any) -> None:
    """Options of `clickseg preview`."""
    preview = commands.add_parser(
        "preview", help="ask a running server what clicks give in one slice; nothing is saved"
    )
    preview.set_defaults(run=_preview)
    preview.add_argument("server", help="URL of the server, such as http://127.0.0.1:8000")
    preview.add_argument("image", help="id in the server's datastore")
    add_click(preview)
    preview.add_argument("--model", default="unet2d", help="model of the server that answers (default: %(default)s)")
    preview.add_argument("--slice", type=int, help="number of the slice (default: that of the clicks)")
    preview.add_argument("--output", help="picture to write (.png): one colour for each label")


def _preview(arguments: argparse.Namespace) -> None:
    import time

    from ..client import PreviewClient

    if arguments.output and not arguments.output.endswith(".png"):
        raise ValueError(f"--output must end in .png, got {arguments.output}")
    client = PreviewClient(arguments.server, arguments.model, arguments.image)
    try:
        clicks = named_clicks(arguments.click, client.labels() or STRUCTURE)
        begin = time.perf_counter()
        found = client.preview(clicks, arguments.slice)
    except OSError as error:
        raise ValueError(f"no server answers at {arguments.server}: {error}") from error
    assert found is not None  # nobody else has this client's id
    seconds = time.perf_counter() - begin
    counts = {name: int((found.mask == value).sum()) for name, value in found.labels.items() if value}
    inside = ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "nothing"
    print(f"slice {found.number} along axis {found.axis}, {1000 * seconds:.0f} ms; pixels: {inside}")
    if arguments.output:
        from matplotlib import image

        from ..files import whole_file

        most = max(found.labels.values())
        with whole_file(arguments.output) as file:  # the slice's first axis runs to the right, its second upwards
            image.imsave(file, found.mask.T, cmap="nipy_spectral", vmin=0, vmax=most, origin="lower", format="png")


def add_phantom(commands: Any) -> None:
    """Options of `clickseg phantom`."""
    phantom = commands.add_parser("phantom", help="write synthetic abdominal CT studies with labels")
    phantom.set_defaults(run=_phantom)
    phantom.add_argument("output", metavar="OUT_DIR", help="folder to write to; a case that lies there is kept")
    phantom.add_argument("--cases", type=int, default=1, help="how many patients to write (default: %(default)s)")
    phantom.add_argument(
        "--seed",
        type=at_least(0),
        default=0,
        help="number of the first patient, the others follow (default: %(default)s)",
    )


def _phantom(arguments: argparse.Namespace) -> None:
    from ..phantom import write_phantoms

    there = {path.name for path in Path(arguments.output).glob("*Tr/phantom_*.nii.gz")}
    images = write_phantoms(arguments.output, cases=arguments.cases, seed=arguments.seed)
    for path in images:
        print(path)
    kept = [path.name for path in images if path.name in there]
    if kept:  # the sample study of the documentation is written again and again, and a team may have labelled it
        print(
            f"clickseg phantom: kept what lay there, whatever the seed: {', '.join(kept)}; another patient needs "
            "another folder",
            file=sys.stderr,
        )


def add_serve(commands: Any) -> None:
    """Options of `clickseg serve`."""
    serve = commands.add_parser("serve", help="start the server: its own page, OHIF and 3D Slicer")
    serve.set_defaults(run=_serve)
    serve.add_argument("--studies", help="folder of images or DICOMweb URL (default: a phantom study)")
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: %(default)s, this machine alone; 0.0.0.0: other machines may come, too)",
    )
    serve.add_argument("--port", **PORT, default=8000, help="port to listen on (default: %(default)s)")
    serve.add_argument("--conf", nargs=2, action="append", metavar=("NAME", "VALUE"), help=CONF_HELP)


def _serve(arguments: argparse.Namespace) -> None:
    from ..archive import check_port
    from ..phantom import write_phantoms
    from ..settings import check_conf

    check_conf(arguments.conf or [])
    check_port("the server", arguments.host, arguments.port)
    studies = arguments.studies
    if studies is None:
        folder = Path.home() / ".local" / "share" / "clickseg" / "phantom"
        write_phantoms(folder)
        studies = str(folder / "imagesTr")
    elif not studies.startswith(("http://", "https://")) and not Path(studies).is_dir():
        raise ValueError(f"--studies: no folder {studies} (a folder of images, or the URL of a DICOMweb server)")
    command = server_command(studies, arguments.host, arguments.port)
    for pair in arguments.conf or []:
        command += ["--conf", *pair]
    address = f"http://{arguments.host}:{arguments.port}"
    print(f"clickseg: serving {studies}; open {address}/clickseg/ (for OHIF and 3D Slicer: {address}/)", flush=True)
    os.execve(sys.executable, command, server_environment())
