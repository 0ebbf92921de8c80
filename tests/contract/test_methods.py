"""What every method promises, whoever wrote it: a new line in METHODS is tested here by itself."""

import dataclasses
import json

import pytest
import torch

from clickseg.clicks import PADDING, stack_clicks, unstack_clicks
from clickseg.methods import METHODS, Segmenter, find_method, load_model, save_weights

SIDE = 32
SMALL = {"width": 4, "size": SIDE}  # of the fields that decide how much there is to compute


@pytest.fixture(params=METHODS)
def name(request):
    return request.param


@pytest.fixture
def recipe(name):
    """The method's own recipe, made small."""
    recipe = METHODS[name].recipe(labels={"spleen": 1, "liver": 2})
    known = {field.name for field in dataclasses.fields(recipe)}
    return dataclasses.replace(recipe, **{field: value for field, value in SMALL.items() if field in known})


@pytest.fixture
def segmenter(name, recipe):
    torch.manual_seed(0)
    return METHODS[name].build(recipe).eval()


@pytest.fixture
def image(recipe):
    """(2, 1, *S), HU."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 1, *[SIDE] * recipe.dimension, generator=generator) * 150


@pytest.fixture
def clicks(recipe):
    """(2, 3, D+1): two clicks on the first image, three on the second."""
    rows = torch.tensor([[[5, 9, 7, 1], [20, 22, 9, 0], [0, 0, 0, 0]], [[8, 8, 8, 1], [31, 0, 31, 1], [17, 2, 3, 0]]])
    clicks = torch.cat([rows[..., : recipe.dimension], rows[..., -1:]], dim=-1)
    clicks[0, 2] = PADDING
    return clicks


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def test_a_method_is_found_by_its_name(name):
    assert find_method(name) is METHODS[name]
    assert METHODS[name].recipe.method == name
    with pytest.raises(ValueError, match=rf"unknown method 'no such'; known: .*{name}"):
        find_method("no such")


def test_recipe_and_segmenter_agree_on_the_dimension(recipe, segmenter):
    assert isinstance(segmenter, Segmenter)
    assert segmenter.dimension == recipe.dimension
    assert recipe.dimension in (2, 3)


def test_logits_lie_on_the_grid_of_the_image(segmenter, image, clicks):
    logits = segmenter(image, clicks)
    assert logits.ndim == image.ndim
    assert logits.shape[0] == 2
    assert logits.shape[1] >= 2
    assert logits.shape[2:] == image.shape[2:]
    assert torch.isfinite(logits).all()


def test_logits_follow_the_image_to_sizes_that_no_network_likes(recipe, segmenter, clicks):
    shape = (33, 35, 37)[: recipe.dimension]
    assert segmenter(torch.zeros(2, 1, *shape), clicks).shape[2:] == shape


def test_forward_is_encode_and_then_decode(segmenter, image, clicks):
    assert torch.equal(segmenter(image, clicks), segmenter.decode(segmenter.encode(image), clicks))


def test_a_code_serves_any_number_of_clicks(segmenter, image, clicks):
    """It is made once and kept: decoding must not change it."""
    code = segmenter.encode(image)
    first = segmenter.decode(code, clicks[:, :1])
    segmenter.decode(code, clicks)
    assert torch.equal(segmenter.decode(code, clicks[:, :1]), first)


def test_padding_rows_do_not_change_logits(recipe, segmenter, image, clicks):
    rows = torch.full((2, 2, recipe.dimension + 1), PADDING)
    rows[:, 1, :-1] = 4  # where a padding row points does not matter
    padded = torch.cat([rows[:, :1], clicks, rows[:, 1:]], dim=1)
    torch.testing.assert_close(segmenter(image, padded), segmenter(image, clicks), atol=1e-6, rtol=1e-6)


def test_clicks_change_logits_and_their_label_matters(segmenter, image, clicks):
    logits = segmenter(image, clicks)
    assert not torch.allclose(segmenter(image, clicks[:, :1]), logits)
    other = clicks.clone()
    other[..., -1] = torch.where(clicks[..., -1] == PADDING, PADDING, 1 - clicks[..., -1])
    assert not torch.allclose(segmenter(image, other), logits)


def test_the_order_of_the_clicks_does_not_change_logits(segmenter, image, clicks):
    torch.testing.assert_close(segmenter(image, clicks.flip(1)), segmenter(image, clicks), atol=1e-5, rtol=1e-5)


def test_an_image_without_clicks_is_answered_too(recipe, segmenter, image):
    none = torch.empty(2, 0, recipe.dimension + 1, dtype=torch.int64)
    assert torch.isfinite(segmenter(image, none)).all()


def test_an_image_is_answered_alone_as_in_company(recipe, segmenter, image, clicks):
    together = segmenter(image, clicks)
    for index, own in enumerate(unstack_clicks(clicks)):
        alone = segmenter(image[index : index + 1], stack_clicks([own], recipe.dimension))
        torch.testing.assert_close(alone, together[index : index + 1], atol=1e-5, rtol=1e-4)


def test_the_loss_is_lower_for_a_better_answer_and_can_be_followed_down(name, recipe):
    truth = torch.zeros(1, 1, *[8] * recipe.dimension)
    truth[(..., *[slice(2, 6)] * recipe.dimension)] = 1
    good = torch.cat([-truth, truth], dim=1) * 4
    loss = METHODS[name].loss(recipe)
    assert loss(good, truth) < loss(-good, truth)
    with torch.enable_grad():
        logits = torch.zeros_like(good).requires_grad_()
        loss(logits, truth).backward()
    assert loss(logits - logits.grad, truth) < loss(logits, truth)


def test_a_recipe_comes_back_from_json(name, recipe):
    assert METHODS[name].recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert recipe.to_dict()["method"] == name


def test_a_recipe_cannot_be_changed(recipe):
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.labels = {}


def test_a_saved_method_answers_as_before_within_half_precision(tmp_path, recipe, segmenter, image, clicks):
    save_weights(tmp_path / "weights.pt", segmenter, recipe, {"data": "none"})
    model = load_model(tmp_path / "weights.pt")
    assert model.recipe == recipe
    assert not model.segmenter.training
    before, after = segmenter(image, clicks), model.segmenter(image, clicks)
    torch.testing.assert_close(after, before, atol=5e-3, rtol=5e-2)
    assert not torch.allclose(before, before.mean(), atol=5e-3), "all logits alike: this could not have failed"
