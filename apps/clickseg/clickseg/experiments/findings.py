"""The findings i to iv of Sakinis 2019, IV-A, asked of our own grid of training K x test clicks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Mean slice-wise Dice by K, then by test clicks.
DiceGrid = Mapping[int, Mapping[int, float]]


@dataclass(frozen=True)
class Finding:
    """One claim of the paper. holds: None if the grid has not what the question needs."""

    claim: str
    holds: bool | None
    figures: str


def findings(grid: DiceGrid) -> list[Finding]:
    """The four answers, from means over folds."""
    return [_many_help(grid), _one_is_not_interactive(grid), _many_cost_the_first(grid), _more_clicks_are_better(grid)]


def _cell(grid: DiceGrid, k: int, clicks: int) -> str:
    return f"{grid[k][clicks]:.3f} (K = {k}, {clicks} click{'s' if clicks > 1 else ''})"


def _many_help(grid: DiceGrid) -> Finding:
    claim = (
        "i) multiple interactions when creating training data improve results, especially when multiple interactions "
        "are supplied during testing"
    )
    more = [k for k in grid if k > 1]
    if 1 not in grid or not more:
        return Finding(claim, None, "needs K = 1 and a larger K")
    few, many = min(grid[1]), max(grid[1])
    k = max(more, key=lambda k: grid[k][many])
    gains = {clicks: grid[k][clicks] - grid[1][clicks] for clicks in (few, many)}
    return Finding(
        claim,
        gains[many] > 0 and gains[many] > gains[few],
        f"{_cell(grid, k, many)} against {_cell(grid, 1, many)}; the gain at {few} is {gains[few]:+.3f}",
    )


def _one_is_not_interactive(grid: DiceGrid) -> Finding:
    claim = "ii) training with only one interaction does not result in a network that supports multiple clicks"
    more = [k for k in grid if k > 1]
    if 1 not in grid or not more:
        return Finding(claim, None, "needs K = 1 and a larger K")
    few, many = min(grid[1]), max(grid[1])
    rise = grid[1][many] - grid[1][few]
    others = min(grid[k][many] - grid[k][few] for k in more)
    return Finding(
        claim,
        rise < others / 2,
        f"from {few} to {many} clicks K = 1 gains {rise:+.3f}, every larger K at least {others:+.3f} "
        "(yes if K = 1 gains less than half of that)",
    )


def _many_cost_the_first(grid: DiceGrid) -> Finding:
    claim = "iii) as the number of training interactions increases, the performance for few test clicks drops"
    more = sorted(k for k in grid if k > 1)
    if len(more) < 2:
        return Finding(claim, None, "needs two values of K above 1")
    few = min(grid[more[0]])
    low, high = grid[more[0]][few], grid[more[-1]][few]
    return Finding(claim, high < low, f"{_cell(grid, more[0], few)} against {_cell(grid, more[-1], few)}")


def _more_clicks_are_better(grid: DiceGrid) -> Finding:
    claim = "iv) as the number of test clicks increases, results get steadily better, whatever K > 1 was trained with"
    more = sorted(k for k in grid if k > 1)
    if not more:
        return Finding(claim, None, "needs a K above 1")
    steps = {k: [b - a for a, b in zip(_row(grid, k), _row(grid, k)[1:], strict=False)] for k in more}
    worst = min(more, key=lambda k: min(steps[k]))
    return Finding(
        claim,
        min(steps[worst]) >= 0,
        f"the smallest step between neighbouring numbers of clicks is {min(steps[worst]):+.4f} (K = {worst})",
    )


def _row(grid: DiceGrid, k: int) -> list[float]:
    return [grid[k][clicks] for clicks in sorted(grid[k])]
