"""Pictures of a benchmark: curves over clicks, and predictions drawn on slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from .clicks import Click
from .evaluation import Evaluation, Game


def plot_curves(report: Mapping[str, Any], path: Path) -> None:
    """Mean Dice over clicks with its interval, every label in grey behind it, and the surface distance beside it."""
    clicks = report["clicks"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    colours = plt.get_cmap("tab20")
    for index, (name, values) in enumerate(report["labels"].items()):
        left.plot(clicks, [values[str(k)]["dice"] for k in clicks], lw=1, color=colours(index % 20), label=name)
    for axes, key, title in ((left, "dice", "Dice, slice-wise"), (right, "mad_mm", "mean absolute distance (mm)")):
        mean = [report["mean"][str(k)][key] for k in clicks]
        low, high = zip(*(report["interval"][str(k)][key] for k in clicks), strict=True)
        if None not in (*mean, *low, *high):
            axes.fill_between(clicks, low, high, color="black", alpha=0.15, lw=0)
            axes.plot(clicks, mean, color="black", lw=2.5, marker="o", label="mean over labels")
        axes.set(xlabel="clicks per slice and structure", title=title, xticks=clicks)
        axes.grid(alpha=0.3)
    left.set_ylim(top=1)
    figure.legend(*left.get_legend_handles_labels(), fontsize=8, loc="outside right center")
    figure.suptitle(f"{report['method']}, user {report['user']}, {', '.join(report['cases'])}")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_turns(
    image: NDArray[np.floating],
    truth: NDArray[np.bool_],
    turns: Sequence[tuple[NDArray[np.bool_], Sequence[Click]]],
    title: str,
    path: Path,
    window: tuple[float, float] = (-125.0, 275.0),
) -> None:
    """A slice (R, A order) once per turn: truth outlined in gold, prediction in red, clicks lime (in), pink (out)."""
    figure, axes = plt.subplots(1, len(turns), figsize=(3.2 * len(turns), 3.6), layout="constrained", squeeze=False)
    rows = np.flatnonzero(np.any([truth, *(mask for mask, _ in turns)], axis=(0, 2)))
    columns = np.flatnonzero(np.any([truth, *(mask for mask, _ in turns)], axis=(0, 1)))
    for axis, (mask, clicks) in zip(axes[0], turns, strict=True):
        # Radiological display: the patient's right is on the left, anterior is up.
        axis.imshow(image.T, cmap="gray", vmin=window[0], vmax=window[1], origin="lower")
        axis.contour(truth.T, levels=[0.5], colors="gold", linewidths=1)
        if mask.any():
            axis.contour(mask.T, levels=[0.5], colors="red", linewidths=1.2)
        for click in clicks:
            colour = "lime" if click.label == 1 else "magenta"
            axis.plot(*click.position, marker="+", color=colour, markersize=8, markeredgewidth=2)
        margin = 25
        axis.set_xlim(rows[-1] + margin, rows[0] - margin)
        axis.set_ylim(columns[0] - margin, columns[-1] + margin)
        axis.set_title(f"{len(clicks)} click{'s' if len(clicks) > 1 else ''}", fontsize=9)
        axis.set_axis_off()
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_examples(done: Evaluation, folder: Path, number: int = 4) -> None:
    """Overlays of a few tasks of a 2D method, spread over the labels: `overlay_<case>_<label>_<slice>.png` each."""
    if done.model.segmenter.dimension != 2:
        return
    for index in np.unique(np.linspace(0, len(done.tasks) - 1, number + 2).astype(int)[1:-1]):
        task = done.tasks[index]
        game = Game(done.model.segmenter, done.model.recipe.spacing, task.case)
        turns = [(turn.masks[0], turn.clicks[0]) for turn in game.turns([task], done.protocol, done.device)]
        image, truth = game.stack([task])
        path = folder / f"overlay_{task.case.id}_{task.name.replace(' ', '_')}_{task.slice}.png"
        plot_turns(
            image[0, 0].numpy(), truth[0, 0].numpy(), turns, f"{task.case.id}, {task.name}, slice {task.slice}", path
        )
