"""The encoder of TIS (Liu et al., MICCAI 2022, 2.2): nnU-Net's plain 3D U-Net (Isensee 2021)."""

from __future__ import annotations

import pydoc
from collections.abc import Mapping, Sequence
from typing import Any

from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import Tensor, nn

from ..geometry import axes_order

LEAST_SIDE = 4  # voxels that an axis keeps at the bottom of the U-Net, as nnU-Net plans it
MOST_CHANNELS = 320  # of a 3D nnU-Net


def plan_strides(patch: Sequence[int]) -> list[tuple[int, ...]]:
    """The strides of each stage for patches of this shape: every axis is halved while LEAST_SIDE voxels remain."""
    halvings = []
    for side in patch:
        count = 0
        while side % 2 ** (count + 1) == 0 and side // 2 ** (count + 1) >= LEAST_SIDE:
            count += 1
        halvings.append(count)
    stages = [tuple(2 if stage < count else 1 for count in halvings) for stage in range(max(halvings))]
    return [(1,) * len(halvings), *stages]


def plain_unet(width: int, strides: Sequence[tuple[int, ...]]) -> nn.Module:
    """nnU-Net's plain 3D U-Net with as many stages as there are strides, the first of this width."""
    network = PlainConvUNet(
        input_channels=1,
        n_stages=len(strides),
        features_per_stage=[min(width * 2**stage, MOST_CHANNELS) for stage in range(len(strides))],
        conv_op=nn.Conv3d,
        kernel_sizes=3,
        strides=list(strides),
        n_conv_per_stage=2,
        num_classes=1,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )
    network.apply(PlainConvUNet.initialize)
    return network


def described_unet(description: Mapping[str, Any]) -> nn.Module:
    """The U-Net that nnU-Net's plans describe: {"class": its full name, "arguments": {...}}.

    Raises ValueError for a class that is not of dynamic_network_architectures, an argument that is not of torch.nn, or
    a network that does not end as nnU-Net's U-Nets do.
    """
    name = str(description.get("class"))
    made = _locate(name, "dynamic_network_architectures.")
    arguments = {
        key: _locate(value, "torch.nn.") if isinstance(value, str) else value
        for key, value in description.get("arguments", {}).items()
    }
    network: nn.Module = made(input_channels=1, num_classes=1, **{**arguments, "deep_supervision": False})
    if not isinstance(getattr(getattr(network, "decoder", None), "seg_layers", None), nn.ModuleList):
        raise ValueError(f"{name} is not a U-Net whose last layers are decoder.seg_layers")
    return network


def _locate(name: str, package: str) -> Any:
    """What a full name stands for; only things of one package, so that a weights file cannot run anything else."""
    found = pydoc.locate(name) if name.startswith(package) else None
    if found is None:
        raise ValueError(f"{name!r} is nothing of {package.rstrip('.')}")
    return found


class Encoder3d(nn.Module):
    """(B, 1, X, Y, Z), sides that are multiples of those of the strides -> features (B, width, X, Y, Z).

    They are the input of the last layer of a U-Net. `head` is that layer, it makes logits (B, classes, X, Y, Z).
    axes: where the axes run along which the U-Net wants its input; ours run to R, A and S.
    """

    def __init__(self, network: Any, classes: int, axes: Sequence[str] = ("R", "A", "S")) -> None:
        super().__init__()
        self.network = network
        width = network.decoder.seg_layers[-1].in_channels
        # The last layer is `head` here, and those of deep supervision have nothing to do.
        network.decoder.seg_layers = nn.ModuleList([nn.Identity() for _ in network.decoder.seg_layers])
        self.head = nn.Conv3d(width, classes, kernel_size=1)
        order, flipped = axes_order(axes)
        self._order = (0, 1, *(2 + axis for axis in order))
        self._back = tuple(sorted(range(5), key=lambda axis: self._order[axis]))
        self._flipped = tuple(2 + axis for axis in range(3) if flipped[axis])

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.network(x.permute(self._order).flip(self._flipped))
        return features.flip(self._flipped).permute(self._back)
