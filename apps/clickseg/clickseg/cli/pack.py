"""`clickseg pack-bundle`: a MONAI bundle as one file, with its weights and this library."""

from __future__ import annotations

import argparse
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).resolve().parents[1]
BUNDLES = LIBRARY.parent.parent.parent / "bundles"  # of a clone of the project
INFERENCE, EVALUATE = "configs/inference.json", "configs/evaluate.json"
WEIGHTS = "models/model.pt"  # where `shipped_weights` looks in a bundle
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first time that a zip can hold


def add_pack_bundle(commands: Any) -> None:
    """Options of `clickseg pack-bundle`."""
    pack = commands.add_parser("pack-bundle", help="a MONAI bundle as a zip, with its weights and this library")
    pack.set_defaults(run=_pack_bundle)
    pack.add_argument(
        "bundle", nargs="?", help="name of a bundle of the project, or its folder (default: the only one)"
    )
    pack.add_argument(
        "--weights", help="weights file, or name of a shipped model (default: the one that the bundle names)"
    )
    pack.add_argument("--output", required=True, metavar="FILE.zip", help="file to write, which must not be there yet")


def _pack_bundle(arguments: argparse.Namespace) -> None:
    from ..files import whole_file

    output = Path(arguments.output)
    if output.suffix != ".zip":
        raise ValueError(f"--output must end in .zip, got {output}")
    if output.exists():
        raise ValueError(f"{output} is there already: name another output, or remove it")
    bundle = _bundle(arguments.bundle)
    weights = _weights(bundle, arguments.weights)
    with whole_file(output) as file, zipfile.ZipFile(file, "w") as packed:
        for name, path in sorted(_contents(bundle, weights)):
            entry = zipfile.ZipInfo(f"{bundle.name}/{name}", LONG_AGO)  # as a zip of MONAI's model zoo: one folder
            entry.create_system, entry.external_attr = 3, 0o100644 << 16  # the same bytes on every machine
            packed.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    print(f"{output}: {bundle.name} with {weights.name}, {output.stat().st_size / 2**20:.1f} MB")


def _bundle(named: str | None) -> Path:
    """The folder of a bundle by its name or path. ValueError if there is none."""
    known = sorted(path.parent.parent for path in BUNDLES.glob(f"*/{INFERENCE}"))
    if named is None and len(known) == 1:
        return known[0]
    for folder in (BUNDLES / named, Path(named).resolve()) if named else ():
        if (folder / INFERENCE).is_file():
            return folder
    names = ", ".join(path.name for path in known) or f"none in {BUNDLES}"
    raise ValueError(f"{named or 'which bundle?'}: name one of the project ({names}), or a folder with {INFERENCE}")


def _weights(bundle: Path, named: str | None) -> Path:
    """The weights of a bundle. ValueError if there are none, or they are of another method than it evaluates."""
    from ..methods import load_model, shipped_weights, weights_file

    model = _read(bundle / INFERENCE, "weights", "model")
    file = weights_file(named, model) if named else shipped_weights(model, bundle)
    method, needed = load_model(file).recipe.method, _read(bundle / EVALUATE, "evaluation", "method")
    if method != needed:
        raise ValueError(f"{file} holds {method} weights, and {bundle.name} is for {needed}")
    return file


def _read(config: Path, part: str, field: str) -> str:
    """A text in a config. ValueError if it is not there."""
    try:
        return str(json.loads(config.read_text())[part][field])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{config} does not say {part}#{field}: it is no bundle of clickseg") from error


def _contents(bundle: Path, weights: Path) -> Iterator[tuple[str, Path]]:
    """Names in a packed bundle and the files that they are for."""
    yield WEIGHTS, weights
    yield "LICENSE", bundle / "LICENSE"
    for folder, root in ((bundle / "configs", bundle), (bundle / "docs", bundle), (LIBRARY, LIBRARY.parent)):
        for path in folder.rglob("*"):
            name = path.relative_to(root)
            if path.is_file() and not _is_cache(name):
                yield name.as_posix(), path


def _is_cache(name: Path) -> bool:
    """Whether a file is what Python, editors and systems leave beside those that somebody wrote."""
    return any(part == "__pycache__" or part.startswith(".") for part in name.parts) or name.suffix in (".pyc", ".pyo")
