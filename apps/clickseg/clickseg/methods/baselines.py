"""Classic click segmentation without training, to measure the trained methods against.

Every constant was fixed beforehand, from the paper or the program that is imitated or from anatomy; none was tuned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage import segmentation
from torch import Tensor

from ..clicks import INSIDE, OUTSIDE, Click, unstack_clicks
from .protocol import Segmenter

Image = NDArray[np.float32]
Labels = NDArray[np.int8]
Answer = Callable[[Image, Sequence[Click], float], NDArray[np.floating] | NDArray[np.bool_]]

UNKNOWN = -1  # in a map of labels, beside INSIDE and OUTSIDE

# HU: fat to enhanced vessels, an abdominal soft tissue window (width 400, level 75); bone and air saturate.
WINDOW = (-125.0, 275.0)
# mm: between 5 mm (adrenal gland, oesophagus) and 30 mm (kidney), their geometric mean. No radius suits all organs.
DISC_MM = 12.0
# mm: about two pixels of a 1.25 mm grid, some 20 pixels in all: a histogram needs some, a thin structure has few.
SEED_MM = 3.0
# mm: half the width of a liver, the widest organ of a slice. What is farther from all inside clicks is background.
REACH_MM = 100.0
# mm: the outermost of what is reached counts as seen background; four pixels of a 1.25 mm grid.
FRAME_MM = 5.0

WALKER_BETA = 130.0  # of the normalised squared differences: the default of scikit-image
GRABCUT_ITERATIONS = 5  # as in OpenCV's tutorial
GRABCUT_SEED = 0  # of OpenCV's random numbers: they start the clustering of the colours
# MONAI Label 0.8.5, scribbles: HistogramBasedGraphCut and make_histograms.
CUT_LAMBDA = 1.0  # weight of the contrast between neighbours against the histograms
CUT_SIGMA = 0.1  # of that contrast, in units of the window: 40 HU
CUT_BINS = 64
CUT_PSEUDOCOUNT = 1.0  # pixels in each bin beforehand
CUT_CONNECTIVITY = 4  # neighbours of a pixel: what numpymaxflow falls back to for MONAI Label

CERTAIN = 1e-4  # the least probability that becomes a logit, which has to be finite


class Baseline(Segmenter):
    """Image (B, 1, H, W), HU, and clicks (B, N, 3) -> logits (B, 2, H, W): outside, inside, by a rule for one slice.

    The code is the slice clipped to WINDOW and scaled to [0, 1]. Computed on the CPU, slice by slice.

    Args:
        answer: slice (H, W), its clicks in order and the spacing -> probability of inside, or mask, (H, W). It sees no
            more than REACH_MM around the inside clicks: what is beyond is background.
        spacing: mm per pixel of the grid that images and clicks lie on, the same along both axes.
    """

    dimension = 2

    def __init__(self, answer: Answer, spacing: float = 1.25) -> None:
        super().__init__()
        if not spacing > 0:
            raise ValueError(f"spacing must be a positive number of mm per pixel, got {spacing!r}")
        self.answer = answer
        self.spacing = spacing

    def encode(self, image: Tensor) -> Tensor:
        low, high = WINDOW
        return (image.float().clamp(low, high) - low) / (high - low)

    def decode(self, code: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        if previous is not None:
            raise ValueError("a baseline has no input for an initial mask: it knows the image and the clicks")
        images = code.detach().float().cpu().numpy()[:, 0]
        inside = [self.probability(*pair) for pair in zip(images, unstack_clicks(clicks), strict=True)]
        probability = torch.from_numpy(np.stack(inside)).clamp(CERTAIN, 1 - CERTAIN)
        return torch.stack([1 - probability, probability], dim=1).log().to(code.device)

    def probability(self, image: Image, clicks: Sequence[Click]) -> Image:
        """Of inside, (H, W), for one slice (H, W) in [0, 1]; zero without an inside click, sure at clicked pixels."""
        for click in clicks:
            if not all(0 <= index < length for index, length in zip(click.position, image.shape, strict=True)):
                raise ValueError(f"click {click} outside grid {image.shape}")
        probability = np.zeros(image.shape, np.float32)
        if any(click.label == INSIDE for click in clicks):
            rows, columns = reached(image.shape, clicks, REACH_MM / self.spacing)
            seen = [
                Click((row - rows.start, column - columns.start), click.label)
                for click in clicks
                for row, column in [click.position]
                if rows.start <= row < rows.stop and columns.start <= column < columns.stop
            ]
            probability[rows, columns] = self.answer(image[rows, columns], seen, self.spacing)
        for click in clicks:
            probability[click.position] = click.label == INSIDE
        return probability


def reached(shape: tuple[int, ...], clicks: Sequence[Click], reach: float) -> tuple[slice, slice]:
    """The rectangle of a slice (H, W) that ends `reach` pixels from the inside clicks, or with the slice."""
    positions = np.array([click.position for click in clicks if click.label == INSIDE])
    low = np.maximum(np.floor(positions.min(0) - reach), 0).astype(int)
    high = np.minimum(np.ceil(positions.max(0) + reach) + 1, shape).astype(int)
    return slice(low[0], high[0]), slice(low[1], high[1])


def paint(shape: tuple[int, ...], clicks: Sequence[Click], radius: float) -> Labels:
    """A disc of `radius` pixels at each click, in its label; later clicks go over earlier ones, the rest is UNKNOWN."""
    painted = np.full(shape, UNKNOWN, np.int8)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    for click in clicks:
        row, column = click.position
        within = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
        painted[within] = INSIDE if click.label == INSIDE else OUTSIDE
    return painted


def seed(shape: tuple[int, ...], clicks: Sequence[Click], spacing: float) -> Labels:
    """What is known of a slice (H, W): small discs at the clicks, OUTSIDE along the frame of what is reached.

    The frame is REACH_MM from the inside clicks or the edge of the slice, and leaves out what the disc baseline would
    call inside. Clicked pixels have their own label even within a later click's disc.
    """
    inside = [click for click in clicks if click.label == INSIDE]
    frame = paint(shape, inside, (REACH_MM - FRAME_MM) / spacing) == UNKNOWN
    width = max(1, round(FRAME_MM / spacing))
    frame[:width] = frame[-width:] = frame[:, :width] = frame[:, -width:] = True
    frame &= paint(shape, clicks, DISC_MM / spacing) != INSIDE
    seeds = paint(shape, clicks, SEED_MM / spacing)
    seeds[frame & (seeds == UNKNOWN)] = OUTSIDE
    clicked = paint(shape, clicks, 0)
    return np.where(clicked == UNKNOWN, seeds, clicked)


def says_nothing(seeds: Labels) -> bool:
    """Whether no inside, no outside or nothing unknown is left of a slice: the discs alone are the answer then.

    Slices as small as the discs are so, and inside clicks that later clicks outside have gone over.
    """
    return any(not (seeds == label).any() for label in (INSIDE, OUTSIDE, UNKNOWN))


def connected(mask: NDArray[np.bool_], clicks: Sequence[Click]) -> NDArray[np.bool_]:
    """The parts of a mask (H, W), connected through edges or corners, that hold an inside click."""
    parts, _ = ndimage.label(mask, np.ones((3, 3)))
    clicked = [parts[click.position] for click in clicks if click.label == INSIDE]
    return mask & np.isin(parts, clicked)


def disc(image: Image, clicks: Sequence[Click], spacing: float) -> NDArray[np.bool_]:
    """A disc of DISC_MM at each click, inside or outside, the later ones over the earlier: blind to the image."""
    return paint(image.shape, clicks, DISC_MM / spacing) == INSIDE


def random_walker(image: Image, clicks: Sequence[Click], spacing: float) -> NDArray[np.floating] | NDArray[np.bool_]:
    """The probability that a random walk from a pixel meets an inside seed first (Grady 2006, as in scikit-image)."""
    seeds = seed(image.shape, clicks, spacing)
    if says_nothing(seeds):
        return disc(image, clicks, spacing)
    beta, contrast = WALKER_BETA, image.astype(np.float64)  # float32 leaves walks through strong noise inexact
    if np.ptp(image) == 0:  # scikit-image divides by the deviation; any other image with beta 0 has equal weights too
        beta, contrast = 0.0, np.indices(image.shape, np.float64)[0]
    numbered = np.select([seeds == INSIDE, seeds == OUTSIDE], [1, 2])
    # The direct solver: exact, and on slices faster than conjugate gradients.
    inside, _ = segmentation.random_walker(contrast, numbered, beta=beta, mode="bf", return_full_prob=True)
    return inside


def grabcut(image: Image, clicks: Sequence[Click], spacing: float) -> NDArray[np.bool_]:
    """GrabCut from a mask (Rother 2004, as in OpenCV): seeds are sure, the discs of `disc` are probably inside.

    Of the answer the parts with an inside click are kept: a click means one structure.
    """
    seeds = seed(image.shape, clicks, spacing)
    if says_nothing(seeds):
        return disc(image, clicks, spacing)
    sure, probable = [seeds == INSIDE, seeds == OUTSIDE], disc(image, clicks, spacing)
    mask = np.select([*sure, probable], [cv2.GC_FGD, cv2.GC_BGD, cv2.GC_PR_FGD], cv2.GC_PR_BGD).astype(np.uint8)
    colours = cv2.cvtColor(np.round(image * 255).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))  # the mixtures, filled by OpenCV
    cv2.setRNGSeed(GRABCUT_SEED)
    cv2.grabCut(colours, mask, (0, 0, 0, 0), background, foreground, GRABCUT_ITERATIONS, cv2.GC_INIT_WITH_MASK)
    return connected((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD), clicks)


def graph_cut(image: Image, clicks: Sequence[Click], spacing: float) -> NDArray[np.bool_]:
    """The cut between histograms of the seeds, as MONAI Label makes it from scribbles (Wang 2018, Eq. 5 to 7).

    Of the answer the parts with an inside click are kept: a click means one structure.
    """
    from numpymaxflow import maxflow  # where this method is used and nowhere else: it holds numpy to version 1

    seeds = seed(image.shape, clicks, spacing)
    if says_nothing(seeds):
        return disc(image, clicks, spacing)
    likelihood = np.exp([seed_likelihood(image, seeds == label) for label in (OUTSIDE, INSIDE)])
    unary = (likelihood / likelihood.sum(0)).astype(np.float32)  # MONAI Label's softmax of the two likelihoods
    least = np.finfo(np.float32).eps
    for label in (OUTSIDE, INSIDE):
        unary[:, seeds == label] = least
        unary[label, seeds == label] = 1 - least
    answer = maxflow(image[None], unary, CUT_LAMBDA, CUT_SIGMA, CUT_CONNECTIVITY)
    mask = answer[0] > 0
    answer.resize(0, refcheck=False)  # numpymaxflow 0.0.7 never releases what it returns: at least empty it
    return connected(mask, clicks)


def seed_likelihood(image: Image, seeds: NDArray[np.bool_]) -> NDArray[np.floating]:
    """For each pixel of an image (H, W) in [0, 1] the share of its bin in the histogram of the seeds (H, W)."""
    bins = np.minimum((image * CUT_BINS).astype(int), CUT_BINS - 1)
    counts = np.bincount(bins[seeds], minlength=CUT_BINS) + CUT_PSEUDOCOUNT
    return (counts / counts.sum())[bins]


# name -> what builds it; takes the `spacing` of the grid, mm per pixel.
BASELINES: dict[str, Callable[..., Segmenter]] = {
    "disc": partial(Baseline, disc),
    "random_walker": partial(Baseline, random_walker),
    "grabcut": partial(Baseline, grabcut),
    "graph_cut": partial(Baseline, graph_cut),
}
