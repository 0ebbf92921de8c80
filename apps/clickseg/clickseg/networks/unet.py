"""The 2D U-Net of Sakinis 2019, III-A."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Sequential):
    """Twice: convolution with padding, batch normalisation, ReLU.

    When nothing is to be learned, the normalisation is folded into the convolution: a tenth of the network's time.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            layers += [
                nn.Conv2d(channels, outputs, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)

    def forward(self, x: Tensor) -> Tensor:
        if self.training or torch.is_grad_enabled():
            return super().forward(x)
        for first in (0, 3):
            convolution, norm = cast(nn.Conv2d, self[first]), cast(nn.BatchNorm2d, self[first + 1])
            x = _folded(x, convolution, norm).relu_()
        return x


def _folded(x: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """norm(convolution(x)) with the running statistics, as one convolution."""
    assert norm.running_var is not None, "the normalisation keeps running statistics"
    assert norm.running_mean is not None, "the normalisation keeps running statistics"
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    weight = convolution.weight * scale[:, None, None, None]
    return functional.conv2d(x, weight, norm.bias - norm.running_mean * scale, padding=convolution.padding)


class UNet(nn.Module):
    """Four blocks down (2x2 max-pooling), a bottleneck, four blocks up (2x2 transposed convolutions, stride 2).

    (B, inputs, H, W) -> (B, outputs, H, W) logits. `width` is the number of channels of the first block and doubles
    at each level. H and W must be multiples of `UNet.divisor`.

    names: what structures may be called, 1, 2, ...; 0 is none. A name scales and shifts the channels of the bottleneck
    and of each block up (Perez 2018, FiLM); at first no name does anything, and none never does.
    """

    levels = 4
    divisor = 2**levels

    def __init__(self, inputs: int, outputs: int, width: int, names: int = 0) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(self.levels + 1)]
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList([Block(narrow, wide) for narrow, wide in [(inputs, width), *pairs[:-1]]])
        self.bottleneck = Block(*pairs[-1])
        self.enlarge = nn.ModuleList([nn.ConvTranspose2d(wide, narrow, 2, stride=2) for narrow, wide in pairs])
        self.up = nn.ModuleList([Block(2 * narrow, narrow) for narrow in widths[:-1]])
        self.head = nn.Conv2d(width, outputs, kernel_size=1)
        self.names = nn.ModuleList([Name(names, channels) for channels in widths] if names else [])

    def forward(self, x: Tensor, name: Tensor | None = None) -> Tensor:
        """name: (B,) int64, what the structure of each image is called."""
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.hear(self.levels, self.bottleneck(x), name)
        for level in reversed(range(self.levels)):
            x = self.up[level](torch.cat([skips[level], self.enlarge[level](x)], dim=1))
            x = self.hear(level, x, name)
        return self.head(x)

    def hear(self, level: int, x: Tensor, name: Tensor | None) -> Tensor:
        """What a name makes of the channels of a level; without names, or where nobody says one, nothing."""
        return x if name is None or not self.names else self.names[level](x, name)


def widened(name: str, tensor: Tensor, wide: Tensor) -> Tensor:
    """A tensor of the state of a `UNet` in its like of a wider one, which with all of them computes what the narrow one
    did.

    Further channels are as they were in `wide`, and unheard until a training listens to them. (The wider networks of
    Chen 2016, Net2Net, have copies of old channels there, which a training must first tell apart.)
    """
    if tensor.shape == wide.shape:
        return tensor
    groups = 2 if re.search(r"up\.\d+\.0\.weight|names", name) else 1  # of channels read, one after the other
    places = [
        torch.cat([torch.arange(count // parts) + part * (room // parts) for part in range(parts)])
        for count, room, parts in zip(tensor.shape, wide.shape, (1, groups, 1, 1), strict=False)
    ]
    placed = wide.clone()
    if len(places) > 1:
        outputs = 1 if "enlarge" in name else 0  # a transposed convolution has its inputs first
        placed.index_fill_(outputs, places[outputs], 0)  # what old channels hear of new ones
    placed[torch.meshgrid(*places, indexing="ij")] = tensor.to(placed)
    return placed


class Name(nn.Embedding):
    """(B, C, H, W) features and names (B,), of which 0 is none -> features scaled and shifted, channel by channel.

    Each name is in few of the samples: what it does is HASTE times what is kept, so that Adam learns it so much faster
    than the rest.
    """

    HASTE = 20.0

    def __init__(self, names: int, channels: int) -> None:
        super().__init__(names + 1, 2 * channels, padding_idx=0)
        nn.init.zeros_(self.weight)

    def forward(self, x: Tensor, name: Tensor) -> Tensor:  # type: ignore[override]
        gain, shift = (self.HASTE * super().forward(name))[..., None, None].to(x.dtype).chunk(2, dim=1)
        return x * (1 + gain) + shift
