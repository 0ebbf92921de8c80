"""The encoder of TIS (Liu et al., MICCAI 2022, 2.2): nnU-Net's plain 3D U-Net (Isensee 2021)."""

from __future__ import annotations

from collections.abc import Sequence

from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import Tensor, nn

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


class Encoder3d(nn.Module):
    """(B, 1, X, Y, Z), sides that are multiples of those of the strides -> features (B, width, X, Y, Z).

    They are the input of nnU-Net's last layer; `head` is that layer and makes logits (B, classes, X, Y, Z) of them.
    """

    def __init__(self, classes: int, width: int, strides: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        self.network = PlainConvUNet(
            input_channels=1,
            n_stages=len(strides),
            features_per_stage=[min(width * 2**stage, MOST_CHANNELS) for stage in range(len(strides))],
            conv_op=nn.Conv3d,
            kernel_sizes=3,
            strides=list(strides),
            n_conv_per_stage=2,
            num_classes=classes,
            n_conv_per_stage_decoder=2,
            conv_bias=True,
            norm_op=nn.InstanceNorm3d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
        )
        self.network.apply(PlainConvUNet.initialize)
        # Its last layer is `head` here, and those of deep supervision have nothing to do.
        self.network.decoder.seg_layers = nn.ModuleList([nn.Identity() for _ in self.network.decoder.seg_layers])
        self.head = nn.Conv3d(width, classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)
