"""Label maps as DICOM segmentations (SEG), which refer to the series of their image. dcmqi writes them."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from .dicom import is_enhanced
from .files import numbered_links, whole_file
from .geometry import Grid
from .images import write_mask
from .machine import present_values

logger = logging.getLogger(__name__)

SCT: Any = codes.SCT  # SNOMED CT
ANATOMY = Code("123037004", "SCT", "Anatomical Structure")
ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
ABNORMAL_NAMES = {"Cyst", "Edema", "Hematoma", "Lesion", "Metastasis", "Necrosis", "Neoplasm", "Nodule", "Tumor"}
SPELLED = {"Adrenal": "AdrenalGland", "Oedema": "Edema", "Oesophagus": "Esophagus", "Tumour": "Tumor"}
SIDES = {"Left": Code("7771000", "SCT", "Left"), "Right": Code("24028007", "SCT", "Right")}

PROGRAM = "itkimage2segimage"  # of dcmqi (qiicr.org/dcmqi)

# A SEG numbers its segments 1, 2, ... whatever their values were: the value is in the segment's description.
VALUE = re.compile(r"value (\d+) of the label map")

LONGEST = 64  # characters of a DICOM label (LO), which holds no backslash either

# By value.
COLOURS = ((220, 60, 60), (60, 160, 75), (70, 110, 220), (230, 170, 40), (150, 70, 180), (60, 180, 190))


@dataclass(frozen=True)
class Segment:
    """What a value of a label map stands for.

    colour: (R, G, B), if not that of the value. automatic: whether it was found without clicks.
    attributes: what the SEG says instead of what we would, in dcmqi's form.
    """

    name: str
    colour: Any = None
    automatic: bool = False
    attributes: Mapping[str, Any] | None = None


def write_segmentation(
    path: Path | str,
    series: Iterable[Path | str],
    labels: NDArray[np.uint8],
    grid: Grid,
    segments: Mapping[int, Segment],
    description: str = "clickseg",
) -> None:
    """Write a SEG with a segment for every value of a label map that is present, whole or not at all.

    series: the DICOM files that the label map lies on. grid: theirs. segments: by value; of those that are present each
    is needed. description: of the new series.
    Raises ValueError if the label map is empty, for a colour that is none, without dcmqi, and for what that makes no
    SEG of, such as enhanced files.
    """
    series = list(series)
    present = present_values(labels)
    if not present:
        raise ValueError("the label map is empty, and a DICOM segmentation needs a voxel at least")
    if is_enhanced(series[0]):
        name = Path(series[0]).name
        raise ValueError(f"no DICOM segmentation is made of {name}: dcmqi takes slices in files of their own alone")
    attributes = [dict(segments[value].attributes or _attributes(value, segments[value])) for value in present]
    names = [
        str(each.get("SegmentLabel") or "").strip() or f"label {value}"
        for value, each in zip(present, attributes, strict=True)
    ]
    for value, each in zip(present, attributes, strict=True):
        each["SegmentLabel"] = f"label {value}"  # dcmqi writes no letters but those of ASCII
    with tempfile.TemporaryDirectory(prefix="clickseg-seg-") as folder:
        content = _content(attributes, description)
        try:
            written = _run_dcmqi(Path(folder), series, labels, grid, content)
        except ValueError as error:
            raise ValueError(f"no DICOM segmentation could be made of {', '.join(names)}: {error}") from error
        renamed = _renamed(pydicom.dcmread(written), names)
        with whole_file(path) as file:
            renamed.save_as(file)


def _content(attributes: list[dict[str, Any]], description: str) -> dict[str, Any]:
    """What dcmqi is told of a SEG, beside its voxels."""
    return {
        "ContentCreatorName": "clickseg",
        "SeriesDescription": description,
        "SeriesNumber": "300",
        "InstanceNumber": "1",
        "BodyPartExamined": "",
        "segmentAttributes": [attributes],
    }


def _run_dcmqi(
    folder: Path, series: Iterable[Path | str], labels: NDArray[np.uint8], grid: Grid, content: Mapping[str, Any]
) -> Path:
    """The SEG file that dcmqi leaves in a folder. ValueError says why there is none.

    It takes all files of a folder for slices, and those below it: it is given one with links to these alone. A list of
    theirs would be parted at commas, and may be longer than a command can be.
    """
    numbered_links(series, folder / "series", ".dcm")
    write_mask(folder / "label.nii.gz", labels, grid)
    (folder / "content.json").write_text(json.dumps(content))
    command = [_program(), "--inputImageList", "label.nii.gz", "--inputDICOMDirectory", "series"]
    command += ["--inputMetadata", "content.json", "--outputDICOM", "seg.dcm"]
    # What the series says of its patient is taken over as it is: programs that hide names leave dates that are none.
    command += ["--noDicomValueChecks"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    logger.info("%s%s", done.stdout, done.stderr)
    written = folder / "seg.dcm"
    if done.returncode or not written.is_file():
        raise ValueError("; ".join(done.stderr.splitlines()[:3]) or f"{PROGRAM} ended with status {done.returncode}")
    return written


def _program() -> str:
    """Where dcmqi's program lies. It is installed beside Python, which need not be on PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    found = shutil.which(PROGRAM, path=path)
    if not found:
        raise ValueError(f"DICOM segmentations are written by dcmqi, and there is no {PROGRAM} here: pip install dcmqi")
    return found


