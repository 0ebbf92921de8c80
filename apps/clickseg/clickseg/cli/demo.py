"""`clickseg demo-ohif`."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
from pathlib import Path
from typing import Any

from .options import PORT, server_command, server_environment


def add_demo_ohif(commands: Any) -> None:
    """Options of `clickseg demo-ohif`."""
    demo = commands.add_parser("demo-ohif", help="OHIF with a DICOM archive and the server, all on this machine")
    demo.set_defaults(run=_demo_ohif)
    demo.add_argument("--dicom", metavar="DIR", help="folder with DICOM files to click on (default: a phantom study)")
    demo.add_argument("--port", **PORT, default=8000, help="port of the server (default: %(default)s)")
    demo.add_argument("--archive-port", **PORT, default=8042, help="port of the archive (default: %(default)s)")
    demo.add_argument(
        "--folder",
        default=str(Path.home() / ".local/share/clickseg/archive"),
        help="folder that the archive keeps its studies in (default: ~/.local/share/clickseg/archive)",
    )


def _demo_ohif(arguments: argparse.Namespace) -> int:
    from ..archive import check_port, orthanc, store, studies

    check_port("the server", "127.0.0.1", arguments.port)
    instances = _instances(arguments.dicom)
    with orthanc(Path(arguments.folder), arguments.archive_port) as archive:
        store(archive, instances)
        command = server_command(f"{archive}/dicom-web", "127.0.0.1", arguments.port)
        print(f"clickseg: DICOM archive {archive}/; when the server is up, open one of", flush=True)
        for study in studies(archive):
            address = f"http://127.0.0.1:{arguments.port}/ohif/monai-label?StudyInstanceUIDs={study}"
            print(f"  {address}", flush=True)
        print(
            "press the reload icon, choose Point Prompts, click on an organ, press Run. Ctrl-C ends both.", flush=True
        )
        print(f"or open the app's own page: http://127.0.0.1:{arguments.port}/clickseg/", flush=True)
        server = subprocess.Popen(command, env=server_environment())
        try:
            return server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            server.terminate()
            with contextlib.suppress(KeyboardInterrupt):
                server.wait(60)


def _instances(folder: str | None) -> list[bytes]:
    from ..phantom import phantom
    from ..phantom.dicom import phantom_series

    if folder is None:
        return phantom_series(phantom(seed=0), seed=0)
    if not Path(folder).is_dir():
        raise ValueError(f"--dicom: no folder {folder}")
    files = [path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    found = [content for content in files if content[128:132] == b"DICM"]
    if not found:
        raise ValueError(f"--dicom: no DICOM file in {folder}")
    return found
