"""Liu et al. 2022: all labels of a body part at once, in 3D; each weights file is served twice.

model/tis_<name>.pt as `tis_<name>`, which is clicked, and as `tis_<name>_auto`: clients run models of that type without
clicks, from another panel.
"""

from monailabel.interfaces.tasks.infer_v2 import InferType

from lib.weights import find_weights

from .base import ServedModel

CLICKED = "Named structures in 3D: segmented at once, corrected by clicks"
ALONE = "Named structures in 3D: segmented without clicks"

MODELS = tuple(
    model
    for weights in find_weights("tis_*.pt")
    for model in (
        ServedModel(weights.name, "tis", InferType.DEEPEDIT, weights, CLICKED, trains=True),
        ServedModel(f"{weights.name}_auto", "tis", InferType.SEGMENTATION, weights, ALONE),
    )
)
