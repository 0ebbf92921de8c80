"""What the benchmarks' smoke tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def run_benchmark(repository, starter, tmp_path):
    """run_benchmark(script, *options): the folder with its results, once it has ended well."""

    def run(script, *options):
        environment = {**os.environ, "PYTHONPATH": str(repository / "apps/clickseg")}
        results, log = tmp_path / "results", tmp_path / "log"
        command = [repository / "benchmarks" / script, *options, "--output", results]
        process = starter.start(command, environment, Path.cwd(), log)
        assert process.wait() == 0, log.read_text()
        return results

    return run
