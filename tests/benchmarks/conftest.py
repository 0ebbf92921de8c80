"""What the benchmarks' smoke tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def run_benchmark(repository, starter, tmp_path):
    """run_benchmark(script, *options): the folder with its results, once it has ended well."""

    def run(script, *options):
        environment = {**os.environ, "PYTHONPATH": str(repository / "apps/clickseg")}
        results = tmp_path / "results"
        command = [repository / "benchmarks" / script, *options, "--output", results]
        starter.run(command, environment, Path.cwd(), tmp_path / "log")
        return results

    return run
