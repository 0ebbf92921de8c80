"""DICOM series as NIfTI images in a folder of studies, which the server lists; a table says what became of each."""

from __future__ import annotations

import csv
import glob
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .datasets import case_id
from .dicom_head import About
from .dicom_tree import Tree
from .dicom_volume import LeftOut, Volume
from .files import digest, plain_name, readable, unique_names, write_text
from .geometry import Grid
from .images import read_slices, read_volume, reading, write_volume
from .privacy import Patient, gives_away, without_patients

TABLE, ENDING = "studies.csv", ".nii.gz"
COLUMNS = (
    "id", "SeriesInstanceUID", "part", "modality", "description", "date", "shape", "spacing", "source", "left_out",
    "content",
)  # fmt: skip
STOPPED = "the import was stopped"

Row = dict[str, str]


def patient_name(about: About) -> str:
    """PatientID_StudyDate_SeriesNumber. Where the PatientID gives the patient away, `study_name` stands for it."""
    patient = about.patient
    known = plain_name(patient.id).strip("_-")
    who = known if known and not gives_away(patient.id, patient) else _study(about)
    return "_".join(filter(None, (who, about.date, plain_name(about.number))))


def study_name(about: About) -> str:
    """A number that is made of the StudyInstanceUID, and the SeriesNumber: nothing of the patient, and no date."""
    return "_".join(filter(None, (_study(about), plain_name(about.number))))


def _study(about: About) -> str:
    return f"study-{digest(about.study or about.uid)}"


NAMES: Mapping[str, Callable[[About], str]] = {"patient": patient_name, "study": study_name}


