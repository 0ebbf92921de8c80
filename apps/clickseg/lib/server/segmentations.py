"""Label maps as DICOM segmentations (SEG), and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom_seg
from monailabel.datastore.utils.colors import GENERIC_ANATOMY_COLORS
from monailabel.datastore.utils.convert import nifti_to_dicom_seg
from numpy.typing import NDArray
from pydicom.sr.codedict import codes

from clickseg.geometry import LPS_TO_RAS, Grid, resample_labels
from clickseg.images import read_volume
from clickseg.machine import present_values
from lib.trainers.labels import value_names

# A SEG numbers its segments 1, 2, ... whatever their values were: the value is in the segment's description.
VALUE = re.compile(r"value (\d+) of the label map")

LONGEST = 64  # characters of a DICOM label (LO), which holds no backslash either

# By value, of structures whose names have no colour in MONAI Label's table.
COLOURS = ((220, 60, 60), (60, 160, 75), (70, 110, 220), (230, 170, 40), (150, 70, 180), (60, 180, 190))


def write_segmentation(series: Path | str, label: Path | str, names: Sequence[Mapping[str, Any]] = ()) -> str:
    """The path of a new SEG file with a segment for every value of a label map; the caller owns it.

    series: folder of the DICOM files that the label map (NIfTI, on their grid) belongs to. names: as clients say them,
    [{"name": ..., "idx": value, "color": [r, g, b]}, ...]. Raises ValueError if the label map is empty, or holds other
    values than 0 to 255, for a colour that is none, and for what dcmqi makes no SEG of.

    The stock function gives the names to the values that are present in the order in which they stand.
    """
    present = present_values(read_volume(label)[0])
    if not present:
        raise ValueError("the label map is empty, and a DICOM segmentation needs a voxel at least")
    said = {str(item["name"]): item for item in names if item.get("name")}
    segments, labels = [], {}
    for value, name in value_names(present, names, {}).items():
        item = said.get(name, {})
        attributes = dict(item.get("segmentAttribute") or _segment(value, name, item))
        labels[len(segments)] = str(attributes.get("SegmentLabel") or "").strip() or f"label {value}"
        attributes["SegmentLabel"] = f"label {value}"  # dcmqi writes no letters but those of ASCII
        segments.append({"model_name": "clickseg", **item, "segmentAttribute": attributes})
    path = nifti_to_dicom_seg(str(series), str(label), segments)
    if not Path(path).is_file():
        raise ValueError(f"no DICOM segmentation could be made of {', '.join(labels.values())}; the log says why")
    _rename(path, labels)
    return path


def _rename(path: str, labels: Mapping[int, str]) -> None:
    """Give the segments of a SEG file these names, by their place."""
    content = pydicom.dcmread(path)
    if not all(name.isascii() for name in labels.values()):
        content.decode()  # as long as the file's character set is known
        content.SpecificCharacterSet = "ISO_IR 192"  # UTF-8
    for place, name in labels.items():
        content.SegmentSequence[place].SegmentLabel = name.replace("\\", "/")[:LONGEST]
    content.save_as(path)


def read_segmentation(path: Path | str, grid: Grid) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
    """A SEG file as a label map on `grid`, and the names of its values as `write_segmentation` takes them.

    A SEG holds the slices with something in them only, and may lie on another grid than its image. Where segments
    overlap, the last one is kept. Raises ValueError for a file that is none, cannot be decoded, or has more than 255
    segments.
    """
    try:
        return _read(path, grid)
    except Exception as error:  # an odd file from elsewhere makes pydicom and pydicom_seg stumble over anything
        raise ValueError(f"{Path(path).name} is not a readable DICOM segmentation: {error}") from error


def _read(path: Path | str, grid: Grid) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
    found = pydicom_seg.SegmentReader().read(pydicom.dcmread(path))
    lps = np.eye(4)
    lps[:3, :3] = found.direction * found.spacing
    lps[:3, 3] = found.origin
    label = np.zeros(found.size, np.uint8)
    names = []
    for number in sorted(found.available_segments):
        segment = found.segment_infos[number]
        told = VALUE.fullmatch(str(segment.get("SegmentDescription", "")))
        value, name = int(told[1]) if told else number, str(segment.SegmentLabel)
        if value > 255:
            raise ValueError(f"it has {len(found.available_segments)} segments; 255 are read at most")
        label[found.segment_data(number).T >= 0.5] = value  # half of a fractional voxel, too
        if name != f"label {value}":  # as `value_names` calls what nobody has named
            names.append({"name": name, "idx": value})
    return resample_labels(label, Grid(label.shape, LPS_TO_RAS @ lps), grid), names


def _segment(value: int, name: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """What a SEG says about a segment, in dcmqi's form (qiicr.org/dcmqi)."""
    return {
        "labelID": value,
        "SegmentLabel": name,
        "SegmentDescription": f"value {value} of the label map",
        "SegmentAlgorithmType": "SEMIAUTOMATIC",
        "SegmentAlgorithmName": "clickseg",
        "SegmentedPropertyCategoryCodeSequence": _code(codes.SCT.Tissue),
        "SegmentedPropertyTypeCodeSequence": _code(_concept(name)),
        "recommendedDisplayRGBValue": _colour(value, name, said.get("color")),
    }


def _concept(name: str) -> Any:
    """SNOMED CT's concept of that name (of either side), or "tissue"."""
    words = [word for word in name.title().split() if word not in ("Left", "Right")]
    try:
        return getattr(codes.SCT, "".join(words))
    except (AttributeError, RuntimeError):  # none, or several
        return codes.SCT.Tissue


def _code(concept: Any) -> dict[str, str]:
    return {
        "CodeValue": concept.value,
        "CodingSchemeDesignator": concept.scheme_designator,
        "CodeMeaning": concept.meaning,
    }


def _colour(value: int, name: str, wish: Any) -> list[int]:
    colour = wish or GENERIC_ANATOMY_COLORS.get(name) or COLOURS[value % len(COLOURS)]
    try:
        rgb = [int(part) for part in list(colour)[:3]]
    except (TypeError, ValueError):
        rgb = []
    if len(rgb) != 3 or not all(0 <= part <= 255 for part in rgb):
        raise ValueError(f"the colour of {name!r} must be [r, g, b] of 0 ... 255, got {str(wish)[:40]!r}")
    return rgb
