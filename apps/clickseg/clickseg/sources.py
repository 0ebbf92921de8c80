"""The images of a folder by their ids: files, folders of one DICOM series each, and the series of a DICOM tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from .datasets import SUFFIXES, case_id
from .dicom_tree import Tree, find_files, read_tree
from .dicom_volume import LeftOut, Volume
from .files import digest, plain_name, unique_names

CHANNEL = "_0000"  # of nnU-Net, behind the id of each image
DATA_FOLDER = ("imagesTs", "imagesTr")

Image = Path | Volume
Progress = Callable[[list[Path]], Iterable[Path]]


@dataclass(frozen=True)
class Images:
    """Images by their ids, and what lies beside them and is none."""

    by_id: dict[str, Image]
    left_out: list[LeftOut]


def find_images(folder: Path | str, progress: Progress = iter) -> Images:
    """The images of a folder: files, folders of one DICOM series each, and all series of DICOM files below.

    An id is the name, without its ending and, where all have it, without the number of nnU-Net's one channel. Of a
    series that lies deeper it is the names of the folders, and its number where one folder has several.
    progress: what the DICOM files pass through as they are looked at.
    Raises ValueError if there are none, and if two of the files and folders have one id.
    """
    folder = Path(folder)
    found = _named(folder)
    trees, closed = _trees(folder, progress)
    nested = any(not _is_plain(part, tree) for part, tree in trees.items() if tree.volumes)
    left_out = closed + [each for tree in trees.values() for each in tree.left_out]
    images: dict[str, Image] = {}
    series: list[Volume] = []
    for name, path in found.items():
        tree = trees.get(path, Tree([], [], []))
        if not path.is_dir() or _is_plain(path, tree) or (not tree.volumes and _may_be_read(path, tree, nested)):
            images[name] = path  # a folder of nothing is none, which is said when it is read
            left_out = [each for each in left_out if each not in tree.left_out]
        elif not (tree.volumes or tree.left_out):
            link = " but what is looked at elsewhere" if path.is_symlink() else ""
            left_out.append(LeftOut(path, None, (), f"no DICOM file{link}"))
        series += tree.volumes if name not in images else []
    series += trees[folder].volumes if folder in trees else []
    for part in DATA_FOLDER:
        if part in images and not series and all(isinstance(path, Path) and path.is_dir() for path in images.values()):
            raise ValueError(f"{folder} is a data folder: name the images in it, {folder / part}")
    names = unique_names([_wishes(folder, each) for each in series], images)
    images |= dict(zip(names, series, strict=True))
    if not images:
        raise ValueError(_none(folder, left_out))
    channels = all(name.endswith(CHANNEL) and name != CHANNEL for name in images)
    return Images({name.removesuffix(CHANNEL) if channels else name: each for name, each in images.items()}, left_out)


def _named(folder: Path) -> dict[str, Path]:
    """Image files and folders in a folder by their names. ValueError if two have one."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = path.name if path.is_dir() else case_id(path)
        if path.name.startswith(".") or not name:
            continue
        if name in found:
            raise ValueError(f"{folder} has {found[name].name} and {path.name}, both of image {name}: remove one")
        found[name] = path
    return found


def _trees(folder: Path, progress: Progress) -> tuple[dict[Path, Tree], list[LeftOut]]:
    """What the DICOM files in a folder itself are, and those below each folder in it; and what may not be read."""
    found = find_files(folder)
    files = [file for file in found.files if not case_id(file)]

    def part(file: Path) -> Path:
        below = file.relative_to(folder).parts
        return folder / below[0] if len(below) > 1 else folder

    trees = {each: read_tree(of) for each, of in groupby(progress(files), part)}
    return trees, read_tree((), found.closed).left_out


def _is_plain(part: Path, tree: Tree) -> bool:
    """Whether a folder is that of one series, and has nothing else."""
    return [each.folder for each in tree.volumes] == [part] and not tree.left_out


def _may_be_read(part: Path, tree: Tree, nested: bool) -> bool:
    """Whether a folder without a volume may be an image all the same: a lone slice, or one that does not say where.

    A folder of damaged slices alone is one that cannot be read; one with nothing may be so, where others are images.
    """
    if not tree.left_out:
        return not nested
    here = [each for each in tree.left_out if each.folder == part]
    return len(here) == len(tree.left_out) == 1 and (here[0].alone or here[0].unreadable)


def _wishes(folder: Path, volume: Volume) -> list[str]:
    """What a series may be called, the shorter the better."""
    about = volume.about
    name = "_".join(volume.folder.relative_to(folder).parts)
    number = "_".join(filter(None, (name or "series", plain_name(about.number))))
    part = "_".join(filter(None, (number, plain_name(volume.part))))
    unique = digest(f"{about.patient.id} {about.study} {about.uid} {volume.part} {volume.folder.relative_to(folder)}")
    return [*filter(None, (name, number, part)), f"{part}_{unique}"]


def _none(folder: Path, left_out: list[LeftOut]) -> str:
    endings = ", ".join(SUFFIXES)
    reasons = "".join(f"\n  {each.title(folder)}: {each.reason}" for each in left_out[:10])
    more = f"\n  and {len(left_out) - 10} more" if len(left_out) > 10 else ""
    return (
        f"{folder} holds no images: neither files that end in {endings}, nor folders of DICOM series"
        f"{reasons and '. What it holds instead:'}{reasons}{more}"
    )
