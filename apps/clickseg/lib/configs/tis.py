"""Liu et al. 2022: all labels of a body part at once, in 3D; one model per weights file model/tis_<name>.pt."""

from monailabel.interfaces.tasks.infer_v2 import InferType

from lib.weights import MODEL_DIR, Weights, trained_folder

from .base import ServedModel

ABOUT = "Named structures in 3D: segmented at once, corrected by clicks"


def find_weights() -> list[Weights]:
    """The shipped ones, and those that a team has put beside the ones it trains."""
    folders = MODEL_DIR, trained_folder()
    return [Weights(name) for name in sorted({path.name for folder in folders for path in folder.glob("tis_*.pt")})]


MODELS = tuple(
    ServedModel(weights.file.removesuffix(".pt"), "tis", InferType.DEEPEDIT, weights, ABOUT, trains=True)
    for weights in find_weights()
)
