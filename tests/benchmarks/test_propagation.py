import json


def test_each_organ_gets_one_click_and_a_dice(run_benchmark, phantom_study, tiny_weights, tmp_path):
    tiny_weights(tmp_path / "weights.pt", {"liver": 1, "spleen": 2})
    chosen = ["--data", phantom_study, "--cases", "phantom_000", "--labels", "liver"]
    results = run_benchmark("propagation.py", *chosen, "--weights", tmp_path / "weights.pt")
    report = json.loads((results / "propagation.json").read_text())
    (found,) = report["organs"]["liver"].values()
    assert 0 <= found["dice"] <= 1
    assert 0 <= found["missed"] < found["slices"]
    assert len(found["click"]) == 3
    assert "| liver |" in (results / "propagation.md").read_text()
