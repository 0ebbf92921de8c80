"""The refinement module of TIS (Liu et al., MICCAI 2022, 2.3): voxels are compared with clicks and copy labels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

# Of the tables of voxels by clicks: they are computed in parts of so many numbers, so that memory does not grow with
# the product. 2^22 float32 are 16 MiB, and up to about ten clicks on a usual crop one part.
BLOCK = 2**22


def blocks(rows: int, row: int) -> Iterator[slice]:
    """The parts in which `rows` rows of `row` numbers each are computed, one at least."""
    size = max(1, BLOCK // max(1, row))
    return (slice(start, start + size) for start in range(0, max(1, rows), size))


@dataclass(frozen=True)
class Tokens:
    """Voxels of a crop, as many for each image as the longest list needs.

    features: (B, T, F), of the encoder. positions: (B, T, 3), mm. automatic: (B, T, C), logits of the automatic
    segmentation. real: (B, T) bool, False where a row is padding.
    """

    features: Tensor
    positions: Tensor
    automatic: Tensor
    real: Tensor


@dataclass(frozen=True)
class ClickTokens:
    """Clicks as voxels among the tokens. index: (B, N) into T. labels: (B, N), classes from 0; -1 is padding."""

    index: Tensor
    labels: Tensor

    @property
    def real(self) -> Tensor:
        """(B, N) bool."""
        return self.labels >= 0


@dataclass(frozen=True)
class RefinerDesign:
    """What the paper leaves open, and the arms of its ablation (Table 2).

    encode_clicks, assign_labels: the two modules of the paper; without the second, voxels take in the embeddings of
    clicks and not their labels, and are classified by their similarity to clicks (4.3). balance: "slot" makes the
    learnable scalar the logit of one more thing to attend to, whose value is the automatic label ("like no click: keep
    it"); "scalar" is the literal reading, a weighted mean of the automatic label and of what is copied from clicks.
    copy: also add the copied labels to the logits directly. distance: prefer near clicks, by a Gaussian bias. alike:
    how voxels and clicks are compared; "kernel" is a Gaussian of the distance between their projected features, which
    begins the same for both, so that a voxel unlike all clicks falls to the slot from the start; "product" is the
    usual scalar product of unlike projections.
    """

    width: int = 32
    heads: int = 4
    layers: int = 6
    grid: int = 8  # points per side of the learnable positional encoding, interpolated to the crop
    encode_clicks: bool = True
    assign_labels: bool = True
    balance: Literal["slot", "scalar"] = "slot"
    copy: bool = True
    distance: bool = True
    alike: Literal["kernel", "product"] = "kernel"
    reach_mm: tuple[float, ...] = (3.0, 5.0)  # the first sigmas of that bias, taken in turn by the heads
    balance_start: float = 0.0
    gain_start: float = 0.25  # of each head of each layer
    sharpness: float = 5.0  # of the kernel: what it falls by, as a logit, where two features are at right angles

    def computes_as(self, other: RefinerDesign) -> bool:
        """Whether weights of the one mean the same in the other. What a refiner only begins with does not count."""
        return replace(self, **{name: getattr(other, name) for name in STARTS}) == other


STARTS = ("reach_mm", "balance_start", "gain_start", "sharpness")  # of a design, which training changes


def zero(layer: nn.Module) -> None:
    """A residual branch that ends in this layer begins as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class Attention(nn.Module):
    """Multi-head attention of queries (B, Q, D) to keys (B, K, D), of which `real` (B, K) count."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)  # one would raise all scores of a query alike
        self.out = nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, heads, L, D / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, queries: Tensor, keys: Tensor, real: Tensor) -> Tensor:
        nobody = ~real.any(1)
        padding = ~(real | nobody[:, None])[:, None]  # an image without any key attends to padding, unread
        # Keys are many, queries few: these take the keys' projections upon themselves, and no key is projected.
        query = self.split(self.query(queries)) / math.sqrt(self.query.out_features // self.heads)
        asked = (query @ self.key.weight.unflatten(0, (self.heads, -1))).flatten(1, 2)  # (B, heads Q, D)
        keys = keys.to(asked.dtype)
        across = keys.transpose(1, 2).contiguous()
        found = []
        for part in blocks(asked.shape[1], keys.shape[1]):
            scores = asked[:, part] @ across
            found.append(scores.masked_fill(padding, -math.inf).softmax(-1) @ keys)
        met = torch.cat(found, 1).unflatten(1, (self.heads, -1))
        value = met @ self.value.weight.unflatten(0, (self.heads, -1)).transpose(1, 2)
        value = value + self.value.bias.unflatten(0, (self.heads, 1, -1))
        return self.out(value.transpose(1, 2).flatten(2))


class ClickEncoder(nn.Module):
    """A transformer decoder layer: clicks look at the voxels, at each other, and think (2.3, Click Encoding)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])
        self.look, self.meet = Attention(width, heads), Attention(width, heads)
        self.think = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        for last in (self.look.out, self.meet.out, self.think[-1]):
            zero(last)

    def forward(self, clicks: Tensor, voxels: Tensor, real_clicks: Tensor, real_voxels: Tensor) -> Tensor:
        clicks = clicks + self.look(self.norms[0](clicks), voxels, real_voxels)
        normed = self.norms[1](clicks)
        clicks = clicks + self.meet(normed, normed, real_clicks)
        return clicks + self.think(self.norms[2](clicks))


