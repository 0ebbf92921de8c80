"""SAM2, Hiera tiny, with random weights: a slice is encoded when it is first clicked."""

import re
import sys

import harness
import numpy as np
import torch

WINDOW = (-125.0, 275.0)

LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
while "torchvision" not in sys.modules:
    try:
        import torchvision  # noqa: F401, TID251
    except RuntimeError as error:  # a CUDA build beside CPU torch: SAM2 needs none of the operators that are missing
        missing = re.search(r"torchvision::(\w+) does not exist", str(error))
        LIBRARY.define(f"{missing.group(1)}() -> ()")
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]

from sam2.build_sam import build_sam2  # noqa: E402
from sam2.sam2_image_predictor import SAM2ImagePredictor  # noqa: E402

predictor = SAM2ImagePredictor(build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", None, device="cpu"))
opened = {}


def open_image(volume, stage):
    """Slices are encoded one by one."""
    opened.update(volume=volume, number=None)


def click(position, stage):
    """The mask of one slice, in an empty volume."""
    i, j, k = position
    if opened["number"] != k:
        with stage("preprocess"):
            low, high = WINDOW
            plane = (opened["volume"][:, :, k].clip(low, high) - low) / (high - low) * 255
            picture = np.repeat(plane.astype(np.uint8)[..., None], 3, axis=2)
        with stage("encode"):
            predictor.set_image(picture)
        opened["number"] = k
    with stage("decode"):
        masks, _, _ = predictor.predict(np.array([[j, i]]), np.array([1]), multimask_output=False)
    with stage("map_back"):
        mask = np.zeros(opened["volume"].shape, np.uint8)
        mask[:, :, k] = masks[0] > 0
    return mask


harness.run(open_image, click)
