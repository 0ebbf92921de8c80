"""Labelled volumes for training 3D methods: upright, on the model grid, as patches or as an encoder's codes."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    Compose,
)
from numpy.typing import NDArray
from torch.utils.data import Dataset
from tqdm import tqdm

from .datasets import Case
from .geometry import UprightVolume, pad_far, resize, resize_labels, resized_shape
from .images import class_numbers, read_labelled
from .machine import half_precision, present_values
from .methods.tis import SURE, Tis, TisRecipe, standardise
from .samples import Arrays, CaseStore, kept_arrays
from .transforms import RandTurnd, cut, shades

# Of the encoder's samples: half hold a voxel of a structure, drawn evenly over the structures.
FOREGROUND = 0.5
# Of the spacings in a plane: up to it, a turn by voxels is taken for a turn. nnU-Net turns in the fine plane alone from
# 3 on (Isensee 2021, Methods), but there 15 degrees of voxels take 34 off a right angle; here, 12.
TURNED = 1.5


def read_case(case: Case, recipe: TisRecipe) -> Arrays:
    """image (X, Y, Z) float16, standardised, and label (X, Y, Z) uint8 of class numbers, upright on the model grid.

    Raises ValueError as `read_labelled`.
    """
    image, label, grid = read_labelled(case.image, case.label)
    upright = UprightVolume(grid)
    shape = resized_shape(upright.shape, upright.spacing, recipe.spacing)
    voxels = torch.from_numpy(np.ascontiguousarray(upright.view(image), dtype=np.float32))[None, None]
    ready = standardise(resize(voxels, shape), recipe)[0, 0]
    numbers = torch.from_numpy(class_numbers(upright.view(label), list(recipe.labels.values())))
    return {"image": ready.half().numpy(), "label": resize_labels(numbers[None], shape)[0].numpy()}


def store_volumes(cases: Sequence[Case], recipe: TisRecipe, folder: Path, progress: bool = True) -> CaseStore:
    """Cases as `read_case` has them."""
    numbers = (recipe.spacing, recipe.window, recipe.mean, recipe.deviation, tuple(recipe.labels.items()))
    return CaseStore(cases, partial(read_case, recipe=recipe), numbers, folder, progress)


def augment3d(recipe: TisRecipe, size: Sequence[int], strained: bool = False) -> Compose:
    """Random changes of a standardised volume and its label of class numbers, both (1, X, Y, Z), onto `size`.

    strained: changes beyond those that an encoder has learnt to bear.
    """
    if not recipe.augment:
        return Compose([])
    return Compose([turn3d(recipe, size, strained), *shades(1.0, strained)])


def turn3d(recipe: TisRecipe, size: Sequence[int], strained: bool) -> RandTurnd:
    """The turns and scales of `augment3d`."""
    prob, rotation, scale = (0.8, 0.5, 0.3) if strained else (0.7, 0.26, 0.15)
    rotations = [rotation * even for even in even_planes(recipe.steps_mm)]
    return RandTurnd(size, prob, rotations, (scale,) * 3)


def even_planes(spacing: Sequence[float]) -> list[bool]:
    """For each axis of a volume, whether the other two have spacings (mm) so alike that it can be turned round it."""
    planes = [[spacing[other] for other in range(3) if other != axis] for axis in range(3)]
    return [max(plane) <= TURNED * min(plane) for plane in planes]


class PatchDataset(Dataset):
    """Sample number n, for any n: a patch for the encoder, made from (seed, n) alone.

    {"image": (1, *patch) float32, standardised, "label": (1, *patch) int64 of class numbers, "seed": int}
    """

    def __init__(self, store: CaseStore, recipe: TisRecipe) -> None:
        self.store, self.recipe = store, recipe
        self.transforms = [augment3d(recipe, recipe.patch, strained) for strained in (False, True)]
        turns = [turn3d(recipe, recipe.patch, strained) for strained in (False, True)]
        self.margins = [turn.margin if recipe.augment else [0] * 3 for turn in turns]

    def __getitem__(self, number: int) -> dict[str, Any]:
        generator = np.random.default_rng([self.recipe.seed, number])
        case = self.store[int(generator.integers(len(self.store)))]
        corner = self._corner(case["label"], generator)
        transform_seed, seed = generator.integers(2**31, size=2)
        # Drawn only where asked for, so that other recipes see the patches that they always saw.
        strained = self.recipe.strained > 0 and bool(generator.random() < self.recipe.strained)
        box = (corner, self.recipe.patch, self.margins[strained])
        parts = {name: cut(self._whole(case[name]), *box) for name in ("image", "label")}
        sample: Any = {name: torch.from_numpy(part.astype(np.float32)) for name, part in parts.items()}
        self.transforms[strained].set_random_state(seed=int(transform_seed))
        sample = self.transforms[strained](sample)
        image, label = (torch.as_tensor(sample[name]) for name in ("image", "label"))
        return {"image": image, "label": label.long(), "seed": int(seed)}

    def _whole(self, volume: NDArray[np.generic]) -> NDArray[np.generic]:
        """(1, X, Y, Z), a patch at least, with zeros at the far ends: a mean image, the background of a label."""
        missing = [max(side - count, 0) for side, count in zip(self.recipe.patch, volume.shape, strict=True)]
        return (np.pad(volume, [(0, more) for more in missing]) if any(missing) else volume)[None]

    def _corner(self, label: NDArray[np.generic], generator: np.random.Generator) -> list[int]:
        """Where the patch begins: anywhere, or so that it holds a voxel of a structure."""
        room = [max(count - side, 0) for count, side in zip(label.shape, self.recipe.patch, strict=True)]
        if generator.random() < FOREGROUND and any(room):
            present = present_values(label)
            if present:
                voxels = np.argwhere(np.equal(label, generator.choice(present)))
                centre = voxels[generator.integers(len(voxels))]
                return _corner_before(centre, self.recipe.patch, room, generator)
        return [int(generator.integers(most + 1)) for most in room]


def _corner_before(
    voxel: NDArray[np.integer], sides: Sequence[int], room: Sequence[int], generator: np.random.Generator
) -> list[int]:
    """Where a box that holds a voxel begins, somewhere. room: the last such place along each axis."""
    starts = [int(place - generator.integers(side)) for place, side in zip(voxel, sides, strict=True)]
    return [min(max(start, 0), most) for start, most in zip(starts, room, strict=True)]


class CodeDataset(Dataset):
    """Sample number n, for any n: what an encoder makes of an augmented copy of a volume, chosen by (seed, n) alone.

    {"image": the code (F + C, X, Y, Z) float32, "label": (1, X, Y, Z) int64, "seed": int}. The encoder's errors on the
    volumes that it learnt from are rosier than on new ones, on augmented copies less so, on hard ones not at all. As
    many codes as fit into `most_bytes` lie on disk; what does not is encoded again each time that it is drawn.
    """

    def __init__(
        self,
        store: CaseStore,
        recipe: TisRecipe,
        segmenter: Tis,
        progress: bool = True,
        most_bytes: float = math.inf,
        workers: int = 0,
    ) -> None:
        """workers: processes that will draw samples. ValueError where these would have to encode on a GPU."""
        self.recipe = recipe
        # What a code and its label depend on beside the stored volume; the words tell labels from those of older turns.
        numbers_used = (recipe.patch, recipe.overlap, recipe.axes, recipe.augment, recipe.seed, "turned both ways")
        state = hashlib.sha256(repr(numbers_used).encode())
        for tensor in segmenter.encoder.state_dict().values():
            state.update(tensor.cpu().numpy().tobytes())
        key = state.hexdigest()[:16]
        channels = recipe.width + 1 + len(recipe.labels)
        self.codes: list[Callable[[], Arrays]] = []
        taken = 0
        copies = [
            (copy, hard) for hard in (False, True) for copy in range(recipe.hard_copies if hard else recipe.copies)
        ]
        numbers = [(case, copy, hard) for copy, hard in copies for case in range(len(store))]
        sizes = [store[case]["label"].size * (2 * channels + 1) for case in range(len(store))]  # bytes
        if workers and len(copies) * sum(sizes) > most_bytes and next(segmenter.parameters()).is_cuda:
            raise ValueError(
                f"the codes take {len(copies) * sum(sizes) / 1e9:.1f} GB, and what --cache-gb {most_bytes / 1e9:g} "
                "leaves out is encoded while it trains, which worker processes cannot do on a GPU: --workers 0, or "
                "more room"
            )
        for case, copy, hard in tqdm(numbers, desc="encoding copies", unit="volume", disable=not progress):
            own = zlib.crc32(store.cases[case].id.encode())  # whichever cases are trained on beside it
            make = partial(self._encode, store[case], segmenter, own, copy, hard)
            taken += sizes[case]
            if taken <= most_bytes:
                stem = f"{store.stems[case]}-{'hard' * hard}{copy}-{key}"
                kept = kept_arrays(store.folder, stem, ("code", "label"), make)
                make = partial(dict, kept)
            self.codes.append(make)

    def _encode(self, volume: Arrays, segmenter: Tis, case: int, copy: int, hard: bool) -> Arrays:
        sample: Any = {name: torch.from_numpy(array.astype(np.float32))[None] for name, array in volume.items()}
        change = augment3d(self.recipe, volume["image"].shape, hard)
        words = [self.recipe.seed, case, copy, hard]
        change.set_random_state(seed=int(np.random.SeedSequence(words).generate_state(1)[0]))
        sample = change(sample)
        device = next(segmenter.parameters()).device
        segmenter.eval()
        with torch.no_grad(), half_precision(device):
            code = segmenter.encode_standardised(torch.as_tensor(sample["image"])[None].to(device))
        label = torch.as_tensor(sample["label"]).round().to(torch.uint8)
        return {"code": code[0].half().cpu().numpy(), "label": label.numpy()}

    def __getitem__(self, number: int) -> dict[str, Any]:
        generator = np.random.default_rng([self.recipe.seed, number])
        kept = self.codes[int(generator.integers(len(self.codes)))]()
        seed = int(generator.integers(2**31))
        part = (slice(None), *self._crop(kept, generator))
        return {
            "image": torch.from_numpy(kept["code"][part].astype(np.float32)),
            "label": torch.from_numpy(kept["label"][part].astype(np.int64)),
            "seed": seed,
        }

    def _crop(self, kept: Arrays, generator: np.random.Generator) -> tuple[slice, ...]:
        """What of a volume is learnt from: a box of `recipe.crop` round an error, of any structure alike."""
        label, sides = kept["label"][0], self.recipe.crop
        present = present_values(label)
        if sides is None or not present:
            return (slice(None),) * 3
        voxels = np.argwhere(np.equal(label, generator.choice(present)))
        automatic = kept["code"][(slice(self.recipe.width, None), *voxels.T)].argmax(0)
        wrong = voxels[automatic != label[tuple(voxels.T)]]
        candidates = wrong if len(wrong) else voxels
        room = [max(count - side, 0) for count, side in zip(label.shape, sides, strict=True)]
        corner = _corner_before(candidates[generator.integers(len(candidates))], sides, room, generator)
        return tuple(slice(start, start + side) for start, side in zip(corner, sides, strict=True))


def collate_for(recipe: TisRecipe) -> Callable[[Sequence[dict[str, Any]]], dict[str, Any]]:
    """What makes a batch of the samples of a recipe's stage."""
    return partial(collate, background=recipe.width if recipe.stage == "refiner" else None)


