"""Liu et al. 2022: all labels of a body part at once, in 3D; one model per weights file model/tis_<name>.pt."""

from monailabel.interfaces.tasks.infer_v2 import InferType

from lib.weights import find_weights

from .base import ServedModel

ABOUT = "Named structures in 3D: segmented at once, corrected by clicks"

MODELS = tuple(
    ServedModel(weights.name, "tis", InferType.DEEPEDIT, weights, ABOUT, trains=True)
    for weights in find_weights("tis_*.pt")
)
