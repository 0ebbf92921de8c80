"""What nnU-Net has trained, as the encoder of `tis` (Liu et al., MICCAI 2022, 2.2)."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .geometry import axes_order
from .methods import save_weights
from .methods.tis import Tis, TisRecipe

CANONICAL = "NibabelIOWithReorient"  # nnU-Net's reader that turns every image to R, A, S


def import_nnunet(
    folder: Path | str,
    output: Path | str,
    orientation: str,
    fold: str = "0",
    checkpoint: str = "checkpoint_final.pth",
    seed: int = 4242,
) -> TisRecipe:
    """Write weights of `tis` whose encoder is a trained nnU-Net, and whose refiner is as it is before its training.

    nnU-Net is needed for this alone; the weights then stand for themselves.

    Args:
        folder: a result folder of nnU-Net v2, `nnUNetTrainer__nnUNetPlans__3d_fullres`, with plans.json, dataset.json
            and fold_<fold>/<checkpoint>.
        orientation: how the training's image files run along their three axes, as `nibabel.aff2axcodes` says it;
            nnU-Net keeps that and does not note it down, unless its reader turns all images to R, A, S.

    Raises:
        ValueError: a file is missing, nnunetv2 is not installed, or the model is one that `tis` cannot use: of several
            input channels, of regions, a 2D or a cascaded configuration, a normalisation that is not built here.
    """
    folder = Path(folder)
    for path in (folder / "plans.json", folder / "dataset.json", folder / f"fold_{fold}" / checkpoint):
        if not path.is_file():
            raise ValueError(f"{folder} is not a result folder of nnU-Net v2: {path} is missing")
    modality, labels = _read_dataset(folder / "dataset.json")
    predictor = _open(folder, fold, checkpoint)
    recipe = TisRecipe(labels=labels, modality=modality, stage="refiner", **_plan(predictor, orientation))
    torch.manual_seed(seed)
    segmenter = Tis(recipe)
    _load(segmenter, predictor.list_of_parameters[0])
    source = {"dataset": predictor.plans_manager.dataset_name, "trainer": predictor.trainer_name, "fold": fold}
    save_weights(output, segmenter, recipe, {"method": "tis", "nnunet": source})
    return recipe


def _read_dataset(path: Path) -> tuple[str, dict[str, int]]:
    """(modality, labels name -> 1, 2, ...) of a dataset.json. ValueError for channels or labels that `tis` has not."""
    try:
        content = json.loads(path.read_text())
        channels = list((content.get("channel_names") or content["modality"]).values())
        given = dict(content["labels"])
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is not the dataset.json of a result of nnU-Net v2: {error!r}") from error
    if len(channels) != 1:
        raise ValueError(f"tis reads one channel, and this nnU-Net {len(channels)}: {', '.join(map(str, channels))}")
    if any(isinstance(value, list) for value in given.values()) or "ignore" in given:
        raise ValueError("labels that overlap (regions), or are to be ignored, are not built here")
    labels = {name: int(value) for name, value in sorted(given.items(), key=lambda item: int(item[1])) if int(value)}
    if list(labels.values()) != list(range(1, len(labels) + 1)):
        raise ValueError(f"the labels of nnU-Net must be numbered 1, 2, ...; these are {labels}")
    return str(channels[0]), labels


def _open(folder: Path, fold: str, checkpoint: str) -> Any:
    """nnU-Net's own predictor, which reads plans and checkpoints of all its versions."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it greets, and warns of missing environment variables
            from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

            predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
            predictor.initialize_from_trained_model_folder(str(folder), (fold,), checkpoint)
    except ImportError as error:
        raise ValueError(
            f"nnU-Net is not installed here ({error}): pip install -e '.[nnunet]' -c requirements.txt"
        ) from error
    except (RuntimeError, KeyError, OSError, AssertionError) as error:
        raise ValueError(f"{folder} cannot be opened by nnU-Net: {error}") from error
    return predictor


def _plan(predictor: Any, orientation: str) -> Mapping[str, Any]:
    """The fields of a recipe that nnU-Net's plans fill in, the axes turned to R, A, S."""
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    if len(configuration.patch_size) != 3:
        raise ValueError("tis works in 3D, and this is a 2D configuration of nnU-Net")
    if configuration.previous_stage_name is not None:
        raise ValueError("this configuration of nnU-Net is the second of a cascade; use 3d_fullres or 3d_lowres")
    axes = _axes(plans, orientation)
    order = axes_order(axes)[0]
    made = type(predictor.network)  # the plans may name it by a module that it has left
    description = {
        "class": f"{made.__module__}.{made.__qualname__}",
        "arguments": configuration.network_arch_init_kwargs,
    }
    return {
        "spacing": _upright(configuration.spacing, order),
        "patch": _upright(configuration.patch_size, order),
        "width": predictor.network.decoder.seg_layers[-1].in_channels,
        "architecture": description,
        "axes": axes,
        **_intensity(plans, configuration),
    }


def _axes(plans: Any, orientation: str) -> tuple[str, ...]:
    """Where the axes of nnU-Net's arrays run: those of the file backwards, and then turned as the plans say."""
    codes = "RAS" if plans.image_reader_writer_class.__name__ == CANONICAL else orientation.upper()
    axes_order(codes)
    backwards = codes[::-1]
    return tuple(backwards[axis] for axis in plans.transpose_forward)


def _upright(values: Sequence[float], order: Sequence[int]) -> Any:
    """Numbers of nnU-Net's axes, for those to R, A and S."""
    upright = dict(zip(order, values, strict=True))
    return tuple(upright[axis] for axis in range(3))


def _intensity(plans: Any, configuration: Any) -> Mapping[str, Any]:
    scheme, masked = configuration.normalization_schemes[0], configuration.use_mask_for_norm[0]
    if scheme == "CTNormalization":
        found = plans.foreground_intensity_properties_per_channel["0"]
        window = float(found["percentile_00_5"]), float(found["percentile_99_5"])
        return {"window": window, "mean": float(found["mean"]), "deviation": float(found["std"])}
    if scheme == "ZScoreNormalization" and not masked:
        return {}
    inside = " inside a mask" if masked else ""
    raise ValueError(
        f"{scheme}{inside} is not built here; known: CTNormalization, and ZScoreNormalization without mask"
    )


def _load(segmenter: Tis, parameters: Mapping[str, torch.Tensor]) -> None:
    """Give nnU-Net's weights to the encoder; its last layer is the head. ValueError if they do not fit its plans."""
    last = max(int(name.split(".")[2]) for name in parameters if name.startswith("decoder.seg_layers."))
    head = {part: parameters[f"decoder.seg_layers.{last}.{part}"] for part in ("weight", "bias")}
    others = {name: value for name, value in parameters.items() if not name.startswith("decoder.seg_layers.")}
    try:
        segmenter.encoder.head.load_state_dict(head)
        segmenter.encoder.network.load_state_dict(others)
    except RuntimeError as error:
        raise ValueError(f"the weights are not of the network that the plans describe: {error}") from error
