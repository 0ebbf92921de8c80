import json

import pytest


@pytest.mark.slow
def test_a_quick_run_drags_a_click_through_the_real_server(run_benchmark, tmp_path):
    results = run_benchmark("preview.py", "--quick", "--previews", 3, "--cache", tmp_path / "cache")
    (row,) = json.loads((results / "preview.json").read_text())["rows"]
    assert row["shape"] == [64, 64, 16]
    assert min(row["network_s"], *row["preview"].values(), *row["info"].values()) > 0
    assert "| 64 x 64 x 16 |" in (results / "preview.md").read_text()
