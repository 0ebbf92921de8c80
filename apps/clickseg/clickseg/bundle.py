"""What the MONAI bundles name in their JSON beside the trainer: sessions as MONAI's transforms and inferers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.transforms import Transform
from numpy.typing import NDArray
from torch import Tensor

from .clicks.wire import parse_structure, structure_name
from .datasets import case_id
from .files import plain_name
from .images import write_mask
from .machine import pick_device
from .sessions import Session, SessionCache, VolumeSession


class PredictClicksd(Transform):
    """MONAI dictionary form of `Session.predict`: a request with its `image`, a file, and clicks (`wire`) -> `pred`.

    `pred` is the mask of 0 and 1, a MetaTensor (1, X, Y, Z) on the image's own grid. MONAI Label's BundleInferTask
    sends what it finds under `image` through the bundle's inferer: the same mask, which `KeepAsIs` hands on.
    """

    def __init__(self, weights: Path | str, device: str = "auto") -> None:
        self.weights = weights
        self.device = pick_device(device)
        self.cache = SessionCache()

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        session = self.cache.open(data["image"], self.weights, self.device)
        mask = torch.from_numpy(_answer(session, data))[None]
        affine = torch.from_numpy(session.grid.affine)
        pred = MetaTensor(mask, affine=affine, meta={"original_affine": session.grid.affine})
        return {**data, "image": pred, "pred": pred}


class KeepAsIs(Inferer):
    """The inferer that follows `PredictClicksd`, which has asked the network already."""

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        return inputs


def predict_all(
    data: Sequence[Mapping[str, Any]], weights: Path | str, output: Path | str, device: str = "auto"
) -> list[Path]:
    """A mask for each request of a datalist: `output/<image>_<structure>.nii.gz`.

    data: what clients send, each with its image: [{"image": path, "foreground": [[i, j, k], ...], "background": ...,
    "label": name of the structure}, ...]. Raises ValueError if there are none, or two would write the same file.
    """
    paths = [Path(output) / _mask_name(request) for request in data]
    if not paths:
        raise ValueError('nothing to predict: the datalist needs entries {"image": path, "foreground": [[i, j, k]]}')
    if len(set(paths)) < len(paths):
        raise ValueError("two entries are for the same structure of the same image: give each a `label` of its own")
    cache = SessionCache()
    for path, request in zip(paths, data, strict=True):
        session = cache.open(request["image"], weights, pick_device(device))
        write_mask(path, _answer(session, request), session.grid)
    return paths


def _answer(session: Session | VolumeSession, request: Mapping[str, Any]) -> NDArray[np.uint8]:
    clicks = parse_structure(request)
    if isinstance(session, Session):
        return session.predict(clicks, name=structure_name(request))
    return session.predict(clicks)


def _mask_name(request: Mapping[str, Any]) -> str:
    image, structure = Path(request["image"]), plain_name(structure_name(request))
    return f"{case_id(image) or image.name}_{structure}.nii.gz"
