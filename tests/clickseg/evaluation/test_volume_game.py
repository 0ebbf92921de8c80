import dataclasses
import itertools

import pytest
import torch
from torch.nn import functional

from clickseg.clicks import DeterministicUser, LiuUser
from clickseg.datasets import CaseFolder
from clickseg.evaluation import Protocol, find_tasks
from clickseg.evaluation.tasks import USERS
from clickseg.evaluation.volume_game import OneClass, VolumeGame
from clickseg.geometry import UprightVolume
from clickseg.images import class_numbers, read_volume
from clickseg.methods import Segmenter
from clickseg.phantom import LABELS, write_phantoms

PROTOCOL = Protocol(clicks=(0, 1, 2, 3), user="liu")
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
def opened(tmp_path):
    """A game on a phantom, and its tasks."""
    write_phantoms(tmp_path, cases=1, shape=(24, 24, 16))
    folder = CaseFolder.read(tmp_path)
    values, grid = read_volume(folder.cases[0].label)
    upright = UprightVolume(grid)
    truth = torch.from_numpy(class_numbers(upright.view(values), list(LABELS.values()))).long()
    game = VolumeGame(AllButOne(truth), upright.spacing, folder.cases[0], list(LABELS.values()))
    return game, find_tasks(folder.cases, LABELS, PROTOCOL, dimension=3)


@pytest.fixture
def states(opened):
    """Truth and turns of that game."""
    game, tasks = opened
    return game.truth, list(game.turns(tasks, PROTOCOL, "cpu"))


def test_every_click_from_the_first_one_on_is_set_where_the_answer_before_it_is_wrong(states):
    truth, turns = states
    assert [len(turn.clicks) for turn in turns] == [0, 1, 2, 3]
    for before, after in itertools.pairwise(turns):
        click = after.clicks[-1]
        assert truth[click.position] == click.label == MISSED
        assert before.mask[click.position] == 0
        assert after.mask[click.position] == MISSED


def test_users_learn_how_large_a_voxel_is_along_each_axis(opened, monkeypatch):
    game, tasks = opened
    seen = []
    monkeypatch.setitem(USERS, "liu", lambda spacing: seen.append(spacing) or LiuUser())
    next(game.turns(tasks, PROTOCOL, "cpu"))
    assert seen == [game.upright.spacing]
    assert len(set(seen[0])) > 1


@pytest.mark.parametrize("name", ["deterministic", "jittered"])
def test_the_innermost_point_is_that_of_the_patient_and_not_of_the_voxels(name):
    """Of thick slices: the slab is 15 mm thick in three of them, the rod 7 mm wide in nine voxels."""
    truth = torch.zeros(1, 60, 60, 12, dtype=torch.bool)
    truth[0, 5:30, 5:55, 1:4] = True
    truth[0, 40:49, 40:49] = True

    def clicked(user):
        nothing, generator = torch.empty(1, 0, 4, dtype=torch.int64), torch.Generator().manual_seed(0)
        return user(None, truth, nothing, [generator])[0].tolist()

    assert clicked(USERS[name]((0.8, 0.8, 5.0)))[0] < 30, "in the slab"
    assert clicked(USERS[name]((1.0, 1.0, 1.0)))[0] >= 40, "in the rod"
    assert clicked(USERS["deterministic"]((2.5, 2.5, 2.5))) == clicked(DeterministicUser())


def test_played_separately_each_structure_gets_its_clicks_and_only_its_own_errors_are_clicked(opened):
    game, tasks = opened
    apart = dataclasses.replace(PROTOCOL, separately=True)
    results = list(game.play(tasks, apart, "cpu"))
    assert len(results) == len(tasks) * len(PROTOCOL.clicks)
    for result in results:
        voxels = int((game.truth == game.number(result.task)).sum())
        found = result.clicks if game.number(result.task) == MISSED else voxels
        assert (result.overlap, result.total) == (found, found + voxels)


@pytest.mark.parametrize("user", ["sakinis", "static", "wrong"])
def test_users_of_one_structure_play_separately_and_not_against_all_at_once(opened, user):
    game, tasks = opened
    protocol = dataclasses.replace(PROTOCOL, user=user)
    with pytest.raises(ValueError, match=f"user {user} clicks for one structure at a time"):
        protocol.check_dimension(3)
    protocol.check_dimension(2)
    apart = dataclasses.replace(protocol, separately=True)
    apart.check_dimension(3)
    (missed,) = [task for task in tasks if game.number(task) == MISSED]
    last = list(game.turns([missed], apart, "cpu", MISSED))[-1]
    for click in last.clicks:
        assert click.label == (game.truth[click.position] == MISSED) or user == "wrong"


def test_a_click_beside_the_only_structure_that_counts_is_one_of_what_is_truly_there(opened):
    game, _ = opened
    truth = torch.from_numpy(game.truth).long()
    told = []

    def answer(clicks):
        told.extend(clicks[0, :, -1].tolist())
        return torch.where(truth == MISSED, 0, truth)

    liver = list(LABELS).index("liver") + 1
    place = torch.nonzero(truth == liver)[0].tolist()
    clicks = torch.tensor([[[*place, 0], [0, 0, 0, -1]]])
    assert OneClass(answer, MISSED, truth).decode(torch.zeros(1), clicks).argmax(1)[0].unique().tolist() == [0]
    assert told == [liver, -1]
