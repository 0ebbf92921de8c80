"""Where a benchmark's table and figures go: the same for each of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch


def publish(name: str, table: str, record: dict[str, Any], folder: Path | None) -> None:
    """Print the Markdown table. With a folder, write `folder`/<name>.md and .json as well, torch's version in it."""
    print(table)
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(table + "\n")
    record = {"torch": torch.__version__, "threads": torch.get_num_threads()} | record
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
