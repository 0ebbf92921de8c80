"""The table of click_latency.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

STAGES = ("read", "preprocess", "encode", "decode", "map_back", "write")
HEAD = ["model", "reply", "cold, s", "warm: median, s", "p95, s", "clicks", "reply, MB", "transport", *STAGES, "rest"]
NOTES = """\
Cold: the first click on an image. Stages in ms, of a warm click: transport is what the click took beyond the server's
own account of others like it; encode is done before the first warm click; map_back ends with the mask on the image's
grid; rest, of clickseg, is measuring volume and area. The p95 of few clicks is near their maximum. Peers (reply: array)
run without a server: nothing is sent or written, which is in their favour.

DeepEdit and DeepGrow are MONAI Label's sample app `radiology` as installed, with random weights (the published ones
would have to be downloaded; time does not depend on them); `tis_random` and the peers have random weights, too. The
automatic segmentation of `tis_random`, which works at 2.5 mm, is empty, so that its refiner looks at balls round the
clicks; benchmarks/volume_click.py measures more. benchmarks/radiology/main.py, which serves the sample app, hides the
text `image_path` from MONAI 1.6.1's `Spacingd`, without which DeepGrow fails, and stands in for torchvision where that
cannot be imported.
"""


def median(row: Mapping[str, Any], kind: str) -> float:
    """Seconds of a warm click."""
    return float(np.median(row["replies"][kind]["warm_s"]))


def cells(row: Mapping[str, Any], kind: str, first: bool) -> list[str]:
    """A line of the table: one kind of reply."""
    reply, seconds = row["replies"][kind], median(row, kind)
    stages = reply["stages_s"]
    total = stages.get("total", seconds)
    cold = f"{np.median(row['cold_s']):.2f}, p95 {np.percentile(row['cold_s'], 95):.2f}" if first else ""
    named = [stages.get(name, 0.0) for name in STAGES]
    return [
        f"{row['model']} ({row['app']})",
        kind,
        cold,
        f"**{seconds:.3f}**",
        f"{np.percentile(reply['warm_s'], 95):.3f}",
        str(len(reply["warm_s"])),
        f"{reply['bytes'] / 1e6:.2f}",
        *(f"{1000 * value:.0f}" for value in (seconds - total, *named, total - sum(named))),
    ]


def table_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows on one CT."""
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    for row in rows:
        if row["failed"]:
            why = [f"{row['model']} ({row['app']})", f"failed: {row['failed'].splitlines()[0]}"]
            lines.append(f"| {' | '.join(why + [''] * (len(HEAD) - 2))} |")
            continue
        for number, kind in enumerate(row["replies"]):
            lines.append(f"| {' | '.join(cells(row, kind, number == 0))} |")
    return lines


def findings(rows: Sequence[Mapping[str, Any]], network: float) -> list[str]:
    """What a click of `unet2d` costs beyond its floor, and how many times as long others take."""
    found = {row["model"]: row for row in rows if not row["failed"]}
    if not {"unet2d", "ready"} <= set(found):
        return []
    lines = ["", f"The network of `unet2d` alone, one slice: {1000 * network:.0f} ms."]
    for kind in found["unet2d"]["replies"]:
        own, floor = median(found["unet2d"], kind), median(found["ready"], kind)
        lines.append(
            f"A warm click with the reply {kind}: {1000 * own:.0f} ms; a mask that lies ready: {1000 * floor:.0f} ms; "
            f"beyond both: {1000 * (own - floor - network):.0f} ms."
        )
        others = {
            model: median(row, kind if kind in row["replies"] else "array") / own
            for model, row in found.items()
            if model not in ("unet2d", "ready")
        }
        lines[-1] += "".join(f" {model}: {ratio:.1f} times as long." for model, ratio in others.items())
    return lines


def markdown(report: Mapping[str, Any]) -> str:
    """The report for people."""
    m = report["machine"]
    lines = [
        "# Click latency",
        "",
        f"Clicks over HTTP on CTs (phantoms, .nii.gz). {m['cpu']}: {m['cores']} cores, {m['threads']} threads, load "
        f"before {m['load_before']}. torch {m['torch']}, monai {m['monai']}, monailabel {m['monailabel']}. "
        f"{m['date']}, commit {m['commit']}. {report['note']}".rstrip(),
    ]
    for shape, network in zip(report["shapes"], report["network_s"], strict=True):
        rows = [row for row in report["rows"] if tuple(row["shape"]) == tuple(shape)]
        lines += ["", f"## {' x '.join(map(str, shape))}", "", *table_of(rows), *findings(rows, network)]
    return "\n".join([*lines, "", NOTES])
