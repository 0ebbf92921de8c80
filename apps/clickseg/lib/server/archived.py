"""Labels of the series of a DICOM archive: they live there as segmentations (SEG), and the copies here follow."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

from fastapi import HTTPException
from filelock import FileLock
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from monailabel.datastore.utils.convert import dicom_to_nifti
from monailabel.datastore.utils.dicom import dicom_web_download_series, dicom_web_upload_dcm
from monailabel.interfaces.datastore import Datastore
from pydicom.dataset import Dataset

from clickseg.dicom import check_slices, is_enhanced
from clickseg.files import whole_file
from clickseg.images import read_label, read_volume, write_mask, write_volume

from .archive_client import SILENT, search_series, silent, with_timeouts
from .datastore import FINAL
from .refusals import refusing
from .segmentations import read_segmentation, write_segmentation

logger = logging.getLogger(__name__)

SERIES_UID = re.compile(r"\d+(\.\d+)*")
PATIENCE = 600.0  # seconds until a series that could not be fetched is proposed again
FRESH = 3.0  # seconds for which the lists of series and of segmentations are believed
MODALITIES = ("CT", "MR")  # that are listed, unless MONAI Label is told otherwise
TOLD = ("PatientName", "PatientID", "StudyDate", "Modality", "SeriesDescription")  # of a series that is listed
SEARCH_FILTER = "MONAI_LABEL_DICOMWEB_SEARCH_FILTER"


class ArchivedLabels(DICOMWebDatastore):
    """The final label of a series is the newest SEG that refers to it, whoever stored it.

    The stock datastore keeps the first one it sees, loses the slices without a segment, the values and the names when
    it reads one, and believes for two hours that nothing was labelled and no study has come.
    """

    # What a SEG refers to, and when it was made: (image series, date and time). It never changes.
    _made: ClassVar[dict[str, tuple[str, str]]] = {}
    _uneven: ClassVar[dict[str, str]] = {}  # why a series has no grid of its own, "" if it has
    _failed: ClassVar[dict[str, float]] = {}  # when a series was last asked for in vain
    _expected: ClassVar[dict[str, int]] = {}  # how many files a series has, as the archive has said last
    _told: ClassVar[dict[str, dict[str, str]]] = {}  # what the archive has said of a series last
    _saves = 0  # labels that this server has stored there
    _found: tuple[float, int, dict[str, str]] = (-math.inf, 0, {})  # when `_segmentations` ended, after which save, how
    _listed: tuple[float, list[str]] = (-math.inf, [])  # that of `list_images`

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        """What `Careful` puts in its place."""
        return contextlib.nullcontext()

    def _store(self, image_id: str, label_filename: str, tag: str, info: dict[str, Any]) -> str:
        """Keep a label here. What `Careful` puts in its place."""
        return LocalDatastore.save_label(self, image_id, label_filename, tag, info)

    def list_images(self) -> list[str]:
        """The series of CT and MR, or those that MONAI Label's own search filter asks for if it is set."""
        asked, known = self._listed
        if time.monotonic() - asked < FRESH:
            return known
        filters = [{"Modality": modality} for modality in MODALITIES]
        if os.environ.get(SEARCH_FILTER):
            filters = [self._search_filter]
        found = [series for wanted in filters for series in search_series(self._client, wanted, TOLD)]
        counts = {str(series.SeriesInstanceUID): _files_of(series) for series in found}
        self._expected.update(counts)
        self._told.update({str(series.SeriesInstanceUID): _told(series) for series in found})
        self._listed = (time.monotonic(), list(counts))
        return list(counts)

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """As the stock method, with what the archive says of a series that is listed, though it was never opened."""
        return {**super().get_image_info(image_id), **self._told.get(image_id, {})}

    def get_image_uri(self, image_id: str) -> str:
        """The NIfTI copy of a series, fetched if need be.

        Raises HTTPException: 404 where the archive has none (whether it is listed does not count: the list of series
        may be hours old), 400 for one whose slices lie on no grid, 502 where it does not answer.
        """
        if not SERIES_UID.fullmatch(image_id):
            raise HTTPException(status_code=404, detail=f"the DICOM server has no readable series {image_id!r}")
        try:
            copy = self._fetched(image_id)
        except SILENT as error:
            self._failed[image_id] = time.monotonic()
            raise silent(error) from error
        except Exception as error:  # the DICOMweb client lets through whatever its server or parser says
            logger.warning("series %s: %s", image_id, error)
            self._failed[image_id] = time.monotonic()
            if self._uneven.get(image_id):
                raise HTTPException(status_code=400, detail=self._uneven[image_id]) from error
            raise HTTPException(404, f"the DICOM server has no readable series {image_id!r}") from error
        self._failed.pop(image_id, None)
        return copy

    def _fetched(self, image_id: str) -> str:
        """A series' NIfTI copy, with its DICOM files in the folder beside it, which is there whole or not at all."""
        images = Path(self._datastore.image_path()).resolve()
        folder, copy = images / image_id, images / f"{image_id}.nii.gz"
        with FileLock(images / f".{image_id}.lock"):  # scoring, another process, fetches, too
            whole = folder.is_dir() and copy.is_file()
            if not whole or self._expected.get(image_id, 0) > len(list(folder.iterdir())):  # more has come since
                self._fetch_series(image_id, folder)
            elif image_id not in self._uneven:
                self._uneven[image_id] = _unevenness(folder)
        if self._uneven[image_id]:
            raise ValueError(self._uneven[image_id])
        return str(copy)

    def _fetch_series(self, image_id: str, folder: Path) -> None:
        said = self._client.search_for_series(search_filters={"SeriesInstanceUID": image_id})[0]
        expected = self._expected[image_id] = _files_of(Dataset.from_json(said))
        refusal = self._refusal(image_id)
        with contextlib.suppress(OSError, ValueError):
            refused = json.loads(refusal.read_text())
            if refused["files"] == expected:  # if more have come, it may be even now
                self._uneven[image_id] = refused["reason"]
                return
        with tempfile.TemporaryDirectory(prefix=f".{image_id}.", dir=folder.parent) as scratch:
            series = Path(scratch) / "series"
            dicom_web_download_series(None, image_id, str(series), self._client, self._fetch_by_frame)
            count = len(list(series.iterdir()))
            if expected and count != expected:
                raise ValueError(f"{count} of {expected} files came: it may still be arriving")
            self._uneven[image_id] = _unevenness(series)
            if self._uneven[image_id]:
                with whole_file(refusal) as file:
                    file.write(json.dumps({"files": expected, "reason": self._uneven[image_id]}).encode())
                return
            refusal.unlink(missing_ok=True)
            converted = _nifti(series)
            folder.with_name(f"{image_id}.nii.gz").unlink(missing_ok=True)  # of fewer slices, or cut off by a kill
            try:
                self.add_image(image_id, converted, self._dicom_info(image_id))
            finally:
                Path(converted).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            series.replace(folder)

    def _refusal(self, image_id: str) -> Path:
        """Where it is written down, for other processes and days, why a series lies on no grid."""
        return Path(self._datastore.image_path()).resolve() / f".{image_id}.refused.json"

    def series_folder(self, image_id: str) -> Path:
        """The DICOM files of a series that `get_image_uri` has fetched."""
        return Path(self.get_image_uri(image_id).removesuffix(".nii.gz"))

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any], label_id: str = ""
    ) -> str:
        """As the stock method; a final label is stored in the archive, with the names that `label_info` gives.

        Raises HTTPException: 404 for an unknown series, 400 for a label map that is empty or does not fit.
        """
        if label_tag != FINAL:
            return self._store(image_id, label_filename, label_tag, label_info)
        image = self.get_image_uri(image_id)
        with refusing(), tempfile.TemporaryDirectory(prefix="clickseg-label-") as folder:
            grid = read_volume(image)[1]
            path = Path(folder) / "label.nii.gz"
            write_mask(path, read_label(label_filename, grid), grid)
            file = write_segmentation(self.series_folder(image_id), path, label_info.get("label_info") or ())
            try:
                stored = dicom_web_upload_dcm(file, self._client)
            finally:
                Path(file).unlink(missing_ok=True)
            self._saves += 1  # what a search that began before it will say is out of date
            return self._store(image_id, str(path), FINAL, {**label_info, "SeriesInstanceUID": stored})

    def get_label_uri(self, label_id: str, label_tag: str, image_id: str = "") -> str:
        """The local copy of a label, and of the final one the newest.

        label_id: that of its image, as `save_label` returns it.
        """
        image_id = image_id or label_id
        if label_tag == FINAL:
            copied = self._copied(image_id)
            if stored := self._segmentations().get(image_id):
                self._fetch(image_id, stored, copied)
        return LocalDatastore.get_label_uri(self, image_id, label_tag)

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """The series with a SEG, of those that are listed or have been opened here."""
        known = {*self.list_images(), *self._datastore.objects}
        return [series for series in self._segmentations() if series in known]

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """As the stock method, without series that lie on no grid, or that the archive has just failed to give out."""
        late = time.monotonic() - PATIENCE
        images = [
            image for image in super().get_unlabeled_images(label_tag, labels) if not self._refusal(image).exists()
        ]
        return [image for image in images if self._failed.get(image, -math.inf) < late]

    def _download_labeled_data(self) -> None:
        """Let the local copies be those of the archive. Called before labels are trained on."""
        copied = {image_id: self._copied(image_id) for image_id in LocalDatastore.get_labeled_images(self, FINAL)}
        archived = self._segmentations()
        labelled = [image_id for image_id in self.get_labeled_images() if image_id in archived]
        outdated = set(copied) - set(labelled)
        for image_id in labelled:
            try:
                self._fetch(image_id, archived[image_id], copied.get(image_id))
            except (ValueError, OSError, HTTPException) as error:  # one that cannot be read keeps nobody from training
                logger.warning("the label of series %s is left out: %s", image_id, error)
                outdated.add(image_id)
        for image_id in outdated & set(copied):
            if self._copied(image_id) == copied[image_id]:  # and was not saved meanwhile
                Path(LocalDatastore.get_label_uri(self, image_id, FINAL)).unlink(missing_ok=True)
                self.refresh()

    def _segmentations(self) -> dict[str, str]:
        """Image series -> the newest SEG series of it; of two of the same second, that which was saved here.

        What the archive said is believed for some seconds: clients ask for this with every list of studies.
        """
        saves = self._saves
        asked, after, known = self._found
        if after == saves and time.monotonic() - asked < FRESH:
            return known
        found: dict[str, list[tuple[str, bool, str]]] = {}
        for series in search_series(self._client, {"Modality": "SEG"}):
            uid = str(series.SeriesInstanceUID)
            if uid not in self._made:
                try:
                    (metadata, *_) = self._client.retrieve_series_metadata(str(series.StudyInstanceUID), uid)
                except Exception as error:  # as above; the others can be read all the same
                    logger.warning("segmentation %s is left out: %s", uid, error)
                    continue
                self._made[uid] = _origin(Dataset.from_json(metadata))
            image_id, made = self._made[uid]
            found.setdefault(image_id, []).append((made, uid == self._copied(image_id), uid))
        newest = {image_id: max(items)[-1] for image_id, items in found.items() if image_id}
        self._found = (time.monotonic(), saves, newest)
        return newest

    def _copied(self, image_id: str) -> str | None:
        """The SEG series that the local copy of a label was made of."""
        return self.get_label_info(image_id, FINAL).get("SeriesInstanceUID")

    def _fetch(self, image_id: str, stored: str, copied: str | None) -> None:
        """Make the local copy of a label, unless it is there, or another one than before the archive was searched.

        Then it was saved meanwhile, and `stored` is what it has taken the place of. copied: that of before.
        """
        local = LocalDatastore.get_label_uri(self, image_id, FINAL)
        if self._copied(image_id) == stored and Path(local).is_file():
            return
        grid = read_volume(self.get_image_uri(image_id))[1]
        with tempfile.TemporaryDirectory(prefix="clickseg-label-") as folder:
            dicom_web_download_series(None, stored, folder, self._client)
            files = list(Path(folder).iterdir())
            if not files:
                raise ValueError(f"the DICOM server gives out nothing of the segmentation {stored}")
            label, names = read_segmentation(files[0], grid)
            path = Path(folder) / "label.nii.gz"
            write_mask(path, label, grid)
            info = {"SeriesInstanceUID": stored, "label_info": names}
            with self._writing():
                if self._copied(image_id) in (copied, None):  # none: its image was fetched again
                    self._store(image_id, str(path), FINAL, info)


