"""The method tis as a segmenter: image and clicks in, classes out."""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

from clickseg.clicks import Click, stack_clicks
from clickseg.geometry import axes_order
from clickseg.methods.tis import Tis, TisRecipe, loss, standardise
from clickseg.networks.encoder3d import Encoder3d, described_unet, plain_unet, plan_strides

RECIPE = TisRecipe(labels={"anterior": 1, "posterior": 2}, patch=(16, 16, 8), width=4, tokens=8, heads=2, layers=2)


def segmenter(recipe=RECIPE, seed=0):
    torch.manual_seed(seed)
    network = Tis(recipe).eval()
    for parameter in network.refiner.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network


def images(*shape, batch=1, seed=1):
    return torch.randn(batch, 1, *shape, generator=torch.Generator().manual_seed(seed)) * 100 + 500


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def test_a_plan_halves_every_axis_while_four_voxels_remain():
    assert plan_strides((40, 56, 40)) == [(1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)]
    assert plan_strides((16, 16, 8)) == [(1, 1, 1), (2, 2, 2), (2, 2, 1)]
    assert plan_strides((96, 96, 64))[-1] == (2, 2, 2)


def test_the_encoder_gives_features_on_the_grid_of_the_patch():
    encoder = Encoder3d(plain_unet(4, plan_strides((16, 16, 8))), classes=3)
    features = encoder(torch.randn(2, 1, 16, 16, 8))
    assert features.shape == (2, 4, 16, 16, 8)
    assert encoder.head(features).shape == (2, 3, 16, 16, 8)
    assert all(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("axes", [("S", "P", "L"), ("A", "S", "L"), ("L", "P", "I")])
def test_an_encoder_that_reads_other_axes_gets_the_volume_turned_and_its_features_come_back(axes):
    torch.manual_seed(0)
    network = plain_unet(4, [(1, 1, 1), (2, 2, 2)])
    upright, turned = Encoder3d(copy.deepcopy(network), 3), Encoder3d(network, 3, axes)
    order, flipped = axes_order(axes)
    image = torch.randn(1, 1, 8, 12, 16)
    read = image.permute(0, 1, *(2 + axis for axis in order)).flip([2 + axis for axis in range(3) if flipped[axis]])
    expected = upright(read).flip([2 + axis for axis in range(3) if flipped[axis]])
    torch.testing.assert_close(turned(image).permute(0, 1, *(2 + axis for axis in order)), expected)


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        ({"class": "os.system"}, "'os.system' is nothing of dynamic_network_architectures"),
        ({"class": "dynamic_network_architectures.architectures.unet.Nothing"}, "Nothing' is nothing of"),
        (
            {"class": "dynamic_network_architectures.architectures.unet.PlainConvUNet", "arguments": {"norm_op": "os"}},
            "'os' is nothing of torch.nn",
        ),
    ],
)
def test_a_described_network_can_only_be_one_of_the_named_packages(description, sentence):
    with pytest.raises(ValueError, match=sentence):
        described_unet(description)


@pytest.mark.parametrize("margin", [0, 1, 3])
@pytest.mark.parametrize("shape", [(5, 9, 2), (20, 3, 14)])
def test_what_may_change_is_the_structure_grown_by_a_margin_on_every_side(shape, margin):
    network = segmenter(dataclasses.replace(RECIPE, margin=margin, horizon=None))
    logits = torch.randn(3, *shape)
    logits[0] += 2
    found = (logits.argmax(0) > 0).float()
    grown = torch.nn.functional.max_pool3d(found[None, None], 2 * margin + 1, 1, margin)
    chosen = network.refinable(logits, torch.zeros(0, 4, dtype=torch.int64))
    assert torch.equal(chosen, grown.flatten().nonzero()[:, 0])


