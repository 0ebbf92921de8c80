import itertools

import pytest
import torch
from torch import nn

from clickseg.clicks import PADDING, SakinisUser, SimulateClickd, unstack_clicks
from clickseg.interaction import interact
from clickseg.methods import Segmenter

SIDE = 10
NEVER = 99


class Learner(Segmenter):
    """Finds nothing until it has as many clicks as the image's code says, then the truth. Notes whom it was asked."""

    dimension = 2

    def __init__(self, label):
        super().__init__()
        self.label = label
        self.scale = nn.Parameter(torch.ones(()))
        self.asked = []

    def decode(self, code, clicks, previous=None):
        image, needed = code[:, 0, 0, 0].long(), code[:, 1, 0, 0]
        self.asked.append(image.tolist())
        found = (clicks[..., -1] != PADDING).sum(1) >= needed
        inside = self.label[image, 0] * found[:, None, None] * 8.0 - 4.0
        return torch.stack([-inside, inside], dim=1) * self.scale


def code_of(needed):
    """(B, 2, SIDE, SIDE): the number of the image and the clicks that it needs."""
    numbers = torch.tensor([list(range(len(needed))), needed], dtype=torch.float32).T
    return numbers[:, :, None, None].expand(-1, -1, SIDE, SIDE)


def labels(number):
    """(B, 1, SIDE, SIDE): a square at another place in each image."""
    label = torch.zeros(number, 1, SIDE, SIDE)
    for index in range(number):
        label[index, 0, index : index + 4, 2:7] = 1
    return label


class Game:
    """Images that need so many clicks each, all set up to be played."""

    def __init__(self, *needed, label=None):
        self.label = labels(len(needed)) if label is None else label
        self.code = code_of(needed)
        self.segmenter = Learner(self.label)
        self.user = SimulateClickd(SakinisUser())
        self.seeds = torch.arange(len(needed)) + 20

    def turns(self, number, schedule=None, only=slice(None)):
        return interact(
            self.segmenter, self.code[only], self.label[only], self.user, self.seeds[only], number, schedule
        )

    def play(self, number, schedule=None, only=slice(None)):
        """Clicks (B, number, 3), and every turn's logits."""
        turns = [(turn, turn.logits) for turn in self.turns(number, schedule, only)]
        return turns[-1][0].clicks, [logits for _, logits in turns]

    @property
    def asked(self):
        return self.segmenter.asked


def rows(schedule):
    return torch.tensor([[character == "x" for character in row] for row in schedule])


def test_every_turn_adds_a_click_to_those_before():
    turns = list(Game(NEVER, NEVER).turns(4))
    assert [turn.clicks.shape for turn in turns] == [(2, number, 3) for number in (1, 2, 3, 4)]
    for before, after in itertools.pairwise(turns):
        assert torch.equal(after.clicks[:, :-1], before.clicks)
    assert (turns[-1].clicks[..., -1] == 1).all()


def test_the_first_click_is_made_before_anything_is_predicted():
    game = Game(NEVER)
    turn = next(game.turns(3))
    assert game.asked == []
    ((click,),) = unstack_clicks(turn.clicks)
    assert game.label[(0, 0, *click.position)] == 1


def test_a_click_answers_the_prediction_of_the_turn_before():
    game = Game(2)
    seen = []

    def user(logits, label, clicks, generators):
        seen.append(None if logits is None else logits.clone())
        return SakinisUser()(logits, label, clicks, generators)

    game.user = SimulateClickd(user)
    _, answers = game.play(3)
    assert seen[0] is None
    assert torch.equal(seen[1], answers[0])
    assert torch.equal(seen[2], answers[1])


def test_satisfied_images_are_not_predicted_again():
    game = Game(1, 3, 2)
    clicks, answers = game.play(5)
    assert game.asked == [[0, 1, 2], [1, 2], [1]]
    assert [len(item) for item in unstack_clicks(clicks)] == [1, 3, 2]
    for turn in (3, 4):
        assert torch.equal(answers[turn], answers[2])


def test_an_image_keeps_its_answer_while_others_are_predicted():
    game = Game(1, 4)
    _, answers = game.play(4)
    for answer in answers:
        assert torch.equal(answer[0], answers[0][0])
    assert not torch.equal(answers[3][1], answers[2][1])


def test_a_structure_that_is_not_there_is_neither_clicked_nor_predicted():
    label = labels(2)
    label[0] = 0
    game = Game(NEVER, NEVER, label=label)
    clicks, answers = game.play(3)
    assert game.asked == [[1], [1], [1]]
    assert unstack_clicks(clicks)[0] == []
    assert all((answer[0].argmax(0) == 0).all() for answer in answers)