def labels_in_the_archive(datastore: Datastore) -> Datastore:
    """The same datastore, keeping its labels as `ArchivedLabels` does if it is a DICOM archive."""
    if isinstance(datastore, DICOMWebDatastore):
        datastore.__class__ = ArchivedLabels
        with_timeouts(datastore._client)
    return datastore


def _unevenness(series: Path) -> str:
    """Why the slices of a series, a folder of files, lie on no grid; "" if they do."""
    try:
        check_slices([path for path in sorted(series.iterdir()) if path.is_file()] if series.is_dir() else [])
    except ValueError as error:
        return str(error)
    return ""


def _nifti(series: Path) -> str:
    """A new NIfTI file of a series, a folder of files. MONAI Label takes the frames of enhanced ones as they come."""
    if not is_enhanced(next(series.iterdir())):
        return dicom_to_nifti(str(series))
    made = series.with_name("volume.nii.gz")
    write_volume(made, *read_volume(series))
    return str(made)


def _files_of(series: Dataset) -> int:
    """How many files a series has, as a search says; 0 if it does not."""
    return int(series.get("NumberOfSeriesRelatedInstances") or 0)


def _told(series: Dataset) -> dict[str, str]:
    """What a search says of a series, without what it leaves out."""
    return {field: str(series[field].value) for field in TOLD if series.get(field)}


def _origin(segmentation: Dataset) -> tuple[str, str]:
    """Which image series a SEG refers to ("" if it does not say), and when it was made."""
    referred = segmentation.get("ReferencedSeriesSequence")
    image_id = str(referred[0].SeriesInstanceUID) if referred else ""
    return image_id, f"{segmentation.get('ContentDate', '')}{segmentation.get('ContentTime', '')}"
