"""Which weights file a model uses: the shipped one, or the one that a team trained."""

from __future__ import annotations

import filecmp
import functools
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from clickseg.files import whole_file
from clickseg.methods import Recipe, find_method, load_model

MODEL_DIR = Path(__file__).resolve().parents[1] / "model"
TRAINED_DIR = "CLICKSEG_MODEL_DIR"


def trained_folder() -> Path:
    """Where a team's weights are: $CLICKSEG_MODEL_DIR, by default model/trained."""
    return Path(os.environ.get(TRAINED_DIR) or MODEL_DIR / "trained")


def find_weights(pattern: str) -> list[Weights]:
    """The shipped ones whose file names fit, and those that a team has put beside the ones it trains, by name."""
    folders = MODEL_DIR, trained_folder()
    return [Weights(name) for name in sorted({path.name for folder in folders for path in folder.glob(pattern)})]


def put_away(weights: Path) -> None:
    """Take a file of weights out of use; it stays beside its place, under a name that says when (UTC)."""
    weights.rename(_aside(weights, "deleted"))


def publish(source: Path, target: Path) -> None:
    """Copy a weights file to where the server looks for it. Those in use stay beside it, unless they are kept already.

    There are weights at every moment, the old ones or the new.
    """
    if target.exists() and not _kept(target, source):
        _copy(target, _aside(target, "replaced"))
    _copy(source, target)


def _aside(weights: Path, end: str) -> Path:
    return weights.with_name(f"{weights.name}.{datetime.now(UTC):%Y%m%d_%H%M%S_%f}.{end}")


def _kept(weights: Path, source: Path) -> bool:
    """Whether what takes their place, a file that was put aside, or a training's folder holds the same bytes."""
    filecmp.clear_cache()  # it goes by times, and two uploads may follow each other faster than those tell
    folder = weights.parent
    others = [source, *folder.glob(f"{weights.name}.*"), *folder.glob("runs/*/*/*/weights.pt")]
    return any(filecmp.cmp(weights, other, shallow=False) for other in others)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as content, whole_file(target) as file:
        shutil.copyfileobj(content, file)


@functools.lru_cache(maxsize=16)
def _recipe(path: Path, mtime_ns: int, size: int) -> Recipe:
    return load_model(path).recipe


@dataclass(frozen=True)
class Weights:
    """A weights file by name: the one that a team trained wins over the shipped one."""

    file: str

    @property
    def name(self) -> str:
        """What its model is called."""
        return self.file.removesuffix(".pt")

    @property
    def shipped(self) -> Path:
        """`model/<file>` of this app."""
        return MODEL_DIR / self.file

    @property
    def trained(self) -> Path:
        """Where training publishes."""
        return trained_folder() / self.file

    @property
    def current(self) -> Path:
        """The file in use now; it need not exist."""
        return self.trained if self.trained.exists() else self.shipped

    @property
    def identity(self) -> str:
        """Another text whenever the file in use is another one."""
        path = self.current
        status = path.stat() if path.exists() else None
        return f"{path.name}:{status.st_mtime_ns}:{status.st_size}" if status else "none"

    @property
    def recipe(self) -> Recipe:
        """Of the file in use. ValueError if it is missing, not ours, or does not fit its recipe."""
        path = self.current
        if not path.exists():
            raise ValueError(f"there are no weights {self.file}: neither {self.trained} nor {self.shipped} exists")
        status = path.stat()
        return _recipe(path, status.st_mtime_ns, status.st_size)

    @property
    def answers_first(self) -> bool:
        """Whether the method segments by itself, before the first click."""
        return find_method(self.recipe.method).build.answers_first

    @property
    def label_values(self) -> dict[str, int]:
        """Name -> 1..N without gaps, in the order of the recipe's values: what clients see in label maps."""
        labels = self.recipe.labels
        return {name: value for value, name in enumerate(sorted(labels, key=lambda name: labels[name]), start=1)}
