"""Pictures of a benchmark: curves over clicks, and predictions drawn on slices."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from .clicks import Click
from .evaluation import Evaluation, Game, Protocol
from .evaluation.game import by_case
from .evaluation.volume_game import VolumeGame, VolumeTurn
from .files import plain_name

SHOWN = {2: (1, 2, 5, 10, 15), 3: (0, 1, 2, 5, 10)}  # clicks of the pictures, by the dimension of the network


def plot_curves(report: Mapping[str, Any], path: Path) -> None:
    """Mean Dice over clicks, every label in grey behind it, and the surface distance beside it.

    With the intervals of both means, where there are any.
    """
    clicks = report["clicks"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    colours = plt.get_cmap("tab20")
    for index, (name, values) in enumerate(report["labels"].items()):
        left.plot(clicks, [values[str(k)]["dice"] for k in clicks], lw=1, color=colours(index % 20), label=name)
    for axes, key, title in ((left, "dice", "Dice, slice-wise"), (right, "mad_mm", "mean absolute distance (mm)")):
        mean = [report["mean"][str(k)][key] for k in clicks]
        low, high = zip(*(report["interval"][str(k)][key] for k in clicks), strict=True)
        if None not in (*low, *high):  # of very few patients there is none
            axes.fill_between(clicks, low, high, color="black", alpha=0.15, lw=0)
        if None not in mean:
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
        _outline(axis, truth, "gold", 1)
        _outline(axis, mask, "red", 1.2)
        for click in clicks:
            colour = "lime" if click.label == 1 else "magenta"
            axis.plot(*click.position, marker="+", color=colour, markersize=8, markeredgewidth=2)
        margin = 25
        axis.set_xlim(rows[-1] + margin, rows[0] - margin)
        axis.set_ylim(columns[0] - margin, columns[-1] + margin)
        axis.set_title(_clicks(len(clicks)), fontsize=9)
        axis.set_axis_off()
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _outline(axes: Axes, mask: NDArray[np.bool_], colour: str, width: float) -> None:
    """Of a slice's mask, if it has one."""
    if _has_outline(mask):
        axes.contour(mask.T, levels=[0.5], colors=colour, linewidths=width)


def _has_outline(mask: NDArray[np.bool_]) -> bool:
    """Whether matplotlib can draw round a mask: not in a slice of a single row or column of pixels."""
    return bool(mask.any()) and min(mask.shape) > 1


def _clicks(number: int) -> str:
    return f"{number} click{'s' * (number != 1)}"


def plot_volume_turns(
    image: NDArray[np.floating], truth: NDArray[np.integer], turns: Sequence[VolumeTurn], title: str, path: Path
) -> None:
    """A row per turn but the first, in the axial slice of its last click (Liu 2022, Figure 4).

    Left what was wrong in the turn before, in red, with the click; right what was found, with the truth outlined. All
    volumes are upright, image (X, Y, Z) and classes (X, Y, Z).
    """
    rows = [(before, after) for before, after in itertools.pairwise(turns) if len(after.clicks) > len(before.clicks)]
    if not rows:
        return
    figure, axes = plt.subplots(len(rows), 2, figsize=(6.4, 3.2 * len(rows)), layout="constrained", squeeze=False)
    low, high = np.percentile(image, (1, 99))
    colours = plt.get_cmap("tab10")
    for (left, right), (before, after) in zip(axes, rows, strict=True):
        *place, z = after.clicks[-1].position
        wrong = np.ma.masked_equal((before.mask != truth)[..., z].astype(float), 0)
        for axis in (left, right):
            axis.imshow(image[..., z].T, cmap="gray", vmin=low, vmax=high, origin="lower")
        left.imshow(wrong.T, cmap="Reds", vmin=0, vmax=1.5, alpha=0.6, origin="lower")
        left.plot(*place, marker="+", color="cyan", markersize=12, markeredgewidth=2)
        for number in range(1, int(truth.max()) + 1):
            _outline(right, truth[..., z] == number, "gold", 1)
            found = after.mask[..., z] == number
            if _has_outline(found):
                right.contourf(found.T, levels=[0.5, 1.5], colors=[colours(number % 10)], alpha=0.4)
        for axis in (left, right):
            axis.invert_xaxis()  # radiological display: the patient's right is on the left
            axis.set_axis_off()
        said = f"click {after.number} of class {after.clicks[-1].label}"
        left.set_title(f"wrong after {_clicks(before.number)}; {said}", fontsize=9)
        right.set_title(f"after {_clicks(after.number)}", fontsize=9)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def plot_examples(done: Evaluation, folder: Path, number: int = 4) -> None:
    """Overlays of a few tasks, spread over the labels or, in 3D, over the cases.

    `overlay_<case>_<label>_<slice>.png` each, or `overlay_<case>.png`.
    """
    (_plot_slices if done.model.segmenter.dimension == 2 else _plot_volumes)(done, folder, number)


def _plot_volumes(done: Evaluation, folder: Path, number: int) -> None:
    cases = by_case(done.tasks)
    protocol = _pictured(done)
    for index in np.unique(np.linspace(0, len(cases) - 1, number).astype(int)):
        tasks = cases[index]
        labels = list(done.model.recipe.labels.values())
        game = VolumeGame(done.model.segmenter, done.model.recipe.spacing, tasks[0].case, labels)
        games = game.games(tasks, protocol)
        group, wanted = games[index % len(games)]
        turns = list(game.turns(group, protocol, done.device, wanted))
        truth = game.truth if wanted is None else (game.truth == wanted).astype(np.uint8)
        title = ", ".join([done.report["method"], tasks[0].case.id, *([] if wanted is None else [group[0].name])])
        plot_volume_turns(game.image, truth, turns, title, folder / f"overlay_{tasks[0].case.id}.png")


def _pictured(done: Evaluation) -> Protocol:
    """The protocol with those numbers of clicks that a picture has room for."""
    shown = SHOWN[done.model.segmenter.dimension]
    clicks = [asked for asked in done.protocol.clicks if asked in shown] or done.protocol.clicks[-1:]
    return replace(done.protocol, clicks=tuple(clicks))


def _plot_slices(done: Evaluation, folder: Path, number: int) -> None:
    protocol = _pictured(done)
    for index in np.unique(np.linspace(0, len(done.tasks) - 1, number + 2).astype(int)[1:-1]):
        task = done.tasks[index]
        game = Game(done.model.segmenter, done.model.recipe.spacing, task.case)
        turns = [(turn.masks[0], turn.clicks[0]) for turn in game.turns([task], protocol, done.device)]
        image, truth = game.stack([task])
        path = folder / f"overlay_{task.case.id}_{plain_name(task.name)}_{task.slice}.png"
        plot_turns(
            image[0, 0].numpy(), truth[0, 0].numpy(), turns, f"{task.case.id}, {task.name}, slice {task.slice}", path
        )
