"""A recipe of `tis` from a data set's own spacing, size and intensities, by rules of nnU-Net (Isensee 2021)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from .datasets import Case, CaseFolder
from .geometry import UprightVolume
from .images import read_labelled
from .methods import UNet2dRecipe
from .methods.tis import TisRecipe
from .networks.encoder3d import LEAST_SIDE

ANISOTROPIC = 3.0  # the coarsest axis is so many times coarser than the next: it then keeps finer steps than the median
FINE = 10  # percentile of the spacings that such an axis keeps
STEP = 8  # voxels: sides of patches are multiples of it
FOREGROUND_VOXELS = 10_000  # of each case, that the intensities are taken from


def plan_recipe(folder: Path | str, patch_voxels: int, ids: Sequence[str] | None = None) -> TisRecipe:
    """The recipe for a data folder.

    Spacing: the median of each axis; of one that is far coarser than the others the 10th percentile. Patch: the shape
    of the median volume at that spacing, shrunk at its longest side until it has no more than `patch_voxels`. CT is
    clipped to the 0.5th and 99.5th percentile of the labelled voxels and standardised by their mean and deviation,
    everything else by each volume's own.

    Raises ValueError as `CaseFolder.read` and `read_labelled`, for fewer voxels than a patch needs, or without labels.
    """
    if patch_voxels < STEP**3:
        raise ValueError(f"a patch has {STEP**3} voxels at least, got {patch_voxels}")
    cases = CaseFolder.read(folder, ids)
    labels = cases.labels or cases.found_labels()
    if not labels:
        raise ValueError(f"{folder} has no labels to plan for")
    modality = read_modality(Path(folder) / "dataset.json")
    found = [_look(case) for case in tqdm(cases.cases, desc="looking at cases", unit="case")]
    spacings, shapes, values = (list(part) for part in zip(*found, strict=True))
    spacing = plan_spacing(np.array(spacings))
    extents = np.median(np.array(spacings) * np.array(shapes), axis=0)
    intensity = {}
    if modality.upper() == "CT":
        voxels = np.concatenate(values)
        if not len(voxels):
            raise ValueError(f"no voxel of any image in {folder} has one of the labels {', '.join(labels)}")
        low, high = np.percentile(voxels, (0.5, 99.5))
        intensity = {
            "window": (round(float(low), 2), round(float(high), 2)),
            "mean": round(float(voxels.mean()), 2),
            "deviation": round(float(voxels.std()), 2),
        }
    patch = plan_patch([float(extent / step) for extent, step in zip(extents, spacing, strict=True)], patch_voxels)
    return TisRecipe.from_dict(
        {"labels": labels, "modality": modality, "spacing": spacing, "patch": patch, **intensity}
    )


def plan_spacing(spacings: NDArray[np.floating]) -> tuple[float, float, float]:
    """(N, 3) mm along R, A, S of each case -> those of the model grid."""
    chosen = np.median(spacings, axis=0)
    coarsest = int(chosen.argmax())
    others = np.delete(chosen, coarsest)
    if chosen[coarsest] >= ANISOTROPIC * others.max():
        chosen[coarsest] = max(np.percentile(spacings[:, coarsest], FINE), others.max())
    x, y, z = (round(float(step), 4) for step in chosen)
    return x, y, z


def plan_patch(shape: Sequence[float], most: int) -> tuple[int, int, int]:
    """A patch of no more than `most` voxels for volumes of this shape: it loses at its longest side first."""
    sides = [max(LEAST_SIDE, STEP, STEP * round(count / STEP)) for count in shape]
    while np.prod(sides) > most and max(sides) > STEP:
        sides[int(np.argmax(sides))] -= STEP
    x, y, z = sides
    return x, y, z


def read_modality(path: Path, otherwise: str = TisRecipe.modality) -> str:
    """The one modality that a dataset.json names, as MSD or nnU-Net write it; another word, CT, if it names none."""
    if not path.exists():
        return otherwise
    content = json.loads(path.read_text())
    names = content.get("channel_names") or content.get("modality") or {"0": otherwise}
    return str(next(iter(names.values()))) if isinstance(names, dict) else str(names)


def check_modality(recipe: UNet2dRecipe | TisRecipe, folder: Path | str) -> None:
    """ValueError if a recipe clips to a window that is of another modality than the data folder names."""
    named = read_modality(Path(folder) / "dataset.json", recipe.modality)
    if recipe.window is not None and named.upper() != recipe.modality.upper():
        raise ValueError(
            f"the images of {folder} are {named}, and the recipe clips to the {recipe.modality} window "
            f'{recipe.window}: name a recipe (--recipe) with "modality", "window" (null for none), "mean" and '
            '"deviation" of these'
        )


def _look(case: Case) -> tuple[tuple[float, ...], tuple[int, ...], NDArray[np.float32]]:
    """Spacing (mm) and shape along R, A, S, and some of the labelled voxels' values."""
    image, label, grid = read_labelled(case.image, case.label)
    upright = UprightVolume(grid)
    inside = np.asarray(image[label > 0], dtype=np.float32)
    step = max(1, len(inside) // FOREGROUND_VOXELS)
    return upright.spacing, upright.shape, inside[::step]
