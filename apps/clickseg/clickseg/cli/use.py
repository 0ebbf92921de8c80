"""`clickseg preview`, `phantom` and `serve`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from .clicks import STRUCTURE, add_click, named_clicks
from .options import PORT, at_least, server_command, server_environment

CONF_HELP = (
    "a setting of the server, may be given several times: models all, unet2d or tis (default: all); cache_gb N: "
    "gigabytes of memory for open images (default: 2); upload_gb N: gigabytes of studies that the page may add at once "
    "(default: 4)"
)


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
