"""A synthetic abdominal CT with its labels: the demo study and the test fixture.

A schematic patient on the back, in the portal-venous phase: solids (ellipsoids, tubes) in warped coordinates, deformed
by smooth noise, painted one over the other with partial volume. Drawn in millimetres, so that one seed is one patient
at every resolution; only the CT noise is per voxel.
Frame: x to the patient's right, y anterior, z superior (RAS mm); the origin is the middle of the field of view.
"depth" is the distance to a solid's surface in mm, positive inside (approximate away from the surface).
The numbers in the drawing functions are the anatomy: mm and HU.
"""

from .canvas import FIELD_OF_VIEW, LABELS
from .make import Phantom, phantom
from .write import write_phantoms

__all__ = ["FIELD_OF_VIEW", "LABELS", "Phantom", "phantom", "write_phantoms"]
