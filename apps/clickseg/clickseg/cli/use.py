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
    import torch

    from ..sessions import Session, VolumeSession

CONF_HELP = "models all, unet2d or tis; cache_gb N: memory for open images (default: 2)"


def add_predict(commands: Any) -> None:
    """Options of `clickseg predict`."""
    predict = commands.add_parser("predict", help="one image and some clicks to a mask, or a label map")
    predict.set_defaults(run=_predict)
    predict.add_argument("image", help="NIfTI file, DICOM folder, or what ITK reads")
    add_click(predict)
    predict.add_argument("--ras", action="store_true", help="clicks are RAS mm, not voxel indices")
    predict.add_argument(
        "--propagate",
        nargs="?",
        type=at_least(0),
        const=sys.maxsize,
        default=0,
        metavar="N",
        help="of unet2d: go on from the clicked slices to their neighbours, at most N on either side",
    )
    predict.add_argument("--method", help="unet2d or tis (default: that of the weights, unet2d without any)")
    predict.add_argument("--weights", help=WEIGHTS_HELP)
    predict.add_argument("--device", default="cpu", help=f"{DEVICE_HELP} (default: cpu)")
    predict.add_argument("--output", required=True, help="mask, or label map, to write (.nii or .nii.gz)")


def _predict(arguments: argparse.Namespace) -> None:
    import numpy as np

    from ..clicks import wire
    from ..files import check_apart
    from ..images import is_nifti, write_mask
    from ..machine import keep_freed_memory, pick_device
    from ..sessions import Session

    keep_freed_memory()
    if not is_nifti(arguments.output):
        raise ValueError(f"--output must end in .nii or .nii.gz, got {arguments.output}")
    check_apart(arguments.output, arguments.image)
    session = _session(arguments, pick_device(arguments.device))
    if session.doubt:
        print(f"clickseg predict: warning: {session.doubt}", file=sys.stderr)
    ras, labels = session.grid if arguments.ras else None, session.recipe.labels
    if isinstance(session, Session) and not have_labels(arguments.click, labels):
        clicks = wire.parse_structure(named_clicks(arguments.click, STRUCTURE, ras, labels))
        mask, values = session.predict(clicks, reach=arguments.propagate), {"inside": 1}
    else:
        named = wire.parse_labels(named_clicks(arguments.click, {"background": 0, **labels}, ras), list(labels))
        mask, values = session.predict_labels(named, labels, reach=arguments.propagate), labels
    write_mask(arguments.output, mask, session.grid)
    voxel_ml = abs(np.linalg.det(session.grid.affine[:3, :3])) / 1000
    print(f"{arguments.output}:")
    for name, value in values.items():
        count = int((mask == value).sum())
        if count or len(values) == 1:
            print(f"  {name}: {count} voxels, {count * voxel_ml:.2f} ml")


def _session(arguments: argparse.Namespace, device: torch.device) -> Session | VolumeSession:
    """The image, opened with the weights. ValueError for those of another method than the one that is named."""
    from ..methods import weights_file
    from ..sessions import SessionCache

    cache = SessionCache()
    weights = weights_file(arguments.weights, arguments.method or "unet2d")
    method = cache.recipe(weights, device).method
    if arguments.method not in (None, method):
        raise ValueError(f"{weights} holds {method} weights, not {arguments.method}")
    return cache.open(arguments.image, weights, device)


def add_preview(commands: Any) -> None:
    """Options of `clickseg preview`."""
    preview = commands.add_parser(
        "preview", help="ask a running server what clicks give in one slice; nothing is saved"
    )
    preview.set_defaults(run=_preview)
    preview.add_argument("server", help="its URL, such as http://127.0.0.1:8000")
    preview.add_argument("image", help="id in the server's datastore")
    add_click(preview)
    preview.add_argument("--model", default="unet2d")
    preview.add_argument("--slice", type=int, help="default: that of the clicks")
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
    phantom.add_argument("output", metavar="OUT_DIR")
    phantom.add_argument("--cases", type=int, default=1)
    phantom.add_argument("--seed", type=at_least(0), default=0)


def _phantom(arguments: argparse.Namespace) -> None:
    from ..phantom import write_phantoms

    for path in write_phantoms(arguments.output, cases=arguments.cases, seed=arguments.seed):
        print(path)


def add_serve(commands: Any) -> None:
    """Options of `clickseg serve`."""
    serve = commands.add_parser("serve", help="start the server: its own page, OHIF and 3D Slicer")
    serve.set_defaults(run=_serve)
    serve.add_argument("--studies", help="folder of images or DICOMweb URL (default: a phantom study)")
    serve.add_argument("--host", default="127.0.0.1", help="0.0.0.0: other machines may come, too")
    serve.add_argument("--port", **PORT, default=8000)
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
