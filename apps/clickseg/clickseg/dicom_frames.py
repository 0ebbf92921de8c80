"""The frames of an enhanced DICOM file, each with what a file of its own would say of it.

Such a file holds a volume, or several. Where its frames lie, and what tells them apart, stands in functional groups:
one that all frames share, and one of each (DICOM PS3.3, C.7.6.16).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pydicom
from pydicom import uid
from pydicom.datadict import tag_for_keyword

ENHANCED = {
    uid.EnhancedCTImageStorage,
    uid.EnhancedMRImageStorage,
    uid.EnhancedPETImageStorage,
    uid.LegacyConvertedEnhancedCTImageStorage,
    uid.LegacyConvertedEnhancedMRImageStorage,
    uid.LegacyConvertedEnhancedPETImageStorage,
}

# What tells the phases, echoes, ... of one series apart. The last is of frames alone.
PHASES = (
    "EchoTime", "TemporalPositionIdentifier", "DiffusionBValue", "InversionTime", "TriggerTime", "AcquisitionNumber",
    "SequenceName", "ImageType", "AcquisitionTime", "DimensionIndexValues",
)  # fmt: skip

SHARED, EACH = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
DIMENSIONS = "DimensionIndexSequence"
FUNCTIONAL = [SHARED, EACH, DIMENSIONS]

_same = {name: name for name in PHASES}
_type = {"FrameType": "ImageType"}
# Where it stands in a functional group, and what a file of one slice calls it.
MACROS: Mapping[str, Mapping[str, str]] = {
    "UnassignedSharedConvertedAttributesSequence": _same,
    "UnassignedPerFrameConvertedAttributesSequence": _same,
    "PlanePositionSequence": {"ImagePositionPatient": "ImagePositionPatient"},
    "PlaneOrientationSequence": {"ImageOrientationPatient": "ImageOrientationPatient"},
    "PixelMeasuresSequence": {name: name for name in ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices")},
    "PixelValueTransformationSequence": {name: name for name in ("RescaleSlope", "RescaleIntercept")},
    "CTImageFrameTypeSequence": _type,
    "MRImageFrameTypeSequence": _type,
    "PETFrameTypeSequence": _type,
    "MREchoSequence": {"EffectiveEchoTime": "EchoTime"},
    "MRDiffusionSequence": {"DiffusionBValue": "DiffusionBValue"},
    "MRModifierSequence": {"InversionTimes": "InversionTime"},
    "CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": "TriggerTime"},
    "FrameContentSequence": {
        "TemporalPositionIndex": "TemporalPositionIdentifier",
        "FrameAcquisitionNumber": "AcquisitionNumber",
        "FrameAcquisitionDateTime": "AcquisitionTime",
        "StackID": "StackID",
        "DimensionIndexValues": "DimensionIndexValues",
    },
}
WHERE = {tag_for_keyword(name) for name in ("ImagePositionPatient", "InStackPositionNumber", "PlanePositionSequence")}


@dataclass(frozen=True)
class Frame:
    """own, shared: what its functional group and that of all frames say. file: the head, which says all else."""

    own: Mapping[str, Any]
    shared: Mapping[str, Any]
    file: pydicom.Dataset

    def get(self, key: str, /) -> Any:
        """A value by DICOM's keyword, as a file of one slice would have it."""
        said = next((said for said in (self.own, self.shared) if key in said), self.file)
        return said.get(key)


def frames(data: pydicom.Dataset) -> list[Frame]:
    """The frames of a file in its order; [] if it is not enhanced, or has not as many groups as frames.

    Each has a SOPInstanceUID of its own, which copies of it share: the file's with its number, from 1.
    """
    groups = data.get(EACH) or []
    if data.get("SOPClassUID") not in ENHANCED or len(groups) != int(data.get("NumberOfFrames") or 1):
        return []
    shared = _said((data.get(SHARED) or [pydicom.Dataset()])[0])
    telling = [each.get("DimensionIndexPointer") not in WHERE for each in data.get(DIMENSIONS) or []]
    found = []
    for number, group in enumerate(groups, start=1):
        own = _said(group)
        own["SOPInstanceUID"] = f"{data.get('SOPInstanceUID')} {number}"
        own["DimensionIndexValues"] = _telling(own.get("DimensionIndexValues"), telling)
        found.append(Frame(own, shared, data))
    return found


def _said(group: pydicom.Dataset) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for macro, names in MACROS.items():
        for item in (group.get(macro) or [])[:1]:
            found |= {ours: item.get(theirs) for theirs, ours in names.items() if theirs in item}
    return found


def _telling(values: Any, telling: list[bool]) -> str:
    """The indices of a frame that do not say which of the slices it is."""
    if not telling or values is None:
        return ""
    indices = values if len(telling) > 1 else [values]
    return "\\".join(str(index) for index, tells in zip(indices, telling, strict=True) if tells)
