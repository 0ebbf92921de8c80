"""The paper's figures, redrawn from our reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np


def grouped_bars(
    groups: Mapping[str, Mapping[int, Sequence[float]]], title: str, ylabel: str, path: Path, top: float | None = None
) -> None:
    """One group of bars per key, one colour per number of test clicks, whiskers from the lowest to the highest fold.

    groups: name -> clicks -> the figure of each fold (Figures 4 to 7).
    """
    clicks = sorted({number for values in groups.values() for number in values})
    figure, axes = plt.subplots(figsize=(2.2 + 1.7 * len(groups), 4), layout="constrained")
    colours = plt.get_cmap("viridis")(np.linspace(0.15, 0.9, len(clicks)))
    width = 0.8 / len(clicks)
    for index, (number, colour) in enumerate(zip(clicks, colours, strict=True)):
        places, heights, spreads = [], [], []
        for group, values in enumerate(groups.values()):
            folds = np.asarray(values.get(number, ()), float)
            if folds.size:
                places.append(group + (index - (len(clicks) - 1) / 2) * width)
                heights.append(folds.mean())
                spreads.append((folds.mean() - folds.min(), folds.max() - folds.mean()))
        if places:
            label = f"{number} click{'s' if number > 1 else ''}"
            axes.bar(places, heights, width, color=colour, label=label)
            axes.errorbar(places, heights, np.transpose(spreads), fmt="none", ecolor="black", elinewidth=0.8)
    axes.set(xticks=range(len(groups)), xticklabels=list(groups), ylabel=ylabel, title=title)
    axes.set_ylim(bottom=0, top=top)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def box_plots(groups: Mapping[str, Sequence[float]], title: str, ylabel: str, path: Path) -> None:
    """Median, quartiles and outliers of each group (Figure 8). groups: organ -> one value per patient."""
    figure, axes = plt.subplots(figsize=(max(4.5, 1.5 + 0.6 * len(groups)), 4.5), layout="constrained")
    axes.boxplot(
        list(groups.values()),
        tick_labels=list(groups),
        medianprops={"color": "red"},
        boxprops={"color": "blue"},
        flierprops={"marker": "+", "markeredgecolor": "red"},
    )
    axes.tick_params(axis="x", rotation=60)
    axes.set(title=title, ylabel=ylabel)
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def curves(lines: Mapping[str, Mapping[int, Sequence[float]]], title: str, path: Path, clicked: str = "volume") -> None:
    """One line per player over clicks, from the lowest to the highest value shaded (Liu 2022, Figure 2).

    lines: name -> clicks -> a mean Dice for each seed, or each patient. clicked: what the clicks are counted on.
    """
    figure, axes = plt.subplots(figsize=(8.5, 4.5), layout="constrained")
    for name, values in lines.items():
        clicks = sorted(values)
        middle = [float(np.mean(values[number])) for number in clicks]
        drawn = axes.plot(clicks, middle, marker="o", markersize=3, label=name)[0]
        lows, highs = ([float(end(values[number])) for number in clicks] for end in (min, max))
        axes.fill_between(clicks, lows, highs, color=drawn.get_color(), alpha=0.15, linewidth=0)
    axes.set(xlabel=f"clicks per {clicked}", ylabel="Dice, mean over structures", title=title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)
