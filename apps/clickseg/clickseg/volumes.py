"""Labelled volumes for training 3D methods: upright, on the model grid, as patches or as an encoder's codes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, RandAffined, RandGaussianNoised, RandScaleIntensityd, RandShiftIntensityd
from numpy.typing import NDArray
from torch.utils.data import Dataset
from tqdm import tqdm

from .datasets import Case, save_atomically
from .geometry import UprightVolume, resize, resize_labels, resized_shape
from .images import read_volume
from .machine import half_precision
from .methods.tis import Tis, TisRecipe, standardise

# Of the encoder's samples: half hold a voxel of a structure, drawn evenly over the structures.
FOREGROUND = 0.5


def read_case(case: Case, recipe: TisRecipe) -> dict[str, NDArray[np.generic]]:
    """image (X, Y, Z) float16, standardised, and label (X, Y, Z) uint8 of class numbers, upright on the model grid.

    Raises ValueError for a label that does not lie on its image.
    """
    image, grid = read_volume(case.image)
    label, label_grid = read_volume(case.label)
    if label_grid.shape != grid.shape or not label_grid.coincides(grid):
        raise ValueError(f"label {case.label.name} does not lie on the grid of its image")
    upright = UprightVolume(grid)
    shape = resized_shape(upright.shape, upright.spacing, recipe.spacing)
    voxels = torch.from_numpy(np.ascontiguousarray(upright.view(image), dtype=np.float32))[None, None]
    ready = standardise(resize(voxels, shape), recipe)[0, 0]
    classes = np.zeros(256, np.uint8)
    classes[list(recipe.labels.values())] = range(1, len(recipe.labels) + 1)
    numbers = torch.from_numpy(classes[np.ascontiguousarray(upright.view(label)).astype(np.uint8)])
    return {"image": ready.half().numpy(), "label": resize_labels(numbers[None], shape)[0].numpy()}


class VolumeStore:
    """Cases as `read_case` has them, kept on disk and mapped."""

    def __init__(self, cases: Sequence[Case], recipe: TisRecipe, folder: Path, progress: bool = True) -> None:
        self.cases = tuple(cases)
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        bar = tqdm(self.cases, desc="preparing cases", unit="case", disable=not progress)
        self._arrays = [self._open(case, recipe) for case in bar]

    def _open(self, case: Case, recipe: TisRecipe) -> dict[str, NDArray[np.generic]]:
        stats = [
            (str(path.resolve()), path.stat().st_mtime_ns, path.stat().st_size) for path in (case.image, case.label)
        ]
        numbers = (recipe.spacing, recipe.window, recipe.mean, recipe.deviation, tuple(recipe.labels.items()))
        key = hashlib.sha256(repr((stats, numbers)).encode()).hexdigest()[:16]
        paths = {name: self.folder / f"{case.id}-{key}.{name}.npy" for name in ("image", "label")}
        if not all(path.exists() for path in paths.values()):
            for name, array in read_case(case, recipe).items():
                save_atomically(paths[name], array)
        return {name: np.load(path, mmap_mode="r") for name, path in paths.items()}

    def __getitem__(self, index: int) -> dict[str, NDArray[np.generic]]:
        return self._arrays[index]

    def __len__(self) -> int:
        return len(self.cases)


def augment3d(recipe: TisRecipe, size: Sequence[int]) -> Compose:
    """Random changes of a standardised volume and its label, both (1, X, Y, Z), onto `size`."""
    if not recipe.augment:
        return Compose([])
    return Compose(
        [
            RandAffined(
                ("image", "label"),
                prob=0.7,
                rotate_range=(0.26,) * 3,
                scale_range=(0.15,) * 3,
                mode=("bilinear", "nearest"),
                padding_mode=("border", "zeros"),
                spatial_size=tuple(size),
            ),
            RandScaleIntensityd("image", factors=0.2, prob=0.3),
            RandShiftIntensityd("image", offsets=0.3, prob=0.3),
            RandGaussianNoised("image", prob=0.2, std=0.2),
        ]
    )


class PatchDataset(Dataset):
    """Sample number n, for any n: a patch for the encoder, made from (seed, n) alone.

    {"image": (1, *patch) float32, standardised, "label": (1, *patch) int64 of class numbers, "seed": int}
    """

    def __init__(self, store: VolumeStore, recipe: TisRecipe) -> None:
        self.store, self.recipe = store, recipe
        self.transforms = augment3d(recipe, recipe.patch)

    def __getitem__(self, number: int) -> dict[str, Any]:
        generator = np.random.default_rng([self.recipe.seed, number])
        case = self.store[int(generator.integers(len(self.store)))]
        corner = self._corner(case["label"], generator)
        part = tuple(slice(start, start + side) for start, side in zip(corner, self.recipe.patch, strict=True))
        sample: Any = {name: self._patch(case[name][part]) for name in ("image", "label")}
        transform_seed, seed = generator.integers(2**31, size=2)
        self.transforms.set_random_state(seed=int(transform_seed))
        sample = self.transforms(sample)
        image, label = (torch.as_tensor(sample[name]) for name in ("image", "label"))
        return {"image": image, "label": label.long(), "seed": int(seed)}

    def _patch(self, part: NDArray[np.generic]) -> torch.Tensor:
        """(1, *patch), zero at the far ends of a small volume: the mean of an image, the background of a label."""
        missing = [side - count for side, count in zip(self.recipe.patch, part.shape, strict=True)]
        padding = [amount for count in reversed(missing) for amount in (0, count)]
        return torch.nn.functional.pad(torch.from_numpy(part.astype(np.float32)), padding)[None]

    def _corner(self, label: NDArray[np.generic], generator: np.random.Generator) -> list[int]:
        """Where the patch begins: anywhere, or so that it holds a voxel of a structure."""
        room = [max(count - side, 0) for count, side in zip(label.shape, self.recipe.patch, strict=True)]
        if generator.random() < FOREGROUND and any(room):
            present = np.setdiff1d(np.unique(label), [0])
            if len(present):
                voxels = np.argwhere(np.equal(label, generator.choice(present)))
                centre = voxels[generator.integers(len(voxels))]
                starts = [int(c - generator.integers(side)) for c, side in zip(centre, self.recipe.patch, strict=True)]
                return [min(max(start, 0), most) for start, most in zip(starts, room, strict=True)]
        return [int(generator.integers(most + 1)) for most in room]


class CodeDataset(Dataset):
    """Sample number n, for any n: what an encoder makes of an augmented copy of a volume, chosen by (seed, n) alone.

    {"image": the code (F + C, X, Y, Z) float32, "label": (1, X, Y, Z) int64, "seed": int}. The encoder's errors on the
    volumes that it learnt from are rosier than on new ones, on augmented copies less so. All codes lie on disk.
    """

    def __init__(self, store: VolumeStore, recipe: TisRecipe, segmenter: Tis, progress: bool = True) -> None:
        self.recipe = recipe
        state = hashlib.sha256()
        for tensor in segmenter.encoder.state_dict().values():
            state.update(tensor.cpu().numpy().tobytes())
        key = state.hexdigest()[:16]
        self.codes: list[tuple[NDArray[np.generic], NDArray[np.generic]]] = []
        numbers = [(case, copy) for case in range(len(store)) for copy in range(recipe.copies)]
        for case, copy in tqdm(numbers, desc="encoding copies", unit="volume", disable=not progress):
            stem = f"{store.cases[case].id}-{copy}-{key}"
            paths = [store.folder / f"{stem}.{name}.npy" for name in ("code", "label")]
            if not all(path.exists() for path in paths):
                for path, array in zip(paths, self._encode(store[case], segmenter, [case, copy]), strict=True):
                    save_atomically(path, array)
            self.codes.append((np.load(paths[0], mmap_mode="r"), np.load(paths[1], mmap_mode="r")))

    def _encode(
        self, volume: dict[str, NDArray[np.generic]], segmenter: Tis, key: Sequence[int]
    ) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        sample: Any = {name: torch.from_numpy(array.astype(np.float32))[None] for name, array in volume.items()}
        change = augment3d(self.recipe, volume["image"].shape)
        change.set_random_state(seed=int(np.random.SeedSequence([self.recipe.seed, *key]).generate_state(1)[0]))
        sample = change(sample)
        device = next(segmenter.parameters()).device
        segmenter.eval()
        with torch.no_grad(), half_precision(device):
            code = segmenter.encode_standardised(torch.as_tensor(sample["image"])[None].to(device))
        label = torch.as_tensor(sample["label"]).round().to(torch.uint8)
        return code[0].half().cpu().numpy(), label.numpy()

    def __getitem__(self, number: int) -> dict[str, Any]:
        generator = np.random.default_rng([self.recipe.seed, number])
        code, label = self.codes[int(generator.integers(len(self.codes)))]
        seed = int(generator.integers(2**31))
        return {
            "image": torch.from_numpy(code.astype(np.float32)),
            "label": torch.from_numpy(label.astype(np.int64)),
            "seed": seed,
        }


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Samples of unlike sizes as one batch: zeros at the far ends, of codes the sure background, of labels too."""
    sizes = [max(sample["label"].shape[axis] for sample in samples) for axis in (1, 2, 3)]

    def padded(value: torch.Tensor) -> torch.Tensor:
        missing = [size - count for size, count in zip(sizes, value.shape[1:], strict=True)]
        return torch.nn.functional.pad(value, [amount for count in reversed(missing) for amount in (0, count)])

    return {
        "image": torch.stack([padded(sample["image"]) for sample in samples]),
        "label": torch.stack([padded(sample["label"]) for sample in samples]),
        "seed": torch.tensor([sample["seed"] for sample in samples]),
    }


def open_volumes(
    cases: Sequence[Case], recipe: TisRecipe, segmenter: Tis, folder: Path, progress: bool
) -> PatchDataset | CodeDataset:
    """The samples of the stage that a recipe asks for."""
    store = VolumeStore(cases, recipe, folder, progress)
    return PatchDataset(store, recipe) if recipe.stage == "encoder" else CodeDataset(store, recipe, segmenter, progress)
