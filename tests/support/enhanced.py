"""A volume as one enhanced DICOM file, as newer scanners and archives write it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID, EnhancedMRImageStorage, generate_uid

from clickseg.phantom.dicom import Vector, decimals, image_file, written

Groups = Mapping[str, Mapping[str, Any]]  # by the keyword of the macro what it says, by keywords

STACK = ("StackID", "InStackPositionNumber")


@dataclass(frozen=True)
class Frame:
    """pixels: (columns, rows), 16 bits. groups: what its own functional group says."""

    pixels: NDArray[np.integer]
    groups: Groups


def frames_of(
    volume: NDArray[np.integer],
    spacing: Vector,
    origin: Vector = (0.0, 0.0, 0.0),
    directions: NDArray[np.floating] | None = None,
    said: Groups | None = None,
    content: Mapping[str, Any] | None = None,
) -> list[Frame]:
    """The slices of a volume, which is placed as by `dicom_series`, as frames that say all of their place.

    said: what each says beside that. content: what each says in its FrameContentSequence beside its stack, 1.
    """
    axes = np.eye(3) if directions is None else directions
    found = []
    for number in range(volume.shape[2]):
        position = np.asarray(origin) + axes[:, 2] * spacing[2] * number
        groups: dict[str, Mapping[str, Any]] = {
            "PlanePositionSequence": {"ImagePositionPatient": decimals(position)},
            "PlaneOrientationSequence": {"ImageOrientationPatient": decimals([*axes[:, 0], *axes[:, 1]])},
            "PixelMeasuresSequence": {
                "PixelSpacing": decimals([spacing[1], spacing[0]]),
                "SliceThickness": decimals([spacing[2]])[0],
            },
            "FrameContentSequence": {"StackID": "1", "InStackPositionNumber": number + 1, **(content or {})},
        }
        found.append(Frame(volume[:, :, number], groups | dict(said or {})))
    return found


def enhanced_file(
    frames: Sequence[Frame],
    kind: UID = EnhancedMRImageStorage,
    uids: tuple[str, str] | None = None,
    number: int = 0,
    dimensions: Iterable[str] = STACK,
    **fields: Any,
) -> bytes:
    """Frames, in this order, as a file. What all say alike stands in the shared functional group.

    uids: of study and series. number: of the file in its series, from 0. dimensions: keywords of what
    DimensionIndexValues point to, each of which the frames say somewhere. fields: what the head says besides.
    """
    columns, rows = frames[0].pixels.shape
    data = image_file(kind, (columns, rows), uids or (generate_uid(), generate_uid()), number)
    dimensions = list(dimensions)
    groups = [{**frame.groups} for frame in frames]
    for group, indices in zip(groups, _indices(groups, dimensions), strict=True):
        group["FrameContentSequence"] = {**group.get("FrameContentSequence", {}), "DimensionIndexValues": indices}
    shared = {macro: said for macro, said in groups[0].items() if all(each.get(macro) == said for each in groups)}
    data.SharedFunctionalGroupsSequence = [_group(shared)]
    data.PerFrameFunctionalGroupsSequence = [
        _group({macro: said for macro, said in group.items() if macro not in shared}) for group in groups
    ]
    data.DimensionIndexSequence = [_item({"DimensionIndexPointer": tag_for_keyword(name)}) for name in dimensions]
    data.NumberOfFrames = len(frames)
    data.PixelData = b"".join(np.ascontiguousarray(frame.pixels.T).astype(np.int16).tobytes() for frame in frames)
    for name, value in fields.items():
        setattr(data, name, value)
    return written(data)


def _indices(groups: Sequence[Groups], dimensions: Sequence[str]) -> list[list[int]]:
    """Of each frame, which of the values of each dimension it has, from 1."""
    said = [[next(macro[name] for macro in group.values() if name in macro) for name in dimensions] for group in groups]
    values = [sorted(set(map(_hashable, column))) for column in zip(*said, strict=True)]
    return [[1 + all_.index(_hashable(own)) for own, all_ in zip(each, values, strict=True)] for each in said]


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _group(groups: Groups) -> Dataset:
    return _item({macro: [_item(said)] for macro, said in groups.items()})


def _item(said: Mapping[str, Any]) -> Dataset:
    item = Dataset()
    for name, value in said.items():
        setattr(item, name, value)
    return item
