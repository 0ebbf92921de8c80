import json
import os
import subprocess
import sys


def test_a_quick_run_drags_a_click_through_the_real_server(repository, tmp_path):
    script = [sys.executable, str(repository / "benchmarks/preview.py"), "--quick", "--previews", "3"]
    folders = ["--output", str(tmp_path / "results"), "--cache", str(tmp_path / "cache")]
    environment = {**os.environ, "PYTHONPATH": str(repository / "apps/clickseg")}
    done = subprocess.run(script + folders, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads((tmp_path / "results/preview.json").read_text())["rows"]
    assert row["shape"] == [64, 64, 16]
    assert min(row["network_s"], *row["preview"].values(), *row["info"].values()) > 0
    assert "| 64 x 64 x 16 |" in (tmp_path / "results/preview.md").read_text()
