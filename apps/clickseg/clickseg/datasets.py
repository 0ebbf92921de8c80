"""Labelled studies on disk: their cases, files and labels."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from monai.apps import DecathlonDataset, download_and_extract

from .images import read_volume
from .machine import present_values
from .methods import Recipe

AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")


@dataclass(frozen=True)
class Case:
    """One labelled study: an image file and the label map on the same grid."""

    id: str
    image: Path
    label: Path


@dataclass(frozen=True)
class CaseFolder:
    """A folder laid out as the Medical Segmentation Decathlon is: imagesTr/, labelsTr/, dataset.json if there is one.

    An image has the name of its label, or as nnU-Net has it the number of its one channel after that, `<id>_0000`.
    labels: name -> value from dataset.json; empty without it. name: of the folder; empty for files from anywhere.
    """

    cases: tuple[Case, ...]
    labels: Mapping[str, int]
    name: str = ""

    @property
    def card(self) -> dict[str, Any]:
        """What the card of weights that learn from this says of it."""
        return {"learnt": {self.name: [case.id for case in self.cases]}}

    @classmethod
    def read(cls, folder: Path | str, ids: Sequence[str] | None = None) -> CaseFolder:
        """Every image with its label, or those of `ids`. ValueError naming what is missing."""
        folder = Path(folder)
        images, labels = folder / "imagesTr", folder / "labelsTr"
        for wanted in (images, labels):
            if not wanted.is_dir():
                raise ValueError(
                    f"{folder} is not a data folder: {wanted} is missing (imagesTr/ and labelsTr/ are needed)"
                )
        masks = files_by_case(labels)
        found = _without_channel(files_by_case(images), masks, images)
        unknown = sorted(set(ids or ()) - set(found))
        if unknown:
            raise ValueError(
                f"no image for case {', '.join(unknown)} in {images}; there are {', '.join(found) or 'none'}"
            )
        cases = []
        for name, image in found.items():
            if ids is not None and name not in ids:
                continue
            label = masks.get(name)
            if label is None:
                raise ValueError(f"image {image} has no label file {labels / name}.nii.gz")
            cases.append(Case(name, image, label))
        if not cases:
            raise ValueError(f"no images in {images}")
        return cls(tuple(cases), _labels(folder / "dataset.json"), folder.resolve().name)

    def completed(self, recipe: AnyRecipe) -> AnyRecipe:
        """A recipe, with the labels of this folder where it names none: those it names, else those that are found.

        Raises ValueError as `Recipe.with_labels`; names that were only found contradict nobody's.
        """
        named = recipe.with_labels(self.labels)
        return named if named.labels else recipe.with_labels(self.found_labels())

    def found_labels(self) -> dict[str, int]:
        """Names for the values that occur in the label files, for a folder without dataset.json: `label 1`, ..."""
        values: set[int] = set()
        for case in self.cases:
            values |= set(present_values(read_volume(case.label)[0]))
        return {f"label {value}": value for value in sorted(values - {0})}


def download_task(folder: Path | str) -> None:
    """Fetch the task of the Medical Segmentation Decathlon that a folder is named after (`Task09_Spleen`), if need be.

    Raises ValueError for a folder of another name, and if the download fails.
    """
    folder = Path(folder)
    if folder.exists():
        return
    if folder.name not in DecathlonDataset.resource:
        tasks = ", ".join(DecathlonDataset.resource)
        raise ValueError(f"only tasks of the Medical Segmentation Decathlon can be downloaded: DIR/{{{tasks}}}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    archive = folder.with_suffix(".tar")
    try:
        download_and_extract(
            DecathlonDataset.resource[folder.name],
            archive,
            folder.parent,
            hash_val=DecathlonDataset.md5[folder.name],
            hash_type="md5",
        )
    except Exception as error:  # MONAI raises bare ones
        raise ValueError(f"{folder.name} could not be downloaded: {error}") from error


def hold_out(ids: Sequence[str], count: int, seed: int) -> tuple[list[str], list[str]]:
    """Ids of patients -> (to train on, to test on), each in order; the same `seed` draws the same `count` to test on.

    Raises ValueError unless at least one is left to train on, and one to test on.
    """
    if not 0 < count < len(ids):
        raise ValueError(f"{count} of {len(ids)} cases cannot be held out: at least one must be, and one must be left")
    held = set(np.random.default_rng(seed).permutation(sorted(ids))[:count].tolist())
    return sorted(set(ids) - held), sorted(held)


def read_cases(data: Path | str | Sequence[Mapping[str, str]]) -> CaseFolder:
    """A data folder, or the files that a MONAI datalist names one by one: [{"image": path, "label": path}, ...]."""
    if isinstance(data, str | Path):
        return CaseFolder.read(data)
    paths = [(Path(entry["image"]), Path(entry["label"])) for entry in data]
    return CaseFolder(tuple(Case(case_id(image) or image.name, image, label) for image, label in paths), labels={})


def case_id(path: Path) -> str:
    """`img0001` for img0001.nii.gz; empty for hidden files and files that are no images."""
    if path.name.startswith("."):
        return ""
    return next((path.name.removesuffix(suffix) for suffix in SUFFIXES if path.name.endswith(suffix)), "")


def files_by_case(folder: Path) -> dict[str, Path]:
    """The files of a folder by the ids of their cases. ValueError for two of one case: which of them is meant?"""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = case_id(path)
        if name in found:
            raise ValueError(f"{folder} has {found[name].name} and {path.name}, both of case {name}: remove one")
        if name:
            found[name] = path
    return found


def _without_channel(found: dict[str, Path], masks: Collection[str], folder: Path) -> dict[str, Path]:
    """Images by the ids of their cases, where nnU-Net has put the number of a channel behind every one, `<id>_0000`.

    ValueError for several channels of a case.
    """
    parts = {name: re.fullmatch(r"(.+)_(\d{4})", name) for name in found}
    ids = {name: part[1] for name, part in parts.items() if part}
    if len(ids) < len(found) or not set(ids.values()) & set(masks) or set(found) & set(masks):
        return found  # a number at the end of a name, and no channel
    others = [name for name, part in parts.items() if part and part[2] != "0000"]
    if others:
        raise ValueError(
            f"{folder} has {others[0]}, another channel of the case {ids[others[0]]}: one channel is read, <case>_0000"
        )
    return {ids[name]: path for name, path in found.items()}


def _labels(path: Path) -> dict[str, int]:
    """The label names of an MSD dataset.json, whichever way round it has them (nnU-Net turned them about)."""
    if not path.exists():
        return {}
    try:
        table = json.loads(path.read_text())["labels"]
        pairs = [(k, v) if isinstance(v, int) else (v, k) for k, v in table.items()]
        pairs = [(str(name), int(value)) for name, value in pairs if int(value) != 0]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} has no readable table `labels` of value -> name: {error}") from error
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path} gives the name {', '.join(twice)} to two values: each structure has one")
    return dict(pairs)


def read_ids(text: str | None) -> list[str] | None:
    """Case ids from `a,b,c` or from a file with one per line; None for None. ValueError for a file that is missing."""
    if text is None:
        return None
    lines = text.split(",")
    if len(lines) == 1 and Path(text).is_file():  # many ids make a longer path than the system looks up
        lines = Path(text).read_text().split()
    elif len(lines) == 1 and (os.sep in text or text.endswith(".txt")):  # which no id has
        raise ValueError(f"there is no file {text} (case ids are named as a,b,c or by a file with one per line)")
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise ValueError(f"no case ids in {text!r}")
    return ids
