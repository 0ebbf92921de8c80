import json

import pytest


@pytest.mark.slow
@pytest.mark.chromium
def test_a_quick_run_drags_a_click_over_the_real_page(run_benchmark, tmp_path):
    results = run_benchmark("drag.py", "--quick", "--moves", 4, "--drags", 2, "--cache", tmp_path / "cache")
    record = json.loads((results / "drag.json").read_text())
    assert record["moves"] == 8
    assert 1 <= record["previews"] <= 8
    assert record["at_once"] == 1
    assert len(record["single_s"]) == 4
    assert min(*record["single_s"], *record["last_after_s"]) > 0
    assert "| 8 |" in (results / "drag.md").read_text()