def test_a_step_looks_at_some_voxels_and_at_all_that_are_clicked():
    few = segmenter(dataclasses.replace(RECIPE, sampled_tokens=30, stage="refiner"))
    torch.nn.init.normal_(few.refiner.leave[-1].weight)
    code = few.encode(images(16, 16, 8)).detach()
    rows = stack_clicks([[Click((3, 4, 5), 1), Click((12, 12, 2), 2)]], 3)
    learnt, again = (few.train().decode(code, rows) for _ in range(2))
    assert torch.equal(learnt, again), "which ones follows from the clicks"
    whole = few.eval().decode(code, rows)
    changed = (learnt != few.automatic(code)).any(1)[0]
    assert 2 < changed.sum() <= 32 < (whole != few.automatic(code)).any(1).sum()
    assert learnt.argmax(1)[0, 3, 4, 5] == 1
    assert learnt.argmax(1)[0, 12, 12, 2] == 2
    with torch.enable_grad():
        few.train().decode(code, rows).sum().backward()
    assert few.refiner.enter.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("value", [0.0, (1.0, 2.0), (1.0, 2.0, -1.0), "1"])
def test_a_spacing_is_one_or_three_numbers(value):
    with pytest.raises(ValueError, match="recipe field spacing must be one or three numbers"):
        dataclasses.replace(RECIPE, spacing=value)


@pytest.mark.parametrize("shape", [(16, 16, 8), (11, 16, 5), (20, 17, 9)])
def test_a_volume_smaller_or_larger_than_a_patch_is_encoded_on_its_own_grid(shape):
    network = segmenter()
    code = network.encode(images(*shape))
    assert code.shape == (1, 4 + 3, *shape)
    assert torch.isfinite(code).all()


def test_a_volume_is_standardised_by_itself_unless_the_recipe_has_a_window():
    network, image = segmenter(), images(16, 16, 8)
    torch.testing.assert_close(network.encode(image), network.encode(image * 7 - 300), atol=1e-3, rtol=1e-3)
    windowed = segmenter(dataclasses.replace(RECIPE, window=(-100.0, 100.0), deviation=50.0))
    assert standardise(image, windowed.recipe).abs().max() == 2


def test_without_clicks_the_answer_is_the_automatic_segmentation():
    network = segmenter()
    code = network.encode(images(16, 16, 8))
    none = torch.empty(1, 0, 4, dtype=torch.int64)
    assert torch.equal(network.decode(code, none), code[:, 4:])


def test_a_clicked_voxel_has_the_label_of_its_last_click():
    network = segmenter()
    code = network.encode(images(16, 16, 8))
    clicks = torch.tensor([[[3, 4, 5, 2], [8, 8, 2, 0], [3, 4, 5, 1], [15, 15, 7, 1]]])
    answer = network.decode(code, clicks).argmax(1)[0]
    assert answer[3, 4, 5] == 1
    assert answer[8, 8, 2] == 0
    assert answer[15, 15, 7] == 1


@pytest.mark.parametrize("horizon", [None, 12])
def test_only_voxels_near_the_automatic_foreground_or_a_click_change(horizon):
    recipe = dataclasses.replace(RECIPE, margin=1, reach=3, horizon=horizon, patch=(16, 16, 16))
    network = segmenter(recipe)
    code = torch.randn(1, 7, 16, 16, 16)
    code[:, 4:] = torch.tensor([9.0, 0, 0])[:, None, None, None]
    code[:, 5, 2, 2, 2] = 20.0
    before, after = code[:, 4:], network.decode(code, torch.tensor([[[12, 12, 12, 1]]]))
    changed = (before != after).any(1)[0]
    axes = torch.meshgrid(*[torch.arange(16)] * 3, indexing="ij")
    ball = sum((axis - 12) ** 2 for axis in axes) <= 9
    box = torch.stack([(axis - 2).abs() <= 1 for axis in axes]).all(0)
    assert torch.equal(changed, ball | box if horizon is None else ball)  # the box is more than 15 voxels away


