import itertools

import pytest
import torch
from torch.nn import functional

from clickseg.datasets import CaseFolder
from clickseg.evaluation import Protocol, find_tasks
from clickseg.evaluation.volume_game import VolumeGame
from clickseg.geometry import UprightVolume
from clickseg.images import class_numbers, read_volume
from clickseg.methods import Segmenter
from clickseg.phantom import LABELS, write_phantoms

MISSED = list(LABELS).index("spleen") + 1


class AllButOne(Segmenter):
    """Knows the truth (X, Y, Z) but for one structure, of which it learns the clicked voxels."""

    dimension = 3
    answers_first = True

    def __init__(self, truth):
        super().__init__()
        self.known = torch.where(truth == MISSED, 0, truth)

    def encode(self, image):
        return image

    def decode(self, code, clicks, previous=None):
        found = self.known.clone()
        for *position, label in clicks[0][clicks[0, :, -1] >= 0].tolist():
            found[tuple(position)] = label
        return functional.one_hot(found, 1 + len(LABELS)).movedim(-1, 0)[None].float()


@pytest.fixture
def states(tmp_path):
    """Truth and turns of a game on a phantom."""
    write_phantoms(tmp_path, cases=1, shape=(24, 24, 16))
    folder = CaseFolder.read(tmp_path)
    values, grid = read_volume(folder.cases[0].label)
    upright = UprightVolume(grid)
    truth = torch.from_numpy(class_numbers(upright.view(values), list(LABELS.values()))).long()
    protocol = Protocol(clicks=(0, 1, 2, 3), user="liu")
    game = VolumeGame(AllButOne(truth), upright.spacing, folder.cases[0], list(LABELS.values()))
    return game.truth, list(game.turns(find_tasks(folder.cases, LABELS, protocol, dimension=3), protocol, "cpu"))


def test_every_click_from_the_first_one_on_is_set_where_the_answer_before_it_is_wrong(states):
    truth, turns = states
    assert [len(turn.clicks) for turn in turns] == [0, 1, 2, 3]
    for before, after in itertools.pairwise(turns):
        click = after.clicks[-1]
        assert truth[click.position] == click.label == MISSED
        assert before.mask[click.position] == 0
        assert after.mask[click.position] == MISSED
