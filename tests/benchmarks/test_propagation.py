import json
import os
import subprocess
import sys


def test_each_organ_gets_one_click_and_a_dice(repository, phantom_study, tiny_weights, tmp_path):
    tiny_weights(tmp_path / "weights.pt", {"liver": 1, "spleen": 2})
    script = [sys.executable, str(repository / "benchmarks/propagation.py"), "--data", str(phantom_study)]
    options = ["--labels", "liver", "--weights", str(tmp_path / "weights.pt"), "--output", str(tmp_path / "results")]
    options += ["--cases", "phantom_000"]
    environment = {**os.environ, "PYTHONPATH": str(repository / "apps/clickseg")}
    done = subprocess.run(script + options, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "results/propagation.json").read_text())
    (found,) = report["organs"]["liver"].values()
    assert 0 <= found["dice"] <= 1
    assert 0 <= found["missed"] < found["slices"]
    assert len(found["click"]) == 3
    assert "| liver |" in (tmp_path / "results/propagation.md").read_text()
