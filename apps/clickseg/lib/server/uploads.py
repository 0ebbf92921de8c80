"""POST /clickseg/api/studies: images that people add from their own machines, as files or as DICOM series."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.utils.app import app_instance
from pydantic import BaseModel, Field

from clickseg.dicom_import import study_name
from clickseg.dicom_tree import read_tree
from clickseg.dicom_volume import LeftOut, Volume
from clickseg.images import read_slices, read_volume, write_volume
from clickseg.privacy import without_patients

from .empty import VOLUMES
from .pooled import USER, Annotator
from .receiving import Sent, check_size, receive
from .refusals import refusing
from .temporary import FULL

logger = logging.getLogger(__name__)

uploads_router = APIRouter(prefix="/clickseg/api", tags=["clickseg"])

FILES = {"type": "array", "items": {"type": "string", "format": "binary"}}
FORM = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": {"type": "object", "properties": {"files": FILES}}}},
    }
}
ARCHIVED = "this server shows the series of its DICOMweb server: store the study there, and it is listed here"
NO_IMAGE = f"no image is among the files: {', '.join(VOLUMES)}, or the files of a DICOM series, are needed"

TAKEN = 409  # status of an image whose name another one has


class Adding(BaseModel):
    """Whether studies can be added, and how large they may be."""

    possible: bool = Field(description="false for a server with a DICOMweb server behind it")
    limit: int = Field(description="bytes of one request at most (--conf upload_gb)")


class Added(BaseModel):
    """What has become of the images that were sent."""

    studies: list[str] = Field(description="ids of those that the server has now, or had before; the largest first")
    refused: list[str] = Field(description="of each image that cannot be added, a sentence that says why")
    left_out: list[str] = Field(description="of each DICOM series that makes no volume, such as a localizer, why")


async def sent(request: Request) -> AsyncIterator[Sequence[Sent]]:
    """A dependency: the files that a request sends, in a temporary folder for as long as it is answered.

    What could not be kept is not received at all.
    """
    app = app_instance()
    if not _takes_studies(app.datastore()):
        raise HTTPException(400, ARCHIVED)
    with tempfile.TemporaryDirectory(prefix="clickseg-upload-") as folder:
        check_size(request, app.upload_limit, Path(folder))
        yield await receive(request, Path(folder), app.upload_limit)


@uploads_router.get("/adding", response_model=Adding, dependencies=[USER])
def adding() -> Adding:
    """Whether studies can be added, and how large they may be."""
    app = app_instance()
    return Adding(possible=_takes_studies(app.datastore()), limit=app.upload_limit)


@uploads_router.post("/studies", response_model=Added, openapi_extra=FORM)
def add_studies(user: Annotator, files: Annotated[Sequence[Sent], Depends(sent)]) -> Added:
    """Add images to the folder of studies: NIfTI and NRRD files by their names, and the volumes of DICOM series.

    An image that is there already under its name stays, with its labels. The request is refused if none can be added.
    Who may not do so (`user` comes first) sends nothing that is received.
    """
    datastore, said = app_instance().datastore(), {"user": user.username}
    root = files[0].path.parent if files else Path()
    placed = _laid_out(files, root / "sent")
    images = [path for path in placed if _ending(path)]
    tree = read_tree(path for path in placed if not _ending(path))
    volumes = sorted(tree.volumes, key=lambda volume: -len(volume.heads))
    adds = [partial(_add_file, datastore, path, said) for path in images]
    adds += [partial(_add_series, datastore, volume, root, said) for volume in volumes]
    found, refusals = [], []
    for add in adds:
        try:
            found.append(add())
        except HTTPException as error:
            refusals.append(error)
    damaged = [_left_out(each, root / "sent") for each in tree.left_out if each.unreadable]
    left_out = [_left_out(each, root / "sent") for each in tree.left_out if not each.unreadable]
    refused = [*(str(refusal.detail) for refusal in refusals), *damaged]
    if not found:
        status = refusals[0].status_code if refusals else 400
        raise HTTPException(status, "\n".join(refused or left_out or [NO_IMAGE]))
    return Added(studies=list(dict.fromkeys(found)), refused=refused, left_out=left_out)


def _laid_out(files: Iterable[Sent], root: Path) -> list[Path]:
    """Where files lie once they are in the folders that they were in, below a new one."""
    placed = []
    for number, file in enumerate(files):
        place = root.joinpath(*file.parts)
        if place.exists() or any(above.is_file() for above in place.parents):
            place = root / f"again {number}" / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        placed.append(file.path.rename(place))
    return placed


def _takes_studies(datastore: Datastore) -> bool:
    """Whether it is a folder."""
    return isinstance(datastore, LocalDatastore) and not isinstance(datastore, DICOMWebDatastore)


def _ending(path: Path) -> str:
    """The ending of a file that is listed in a folder of studies; "" of another one."""
    return next((ending for ending in VOLUMES if path.name.lower().endswith(ending)), "")


def _add_file(datastore: Datastore, path: Path, said: Mapping[str, Any]) -> str:
    """Add a NIfTI or NRRD file. HTTPException if it is not taken."""
    ending = _ending(path)
    name = path.name[: -len(ending)]
    with _told(path.name, path.parent):
        path = path.rename(path.with_name(name + ending))  # files that end in .NII.GZ are not listed
        read_volume(path)  # whole: the head alone does not tell that a file was cut short
        return datastore.add_image(name, str(path), dict(said))


def _add_series(datastore: Datastore, volume: Volume, folder: Path, said: Mapping[str, Any]) -> str:
    """Add a volume of DICOM slices as a NIfTI file, which is made in a folder. HTTPException if it is not taken."""
    about, made = volume.about, folder / "volume.nii.gz"
    description = ", ".join(filter(None, (about.description, volume.part)))
    told = {"Modality": about.modality, "SeriesDescription": without_patients(description, [about.patient])}
    with _told(volume.title, folder / "sent"):
        write_volume(made, *read_slices(volume.slices(), volume.title))
        info = {**{field: text for field, text in told.items() if text}, **said}
        return _add_new(datastore, study_name(about), made, info)


def _left_out(each: LeftOut, root: Path) -> str:
    """Why files make no volume, and which ones."""
    place = each.about.title if each.about else each.title(root)
    return each.reason if place == "." else f"{place}: {each.reason}"


def _add_new(datastore: Datastore, name: str, file: Path, info: dict[str, Any], number: int = 1) -> str:
    """Add an image under a name, with a number if others have that: a series has parts, or more slices than before."""
    try:
        return datastore.add_image(name if number == 1 else f"{name}_{number}", str(file), info)
    except HTTPException as error:
        if error.status_code != TAKEN:
            raise
    return _add_new(datastore, name, file, info, number + 1)


@contextlib.contextmanager
def _told(name: str, folder: Path) -> Iterator[None]:
    """What keeps an image from being added becomes a sentence that names it, and no folder of ours."""
    try:
        with refusing():
            yield
    except HTTPException as error:
        detail = str(error.detail).replace(f"{folder}/", "").replace(str(folder), "what was sent")
        if error.status_code == TAKEN:
            detail = f"another image of that name is here already: rename {name}, and add it again"
        raise HTTPException(error.status_code, detail if name in detail else f"{name}: {detail}") from error
    except OSError as error:
        if error.errno in FULL:
            raise HTTPException(507, f"{name} is not added: the server's disk is full") from error
        raise HTTPException(500, f"{name} is not added: the server cannot keep it ({error.strerror})") from error
    except Exception as error:  # an odd file raises anything, and others are to be added all the same
        logger.exception("%s is not added", name)
        raise HTTPException(400, f"{name} cannot be read: {error!r}") from error
