"""What an evaluation has found so far, on disk: it can be stopped, and goes on with the cases that are left."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ..files import held_alone, write_text
from .report import REPORT, write_report
from .tasks import Result, Task

RESULTS = "results.jsonl"

Play = Callable[[Sequence[Sequence[Task]]], Iterable[Sequence[Result]]]


class Journal:
    """`results.jsonl` of an evaluation that is under way: a line with what was asked, then one for each finished case.

    asked: all that the results depend on, in plain values. report: that of the same evaluation, finished before, which
    has what was asked in it, too. Raises ValueError for a folder that holds an evaluation, unless it is to be resumed
    and was asked the same.
    """

    def __init__(self, folder: Path, asked: Mapping[str, Any], resume: bool) -> None:
        self.folder, self.path = folder, folder / RESULTS
        self.asked: dict[str, Any] = json.loads(json.dumps(asked))  # as it is read again: tuples are lists
        self.report: dict[str, Any] | None = None
        self._found: dict[str, list[dict[str, Any]]] = {}
        finished = (folder / REPORT).exists()
        if not (finished or self.path.exists()):
            return
        if not resume:
            raise ValueError(f"{folder} holds an evaluation: resume it (--resume), or name another output folder")
        if finished:
            self.report = json.loads((folder / REPORT).read_text())
            self._check(self.report.get("asked", {}))
            self.path.unlink(missing_ok=True)  # of one that was killed at the very end
        else:
            # A process that was killed may have left a part of a line.
            whole = self.path.read_text().rpartition("\n")[0].splitlines()
            first, *cases = map(json.loads, whole)
            self._check(first)
            self._found = {line["case"]: line["results"] for line in cases}

    def _check(self, theirs: Mapping[str, Any]) -> None:
        other = [name for name, value in self.asked.items() if name not in theirs or theirs[name] != value]
        if other:
            raise ValueError(f"{self.folder} holds another evaluation: it had not the same {', '.join(other)}")

    def held(self) -> AbstractContextManager[None]:
        """While this lasts nobody else writes there. Raises ValueError if somebody does."""
        otherwise = f"{self.folder}: another evaluation writes there: wait for its end, or name another output folder"
        return held_alone(self.folder, otherwise)

    def results(self, groups: Sequence[Sequence[Task]], play: Play) -> list[Result]:
        """Those of all tasks, in their order. groups: the tasks of each case.

        play: gives the results of each of the cases that are left, which are written as soon as they are there.
        """
        # Begins anew with what is whole, and says before the games if this place cannot be written.
        lines = [self.asked, *({"case": case, "results": found} for case, found in self._found.items())]
        write_text(self.path, "".join(map(_line, lines)))
        left = [group for group in groups if group[0].case.id not in self._found]
        for group, results in zip(left, play(left), strict=True):
            case = group[0].case.id
            self._found[case] = [result.to_dict() for result in results]
            with self.path.open("a") as file:
                file.write(_line({"case": case, "results": self._found[case]}))
        cases = [group[0].case for group in groups]
        return [Result.from_dict(case, values) for case in cases for values in self._found[case.id]]

    def end(self, report: Mapping[str, Any]) -> None:
        """The report takes the place of what it was made of."""
        write_report(report, self.folder)
        self.path.unlink()


def _line(content: Mapping[str, Any]) -> str:
    return f"{json.dumps(content)}\n"
