"""Patients as a data set on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from .canvas import LABELS
from .make import phantom


def write_phantoms(
    directory: Path | str, cases: int = 1, seed: int = 0, shape: tuple[int, int, int] = (192, 192, 96)
) -> list[Path]:
    """Write a study in the layout of the Medical Segmentation Decathlon: case i is the patient of seed + i.

    imagesTr/phantom_000.nii.gz, labelsTr/phantom_000.nii.gz, ..., dataset.json. Returns the paths of the cases' images.
    A case of which the image or the label exists is left as it is (a team may have labelled it); an existing
    dataset.json only gains the cases that it lacks. Raises ValueError if it is not a data set's list.
    """
    if cases < 1:
        raise ValueError(f"{cases} cases: at least one is needed")
    directory = Path(directory)
    index = directory / "dataset.json"
    dataset = _read_index(index) if index.exists() else _new_index()
    images = [directory / "imagesTr" / f"phantom_{case:03d}.nii.gz" for case in range(cases)]
    listed = {Path(entry["image"]) for entry in dataset["training"]}
    for case, image in enumerate(images):
        label = directory / "labelsTr" / image.name
        if not image.exists() and not label.exists():
            made = phantom(seed + case, shape)
            _save({image: made.image, label: made.label}, made.affine)
        if image.exists() and label.exists() and image.relative_to(directory) not in listed:
            dataset["training"].append({"image": f"./imagesTr/{image.name}", "label": f"./labelsTr/{image.name}"})
    if len(dataset["training"]) > len(listed) or not index.exists():
        dataset["numTraining"] = len(dataset["training"])
        directory.mkdir(parents=True, exist_ok=True)
        _partial(index).write_text(json.dumps(dataset, indent=2) + "\n")
        _partial(index).replace(index)
    return images


def _new_index() -> dict[str, Any]:
    return {
        "name": "phantom",
        "description": "Synthetic abdominal CT, portal-venous phase: no patient",
        "licence": "Apache-2.0",
        "release": "1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", **{str(value): name for name, value in LABELS.items()}},
        "numTraining": 0,
        "numTest": 0,
        "training": [],
        "test": [],
    }


def _read_index(path: Path) -> dict[str, Any]:
    try:
        dataset = json.loads(path.read_text())
        [Path(entry["image"]) for entry in dataset["training"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a data set's list of cases: {error}") from error
    return dict(dataset)


def _partial(path: Path) -> Path:
    """Where a file is written before it gets its name: an interrupted write leaves nothing that looks whole."""
    return path.with_name(f".partial_{path.name}")


def _save(volumes: dict[Path, np.ndarray], affine: np.ndarray) -> None:
    for path, voxels in volumes.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        nifti = nib.Nifti1Image(voxels, affine)
        nifti.set_qform(affine, "scanner")
        nifti.set_sform(affine, "scanner")
        nifti.header.set_xyzt_units("mm")
        nib.save(nifti, _partial(path))
    for path in volumes:
        _partial(path).replace(path)