def collate(samples: Sequence[dict[str, Any]], background: int | None = None) -> dict[str, Any]:
    """Samples of unlike sizes as one batch: zeros at the far ends, and of codes the sure background.

    background: the channel of codes that holds its logit, so that there is nothing to be learnt from what is added.
    """
    sizes = [max(sample["label"].shape[axis] for sample in samples) for axis in (1, 2, 3)]
    images = torch.stack([pad_far(sample["image"], sizes) for sample in samples])
    if background is not None:
        for image, sample in zip(images, samples, strict=True):
            x, y, z = sample["label"].shape[1:]
            added = torch.ones_like(image[background], dtype=torch.bool)
            added[:x, :y, :z] = False
            image[background][added] = SURE
    return {
        "image": images,
        "label": torch.stack([pad_far(sample["label"], sizes) for sample in samples]),
        "seed": torch.tensor([sample["seed"] for sample in samples]),
    }


def open_volumes(
    cases: Sequence[Case],
    recipe: TisRecipe,
    segmenter: Tis,
    folder: Path,
    progress: bool,
    most_bytes: float = math.inf,
    workers: int = 0,
) -> PatchDataset | CodeDataset:
    """The samples of the stage that a recipe asks for. most_bytes: on disk, of codes. workers: as of CodeDataset."""
    store = store_volumes(cases, recipe, folder, progress)
    if recipe.stage == "encoder":
        return PatchDataset(store, recipe)
    return CodeDataset(store, recipe, segmenter, progress, most_bytes, workers)
