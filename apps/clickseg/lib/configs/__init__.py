"""The models that this app serves. A new one is a module and a line here."""

from clickseg.settings import method_names

from . import tis, unet2d
from .base import ServedModel

CONFIGS: dict[str, tuple[ServedModel, ...]] = {"unet2d": unet2d.MODELS, "tis": tis.MODELS}

__all__ = ["CONFIGS", "ServedModel", "select"]


def select(names: str) -> list[ServedModel]:
    """The models of the methods that `--conf models` names. ValueError as `method_names`, and if there are none."""
    models = [model for name in method_names(names) for model in CONFIGS[name]]
    if not models:
        raise ValueError(f"--conf models {names}: there are no weights of that kind yet")
    return models
