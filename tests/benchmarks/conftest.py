"""What the benchmarks' smoke tests share."""

import os
import subprocess
import sys

import pytest


@pytest.fixture
def run_benchmark(repository, tmp_path):
    """run_benchmark(script, *options): the folder with its results, once it has ended well."""

    def run(script, *options):
        command = [sys.executable, str(repository / "benchmarks" / script), *map(str, options)]
        environment = {**os.environ, "PYTHONPATH": str(repository / "apps/clickseg")}
        results = tmp_path / "results"
        done = subprocess.run(
            [*command, "--output", str(results)], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return results

    return run
