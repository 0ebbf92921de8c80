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
def table(repository, monkeypatch):
    monkeypatch.syspath_prepend(repository / "benchmarks")
    return importlib.import_module("click_table")


@pytest.fixture
def publishing(repository, monkeypatch):
    monkeypatch.syspath_prepend(repository / "benchmarks")
    return importlib.import_module("publish")


@pytest.fixture
def servers(repository, monkeypatch):
    monkeypatch.syspath_prepend(repository / "benchmarks")
    return importlib.import_module("servers")


@pytest.mark.slow
def test_a_quick_run_times_a_click_through_the_real_servers(run_benchmark, tmp_path):
    """About a minute, of which two servers take most to start (minutes on a busy machine)."""
    results = run_benchmark("click_latency.py", "--quick", "--date", "1999-12-31", "--cache", tmp_path / "cache")
    report = json.loads((results / "click_latency.json").read_text())
    ready, row = report["rows"]
    assert (ready["app"], row["app"], row["model"]) == ("ready", "clickseg", "unet2d")
    assert len(row["cold_s"]) == 1
    assert min(row["cold_s"]) > 0
    assert {"read", "preprocess", "encode", "decode", "map_back", "write", "total"} <= set(row["cold_stages_s"])
    for kind in ("raw", "gzip", "nii.gz"):
        assert min(row["replies"][kind]["warm_s"] + ready["replies"][kind]["warm_s"]) > 0
        stages = row["replies"][kind]["stages_s"]
        assert stages["decode"] > 0
        assert sum(stages.values()) == pytest.approx(2 * stages["total"], abs=1e-3)
    assert ready["replies"]["raw"]["bytes"] == row["replies"]["raw"]["bytes"] > 64 * 64 * 16
    assert row["replies"]["gzip"]["bytes"] < 64 * 64 * 16 / 20
    assert report["network_s"][0] > 0
    assert report["machine"]["date"] == "1999-12-31"
    assert "A warm click with the reply gzip: " in (results / "click_latency.md").read_text()


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


def test_every_click_is_a_voxel_of_its_own(benchmark, phantom_study):
    places = benchmark.positions(phantom_study / "labelsTr/phantom_000.nii.gz", 60)
    assert len({tuple(place) for place in places}) == 60
    slices = [place[2] for place in places]
    assert len(set(slices)) < 60  # there are not so many: the first ones are all in different ones
    assert len(set(slices[: len(set(slices))])) == len(set(slices))


def test_the_account_of_a_stock_task_is_read_by_transform(benchmark):
    account = {"pre": 1.5, "infer": 0.3, "invert": 0.1, "post": 0.2, "write": 0.4, "total": 2.5}
    found = benchmark.stages({**account, "transform": {"pre": {"LoadImaged": 1.1, "Spacingd": 0.4}, "post": {}}})
    expected = {"read": 1.1, "preprocess": 0.4, "decode": 0.3, "map_back": 0.3, "write": 0.4, "total": 2.5}
    assert found == pytest.approx(expected)


def test_the_table_names_what_failed_and_sets_a_click_against_its_floor(benchmark, table, publishing):
    def row(model, *seconds, **more):
        reply = {"warm_s": seconds, "bytes": 10, "stages_s": {"decode": 0.1, "total": 0.15}}
        return {"app": "app", "model": model, "shape": [1, 2, 3], "cold_s": [1.0], "failed": "", **more} | {
            "replies": {"raw": reply}
        }

    rows = [row("ready", 0.05), row("unet2d", 0.1, 0.2, 0.3), row("deepedit", 8.0)]
    rows.append(row("deepgrow_2d", failed="HTTP 500: no\nmore"))
    report = {"machine": publishing.machine(1, "today"), "note": "", "shapes": [[1, 2, 3]], "rows": rows}
    text = table.markdown({**report, "network_s": [0.1]})
    assert "**0.200**" in text
    assert "200 ms; a mask that lies ready: 50 ms; beyond both: 50 ms. deepedit: 40.0 times as long." in text
    assert "failed: HTTP 500: no |" in text
