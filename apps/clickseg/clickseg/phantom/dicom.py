"""A volume as the files of a DICOM study, as scanners write them."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

from .make import Phantom

Vector = tuple[float, float, float]


def dicom_series(
    volume: NDArray[np.integer],
    spacing: Vector,
    origin: Vector = (0.0, 0.0, 0.0),
    uids: tuple[str, str] | None = None,
    directions: NDArray[np.floating] | None = None,
) -> list[bytes]:
    """A study of one CT series, a file for each slice along the last axis.

    volume: (X, Y, Z) HU: columns, rows and slices. spacing: mm. origin: LPS mm of the first voxel. uids: of study and
    series. directions: (3, 3), in its columns the LPS unit vectors of the three axes; by default L, P and S.
    """
    study, series = uids or (generate_uid(), generate_uid())
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if directions is None else directions) * spacing
    affine[:3, 3] = origin
    return [_slice(volume, number, affine, study, series) for number in range(volume.shape[2])]


def phantom_series(patient: Phantom, seed: int) -> list[bytes]:
    """A phantom as DICOM; one seed has the same study and series UID every time."""
    volume = np.flip(patient.image, (0, 1))  # RAS -> LPS
    corner = patient.affine @ [patient.image.shape[0] - 1, patient.image.shape[1] - 1, 0, 1]
    x, y, z = (float(value) for value in corner[:3])
    a, b, c = (float(step) for step in np.abs(np.diag(patient.affine)[:3]))
    study, series = (str(generate_uid(entropy_srcs=["clickseg phantom", part, str(seed)])) for part in ("1", "2"))
    return dicom_series(volume, (a, b, c), (-x, -y, z), (study, series))


def _slice(volume: NDArray[np.integer], number: int, affine: NDArray[np.float64], study: str, series: str) -> bytes:
    """One slice. affine: 4x4, voxel (column, row, slice) -> LPS mm."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    columns, rows = (affine[:3, axis] / spacing[axis] for axis in (0, 1))
    data = image_file(CTImageStorage, (volume.shape[0], volume.shape[1]), (study, series), number)
    data.PixelSpacing, data.SliceThickness = decimals([spacing[1], spacing[0]]), decimals([spacing[2]])[0]
    data.ImageOrientationPatient = decimals([*columns, *rows])
    data.ImagePositionPatient = decimals(affine[:3] @ [0, 0, number, 1])
    data.RescaleIntercept, data.RescaleSlope = 0, 1
    data.WindowCenter, data.WindowWidth = 60, 400
    data.PixelData = np.ascontiguousarray(volume[:, :, number].T).astype(np.int16).tobytes()
    return written(data)


def image_file(kind: UID, size: tuple[int, int], uids: tuple[str, str], number: int) -> FileDataset:
    """An image of nobody, without its pixels, 16 bits each, and without a place.

    size: columns and rows. uids: of study and series. number: of the file in its series, from 0.
    """
    study, series = uids
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series, str(number)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.is_little_endian, data.is_implicit_VR = True, False
    data.SOPClassUID, data.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, study
    data.Modality, data.PatientName, data.PatientID, data.StudyID = "CT", "Nobody", "0", "1"
    data.PatientBirthDate = data.PatientSex = data.AccessionNumber = data.ReferringPhysicianName = ""
    data.StudyDate, data.StudyTime, data.SeriesNumber, data.InstanceNumber = "20240101", "120000", 1, number + 1
    data.Columns, data.Rows = size
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 1
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    return data


def written(data: FileDataset) -> bytes:
    """A DICOM file as it lies on a disk."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, write_like_original=False)
    return buffer.getvalue()


def decimals(values: Iterable[float]) -> list[DSfloat]:
    """Decimal strings, which DICOM allows sixteen characters."""
    return [DSfloat(float(value), auto_format=True) for value in values]
