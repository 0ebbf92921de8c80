"""What a method is: a Recipe (all its numbers), a Segmenter (what it computes), and how the two are registered."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from monai.transforms import Transform
from torch import Tensor, nn
from torch.optim import Optimizer

RECIPES = Path(__file__).parent / "recipes"
MOST_LABEL = 255  # label maps are kept as uint8

# What a field of a recipe that is annotated so may hold; JSON knows no other numbers.
FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "int | None": (int, type(None)),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "Mapping[str, Any] | None": (Mapping, type(None)),
}


@dataclass(frozen=True)
class Recipe:
    """Every number that makes a model, kept in its checkpoint so that weights rebuild their own method.

    labels: name -> value in the label images. spacing: mm of the model grid, in plane for a 2D method.
    """

    method: ClassVar[str]
    dimension: ClassVar[int]
    fixed: ClassVar[tuple[str, ...]] = ("spacing",)  # fields that a training cannot change in weights it starts from
    growing: ClassVar[tuple[str, ...]] = ()  # those of them that it can make larger
    click_weight: ClassVar[float] = 0.0  # of the loss near the clicks, in methods that have one
    looks: ClassVar[int] = 1  # at an image without an answer, in methods that may look again

    labels: Mapping[str, int] = field(default_factory=dict)
    modality: str = "CT"
    spacing: float = 1.25

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            wanted, value = FIELD_TYPES.get(str(entry.type)), getattr(self, entry.name)
            if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and entry.type != "bool")):
                kind = str(entry.type).replace(" | None", " or null")
                raise ValueError(f"recipe field {entry.name} must be of type {kind}, got {value!r}")
        self._check_labels()

    def _check_labels(self) -> None:
        if not isinstance(self.labels, Mapping):
            raise ValueError(f"recipe field labels must hold values by name, such as liver: 6, got {self.labels!r}")
        for name, value in self.labels.items():
            if not isinstance(name, str) or not is_whole(value) or not 0 < value <= MOST_LABEL:
                raise ValueError(
                    f"recipe field labels must hold whole numbers from 1 to {MOST_LABEL} by name, got {name!r}: "
                    f"{value!r}"
                )

    @property
    def names(self) -> Mapping[str, int]:
        """What structures may be called, in plain spelling, with weights that heed it (`Segmenter.called`)."""
        return {}

    @property
    def needs_weights(self) -> bool:
        """Whether a training must start from weights, for it leaves a part alone that only another has trained."""
        return False

    def of_stage(self, stage: str) -> Self:
        """This recipe, for one stage of a training that has several. ValueError for a method that has none."""
        raise ValueError(f"the method {self.method} is trained in one go, without stages")

    def unlike(self, theirs: Self) -> list[str]:
        """The fields in which weights of `theirs` do not fit this recipe."""
        differing = [name for name in self.fixed if getattr(theirs, name) != getattr(self, name)]
        return [name for name in differing if name not in self.growing or getattr(theirs, name) > getattr(self, name)]

    def check_weights(self, path: Path, theirs: Self) -> None:
        """ValueError naming the file for weights of `theirs` that do not fit this recipe."""
        if differing := self.unlike(theirs):
            raise ValueError(f"weights {path} were made with another {', '.join(differing)} than the recipe asks for")

    def differing(self, theirs: Self) -> list[str]:
        """The fields in which two recipes of one method differ."""
        values = theirs.to_dict()
        return [name for name, value in self.to_dict().items() if values[name] != value]

    def rate(self, step: int, progress: float) -> float:
        """The factor of the learning rate at a step, `progress` of the training being done, in [0, 1]."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        return {"method": self.method, **dataclasses.asdict(self)}

    def with_labels(self, labels: Mapping[str, int]) -> Self:
        """This recipe, for these labels, those that the data names itself, where it has none of its own.

        Raises ValueError where both name a structure and mean other values, and where the data has another name for a
        value and none of the recipe's: it would learn, or be judged by, another structure.
        """
        names = {value: name for name, value in labels.items()}
        for name, value in self.labels.items():
            if labels.get(name, value) != value:
                raise ValueError(
                    f"{name} has the value {labels[name]} in the data and {value} in the recipe: number the data's "
                    "labels as the recipe does, or take a recipe for these labels"
                )
            if name not in labels and value in names:
                raise ValueError(
                    f"the value {value} is {names[value]} in the data and {name} in the recipe: name the data's labels "
                    "as the recipe does, or take a recipe for these labels"
                )
        return self if self.labels else dataclasses.replace(self, labels=dict(labels))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Strict: unknown fields, or another method's, raise ValueError. Missing fields take their defaults."""
        values = dict(values)
        method = values.pop("method", cls.method)
        if method != cls.method:
            raise ValueError(f"this is a recipe of method {method!r}, not of {cls.method!r}")
        known = {entry.name for entry in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"unknown recipe fields {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**fields)

    @classmethod
    def find(cls, name: Path | str) -> Self:
        """A recipe that comes with the method, by its name (`paper`), or that of a JSON file.

        Raises ValueError if it is neither, or does not fit the method.
        """
        ours = {path.stem: path for path in (RECIPES / cls.method).glob("*.json")}
        if str(name) not in ours and not Path(name).is_file():
            raise ValueError(f"no recipe {str(name)!r}: it is no file, and {cls.method} has {', '.join(sorted(ours))}")
        return cls.from_json(ours.get(str(name), Path(name)))

    @classmethod
    def from_json(cls, path: Path | str) -> Self:
        try:
            values = json.loads(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise ValueError(f"recipe {path} cannot be read as JSON: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"recipe {path} must hold a JSON object of recipe fields")
        return cls.from_dict(values)


def is_whole(value: Any) -> bool:
    """Whether a value of a recipe is a whole number, which True is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_window(window: Any) -> None:
    """ValueError for a recipe's window that is neither None nor (low, high)."""
    numbers = isinstance(window, tuple) and all(isinstance(end, float) or is_whole(end) for end in window)
    if window is not None and not (numbers and len(window) == 2 and window[0] < window[1]):
        raise ValueError(f"recipe field window must be (low, high), got {window!r}")


class Segmenter(nn.Module):
    """encode once per image, decode once per click. Logits are (B, C, *S), C >= 2, on the grid of the image.

    feedback: whether decode reads the answer before the last click. It is given as `previous`; without it the clicks
    are replayed in their order, so that whoever has kept nothing gets the same answer, more slowly. answers_first:
    whether its answer before the first click is meant, so that users click where that is wrong.
    """

    dimension: int
    feedback: bool = False
    answers_first: bool = False
    pause: Callable[[], object] = staticmethod(lambda: None)  # called between the parts of a long computation

    def encode(self, image: Tensor) -> Tensor:
        """(B, 1, *S) image on the model grid, in the image's own units -> code, costly, once per image."""
        raise NotImplementedError

    def decode(self, code: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        """Code and click tensor (B, N, D+1), voxels of the model grid -> logits, cheap, once per click.

        previous: (B, C - 1, *S), the probability of each class but the background in the answer before the last click.
        """
        raise NotImplementedError

    def called(self, code: Tensor, names: Sequence[str]) -> Tensor:
        """A code, of structures of these names, one for each image, or none.

        Names that the weights do not know change no answer.
        """
        return code

    def adopt(self, state: dict[str, Tensor], theirs: Any) -> dict[str, Tensor]:
        """The state and the recipe of weights that a training starts from -> the state as this segmenter holds it."""
        return state

    def forward(self, image: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        return self.decode(self.encode(image), clicks, previous)


@dataclass(frozen=True)
class Method:
    """What METHODS holds: the recipe's class, the segmenter that a recipe builds, and the loss that trains it.

    loss: a recipe's, of logits (B, C, *S) and labels (B, 1, *S). optimizer: a recipe's optimiser of a segmenter, each
    group's learning rate its largest; None for Adam. samples: a recipe's transforms of a training sample once its
    structure is picked; None for `transforms.augment`. step: a recipe's training step, as ignite calls it, which
    returns {"loss": float}; None for `training.Interact`.
    """

    recipe: type[Recipe]
    build: type[Segmenter]
    loss: Callable[[Any], Callable[[Tensor, Tensor], Tensor]]
    optimizer: Callable[[Any, Any], Optimizer] | None = None
    samples: Callable[[Any], list[Transform]] | None = None
    step: Callable[[Any], Callable[[Any, Mapping[str, Any]], dict[str, Any]]] | None = None
