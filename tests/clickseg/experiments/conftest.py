import json
from pathlib import Path

import numpy as np
import pytest

from clickseg.datasets import Case
from clickseg.evaluation import Protocol, Result, Task, make_report
from clickseg.experiments.commands import CLICKS
from clickseg.phantom import write_phantoms


@pytest.fixture(scope="package")
def four_patients(tmp_path_factory):
    folder = tmp_path_factory.mktemp("four")
    write_phantoms(folder, cases=4, shape=(24, 24, 16))
    return folder


@pytest.fixture
def option():
    return lambda job, name: job.command[job.command.index(name) + 1]


@pytest.fixture
def a_report():
    """Writes a report.json as an evaluation does, with Dices about `level` that rise with each click."""

    def write(folder, name, method, cases, level, rise=0.01, asked=CLICKS):
        generator = np.random.default_rng(len(name))
        results = []
        for case in cases:
            for label in ("liver", "spleen"):
                for clicks in asked:
                    dice = min(1.0, level + rise * clicks + 0.001 * generator.random())
                    task = Task(Case(case, Path(case), Path(case)), 3, label, 1)
                    done = {"obeyed": 1.0, "contained": 0.5} if clicks > 1 else {}
                    results.append(Result(task, clicks, dice, dice / 2, 5.0, 1.0, int(1000 * dice), 2000, **done))
        report = make_report(results, Protocol(clicks=asked), {"method": method})
        (folder / name).mkdir(parents=True)
        (folder / name / "report.json").write_text(json.dumps(report))

    return write
