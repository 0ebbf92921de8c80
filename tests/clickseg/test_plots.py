"""Pictures of slices that are hardly pictures."""

import numpy as np
import pytest

from clickseg.clicks import Click
from clickseg.evaluation.volume_game import VolumeTurn
from clickseg.plots import plot_curves, plot_turns, plot_volume_turns


@pytest.mark.parametrize("ends", [(0.6, 0.8), (None, None)], ids=["an interval", "too few patients"])
def test_curves_have_their_mean_with_an_interval_or_without(tmp_path, monkeypatch, ends):
    drawn = []
    monkeypatch.setattr("clickseg.plots.plt.close", drawn.append)
    figures = {"dice": 0.7, "mad_mm": 1.5}
    report = {"method": "unet2d", "user": "sakinis", "clicks": [1, 5], "cases": {"one": {}}}
    report |= {"mean": {"1": figures, "5": figures}, "labels": {"liver": {"1": figures, "5": figures}}}
    report["interval"] = {clicks: {"dice": ends, "mad_mm": ends} for clicks in ("1", "5")}
    plot_curves(report, tmp_path / "curves.png")
    for axes in drawn[0].axes:
        assert "mean over labels" in [line.get_label() for line in axes.lines]
        assert len(axes.collections) == (None not in ends)


@pytest.mark.parametrize("shape", [(40, 1), (1, 40), (1, 1)])
def test_a_slice_of_one_row_or_column_of_pixels_is_drawn_without_outlines(tmp_path, shape):
    """As a study of a single coronal or sagittal slice has them."""
    truth = np.ones(shape, bool)
    plot_turns(np.zeros(shape), truth, [(truth, [Click((0, 0), 1)])], "thin", tmp_path / "slice.png")
    volume = np.ones((*shape, 1), np.uint8)
    turns = [VolumeTurn(0, 0 * volume, []), VolumeTurn(1, volume, [Click((0, 0, 0), 1)])]
    plot_volume_turns(np.zeros(volume.shape), volume, turns, "thin", tmp_path / "volume.png")
    assert (tmp_path / "slice.png").exists()
    assert (tmp_path / "volume.png").exists()
