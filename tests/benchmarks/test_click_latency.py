import importlib
import json
import sys
from pathlib import Path

import pytest

DEEPGROW_2D = {"type": "deepgrow", "dimension": 2, "labels": ["spleen"]}
CLICKS = [[1, 2, 3], [4, 5, 6], [7, 8, 6]]


@pytest.fixture
def benchmark(repository, monkeypatch):
    monkeypatch.syspath_prepend(repository / "benchmarks")
    return importlib.import_module("click_latency")


@pytest.fixture
def servers(repository, monkeypatch):
    monkeypatch.syspath_prepend(repository / "benchmarks")
    return importlib.import_module("servers")


def test_a_quick_run_times_a_click_through_the_real_server(run_benchmark, tmp_path):
    """About 20 s, of which the server takes 15 to start (minutes on a busy machine)."""
    results = run_benchmark("click_latency.py", "--quick", "--date", "1999-12-31", "--cache", tmp_path / "cache")
    report = json.loads((results / "click_latency.json").read_text())
    (row,) = report["rows"]
    assert (row["app"], row["model"], len(row["warm_s"])) == ("clickseg", "unet2d", 1)
    assert row["reply_bytes"] > 64 * 64 * 16  # raw voxels and a header
    assert {"open", "predict", "measure", "write", "total"} <= set(row["stages_s"])
    assert row["cold_s"] > 0
    assert row["median_s"] > 0
    assert min(report["floor"].values()) > 0
    assert report["machine"]["date"] == "1999-12-31"
    assert "| unet2d (clickseg) |" in (results / "click_latency.md").read_text()


def test_a_server_that_ends_is_reported_with_the_end_of_its_log(servers, tmp_path):
    around = servers.Surroundings(tmp_path, threads=1)
    with (
        pytest.raises(RuntimeError, match=r"ended \(1\)(.|\n)*nowhere NOT Found"),
        servers.monai_label(str(tmp_path / "nowhere"), tmp_path, around),
    ):
        pytest.fail("it has started")


def test_a_server_that_does_not_answer_is_ended(servers, tmp_path):
    deaf = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"]
    url = f"http://127.0.0.1:{servers.free_port()}/"
    around = servers.Surroundings(tmp_path, threads=1, start_limit=3)
    with pytest.raises(RuntimeError, match="does not answer"), servers.running(deaf, url, around, {}):
        pytest.fail("it has started")
    assert not Path("/proc", around.log.read_text().strip() or "self").exists()


def test_clicks_are_sent_as_ohif_sends_them(benchmark):
    deepedit = {"type": "deepedit", "dimension": 3, "labels": {"background": 0, "spleen": 1, "liver": 2}}
    assert benchmark.params(deepedit, CLICKS) == {"background": [], "liver": CLICKS, **benchmark.OHIF}
    assert benchmark.params({**DEEPGROW_2D, "dimension": 3}, CLICKS)["foreground"] == CLICKS


def test_a_2d_model_gets_the_clicks_of_the_current_slice(benchmark):
    assert benchmark.params(DEEPGROW_2D, CLICKS) == {"foreground": CLICKS[1:], "background": [], **benchmark.OHIF}


def test_the_table_compares_with_deepedit_and_names_what_failed(benchmark):
    ours = benchmark.Row("clickseg", "unet2d", 3, cold=1.0, warm=[0.1, 0.2, 0.3], reply_bytes=10)
    deepedit = benchmark.Row("radiology", "deepedit", 1, cold=9.0, warm=[8.0], reply_bytes=10)
    broken = benchmark.Row("radiology", "deepgrow_2d", 1, failed="HTTP 500: no\nmore")
    rows = [row.summary(deepedit) for row in (ours, deepedit, broken)]
    assert rows[0]["times_faster_than_deepedit"] == pytest.approx(40)
    floor = {"network_s": 0.1, "transfer_s": 0.01, "reply_bytes": 10}
    text = benchmark.markdown(
        {"machine": benchmark.machine(1, "today"), "shape": [1, 2, 3], "rows": rows, "floor": floor}
    )
    assert "**0.200**" in text
    assert "40.0 times as long" in text
    assert "failed: HTTP 500: no |" in text
