"""Label maps as DICOM segmentations (SEG), and back."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom_seg
from monailabel.datastore.utils.colors import GENERIC_ANATOMY_COLORS
from numpy.typing import NDArray

from clickseg import dicom_seg
from clickseg.dicom_seg import VALUE, Segment
from clickseg.geometry import Grid, ras_affine, resample_labels
from clickseg.images import read_volume
from clickseg.labelled import value_names
from clickseg.machine import present_values


def write_segmentation(series: Path | str, label: Path | str, names: Sequence[Mapping[str, Any]] = ()) -> str:
    """The path of a new SEG file with a segment for every value of a label map; the caller owns it.

    series: folder of the DICOM files that the label map (on their grid) belongs to, and of nothing else. names: as
    clients say them, [{"name": ..., "idx": value, "color": [r, g, b]}, ...]. Raises ValueError for values that are none
    of 0 to 255, and as `clickseg.dicom_seg.write_segmentation`.
    """
    values, grid = read_volume(label)
    said = {str(item["name"]): item for item in names if item.get("name")}
    segments, description = {}, ""
    for value, name in value_names(present_values(values), names, {}).items():
        item = said.get(name, {})
        colour = item.get("color") or GENERIC_ANATOMY_COLORS.get(name)
        segments[value] = Segment(name, colour, attributes=item.get("segmentAttribute"))
        description = description or str(item.get("model_name") or "clickseg")
    files = [file for file in Path(series).iterdir() if file.is_file()]
    handle, path = tempfile.mkstemp(suffix=".dcm")
    os.close(handle)
    try:
        dicom_seg.write_segmentation(path, files, values.astype(np.uint8), grid, segments, description)
    except BaseException:
        Path(path).unlink()
        raise
    return path


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
    own = Grid(label.shape, ras_affine(found.origin, found.spacing, found.direction))
    return resample_labels(label, own, grid), names
