"""What a training learns from: cases made ready and kept on disk, and the numbered stream of samples of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import Compose
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from .datasets import Case
from .files import digest, whole_file
from .images import file_identity
from .machine import present_values
from .methods import UNet2dRecipe
from .transforms import augment, preprocess

Arrays = Mapping[str, NDArray[Any]]


class CaseStore:
    """Cases made ready for training, {name: array} each, kept on disk and mapped: memory does not grow with cases.

    prepare: what makes a case ready. depends_on: the numbers that its arrays depend on, beside the case's files.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        prepare: Callable[[Case], Arrays],
        depends_on: object,
        folder: Path,
        progress: bool = True,
    ) -> None:
        self.cases = tuple(cases)
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        bar = tqdm(self.cases, desc="preparing cases", unit="case", disable=not progress)
        self.stems: list[str] = []  # of the files of each case, which say what they were made of
        self._arrays = [self._open(case, prepare, depends_on) for case in bar]

    def _open(self, case: Case, prepare: Callable[[Case], Arrays], depends_on: object) -> Arrays:
        files = [file_identity(path) for path in (case.image, case.label)]
        key = digest(repr((files, depends_on)), 16)
        self.stems.append(f"{case.id}-{key}")
        return kept_arrays(self.folder, self.stems[-1], ("image", "label"), lambda: prepare(case))

    def __getitem__(self, index: int) -> Arrays:
        """image and label of one case."""
        return self._arrays[index]

    def __len__(self) -> int:
        return len(self.cases)


def kept_arrays(folder: Path, stem: str, names: Sequence[str], make: Callable[[], Arrays]) -> Arrays:
    """Arrays of these names from files `<stem>.<name>.npy`; made and written if one is missing."""
    paths = {name: folder / f"{stem}.{name}.npy" for name in names}
    if not all(path.exists() for path in paths.values()):
        made = make()
        for name, path in paths.items():
            with whole_file(path) as file:
                np.save(file, made[name])
    return MappedArrays(paths)


class MappedArrays(Mapping[str, NDArray[Any]]):
    """Arrays in files, each mapped when it is asked for: a mapped one holds a file open, and of those few may be."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self.paths = paths

    def __getitem__(self, name: str) -> NDArray[Any]:
        return np.load(self.paths[name], mmap_mode="r")

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)


def open_slices(cases: Sequence[Case], recipe: UNet2dRecipe, folder: Path, progress: bool = True) -> CaseStore:
    """Cases as slices on the model grid: image (Z, H, W) and label (Z, H, W) uint8."""

    def prepare(case: Case) -> Arrays:
        ready: dict[str, Any] = {"image": case.image, "label": case.label}
        for transform in preprocess(recipe):  # not Compose, which hides a ValueError in a RuntimeError
            ready = transform(ready)
        return ready

    numbers = recipe.spacing if recipe.whole_numbers else (recipe.spacing, "float32")
    return CaseStore(cases, prepare, numbers, folder, progress)


class StructureDataset(Dataset):
    """Training sample number n, for any n: a structure of a slice, cropped and augmented, made from (seed, n) alone.

    {"image": (1, H, W), "label": (1, H, W) of 0 and 1, "seed": int, what the clicks grow from}, and where the recipe's
    weights know names "name": that of the structure, or nothing.
    """

    def __init__(self, store: CaseStore, recipe: UNet2dRecipe) -> None:
        self.store = store
        self.seed = recipe.seed
        self.named = recipe.named
        self.names = {value: name for name, value in recipe.labels.items()}
        self.strained = recipe.strained
        self.transforms = [Compose(augment(recipe, strained)) for strained in (False, True)]
        table: dict[int, list[tuple[int, int]]] = {value: [] for value in recipe.labels.values()}
        for case in range(len(store)):
            for number, label in enumerate(store[case]["label"]):
                for value in present_values(label):
                    if value in table:
                        table[value].append((case, number))
        self.slices = {value: np.array(pairs) for value, pairs in table.items() if pairs}
        if not self.slices:
            raise ValueError(f"none of the labels {dict(recipe.labels)} is present in any of the {len(store)} cases")
        weights = np.array([len(pairs) ** (1 - recipe.label_balance) for pairs in self.slices.values()])
        self.values, self.chances = list(self.slices), weights / weights.sum()

    def __getitem__(self, number: int) -> dict[str, Any]:
        generator = np.random.default_rng([self.seed, number])
        value = self.values[generator.choice(len(self.values), p=self.chances)]
        case, index = self.slices[value][generator.integers(len(self.slices[value]))]
        transform_seed, click_seed = generator.integers(2**31, size=2)
        sample = {**self.store[case], "slice": index, "value": value, "seed": int(click_seed)}
        if self.named:
            sample["name"] = self.names[value] if generator.random() < self.named else ""
        # Drawn only where asked for, so that other recipes see the samples that they always saw.
        strained = self.strained > 0 and bool(generator.random() < self.strained)
        self.transforms[strained].set_random_state(seed=int(transform_seed))
        ready = self.transforms[strained](sample)
        return {name: value.as_tensor() if isinstance(value, MetaTensor) else value for name, value in ready.items()}


class GlobalOrder(Sampler[list[int]]):
    """Batches of sample numbers without end: step s of N processes covers numbers s*B ... (s+1)*B - 1, rank-strided.

    So N processes together see what one process would see with the same global batch B.
    """

    def __init__(self, batch: int, first_step: int = 0, rank: int = 0, processes: int = 1) -> None:
        if batch % processes:
            raise ValueError(f"a batch of {batch} does not divide among {processes} processes")
        self.batch, self.first_step, self.rank, self.processes = batch, first_step, rank, processes

    def __iter__(self) -> Iterator[list[int]]:
        step = self.first_step
        while True:
            yield list(range(step * self.batch + self.rank, (step + 1) * self.batch, self.processes))
            step += 1
