"""Sakinis 2019: one structure in one slice at a time, served twice over the same weights."""

from monailabel.interfaces.tasks.infer_v2 import InferType

from lib.weights import Weights

from .base import ServedModel

WEIGHTS = Weights("unet2d.pt")
MODELS = (
    ServedModel("unet2d", "unet2d", InferType.DEEPGROW, WEIGHTS, "Any structure, slice by slice", trains=True),
    ServedModel("unet2d_labels", "unet2d", InferType.DEEPEDIT, WEIGHTS, "Several named structures, slice by slice"),
)
