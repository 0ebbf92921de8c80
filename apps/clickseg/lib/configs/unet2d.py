"""Sakinis 2019: one structure in one slice at a time; each weights file is served twice.

model/unet2d.pt as `unet2d` and `unet2d_labels`, and each further model/unet2d_<name>.pt as models of that name.
"""

from monailabel.interfaces.tasks.infer_v2 import InferType

from lib.weights import Weights, find_weights

from .base import ServedModel

ALWAYS = Weights("unet2d.pt")  # listed even if it is missing: asked, it says so
ONE, SEVERAL = "Any structure, slice by slice", "Several named structures, slice by slice"

MODELS = tuple(
    model
    for weights in (ALWAYS, *find_weights("unet2d_*.pt"))
    for model in (
        ServedModel(weights.name, "unet2d", InferType.DEEPGROW, weights, ONE, trains=True, slicewise=True),
        ServedModel(f"{weights.name}_labels", "unet2d", InferType.DEEPEDIT, weights, SEVERAL, slicewise=True),
    )
)
