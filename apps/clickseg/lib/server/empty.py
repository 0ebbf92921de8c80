"""Why a folder of studies has none: said in the server's log at its start, for its pages would just be empty."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore

logger = logging.getLogger(__name__)

VOLUMES = (".nii.gz", ".nii", ".nrrd")
DEPTH, FOLDERS, FILES = 4, 500, 5  # how far below, into how many folders, and at how many files in each is looked


def tell_if_empty(datastore: LocalDatastore) -> None:
    """A warning if a folder lists no image. A DICOM archive may be empty for as long as it likes."""
    if not (isinstance(datastore, DICOMWebDatastore) or datastore.list_images()):
        folder = Path(datastore._datastore.image_path())
        logger.warning("no studies in %s: %s", folder, why_empty(folder))


def why_empty(folder: Path) -> str:
    """What a folder without images has instead, and what to do about it."""
    folders = list(islice(_folders(folder, DEPTH), FOLDERS))
    volumes = [each for each in folders[1:] if any(path.name.endswith(VOLUMES) for path in _visible(each))]
    reasons = []
    if volumes:
        reasons.append(f"did you mean {min(volumes, key=lambda each: each.name != 'imagesTr')}?")
    dicom = next((file for each in folders for file in islice(_files(each), FILES) if _is_dicom(file)), None)
    if dicom:
        reasons.append(
            f"DICOM files such as {dicom.relative_to(folder)} become a folder of studies by `clickseg import "
            f"{shlex.quote(str(folder))} --output STUDIES`; or they need a DICOMweb server (--studies http://...; "
            f"`clickseg demo-ohif --dicom {shlex.quote(str(folder))}` starts one for them)"
        )
    return "; ".join(reasons) or f"files that end in {', '.join(VOLUMES)} are listed, and those that clients send"


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """A folder and those below, without hidden ones and those of label maps."""
    yield folder
    for below in _visible(folder) if depth else ():
        if below.is_dir() and not below.name.startswith("labels"):
            yield from _folders(below, depth - 1)


def _visible(folder: Path) -> list[Path]:
    """What is in a folder; nothing if it may not be read."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in _visible(folder) if path.is_file())


def _is_dicom(file: Path) -> bool:
    try:
        with file.open("rb") as content:
            return content.read(132)[128:] == b"DICM"
    except OSError:
        return False
