"""Numbers that a change must not move without saying so.

After a change that is meant to move them, write them anew and read the difference in the commit:

    CLICKSEG_REGENERATE=1 pytest tests/golden
"""

import json
import os
from pathlib import Path

import pytest
import torch
from ignite.engine import Events

from clickseg.clicks import PADDING, SakinisUser, SimulateClickd
from clickseg.datasets import CaseFolder
from clickseg.geometry import AxialSlices
from clickseg.images import read_volume
from clickseg.interaction import interact
from clickseg.methods import Segmenter, UNet2dRecipe
from clickseg.phantom import LABELS, write_phantoms
from clickseg.training import Plan, build_trainer

GOLDEN = Path(__file__).with_name("golden.json")
REGENERATE = bool(os.environ.get("CLICKSEG_REGENERATE"))
RECIPE = UNet2dRecipe(
    labels=LABELS, width=4, size=32, spacing=10.0, batch=4, steps_per_epoch=5, max_clicks=3, learning_rate=0.05
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_phantoms(folder, cases=2, seed=7, shape=(40, 40, 16))
    return folder


def golden(name, found):
    """What is written down under a name; with CLICKSEG_REGENERATE=1 it is first replaced by what was found."""
    numbers = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if REGENERATE:
        numbers[name] = found
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in numbers.items())
        GOLDEN.write_text(f"{{\n{lines}\n}}\n")  # an entry a line, for the difference to be read
    return numbers[name]


@pytest.mark.usefixtures("single_precision")
def test_the_loss_of_the_first_steps_is_the_one_written_down(study, tmp_path):
    steps = []
    plan = Plan(tmp_path, epochs=1, device="cpu", progress=False)
    trainer = build_trainer("unet2d", RECIPE, CaseFolder.read(study).cases, plan)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: steps.append(dict(engine.state.output)))
    trainer.run()
    loss, clicks = ([round(step[name], 6) for step in steps] for name in ("loss", "clicks"))
    written = golden("training", {"loss": loss, "clicks": clicks})
    assert loss == pytest.approx(written["loss"], abs=2e-3)
    assert clicks == written["clicks"]
    assert len(loss) == 5
    assert max(loss) - min(loss) > 0.02, "the loss does not move: nothing is shown"


class Discs(Segmenter):
    """Inside within 3 pixels of a click inside, unless one outside is as near: whole numbers, the same anywhere."""

    dimension = 2

    def encode(self, image):
        return image

    def decode(self, code, clicks, previous=None):
        rows, columns = torch.meshgrid(*map(torch.arange, code.shape[2:]), indexing="ij")
        nearest = torch.full((len(code), 2, *code.shape[2:]), 16)
        for item, own in enumerate(clicks.tolist()):
            for i, j, label in own:
                if label != PADDING:
                    square = (rows - i) ** 2 + (columns - j) ** 2
                    nearest[item, label] = torch.minimum(nearest[item, label], square)
        inside = (nearest[:, 1] <= 9) & (nearest[:, 1] < nearest[:, 0])
        return torch.stack([~inside, inside], dim=1).float()


@pytest.mark.parametrize("metric", ["chessboard", "taxicab", "chamfer"])
def test_the_clicks_of_a_seeded_game_are_the_ones_written_down(study, metric):
    label, grid = read_volume(study / "labelsTr" / "phantom_000.nii.gz")
    slices = AxialSlices(grid)
    truths = [slices.view(label, 8) == LABELS[name] for name in ("liver", "spine", "aorta")]
    truth = torch.stack([torch.from_numpy(mask.copy()) for mask in truths])[:, None]
    assert truth.flatten(1).any(1).all()
    user = SimulateClickd(SakinisUser(metric=metric, scale=1.25))
    *_, last = interact(Discs(), truth.float(), truth, user, seeds=torch.tensor([3, 4, 5]), turns=6)
    clicks = last.clicks.tolist()
    assert clicks == golden(f"game, {metric}", clicks)
    assert {row[-1] for own in clicks for row in own} >= {0, 1}