def test_an_image_is_answered_alone_as_in_company():
    network = segmenter()
    code = network.encode(images(16, 16, 8, batch=2))
    clicks = torch.tensor([[[3, 4, 5, 2], [8, 8, 2, 0]], [[10, 3, 3, 1], [0, 0, 0, -1]]])
    together = network.decode(code, clicks)
    for item, own in enumerate([clicks[:1], clicks[1:, :1]]):
        torch.testing.assert_close(
            network.decode(code[item : item + 1], own), together[item : item + 1], atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"stage": "both"}, "stage must be one of"),
        ({"balance": "beam"}, "balance must be one of"),
        ({"heads": 3}, "tokens must be a multiple of heads, 3"),
        ({"patch": (16, 16, 2)}, "patch must be three sides of 4 voxels at least"),
        ({"max_clicks": 0}, "max_clicks must be positive"),
        ({"margin": -1}, "margin must not be negative"),
        ({"hard_copies": -1}, "hard_copies must not be negative"),
        ({"strained": 1.5}, "strained must be a share from 0 to 1, got 1.5"),
        ({"dice": -1}, "dice must not be negative"),
        ({"users": ("liu", "sakinis")}, "users must be some of"),
        ({"users": ()}, "users must be some of"),
        ({"users": "liu"}, "users must be some of"),
        ({"horizon": 5}, "horizon must be at least reach, 6, got 5"),
        ({"gap": 0}, "gap must be positive, got 0"),
        ({"gap": "x"}, "gap must be of type int or null, got 'x'"),
        ({"horizon": "24"}, "horizon must be of type int or null, got '24'"),
        ({"patch": 64}, "patch must be three sides of 4 voxels at least, got 64"),
        ({"patch": None}, "patch must be three sides of 4 voxels at least, got None"),
        ({"patch": (16, 16, 8.5)}, "patch must be three sides of 4 voxels at least"),
        ({"patch": (4, 4, 4)}, "patch must have a side that a U-Net can halve, an even one of 8 voxels at least"),
        ({"patch": (9, 9, 9)}, "patch must have a side that a U-Net can halve"),
        ({"crop": 48}, "crop must be three sides of at least one voxel, or null, got 48"),
        ({"crop": (8, "8", 8)}, "crop must be three sides of at least one voxel"),
        ({"users": 5}, "users must be some of"),
        ({"users": (["liu"],)}, "users must be some of"),
        ({"axes": 5}, "axes are three of R/L, A/P and S/I in some order, not 5"),
        ({"architecture": 5}, "architecture must be of type"),
        ({"labels": "liver"}, "labels must hold values by name"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(RECIPE, **wrong)


def test_it_needs_to_know_its_structures():
    with pytest.raises(ValueError, match="labels"):
        Tis(TisRecipe())


def test_an_encoder_can_learn_from_the_overlap_of_small_structures_too():
    recipe = dataclasses.replace(RECIPE, dice=2.0)
    truth = torch.zeros(1, 1, 8, 8, 8, dtype=torch.int64)
    truth[..., 3, 3, 3] = 1  # too small for cross-entropy to care
    nothing = torch.zeros(1, 3, 8, 8, 8)
    nothing[:, 0] = 9
    right = nothing + 18 * functional.one_hot(truth[:, 0], 3).movedim(-1, 1)
    plain, both, refiner = (loss(r) for r in (RECIPE, recipe, recipe.of_stage("refiner")))
    assert plain(nothing, truth) - plain(right, truth) < 0.1
    assert both(nothing, truth) - both(right, truth) > 0.9
    torch.testing.assert_close(refiner(nothing, truth), plain(nothing, truth))


def test_with_a_gap_what_the_encoder_finds_far_from_the_rest_is_not_in_the_code():
    image = images(16, 16, 48)
    plain, near = segmenter(), segmenter(dataclasses.replace(RECIPE, gap=4))
    guesses = torch.zeros(1, 3, 16, 16, 48)
    guesses[:, 1, 4:10, 4:10, 4:10] = 2.0
    guesses[:, 2, 6:9, 6:9, 40:43] = 1.0
    for network in (plain, near):
        features = torch.full((1, RECIPE.width, 16, 16, 48), 0.5)
        network.encode_standardised = lambda image, features=features: torch.cat([features, guesses], dim=1)
    everything, kept = plain.encode(image), near.encode(image)
    assert torch.equal(everything[:, RECIPE.width :], guesses)
    assert torch.equal(kept[:, : RECIPE.width], everything[:, : RECIPE.width])
    assert plain.automatic(everything).argmax(1).unique().tolist() == [0, 1, 2]
    assert torch.equal(near.automatic(kept).argmax(1) == 1, guesses[:, 1] > 0)
    assert near.automatic(kept).argmax(1).unique().tolist() == [0, 1]
    assert near.encode(kept) is kept, "a code is its own code"
