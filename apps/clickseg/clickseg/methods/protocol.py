"""What a method is: a Recipe (all its numbers), a Segmenter (what it computes), and how the two are registered."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

from torch import Tensor, nn

AnySegmenter = TypeVar("AnySegmenter", bound="Segmenter")


@dataclass(frozen=True)
class Recipe:
    """Every number that makes a model, kept in its checkpoint so that weights rebuild their own method.

    labels: name -> value in the label images. spacing: mm of the model grid, in plane for a 2D method. window: HU (or
    whatever the image holds), clipped to before standardising with mean and deviation (of clipped training voxels).
    """

    method: ClassVar[str]
    dimension: ClassVar[int]

    labels: Mapping[str, int] = field(default_factory=dict)
    modality: str = "CT"

    def to_dict(self) -> dict[str, Any]:
        return {"method": self.method, **dataclasses.asdict(self)}

    def with_labels(self, labels: Mapping[str, int]) -> Self:
        """This recipe, for these labels where it names none itself."""
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
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    @classmethod
    def from_json(cls, path: Path | str) -> Self:
        try:
            values = json.loads(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise ValueError(f"recipe {path} cannot be read as JSON: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"recipe {path} must hold a JSON object of recipe fields")
        return cls.from_dict(values)


class Segmenter(nn.Module):
    """encode once per image, decode once per click. Logits are (B, C, *S), C >= 2, on the grid of the image."""

    dimension: int

    def encode(self, image: Tensor) -> Tensor:
        """(B, 1, *S) image on the model grid, in the image's own units -> code, costly, once per image."""
        raise NotImplementedError

    def decode(self, code: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        """Code and click tensor (B, N, D+1), voxels of the model grid -> logits, cheap, once per click."""
        raise NotImplementedError

    def forward(self, image: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        return self.decode(self.encode(image), clicks, previous)


class BuildSegmenter(Protocol):
    def __call__(self, recipe: Any) -> Segmenter: ...


@dataclass(frozen=True)
class Method:
    """One line of METHODS: the recipe's class, and how to build the segmenter, the loss and the training user of one."""

    recipe: type[Recipe]
    build: BuildSegmenter
    loss: Callable[[Tensor, Tensor], Tensor]
