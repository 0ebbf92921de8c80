import json


def test_a_look_at_the_surroundings_is_timed_beside_one_at_the_whole_slice(run_benchmark):
    results = run_benchmark("looks.py", "--quick")
    (row,) = json.loads((results / "looks.json").read_text())["rows"]
    assert len(row["seconds"]) == 3
    assert all(kinds["first"] > 0 and kinds["later"] > 0 for kinds in row["seconds"].values())
    assert f"| {row['structure']} |" in (results / "looks.md").read_text()
