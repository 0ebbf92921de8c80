"""A segmenter seen from another grid."""

import numpy as np
import pytest
import torch

from clickseg.methods import METHODS
from clickseg.methods.rescaled import FineLabels, Rescaled
from clickseg.methods.tis import TisRecipe

RECIPE = TisRecipe(
    labels={"liver": 1, "spleen": 2}, patch=(8, 8, 8), width=2, tokens=4, heads=2, layers=1, reach=2, margin=1
)


@pytest.mark.parametrize("source", [(24, 30, 20), (12, 9, 10), (5, 20, 4)])
@pytest.mark.parametrize("clicks", [[], [(3, 4, 2, 1)], [(3, 4, 2, 1), (4, 8, 3, 0), (0, 0, 0, 2)]])
def test_labels_after_clicks_are_those_of_the_logits(source, clicks):
    torch.manual_seed(0)
    segmenter = Rescaled(METHODS["tis"].build(RECIPE).eval(), source, (12, 10, 10))
    blocks = torch.randn(1, RECIPE.width + 3, 4, 4, 4)
    code = torch.nn.functional.interpolate(blocks, size=(12, 10, 10), mode="trilinear")
    rows = torch.tensor(clicks).reshape(1, -1, 4)
    with torch.inference_mode():
        labels = FineLabels(segmenter, code, rows[:, :0])
        expected = segmenter.decode(code, rows).argmax(1)[0]
        found = labels.after(rows)
        assert len(expected.unique()) == 3
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(labels.after(rows[:, :0]), segmenter.decode(code, rows[:, :0]).argmax(1)[0])
