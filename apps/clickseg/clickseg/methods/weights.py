"""Weights files: a network's state with the Recipe that rebuilds it and the card that says where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ..files import whole_file
from .protocol import Recipe, Segmenter
from .registry import find_method

FORMAT = 1
SHIPPED = Path(__file__).resolve().parents[2] / "model"


@dataclass(frozen=True)
class Model:
    """What a weights file rebuilds. card: licence, steps and the like for people, and what `learnt_from` reads."""

    segmenter: Segmenter
    recipe: Recipe
    card: Mapping[str, Any] = field(default_factory=dict)


def write_atomically(path: Path | str, content: object) -> None:
    """torch.save that readers see whole or not at all."""
    with whole_file(path) as file:
        torch.save(content, file)


def save_weights(path: Path | str, segmenter: Segmenter, recipe: Recipe, card: Mapping[str, Any] | None = None) -> None:
    """Publish weights atomically, floating-point tensors in half precision."""
    state = {
        name: tensor.detach().cpu().half() if tensor.is_floating_point() else tensor.detach().cpu()
        for name, tensor in segmenter.state_dict().items()
    }
    content = {"clickseg": FORMAT, "recipe": recipe.to_dict(), "card": dict(card or {}), "state": state}
    write_atomically(path, content)


def read_file(path: Path | str) -> dict[str, Any]:
    """A file that `write_atomically` wrote: tensors and plain values only. ValueError if it is anything else."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ValueError(f"no weights file at {path}") from error
    except Exception as error:  # torch.load raises whatever its unpickler met
        raise ValueError(f"{path} is not a clickseg weights file: {type(error).__name__}") from error
    if not isinstance(content, dict) or content.get("clickseg") != FORMAT:
        raise ValueError(f"{path} is not a clickseg weights file of format {FORMAT}")
    if not all(isinstance(content.get(part), dict) for part in ("recipe", "state")):
        raise ValueError(f"{path} is not a whole clickseg weights file: recipe and state are needed")
    return content


def recipe_to_train(method: str, values: Mapping[str, Any] | None = None, init: Path | str | None = None) -> Recipe:
    """The recipe of a training: that of the weights to start from, else the method's own, with other `values`.

    Labels are not taken over, unless they belong to what the weights compute: they are those of the data. Raises
    ValueError for fields that the method does not know, and as `read_file`.
    """
    stored, values = read_file(init)["recipe"] if init else {}, values or {}
    made = find_method(method).recipe.from_dict({**stored, **values})
    return made if "labels" in values or "labels" in made.fixed else replace(made, labels={})


def learnt_from(card: Mapping[str, Any]) -> dict[str, list[str]]:
    """Name of a data folder -> ids of its cases, of all that weights have learnt from by their card."""
    early = {card.get("data", ""): card["cases"]} if "cases" in card else {}  # as cards had it
    return {name: list(cases) for name, cases in card.get("learnt", early).items()}


def joined_cards(earlier: Mapping[str, Any], card: Mapping[str, Any]) -> dict[str, Any]:
    """The card of a training that goes on from weights with an earlier one: what they had learnt from stays in it."""
    learnt = learnt_from(earlier)
    for name, cases in learnt_from(card).items():
        learnt[name] = list(dict.fromkeys([*learnt.get(name, ()), *cases]))
    return {**card, "learnt": learnt}


def to_device(segmenter: Segmenter, device: torch.device | str) -> Segmenter:
    """Move a segmenter, with 2D weights laid out channels-last, which convolutions on CPUs and GPUs prefer."""
    for parameter in segmenter.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return segmenter.to(device)


def shipped_weights(model: str, bundle: Path | str | None = None) -> Path:
    """The weights that come with the project, by the name of the model that has them (`unet2d`, `tis_abdomen`).

    A packed bundle brings its own, else it is the app's, the only copy. Raises ValueError if there are none.
    """
    packed = [] if bundle is None else [Path(bundle) / "models" / "model.pt"]
    for path in [*packed, SHIPPED / f"{model}.pt"]:
        if path.exists():
            return path
    names = _shipped("*") or f"none in {SHIPPED}"
    raise ValueError(f"no shipped weights are called {model}: name a weights file, or one of those shipped: {names}")


def weights_file(named: Path | str | None, method: str) -> Path:
    """A weights file by its path or, if it is a shipped one, by its model's name; for None the method's own.

    Raises ValueError as `shipped_weights`, and for None where the method is unknown or has several or none: it names
    those that there are.
    """
    if named is None:
        find_method(method)
        if not (SHIPPED / f"{method}.pt").exists():
            shipped = _shipped(f"{method}_*")
            choice = f"a file, or those of a shipped model: {shipped}" if shipped else "a file (none are shipped)"
            raise ValueError(f"the method {method} needs --weights: {choice}")
        return shipped_weights(method)
    return Path(named) if Path(named).suffix or Path(named).exists() else shipped_weights(str(named))


def _shipped(pattern: str) -> str:
    return ", ".join(sorted(path.stem for path in SHIPPED.glob(f"{pattern}.pt")))


def load_segmenter(path: Path | str) -> Segmenter:
    """The network of a weights file, alone."""
    return load_model(path).segmenter


def load_model(path: Path | str, device: torch.device | str = "cpu") -> Model:
    """Rebuild what a weights file was made with, strictly, in evaluation mode. ValueError if it does not fit."""
    content = read_file(path)
    method = find_method(content["recipe"].get("method"))
    recipe = method.recipe.from_dict(content["recipe"])
    segmenter = method.build(recipe)
    try:
        segmenter.load_state_dict(content["state"], strict=True)
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit the recipe stored beside them: {error}") from error
    to_device(segmenter, device).eval()
    return Model(segmenter, recipe, content.get("card", {}))