class Studies:
    """A folder of images `<id>.nii.gz` and `studies.csv`, which has a row for each, and for what was left out.

    The patient's name and day of birth stand nowhere in it. A series keeps its id; one that was written is written
    again only if its files have changed, and never under labels.
    roots: folders that the tree is of. names: of NAMES. Raises ValueError for a table that cannot be read.
    """

    def __init__(self, folder: Path | str, tree: Tree, roots: Sequence[Path], names: str = "patient") -> None:
        self.folder, self.volumes, self._roots = Path(folder), tree.volumes, roots
        abouts = [each.about for each in tree.volumes] + [each.about for each in tree.left_out if each.about]
        self._patients = dict.fromkeys(about.patient for about in abouts)
        sources = [self._place(root, self._patients) for root in roots]
        self._rows = [row for row in self._read() if row["id"] or not _lies_in(row["source"], sources)]
        self._names = self._named(NAMES[names])
        self._of = {volume: self._row(volume) for volume in self.volumes}
        for each in tree.left_out:
            patients = [each.about.patient] if each.about else self._patients
            self._rows.append(self._new_row(each) | {"left_out": without_patients(readable(each.reason), patients)})

    @property
    def table(self) -> Path:
        """Where it is said what became of each series."""
        return self.folder / TABLE

    def path(self, volume: Volume) -> Path:
        """Where the image of a series lies, or will."""
        return self.folder / f"{self._names[volume]}{ENDING}"

    def left(self) -> list[Volume]:
        """What is not written yet, or has changed since."""
        return [each for each in self.volumes if not self._is_written(each)]

    def write(self, volume: Volume) -> None:
        """Write a series. ValueError, which the table has, too, says why there is no image of it, or an older one."""
        row = self._of[volume]
        try:
            with reading(volume.title):
                array, grid = read_slices(volume.slices(), volume.title)
            kept = bool(row["id"]) and _holds(self.path(volume), array, grid)
            if not kept:
                self._check_unlabelled(volume)
        except ValueError as error:
            row["left_out"] = without_patients(readable(str(error)), [volume.about.patient])
            self.save()
            raise
        if not kept:
            row |= {"id": self._names[volume], "left_out": STOPPED, "content": ""}
            self.save()  # first: the row says that the file is ours
            write_volume(self.path(volume), array, grid)
        spacing = " x ".join(f"{mm:.4g}" for mm in grid.spacing)
        row |= {
            "shape": " x ".join(map(str, grid.shape)),
            "spacing": spacing,
            "left_out": "",
            "content": volume.content,
        }
        self.save()

    def save(self) -> None:
        """Write the table."""
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(sorted(self._rows, key=lambda row: (not row["id"], row["id"], row["source"])))
        write_text(self.table, text.getvalue())

    def _read(self) -> list[Row]:
        try:
            with self.table.open(newline="", encoding="utf-8-sig") as file:
                return [{name: row[name] or "" for name in COLUMNS} for row in csv.DictReader(file)]
        except FileNotFoundError:
            return []
        except (KeyError, ValueError, csv.Error) as error:
            raise ValueError(f"{self.table} cannot be read: move it elsewhere, or name another --output") from error

    def _named(self, name: Callable[[About], str]) -> dict[Volume, str]:
        """Ids of the series: that which one has, or a new one."""
        wishes = {volume: _wishes(volume, name(volume.about)) for volume in self.volumes}
        names: dict[Volume, str] = {}
        for alike in (_is_of, lambda row, volume: _was_of(row, volume) and row["id"] in wishes[volume]):
            for volume in self.volumes:
                taken = names.values()
                found = (row["id"] for row in self._rows if row["id"] and alike(row, volume) and row["id"] not in taken)
                if volume not in names and (known := next(found, "")):
                    names[volume] = known
        new = [volume for volume in self.volumes if volume not in names]
        there = [case_id(path) for path in self.folder.iterdir()] if self.folder.is_dir() else []
        free = unique_names([wishes[volume] for volume in new], [*filter(None, there), *self._ids()])
        return names | dict(zip(new, free, strict=True))

    def _ids(self) -> list[str]:
        return [row["id"] for row in self._rows if row["id"]]

    def _row(self, volume: Volume) -> Row:
        """What the table says of a series; something new if it has not been written yet."""
        found = next((row for row in self._rows if row["id"] == self._names[volume]), None)
        if found is None:
            found = self._new_row(volume) | {"part": volume.part, "left_out": STOPPED}
            self._rows.append(found)
        elif found["content"] == volume.content:
            found["left_out"] = ""  # it may have changed and back again
        return found

    def _new_row(self, of: Volume | LeftOut) -> Row:
        patients = [of.about.patient] if of.about else self._patients
        row = dict.fromkeys(COLUMNS, "") | {"source": self._place(of.folder, patients)}
        if of.about:
            date = re.sub(r"(\d{4})(\d\d)(\d\d)", r"\1-\2-\3", of.about.date)
            description = without_patients(of.about.description, patients)
            row |= {"SeriesInstanceUID": of.about.uid, "modality": of.about.modality}
            row |= {"description": description, "date": date}
        return row

    def _place(self, folder: Path, patients: Iterable[Patient]) -> str:
        """A folder without the names of its patients; the one that was named, or is above, without those of all."""
        root = next((root for root in self._roots if folder.is_relative_to(root)), folder)
        hidden = Path(without_patients(readable(root), self._patients))
        return str(hidden / without_patients(readable(folder.relative_to(root)), patients))

    def _is_written(self, volume: Volume) -> bool:
        return self._of[volume]["content"] == volume.content and self.path(volume).is_file()

    def _check_unlabelled(self, volume: Volume) -> None:
        """ValueError if labels lie on an image that is there already."""
        path = self.path(volume)
        labels = sorted(self.folder.glob(f"labels*/**/{glob.escape(self._names[volume])}.*"))
        if path.exists() and labels:
            raise ValueError(
                f"{volume.title} has changed since {path.name} was written, on which {labels[0]} lies: the old image "
                "is kept (move it and its labels elsewhere to have the new one)"
            )


def _wishes(volume: Volume, name: str) -> list[str]:
    """What a series may be called, the shorter the better."""
    part = "_".join(filter(None, (name, plain_name(volume.part))))
    return [name, part, f"{part}_{digest(f'{volume.about.study} {volume.about.uid} {volume.part}')}"]


def _is_of(row: Row, volume: Volume) -> bool:
    return row["SeriesInstanceUID"] == volume.about.uid and row["content"] == volume.content


def _was_of(row: Row, volume: Volume) -> bool:
    """Whether a row is that of a series whose files may have changed since."""
    return row["SeriesInstanceUID"] == volume.about.uid and row["part"] == volume.part


def _lies_in(source: str, folders: Iterable[str]) -> bool:
    return any(Path(source).is_relative_to(folder) for folder in folders)


def _holds(path: Path, array: NDArray[np.generic], grid: Grid) -> bool:
    """Whether an image that is there is this one: files that were copied anew look changed."""
    try:
        there, own = read_volume(path)
    except ValueError:
        return False
    return own.coincides(grid) and np.array_equal(there, array.astype(there.dtype))
