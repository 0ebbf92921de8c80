import json

import pytest


@pytest.mark.slow
def test_annotators_on_a_crowded_server_get_the_answers_that_they_would_get_alone(run_benchmark, tmp_path):
    size = ["--annotators", 8, "--minutes", 1, "--studies", 8, "--tasks", 2, "--shape", 96, 96, 32, "--cache-mb", 60]
    results = run_benchmark("annotators.py", *size, "--pause", 1, "--cache", tmp_path / "cache")  # its status says more
    report = json.loads((results / "annotators.json").read_text())
    assert report["clicks"] > 8
    assert report["errors"] == report["wrong"] == []
    assert report["working_set_bytes"] > 1.5 * report["bound_bytes"]
    assert report["trained_all_the_while"]
    assert report["niceness"] >= 10
    assert report["most_bytes"] - report["idle_bytes"] < report["bound_bytes"]
    assert "| 0 | 0 |" in (results / "annotators.md").read_text()
