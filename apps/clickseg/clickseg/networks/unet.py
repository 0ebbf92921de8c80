"""The 2D U-Net of Sakinis 2019, III-A."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


def _block(inputs: int, outputs: int) -> nn.Sequential:
    """Twice: convolution with padding, batch normalisation, ReLU."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Four blocks down (2x2 max-pooling), a bottleneck, four blocks up (2x2 transposed convolutions, stride 2).

    (B, inputs, H, W) -> (B, outputs, H, W) logits. `width` is the number of channels of the first block and doubles
    at each level. H and W must be multiples of `UNet.divisor`.
    """

    levels = 4
    divisor = 2**levels

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(self.levels + 1)]
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList([_block(narrow, wide) for narrow, wide in [(inputs, width), *pairs[:-1]]])
        self.bottleneck = _block(*pairs[-1])
        self.enlarge = nn.ModuleList([nn.ConvTranspose2d(wide, narrow, 2, stride=2) for narrow, wide in pairs])
        self.up = nn.ModuleList([_block(2 * narrow, narrow) for narrow in widths[:-1]])
        self.head = nn.Conv2d(width, outputs, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.bottleneck(x)
        for enlarge, block, skip in zip(reversed(self.enlarge), reversed(self.up), reversed(skips), strict=True):
            x = block(torch.cat([skip, enlarge(x)], dim=1))
        return self.head(x)
