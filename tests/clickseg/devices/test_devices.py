"""What an accelerator answers, on a machine that has none."""

import json
import os
import subprocess
import sys
from pathlib import Path

from clickseg.phantom import write_phantoms

HERE = Path(__file__).parent


def answers(starter, device, data, folder):
    folder.mkdir()
    starter.run([HERE / "work.py", device, data, folder], os.environ, HERE, folder / "log")
    return json.loads((folder / "answers.json").read_text())


def test_trainings_games_and_masks_are_the_same_wherever_tensors_are_and_none_is_left_behind(starter, tmp_path):
    write_phantoms(tmp_path / "data", cases=1, seed=0, shape=(40, 40, 16))
    expected = answers(starter, "cpu", tmp_path / "data", tmp_path / "cpu")
    assert expected["a mask"] > 0
    assert answers(starter, "pretended", tmp_path / "data", tmp_path / "pretended") == expected


def test_what_is_left_on_the_cpu_is_found():
    script = """
import torch
from pretended import DEVICE, pretending
with pretending():
    there = torch.zeros(3, device=DEVICE) + 1 + torch.tensor(1)
    there + torch.ones(3)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=HERE, capture_output=True, text=True, check=False)
    assert "tensors on two devices" in done.stderr