def test_a_game_without_anything_to_find_asks_nobody():
    game = Game(NEVER, NEVER, label=torch.zeros(2, 1, SIDE, SIDE))
    clicks, answers = game.play(3)
    assert game.asked == []
    assert clicks.shape == (2, 3, 3)
    assert (clicks[..., -1] == PADDING).all()
    assert answers[-1].shape == (2, 2, SIDE, SIDE)
    assert (answers[-1].argmax(1) == 0).all()


def test_the_last_turn_is_predicted_only_when_its_answer_is_read():
    game = Game(NEVER)
    *_, last = game.turns(3)
    assert game.asked == [[0], [0]]
    answer = last.logits
    assert game.asked == [[0], [0], [0]]
    assert last.logits is answer
    assert len(game.asked) == 3


def test_a_game_of_one_turn_predicts_nothing_by_itself():
    game = Game(NEVER)
    list(game.turns(1))
    assert game.asked == []


def test_an_answer_that_the_loop_has_read_is_not_computed_again_for_the_caller():
    game = Game(NEVER)
    game.play(3)
    assert game.asked == [[0]] * 3


def test_who_sits_out_by_the_schedule_gets_no_click():
    clicks, _ = Game(NEVER, NEVER, NEVER).play(4, rows(["xxx", "x.x", ".xx", "x.x"]))
    assert (clicks[..., -1] != PADDING).tolist() == [
        [True, True, False, True],
        [True, False, True, False],
        [True, True, True, True],
    ]


def test_who_sits_out_is_not_predicted_again():
    game = Game(NEVER, NEVER)
    list(game.turns(4, rows(["xx", "x.", "xx", "xx"])))
    assert game.asked == [[0, 1], [0], [0, 1]]


def test_who_will_click_no_more_is_not_predicted_any_more():
    game = Game(NEVER, NEVER, NEVER)
    list(game.turns(4, rows(["xxx", "x.x", "x.x", "x.."])))
    assert game.asked == [[0, 2], [0, 2], [0]]


def test_nobody_is_predicted_when_nobody_will_click_again():
    game = Game(NEVER, NEVER)
    turns = list(game.turns(3, rows(["xx", "..", ".."])))
    assert game.asked == []
    assert [len(item) for item in unstack_clicks(turns[-1].clicks)] == [1, 1]


def test_after_sitting_out_the_user_sees_the_last_answer_to_that_image():
    game = Game(1, NEVER)
    clicks, answers = game.play(3, rows(["xx", ".x", "xx"]))
    assert [len(item) for item in unstack_clicks(clicks)] == [1, 3]  # the first was satisfied with turn one's answer
    assert torch.equal(answers[2][0], answers[0][0])


def test_a_schedule_of_everybody_always_changes_nothing():
    free, scheduled = Game(2, 1, NEVER), Game(2, 1, NEVER)
    clicks, answers = free.play(4)
    same_clicks, same_answers = scheduled.play(4, torch.ones(4, 3, dtype=torch.bool))
    assert torch.equal(same_clicks, clicks)
    assert all(torch.equal(a, b) for a, b in zip(same_answers, answers, strict=True))
    assert scheduled.asked == free.asked


def test_sitting_out_does_not_shift_the_later_clicks():
    """The click of turn k is a function of (seed, k) and of what is wrong, not of how many clicks there were."""
    free, _ = Game(NEVER).play(4)
    scheduled, _ = Game(NEVER).play(4, rows(["x", ".", "x", "x"]))
    assert torch.equal(scheduled[:, [0, 2, 3]], free[:, [0, 2, 3]])


@pytest.mark.parametrize("chosen", [[0], [2], [2, 0]])
def test_an_image_plays_the_same_game_alone_and_in_company(chosen):
    together, answers = Game(3, 1, NEVER).play(5)
    clicks, same_answers = Game(3, 1, NEVER).play(5, only=chosen)
    assert torch.equal(clicks, together[chosen])
    for answer, wanted in zip(same_answers, answers, strict=True):
        assert torch.equal(answer, wanted[chosen])


def test_playing_needs_no_gradients_and_leaves_the_callers_mode_alone():
    game = Game(2, NEVER)
    for turn in game.turns(3):
        assert torch.is_grad_enabled()
        assert not turn.logits.requires_grad
        assert torch.is_grad_enabled()
    assert game.segmenter.scale.grad is None
