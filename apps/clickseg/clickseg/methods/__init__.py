"""Methods: what turns an image and clicks into logits, with the recipe and the weights that define it."""

from .baselines import BASELINES
from .protocol import Method, Recipe, Segmenter
from .registry import METHODS, RIVALS, dimension_of, find_method, rivals_in
from .tis_baselines import TIS_BASELINES
from .unet2d import UNet2dRecipe
from .weights import (
    Model,
    learnt_from,
    load_model,
    load_segmenter,
    recipe_to_train,
    save_weights,
    shipped_weights,
    weights_file,
)

__all__ = [
    "BASELINES",
    "METHODS",
    "RIVALS",
    "TIS_BASELINES",
    "Method",
    "Model",
    "Recipe",
    "Segmenter",
    "UNet2dRecipe",
    "dimension_of",
    "find_method",
    "learnt_from",
    "load_model",
    "load_segmenter",
    "recipe_to_train",
    "rivals_in",
    "save_weights",
    "shipped_weights",
    "weights_file",
]
