"""What the head of a DICOM file says: read once, without the pixels."""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.tag import Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, MediaStorageDirectoryStorage

from .dicom_frames import ENHANCED, FUNCTIONAL, PHASES, frames
from .dicom_slice import SLICE, Said, Slice, millimetres, slice_of, text
from .privacy import Patient

MARK = 128, b"DICM"
GROUPS = (b"\x02\0", b"\x08\0")  # what a file begins with that has no mark: old archives leave the first part out
PIXELS = b"\xe0\x7f"  # how their element begins
LONG = (b"OB", b"OW", b"UN")  # kinds of pixels whose length stands in four bytes, after two that are empty
UNKNOWN, END, TAIL = 0xFFFFFFFF, b"\xfe\xff\xdd\xe0", 4096  # of compressed pixels; what may follow is short

NONE = UID("")
SERIES = "SeriesInstanceUID"
PATIENT = ("PatientID", "PatientName", "PatientBirthDate")
ABOUT = ("StudyInstanceUID", SERIES, "SeriesNumber", "Modality", "SeriesDescription", "StudyDate", "SeriesDate")
FORM = ("SOPClassUID", "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "SliceThickness")
TAGS = [Tag(name) for name in (*SLICE, *PATIENT, *ABOUT, *FORM, *PHASES)]  # names are looked up for every file
TAGS_OF_FRAMES = [*TAGS, *map(Tag, FUNCTIONAL)]
TAGS_OF_SERIES = [Tag(name) for name in ("SpecificCharacterSet", *PATIENT, *ABOUT)]


@dataclass(frozen=True)
class About:
    """What all files of a series say. uid: its SeriesInstanceUID. date: of the study, YYYYMMDD."""

    patient: Patient
    study: str
    uid: str
    number: str
    modality: str
    description: str
    date: str

    @property
    def title(self) -> str:
        """Which series it is, in words."""
        number = f"series {self.number or self.uid}" if self.number or self.uid else ""
        return ", ".join(filter(None, (number, self.modality, self.description))) or "of no series"


@dataclass(frozen=True)
class Head:
    """What a file says of itself, or of one of its frames.

    kind: its SOPClassUID. shape: columns and rows. frames: of the file. thickness: mm, 0 if it does not say.
    phase: values of PHASES. stack: of an enhanced file, to which the frame belongs. state: size and time of the file.
    """

    file: Path
    about: About
    kind: UID
    slice: Slice
    shape: tuple[int, int]
    colours: int
    frames: int
    thickness: float
    phase: tuple[str, ...]
    stack: str
    state: tuple[int, int]

    @property
    def localizer(self) -> bool:
        return "LOCALIZER" in self.phase[PHASES.index("ImageType")]


Known = dict[str, About]  # by what stands in the file


@dataclass(frozen=True)
class Damaged:
    """A file that cannot be read, or ends too early.

    kind: its SOPClassUID, uid: its SeriesInstanceUID, each empty where it does not go so far.
    sure: whether it is DICOM, and not perhaps something else. blank: whether it is empty, or begins with zeros.
    """

    file: Path
    reason: str
    kind: UID = NONE
    uid: str = ""
    sure: bool = True
    blank: bool = False


def read_heads(file: Path, known: Known | None = None) -> list[Head] | Damaged | None:
    """The head of a file, or one of each frame of an enhanced one.

    None if it is no DICOM file, nor what is left of one, and for a DICOMDIR: that lists files, which are looked at in
    any case. known: what files before it have said of their series, to which it adds.
    """
    try:
        with file.open("rb") as content:
            start = content.read(MARK[0] + len(MARK[1]))
            content.seek(0)
            if start[MARK[0] :] != MARK[1] and not start.startswith(GROUPS):
                return _unmarked(file, start)
            return _read(file, content, start.endswith(MARK[1]), {} if known is None else known)
    except OSError as error:
        return Damaged(file, f"cannot be read: {error.strerror or error}")


def _unmarked(file: Path, start: bytes) -> Damaged | None:
    blank = not any(start)  # a full disk leaves files empty, or filled with zeros
    dicom = ending(file) == ".dcm"
    reason = "is empty" if blank else "is no DICOM file, whatever its name"
    return Damaged(file, reason, sure=False, blank=blank) if blank or dicom else None


def _read(file: Path, content: BinaryIO, marked: bool, known: Known) -> list[Head] | Damaged | None:
    try:
        data = pydicom.dcmread(content, stop_before_pixels=True, specific_tags=TAGS, force=True)
        if MediaStorageDirectoryStorage in (data.file_meta.get("MediaStorageSOPClassUID"), data.get("SOPClassUID")):
            return None
        if data.get("SOPClassUID"):
            if "Image" in UID(data.SOPClassUID).name and not _is_whole(content, data):
                return _cut(file, data)
            return _heads(file, content, data, known)
        content.seek(0)  # cut short: pydicom then forgets what it has read, if it was to choose
        data = pydicom.dcmread(content, stop_before_pixels=True, force=True)
        return _cut(file, data) if marked or data.get("SOPClassUID") else None
    except OSError:
        raise
    except Exception as error:  # pydicom raises whatever it met where a file ends, and for values that are none
        return Damaged(file, f"cannot be read: {error}") if marked else None


def _cut(file: Path, data: pydicom.Dataset) -> Damaged:
    kind = data.get("SOPClassUID") or data.file_meta.get("MediaStorageSOPClassUID", "")
    return Damaged(file, "is cut short", UID(kind), text(data, SERIES))


def _is_whole(content: BinaryIO, data: pydicom.Dataset) -> bool:
    """Whether the pixels, before which the reader has stopped, are as long as they say."""
    syntax = UID(data.file_meta.get("TransferSyntaxUID", ""))
    if syntax in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        return True
    start = content.read(12)
    place = 8 if start[4:6] in LONG else 4
    begin, size = content.tell() - len(start) + place + 4, content.seek(0, os.SEEK_END)
    if start[:2] != PIXELS or len(start) < 12:
        return False
    (length,) = struct.unpack_from("<I", start, place)
    if length != UNKNOWN:
        return bool(begin + length <= size)
    content.seek(max(begin, size - TAIL))
    return END in content.read()


def _heads(file: Path, content: BinaryIO, data: pydicom.Dataset, known: Known) -> list[Head]:
    whole = _head(file, data, known)
    if whole.kind not in ENHANCED:
        return [whole]
    content.seek(0)
    data = pydicom.dcmread(content, stop_before_pixels=True, specific_tags=TAGS_OF_FRAMES, force=True)
    return [_head_of_frame(whole, said, number) for number, said in enumerate(frames(data))] or [whole]


def _head(file: Path, data: pydicom.Dataset, known: Known) -> Head:
    state = file.stat()
    written = repr([getattr(data.get_item(tag), "value", None) for tag in TAGS_OF_SERIES])
    if written not in known:
        known[written] = _about(data)  # to make values of what is written takes longer
    return Head(
        file=file,
        about=known[written],
        kind=UID(data.SOPClassUID),
        slice=slice_of(file, data),
        shape=(int(data.get("Columns") or 0), int(data.get("Rows") or 0)),
        colours=int(data.get("SamplesPerPixel") or 1),
        frames=int(text(data, "NumberOfFrames") or 1),
        thickness=_thickness(data),
        phase=_phase(data),
        stack="",
        state=(state.st_size, state.st_mtime_ns),
    )


def _head_of_frame(whole: Head, said: Said, number: int) -> Head:
    """whole: what the file says. number: of the frame, from 0."""
    of_frame = slice_of(whole.file, said, number)
    stack = text(said, "StackID")
    return replace(whole, slice=of_frame, thickness=_thickness(said), phase=_phase(said), stack=stack)


def _thickness(said: Said) -> float:
    return round(millimetres(said, "SliceThickness"), 2)


def _phase(said: Said) -> tuple[str, ...]:
    return tuple(text(said, name) for name in PHASES)


def _about(data: pydicom.Dataset) -> About:
    born = text(data, "PatientBirthDate")
    dates = (text(data, name) for name in ("StudyDate", "SeriesDate"))
    return About(
        patient=Patient(text(data, "PatientID"), text(data, "PatientName"), born),
        study=text(data, "StudyInstanceUID"),
        uid=text(data, SERIES),
        number=text(data, "SeriesNumber"),
        modality=text(data, "Modality"),
        description=text(data, "SeriesDescription"),
        date=next((date for date in dates if re.fullmatch(r"\d{8}", date) and date != born), ""),
    )


def ending(path: Path) -> str:
    """The ending of a file's name; "" for what is but the last number of a UID."""
    return "" if re.fullmatch(r"\.\d+", path.suffix) else path.suffix.lower()
