"""Where a benchmark's table and figures go: the same for each of them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from servers import ROOT


def machine(threads: int, date: str) -> dict[str, Any]:
    """What the numbers depend on."""
    info = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = [line.split(":", 1)[1].strip() for line in info if line.startswith("model name")]
    commit, changes = (
        subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
        for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--", "apps", "benchmarks/*.py"])
    )
    return {
        "date": date,
        "commit": commit + (" with changes" if changes else ""),
        "cpu": (cpu or [platform.processor()])[0],
        "cores": os.cpu_count(),
        "threads": threads,
        "load_before": round(os.getloadavg()[0], 2),
        **{name: importlib.metadata.version(name) for name in ("torch", "monai", "monailabel")},
    }


def publish(name: str, table: str, record: dict[str, Any], folder: Path | None) -> None:
    """Print the Markdown table. With a folder, write `folder`/<name>.md and .json as well, torch's version in it."""
    print(table)
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(table + "\n")
    record = {"torch": torch.__version__, "threads": torch.get_num_threads()} | record
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