class LabelAssigner(nn.Module):
    """Voxels attend to clicks and copy their categories (2.3, Label Assignment)."""

    def __init__(self, design: RefinerDesign) -> None:
        super().__init__()
        width, heads = design.width, design.heads
        self.design = design
        self.norm = nn.LayerNorm(width)
        self.query, self.key, self.out = (nn.Linear(width, width) for _ in range(3))
        self.value = nn.Linear(width, width)
        self.balance = nn.Parameter(torch.full((heads,), design.balance_start))
        # Parameters that an arm of the ablation does not use are not made: processes that train together wait for all.
        if design.distance:
            reach = torch.tensor([design.reach_mm[head % len(design.reach_mm)] for head in range(heads)])
            self.log_reach = nn.Parameter(reach.log())
        self.copies = design.copy and design.assign_labels
        if self.copies:
            self.gain = nn.Parameter(torch.full((heads,), design.gain_start))
        if design.alike == "kernel":
            nn.init.orthogonal_(self.query.weight, gain=(design.sharpness * heads / width) ** 0.5)
            nn.init.zeros_(self.query.bias)
            self.key.load_state_dict(self.query.state_dict())
        zero(self.out)

    def forward(
        self,
        voxels: Tensor,
        clicks: Tensor,
        values: tuple[Tensor, Tensor],
        places: tuple[Tensor, Tensor],
        real: Tensor,
        one_hot: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """Voxels (B, T, D) with what they took from clicks, and the labels copied (B, T, C), None for a design without.

        clicks: (B, N, D). values: what is to be had at the clicks (B, N, D) and from the automatic segmentation
        (B, T, D). places: positions of voxels (B, T, 3) and clicks (B, N, 3), mm. real: (B, N), one True at least in
        each row. one_hot: (B, N, C), the clicks' labels.
        """
        heads = self.design.heads
        key = self.key(self.norm(clicks)).unflatten(-1, (heads, -1)).transpose(1, 2)
        among = torch.zeros_like(real, dtype=key.dtype).masked_fill(~real, -math.inf)[:, None]  # (B, 1, N)
        if self.design.alike == "kernel":
            # -|q - k|^2 / 2 = q k - k^2 / 2 - q^2 / 2, the last for all clicks: the slot has its opposite.
            among = among - key.square().sum(-1) / 2
        else:
            key = key / math.sqrt(key.shape[-1])
        # The few rows come before the many voxels: to turn what clicks share out would cost more than to work it out.
        of_clicks, of_automatic = (self.value(part).unflatten(-1, (heads, -1)).permute(0, 2, 3, 1) for part in values)
        width = of_clicks.shape[2]
        if self.copies:
            labels = torch.einsum("h,bnc->bhcn", self.gain, one_hot)
            of_clicks = torch.cat([of_clicks, labels.to(of_clicks)], dim=2)
        taken, copies = [], []
        for part in blocks(voxels.shape[1], heads * clicks.shape[1]):
            scores, slot = self._compare(voxels[:, part], key, among, (places[0][:, part], places[1]))
            copied, kept = self._weigh(scores, slot)
            given = of_clicks @ copied
            taken.append((given[:, :, :width] + kept[:, :, None] * of_automatic[..., part]).flatten(1, 2))
            copies.append(given[:, :, width:].sum(1))
        changed = voxels + self.out(torch.cat(taken, 2).transpose(1, 2))
        return changed, torch.cat(copies, 2).transpose(1, 2) if self.copies else None

    def _compare(
        self, voxels: Tensor, key: Tensor, among: Tensor, places: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """How alike voxels (B, t, D) are to clicks, (B, heads, N, t), and to the slot, (B, heads, t): logits."""
        query = self.query(self.norm(voxels)).unflatten(-1, (self.design.heads, -1)).permute(0, 2, 3, 1)
        slot = self.balance[:, None].expand(*query.shape[:2], query.shape[3])
        if self.design.alike == "kernel":
            slot = slot + query.square().sum(2) / 2
        # The many voxels come last, the few clicks before them: a softmax over the last few is several times slower.
        scores = key @ query + among[..., None]
        if self.design.distance:
            # The exact mode: products of positions would lose what is between neighbours.
            squared_mm = torch.cdist(places[1], places[0], compute_mode="donot_use_mm_for_euclid_dist").square()
            scores = scores - squared_mm[:, None] * (0.5 * (-2 * self.log_reach).exp()[:, None, None])
        return scores, slot

    def _weigh(self, scores: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
        """The shares of clicks (B, heads, N, t) and of the automatic segmentation (B, heads, t)."""
        if self.design.balance == "slot":
            weights = torch.cat([scores, slot[:, :, None]], dim=2).softmax(2)
            return weights[:, :, :-1], weights[:, :, -1]
        share = self.balance.sigmoid()[:, None]
        return scores.softmax(2) * (1 - share[..., None]), share.expand_as(slot)


class Refiner(nn.Module):
    """Tokens and clicks -> logits (B, T, C). Without clicks they are those of the automatic segmentation, exactly."""

    def __init__(self, features: int, classes: int, design: RefinerDesign) -> None:
        super().__init__()
        if design.width % design.heads:
            raise ValueError(f"a width of {design.width} does not divide among {design.heads} heads")
        self.classes, self.design = classes, design
        width = design.width
        self.enter = nn.Linear(features, width)
        self.places = nn.Parameter(torch.randn(1, width, *[design.grid] * 3) * 0.02)
        self.assigners = nn.ModuleList([LabelAssigner(design) for _ in range(design.layers)])
        if design.encode_clicks:
            self.encoders = nn.ModuleList([ClickEncoder(width, design.heads) for _ in range(design.layers)])
        if design.assign_labels:
            self.categories = nn.Sequential(nn.Linear(classes, width), nn.GELU(), nn.Linear(width, width))
            change = nn.Linear(width, classes)
            nn.init.zeros_(change.weight)  # it starts from the automatic segmentation and what is copied
            nn.init.zeros_(change.bias)
            self.leave = nn.Sequential(nn.LayerNorm(width), change)
        else:
            self.share = nn.Parameter(torch.tensor(design.balance_start))  # of clicks, where they are the classifiers

    def forward(self, tokens: Tokens, clicks: ClickTokens) -> Tensor:
        if clicks.index.shape[1] == 0:
            return tokens.automatic
        voxels = self.enter(tokens.features) + self.encode_places(tokens)
        chosen = _pick(voxels, clicks.index)
        one_hot = functional.one_hot(clicks.labels.clamp_min(0), self.classes).to(voxels)
        someone = clicks.real.any(1)
        real = clicks.real | ~someone[:, None]  # images without clicks are computed with padding, and not read
        places = tokens.positions, _pick(tokens.positions, clicks.index)
        refined = self.refine(tokens, voxels, chosen, one_hot, places, real)
        return torch.where(someone[:, None, None], refined, tokens.automatic)

    def refine(
        self,
        tokens: Tokens,
        voxels: Tensor,
        clicks: Tensor,
        one_hot: Tensor,
        places: tuple[Tensor, Tensor],
        real: Tensor,
    ) -> Tensor:
        """All layers: embedded voxels (B, T, D) and clicks (B, N, D) -> logits (B, T, C)."""
        design, logits = self.design, tokens.automatic
        if design.assign_labels:
            values = self.categories(one_hot), self.categories(tokens.automatic.softmax(-1))
        for layer, assign in enumerate(self.assigners):
            if design.encode_clicks:
                clicks = self.encoders[layer](clicks, voxels, real, tokens.real)
            if not design.assign_labels:
                values = clicks, voxels
            voxels, copied = assign(voxels, clicks, values, places, real, one_hot)
            if copied is not None:
                logits = logits + copied
        if design.assign_labels:
            return logits + self.leave(voxels)
        return self.classify(voxels, clicks, one_hot, real, tokens.automatic)

    def classify(self, voxels: Tensor, clicks: Tensor, one_hot: Tensor, real: Tensor, automatic: Tensor) -> Tensor:
        """The labels of the most similar clicks, weighed against the automatic segmentation, as logits (B, T, C)."""
        scores = voxels @ clicks.transpose(1, 2) / math.sqrt(self.design.width)
        alike = scores.masked_fill(~real[:, None], -math.inf).softmax(-1) @ one_hot
        share = self.share.sigmoid()
        return (share * alike + (1 - share) * automatic.softmax(-1)).clamp_min(1e-6).log()

    def encode_places(self, tokens: Tokens) -> Tensor:
        """The learnable encoding of each token's place in the box of all tokens, (B, T, D)."""
        far = tokens.positions.masked_fill(~tokens.real[..., None], math.inf).amin(1, keepdim=True)
        near = tokens.positions.masked_fill(~tokens.real[..., None], -math.inf).amax(1, keepdim=True)
        place = 2 * (tokens.positions - far) / (near - far).clamp_min(1e-3) - 1
        where = place.flip(-1)[:, :, None, None]  # grid_sample wants the last axis first
        grid = self.places.expand(len(place), -1, -1, -1, -1)
        return functional.grid_sample(grid, where, align_corners=True)[..., 0, 0].transpose(1, 2)


def _pick(rows: Tensor, index: Tensor) -> Tensor:
    """Rows (B, T, D) at index (B, N) -> (B, N, D)."""
    return rows.gather(1, index[..., None].expand(-1, -1, rows.shape[-1]))
