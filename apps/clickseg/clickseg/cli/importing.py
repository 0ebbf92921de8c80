"""`clickseg import`, and what commands say of a tree of DICOM files."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import at_least

if TYPE_CHECKING:  # help and mistakes are answered without what reads images
    from ..dicom_tree import Tree
    from ..dicom_volume import LeftOut

NAMES = ("patient", "study")
MOST = 30  # lines on what was left out


def add_import(commands: Any) -> None:
    """Options of `clickseg import`."""
    importing = commands.add_parser("import", help="trees of DICOM files to a folder of studies that can be served")
    importing.set_defaults(run=_import, goes_on="the same command goes on")
    importing.add_argument(
        "folders",
        metavar="DIR",
        nargs="+",
        help="folder with DICOM files, in it or in folders below, whatever their names",
    )
    importing.add_argument(
        "--output",
        required=True,
        metavar="STUDIES",
        help="folder of studies to write to: an image (.nii.gz) for each series, and studies.csv; what it has is kept",
    )
    importing.add_argument(
        "--names",
        choices=NAMES,
        default="patient",
        help="what images are called after: patient (PatientID_StudyDate_SeriesNumber, never the name or day of "
        "birth), or study (nothing of the patient, and no date) (default: %(default)s)",
    )
    importing.add_argument(
        "--least",
        type=at_least(1),
        metavar="SLICES",
        default=4,
        help="leave out series of fewer slices (default: %(default)s)",
    )


def _import(arguments: argparse.Namespace) -> int:
    """Exit status 1 if a series could not be read."""
    from tqdm import tqdm

    from ..dicom_import import Studies
    from ..files import check_apart

    roots = [Path(folder) for folder in arguments.folders]
    for root in roots:
        if not root.is_dir():
            raise ValueError(f"{root} is a file, and a folder is needed" if root.exists() else f"no folder at {root}")
        check_apart(arguments.output, root)
    if any(root.is_absolute() for root in roots):
        roots = [root.absolute() for root in roots]  # a series may lie in several, and the folder above is named
    tree = _look(roots, arguments.least)
    studies = Studies(arguments.output, tree, roots, arguments.names)
    studies.save()
    left, failed = studies.left(), {}
    for volume in tqdm(left, desc="writing", unit="series", disable=not left):
        try:
            studies.write(volume)
        except ValueError as error:
            failed[volume] = error
    written = len(tree.volumes) - len(failed)
    print(f"{studies.folder}: {written} series as NIfTI images, {len(tree.volumes) - len(left)} of them written before")
    print(f"{studies.table}: what each of them is{', and what was left out' if tree.left_out else ''}")
    if written:
        print(f"clickseg serve --studies {shlex.quote(str(studies.folder))}")
    tell_left_out("import", roots[0], tree.left_out)
    if failed:
        reasons = "\n".join(f"  {volume.folder} ({volume.title}): {error}" for volume, error in failed.items())
        print(f"clickseg import: {len(failed)} of {len(tree.volumes)} series have no image\n{reasons}", file=sys.stderr)
    return 1 if failed or any(each.unreadable for each in tree.left_out) else 0


def _look(roots: Sequence[Path], least: int) -> Tree:
    """What lies in folders. ValueError if that is no DICOM file."""
    from ..datasets import SUFFIXES
    from ..dicom_tree import find_files, read_tree

    found = [find_files(root) for root in roots]
    files = list(dict.fromkeys(file for each in found for file in each.files))
    tree = read_tree(looking(files), [folder for each in found for folder in each.closed], least)
    images = [path for path in tree.others if path.name.endswith(SUFFIXES)]
    copied = f"; {len(images)} images, such as {images[0]}, are no DICOM: copy them to the studies" if images else ""
    if not (tree.volumes or tree.left_out):
        raise ValueError(f"no DICOM file in {', '.join(map(str, roots))}{copied}")
    if copied:
        print(f"clickseg import: left out{copied.replace(';', ':', 1)}", file=sys.stderr)
    return tree


def looking(files: list[Path]) -> Iterable[Path]:
    """Files with a bar that says how many have been looked at."""
    from tqdm import tqdm

    bar: Iterable[Path] = tqdm(files, desc="looking", unit="file", disable=not files)
    return bar


def tell_left_out(command: str, root: Path, left_out: Sequence[LeftOut]) -> None:
    """What lies in a tree and makes no image, and why."""
    if left_out:
        lines = [f"  {each.title(root)}: {each.reason}" for each in left_out[:MOST]]
        lines += [f"  and {len(left_out) - MOST} more"] if len(left_out) > MOST else []
        print("\n".join([f"clickseg {command}: left out", *lines]), file=sys.stderr)
