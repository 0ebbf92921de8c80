"""The page at /clickseg/ and what it asks the server beside the stock requests."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends, Response
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.task import AsyncTask
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from starlette.staticfiles import StaticFiles

import clickseg
from clickseg.geometry import UprightVolume
from clickseg.images import read_label
from clickseg.labelled import value_names
from clickseg.machine import present_values
from lib.infers.reply import nifti

from .datastore import FINAL, label_version
from .refusals import refusing

BUILT = Path(clickseg.__file__).parent / "page"
SHOWN = ("uint8", "int16", "uint16", "float32")  # number types that every viewer draws as they are

page_router = APIRouter(
    prefix="/clickseg/api", tags=["clickseg"], dependencies=[Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
)


class PageFiles(StaticFiles):
    """The built page. Browsers ask each time whether a file has changed: after an update nobody sees the old one."""

    def __init__(self) -> None:
        super().__init__(directory=BUILT, html=True)

    def file_response(self, *given: Any, **more: Any) -> Response:
        response = super().file_response(*given, **more)
        response.headers["Cache-Control"] = "no-cache"
        return response


class Study(BaseModel):
    """A line of the list of studies."""

    image: str = Field(description="id in the datastore")
    labelled: bool = Field(description="whether it has a final label")
    patient: str = Field(description="of a DICOM series: the name and the id")
    description: str = Field(description="of a DICOM series: date, modality and what else is said of it")


class Training(BaseModel):
    """How far the last training of a model is."""

    status: str = Field(description="none, or as MONAI Label says: SUBMITTED, RUNNING, DONE, ERROR, STOPPED")
    problem: str = Field(description="the last line that a failed training wrote")
    total_epochs: int
    epochs: list[dict[str, float]] = Field(description="of each: epoch, loss, seconds, ...")


@page_router.get("/studies", response_model=list[Study])
def studies() -> list[Study]:
    """What can be opened, by id."""
    datastore = app_instance().datastore()
    labelled = set(datastore.get_labeled_images())
    return [
        Study(image=image, labelled=image in labelled, **_said(datastore.get_image_info(image)))
        for image in sorted(datastore.list_images())
    ]


@page_router.get("/image")
def image(image: str) -> Response:
    """The image as NIfTI on its own voxel grid, whatever it is stored as. The server keeps it for the first click.

    The header X-Clickseg-Axis says which axis of the array numbers axial slices.
    """
    volume, grid = app_instance().volume(image)
    axis = UprightVolume(grid).axes[2]
    content = b"".join(nifti(_shown(volume), grid, compress=False))
    return Response(content, media_type="application/octet-stream", headers={"X-Clickseg-Axis": str(axis)})


@page_router.get("/label", responses={204: {"description": "the image has no final label"}})
def label(image: str) -> Response:
    """The final label as .nii.gz on the image's voxel grid; the header X-Clickseg-Labels says {name: value}.

    ETag is its version, to be sent as If-Match with what is to take its place.
    """
    app = app_instance()
    _, grid = app.volume(image)
    with refusing():
        path = app.datastore().get_label_uri(image, FINAL)
        if not path:
            return Response(status_code=204)
        version = label_version(app.datastore(), image)  # before it is read: a save in between makes this one outdated
        values = read_label(path, grid)
        info = app.datastore().get_label_info(image, FINAL)
        names = value_names(present_values(values), info.get("label_info") or (), app.served_labels())
    first: dict[str, int] = {}  # segments of one name are one label, as a training has it
    table = np.arange(256, dtype=np.uint8)
    for value, name in names.items():
        table[value] = first.setdefault(name, value)
    return Response(
        b"".join(nifti(table[values], grid, compress=True)),
        media_type="application/gzip",
        headers={"X-Clickseg-Labels": json.dumps(first), **({"ETag": f'"{version}"'} if version else {})},
    )


@page_router.get("/training/{model}", response_model=Training)
def training(model: str) -> Training:
    """The curve of a model's last training, and whether it still goes on."""
    log = app_instance().training_log(model)
    of_model = [task for task in AsyncTask.status("train", all=True)[0] or [] if task["request"].get("model") == model]
    task = of_model[-1] if of_model else {"status": "none"}
    lines = list(task.get("details") or [])
    return Training(
        status=task["status"],
        problem=lines[-1] if lines and task["status"] == "ERROR" else "",
        total_epochs=log.total_epochs,
        epochs=log.epochs,
    )


def _said(info: dict[str, Any]) -> dict[str, str]:
    """What is said of a DICOM series, by the fields of a Study."""
    said = {key: str(text) for key, text in info.items() if text and text != "UNK"}
    if "PatientName" in said:
        said["PatientName"] = " ".join(said["PatientName"].replace("^", " ").split())
    if re.fullmatch(r"\d{8}", date := said.get("StudyDate", "")):
        said["StudyDate"] = f"{date[:4]}-{date[4:6]}-{date[6:]}"
    fields = {"patient": ("PatientName", "PatientID"), "description": ("StudyDate", "Modality", "SeriesDescription")}
    return {field: " · ".join(said[key] for key in keys if key in said) for field, keys in fields.items()}


def _shown(volume: NDArray[np.generic]) -> NDArray[np.generic]:
    if volume.dtype.name in SHOWN:
        return volume
    return volume.astype(np.float32)
