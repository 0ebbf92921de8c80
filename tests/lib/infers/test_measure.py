import numpy as np
import pytest

from clickseg.geometry import Grid
from lib.infers.measure import measure


def test_areas_and_volumes_are_in_mm2_and_ml():
    mask = np.zeros((10, 10, 4), np.uint8, order="F")
    mask[2:5, 3:7, 1] = 1  # 12 voxels
    mask[0, 0, 3] = 2
    grid = Grid((10, 10, 4), np.diag([2.0, 0.5, 5.0, 1.0]))
    found = measure(mask, grid, {"liver": 1, "spleen": 2}, [(2, 3, 1), (9, 9, 0), (4, 4, 1)])
    assert found == {
        "area_mm2": {"liver": {"0": 0.0, "1": 12.0}, "spleen": {"0": 0.0, "1": 0.0}},
        "volume_ml": {"liver": pytest.approx(0.06), "spleen": pytest.approx(0.005)},
    }


def test_a_slice_is_counted_along_the_patients_long_axis_wherever_that_lies_in_the_file():
    sagittal = np.array([[0, 0, -3.0, 0], [2.0, 0, 0, 0], [0, 1.5, 0, 0], [0, 0, 0, 1]])  # axes A, S, L
    mask = np.zeros((6, 7, 8), np.uint8)
    mask[1, 5, 2:6] = 1
    found = measure(mask, Grid(mask.shape, sagittal), {"aorta": 1}, [(1, 5, 2)])
    assert found["area_mm2"] == {"aorta": {"5": 4 * 2.0 * 3.0}}
    assert found["volume_ml"] == {"aorta": pytest.approx(4 * 9.0 / 1000)}