def _renamed(content: pydicom.Dataset, names: list[str]) -> pydicom.Dataset:
    """A SEG, its segments called by these names, one after the other."""
    if not all(name.isascii() for name in names):
        content.decode()  # as long as the file's character set is known
        content.SpecificCharacterSet = "ISO_IR 192"  # UTF-8
    for segment, name in zip(content.SegmentSequence, names, strict=True):
        segment.SegmentLabel = name.replace("\\", "/")[:LONGEST]
    return content


def _attributes(value: int, segment: Segment) -> dict[str, Any]:
    """What a SEG says about a segment, in dcmqi's form."""
    category, concept, side = _concepts(segment.name)
    return {
        "labelID": value,
        "SegmentLabel": segment.name,
        "SegmentDescription": f"value {value} of the label map",
        "SegmentAlgorithmType": "AUTOMATIC" if segment.automatic else "SEMIAUTOMATIC",
        "SegmentAlgorithmName": "clickseg",
        "SegmentedPropertyCategoryCodeSequence": _code(category),
        "SegmentedPropertyTypeCodeSequence": _code(concept),
        **({"SegmentedPropertyTypeModifierCodeSequence": _code(side)} if side else {}),
        "recommendedDisplayRGBValue": _colour(value, segment),
    }


def _concepts(name: str) -> tuple[Code, Code, Code | None]:
    """SNOMED CT's category (DICOM's CID 7150), concept and side of that name; "tissue" where it has none."""
    words = [SPELLED.get(word, word) for word in name.title().split()]
    side = next((SIDES[word] for word in words if word in SIDES), None)
    try:
        concept = getattr(SCT, "".join(word for word in words if word not in SIDES))
    except (AttributeError, RuntimeError):  # none, or several
        return SCT.Tissue, SCT.Tissue, side
    if concept == SCT.Tissue:
        return concept, concept, side
    return ABNORMAL if ABNORMAL_NAMES & set(words) else ANATOMY, concept, side


def _code(concept: Code) -> dict[str, str]:
    return {
        "CodeValue": concept.value,
        "CodingSchemeDesignator": concept.scheme_designator,
        "CodeMeaning": concept.meaning,
    }


def _colour(value: int, segment: Segment) -> list[int]:
    colour = segment.colour or COLOURS[value % len(COLOURS)]
    try:
        rgb = [int(part) for part in list(colour)[:3]]
    except (TypeError, ValueError):
        rgb = []
    if len(rgb) != 3 or not all(0 <= part <= 255 for part in rgb):
        wish = str(segment.colour)[:40]
        raise ValueError(f"the colour of {segment.name!r} must be [r, g, b] of 0 ... 255, got {wish!r}")
    return rgb
