import dataclasses
import json
import os
import pickle
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from clickseg.clicks import INSIDE, SakinisUser, disc_guidance, gaussian_guidance
from clickseg.geometry import resize
from clickseg.methods import UNet2dRecipe, load_model, nearby, save_weights, weights
from clickseg.methods.automatic import AutomaticRecipe
from clickseg.methods.deepgrow import DeepgrowRecipe
from clickseg.methods.nearby import surroundings
from clickseg.methods.unet2d import NAMES, UNet2d, dice_loss
from clickseg.methods.weights import write_atomically
from clickseg.networks import UNet

TINY = UNet2dRecipe(labels={"spleen": 1}, width=2, size=32)
CLICKS = torch.tensor([[[5, 6, 1], [9, 20, 0]], [[12, 3, 1], [-1, -1, -1]]])


def segmenter(recipe=TINY, seed=0):
    """With random weights, batch statistics among them, in evaluation mode."""
    torch.manual_seed(seed)
    network = UNet2d(recipe)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


def slices(*shape, seed=0):
    """(2, 1, *shape) in HU."""
    return torch.randn(2, 1, *shape, generator=torch.Generator().manual_seed(seed)) * 200


# The network of III-A


def parameters(width, inputs=3, outputs=2):
    """Of the U-Net of III-A, counted by hand: 3x3 convolutions without bias, each with a batch normalisation."""

    def block(before, after):
        return 9 * before * after + 2 * after + 9 * after * after + 2 * after

    widths = [width, 2 * width, 4 * width, 8 * width]
    down = sum(block(before, after) for before, after in zip([inputs, *widths], widths, strict=False))
    bottleneck = block(8 * width, 16 * width)
    enlarge = sum(4 * (2 * wide) * wide + wide for wide in widths)
    up = sum(block(2 * wide, wide) for wide in widths)
    return down + bottleneck + enlarge + up + width * outputs + outputs


@pytest.mark.parametrize("width", [1, 4, 16])
def test_the_network_has_the_parameters_of_the_paper(width):
    network = UNet(inputs=3, outputs=2, width=width)
    assert sum(tensor.numel() for tensor in network.parameters()) == parameters(width)


def test_four_blocks_down_a_bottleneck_and_four_blocks_up():
    network = UNet(inputs=3, outputs=2, width=4)
    steps = []

    def note(kind):
        return lambda module, inputs, output: steps.append((kind, *output.shape[1:]))

    for kind, modules in (("down", network.down), ("enlarge", network.enlarge), ("up", network.up)):
        for module in modules:
            module.register_forward_hook(note(kind))
    network.bottleneck.register_forward_hook(note("bottleneck"))
    assert network(torch.zeros(1, 3, 48, 32)).shape == (1, 2, 48, 32)
    assert steps == [
        ("down", 4, 48, 32),
        ("down", 8, 24, 16),
        ("down", 16, 12, 8),
        ("down", 32, 6, 4),
        ("bottleneck", 64, 3, 2),
        ("enlarge", 32, 6, 4),
        ("up", 32, 6, 4),
        ("enlarge", 16, 12, 8),
        ("up", 16, 12, 8),
        ("enlarge", 8, 24, 16),
        ("up", 8, 24, 16),
        ("enlarge", 4, 48, 32),
        ("up", 4, 48, 32),
    ]


def test_every_block_is_twice_convolution_normalisation_relu():
    network = UNet(inputs=3, outputs=2, width=4)
    for block in [*network.down, network.bottleneck, *network.up]:
        assert [type(layer) for layer in block] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 2
        assert all(layer.kernel_size == (3, 3) for layer in block if isinstance(layer, nn.Conv2d))
    for layer in network.enlarge:
        assert (layer.kernel_size, layer.stride) == ((2, 2), (2, 2))


def test_without_gradients_the_folded_normalisation_computes_the_same():
    torch.manual_seed(0)
    network = UNet(inputs=3, outputs=2, width=4)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias)
    x = torch.randn(2, 3, 32, 48)
    network(5 * x + 1)  # running statistics that are not the initial ones
    network.eval()
    unfolded = network(x)
    with torch.no_grad():
        folded = network(x)
    torch.testing.assert_close(folded, unfolded.detach(), rtol=1e-4, atol=1e-5)


def test_every_level_is_joined_to_its_own_level_by_a_skip_connection():
    """With the way up from below cut off, what a level saw on the way down still reaches it."""
    network = UNet(inputs=1, outputs=1, width=2).eval()
    for level, (block, enlarge) in enumerate(zip(network.up, network.enlarge, strict=True)):
        inputs = []
        block.register_forward_hook(lambda module, args, output, inputs=inputs: inputs.append(args[0]))
        down = []
        network.down[level].register_forward_hook(lambda module, args, output, down=down: down.append(output))
        network(torch.rand(1, 1, 16, 16))
        assert torch.equal(inputs[0][:, : enlarge.out_channels], down[0])


# The segmenter


@pytest.mark.parametrize("shape", [(16, 16), (17, 31), (40, 33), (5, 100), (1, 1)])
def test_slices_of_any_size_are_segmented_at_their_own_size(shape):
    clicks = torch.zeros(2, 1, 3, dtype=torch.int64)
    logits = segmenter()(slices(*shape), clicks)
    assert logits.shape == (2, 2, *shape)
    assert torch.isfinite(logits).all()


def test_padding_to_the_networks_size_adds_only_at_the_far_ends():
    """So that the pixels, and the clicks, keep their index: a slice that is already repeated there gives the same."""
    image = slices(20, 27)
    repeated = torch.nn.functional.pad(image, (0, 5, 0, 12), mode="replicate")
    clicks = torch.tensor([[[2, 3, 1]], [[4, 4, 1]]])
    network = segmenter()
    torch.testing.assert_close(network(repeated, clicks)[..., :20, :27], network(image, clicks), atol=1e-5, rtol=1e-5)


def test_the_network_sees_the_standardised_slice_and_the_clicks_inside_and_outside():
    seen = []
    network = segmenter()
    network.network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    image = slices(32, 32)
    network(image, CLICKS)
    standardised = (image.clamp(*TINY.window) - TINY.mean) / TINY.deviation
    torch.testing.assert_close(seen[0][:, :1], standardised)
    torch.testing.assert_close(seen[0][:, 1:], gaussian_guidance(CLICKS, (1, 0), (32, 32), TINY.sigma))
    assert seen[0][0, 1, 5, 6] == 1
    assert seen[0][0, 2, 9, 20] == 1


@pytest.mark.parametrize("overlap", ["sum", "max"])
def test_the_recipe_says_whether_the_gaussians_of_clicks_add_up(overlap):
    seen = []
    network = segmenter(dataclasses.replace(TINY, overlap=overlap))
    network.network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    crowd = torch.tensor([[[5, 5, 1], [5, 6, 1], [20, 20, 1]]])
    network(slices(32, 32)[:1], crowd)
    torch.testing.assert_close(seen[0][:, 1:], gaussian_guidance(crowd, (1, 0), (32, 32), TINY.sigma, overlap))


def test_the_recipe_may_ask_for_discs_instead_of_gaussians():
    seen = []
    network = segmenter(dataclasses.replace(TINY, encoding="disc", radius=3.0))
    network.network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    network(slices(32, 32), CLICKS)
    torch.testing.assert_close(seen[0][:, 1:], disc_guidance(CLICKS, (1, 0), (32, 32), 3.0))
    assert seen[0][:, 1:].unique().tolist() == [0, 1]


FEEDBACK = dataclasses.replace(TINY, feedback=True)


def inside(logits):
    return logits.softmax(1)[:, 1:]


def test_with_feedback_the_network_reads_its_answer_before_the_last_click():
    network, image = segmenter(FEEDBACK), slices(32, 32)[:1]
    code = network.encode(image)
    clicks = torch.tensor([[[5, 6, 1], [9, 20, 0], [12, 12, 1]]])
    first = network.decode(code, clicks[:, :1], torch.zeros(1, 1, 32, 32))
    second = network.decode(code, clicks[:, :2], inside(first))
    third = network.decode(code, clicks, inside(second))
    torch.testing.assert_close(network.decode(code, clicks), third)
    assert not torch.allclose(network.decode(code, clicks, inside(first)), third), "the earlier answer matters"


def test_nothing_is_replayed_before_the_first_click_inside():
    network, code = segmenter(FEEDBACK), slices(32, 32)[:1]
    clicks = torch.tensor([[[9, 20, 0], [3, 3, 0], [5, 6, 1], [12, 12, 1]]])
    third = network.decode(code, clicks[:, :3], torch.zeros(1, 1, 32, 32))
    torch.testing.assert_close(network.decode(code, clicks[:, :3]), third)
    torch.testing.assert_close(network.decode(code, clicks), network.decode(code, clicks, inside(third)))


def test_padding_changes_nothing_that_is_replayed():
    network, code = segmenter(FEEDBACK), slices(32, 32)
    clicks = torch.tensor([[[5, 6, 1], [9, 20, 0], [3, 3, 1]]])
    padding = torch.full((1, 1, 3), -1)
    padded = torch.cat([padding, clicks[:, :1], padding, clicks[:, 1:], padding], dim=1)
    alone = network.decode(code[:1], clicks)
    torch.testing.assert_close(network.decode(code[:1], padded), alone)
    fewer = torch.cat([clicks[:, :2], torch.full((1, 4, 3), -1)], dim=1)
    together = network.decode(code, torch.cat([padded, fewer]))
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together[1:], network.decode(code[1:], clicks[:, :2]), atol=1e-5, rtol=1e-5)


# A second look at what has no answer yet (docs/adr/0023)

TWICE = dataclasses.replace(FEEDBACK, looks=2)


def looking(recipe):
    """A segmenter with the weights of `segmenter(FEEDBACK)`, whatever else its recipe says."""
    network = UNet2d(recipe).eval()
    network.load_state_dict(segmenter(FEEDBACK).state_dict())
    return network


@pytest.mark.parametrize("looks", [2, 3])
def test_each_further_look_reads_the_answer_of_the_look_before(looks):
    once, code = segmenter(FEEDBACK), slices(32, 32)[:1]
    clicks = torch.tensor([[[5, 6, 1]]])
    expected = once.decode(code, clicks)
    for _ in range(looks - 1):
        expected = once.decode(code, clicks, inside(expected))
    several = looking(dataclasses.replace(FEEDBACK, looks=looks))
    torch.testing.assert_close(several.decode(code, clicks), expected)
    torch.testing.assert_close(several.decode(code, clicks, torch.zeros(1, 1, 32, 32)), expected)
    assert not torch.allclose(once.decode(code, clicks), expected)


def test_where_there_is_an_answer_before_one_look_is_enough():
    once, twice, code = segmenter(FEEDBACK), looking(TWICE), slices(32, 32)
    clicks = torch.tensor([[[5, 6, 1], [9, 20, 0]], [[5, 6, 1], [9, 20, 0]]])
    before = torch.zeros(2, 1, 32, 32)
    before[1, 0, 5:9, 5:9] = 0.7
    after = twice.decode(code, clicks, before)
    torch.testing.assert_close(after[1:], once.decode(code, clicks, before)[1:])
    torch.testing.assert_close(after[:1], twice.decode(code[:1], clicks[:1], before[:1]))
    assert not torch.allclose(after[:1], once.decode(code, clicks, before)[:1])


def test_clicks_are_replayed_with_a_second_look_at_the_first():
    twice, code = looking(TWICE), slices(32, 32)[:1]
    clicks = torch.tensor([[[5, 6, 1], [9, 20, 0]]])
    first = twice.decode(code, clicks[:, :1])
    torch.testing.assert_close(twice.decode(code, clicks), twice.decode(code, clicks, inside(first)))


def test_a_loss_is_of_one_look():
    once, twice, code = segmenter(FEEDBACK).train(), looking(TWICE).train(), slices(32, 32)
    clicks, nothing = torch.tensor([[[5, 6, 1]], [[7, 7, 1]]]), torch.zeros(2, 1, 32, 32)
    torch.testing.assert_close(twice.decode(code, clicks, nothing), once.decode(code, clicks, nothing))


@pytest.mark.parametrize(("looks", "feedback"), [(0, True), (2, False)])
def test_a_second_look_without_feedback_or_none_at_all_is_refused(looks, feedback):
    with pytest.raises(ValueError, match="looks must be 1, or more if feedback is on"):
        dataclasses.replace(TINY, looks=looks, feedback=feedback)


# The surroundings of what has been found (docs/adr/0024)

NEAR = dataclasses.replace(FEEDBACK, size=32)  # so that slices may be larger than what a training has shown


def marking(shape, *corner, side=4):
    """An answer (1, 1, H, W) that marks a square."""
    answer = torch.zeros(1, 1, *shape)
    answer[..., corner[0] : corner[0] + side, corner[1] : corner[1] + side] = 0.9
    return answer


@pytest.fixture
def short_sighted(monkeypatch):
    """Structures with 16 pixels round them, so that small slices are large."""
    monkeypatch.setattr(nearby, "REACH", 16)


def test_a_later_look_is_at_the_surroundings_and_says_outside_elsewhere(short_sighted):
    network, code = looking(NEAR), slices(96, 112)[:1]
    clicks, before = torch.tensor([[[50, 70, 1]]]), marking((96, 112), 50, 70)
    box = (..., slice(32, 80), slice(48, 96))  # 50 - 16 and 70 - 16 down to a multiple of 16, 54 + 16 and 74 + 16 up
    part = network.decode(code[box], clicks - torch.tensor([32, 48, 0]), before[box])
    answer = network.decode(code, clicks, before)
    torch.testing.assert_close(answer[box], part)
    elsewhere = torch.ones(96, 112, dtype=torch.bool)
    elsewhere[box] = False
    assert bool((inside(answer)[0, 0][elsewhere] < 0.001).all())


def test_the_surroundings_hold_clicks_inside_and_a_click_outside_far_away_changes_nothing(short_sighted):
    network, code, before = looking(NEAR), slices(128, 128)[:1], marking((128, 128), 8, 8)
    one, far = torch.tensor([[[9, 9, 1], [100, 9, 1]]]), torch.tensor([[[9, 9, 1], [100, 9, 0]]])
    assert surroundings(before[0, 0], one[0]) == (slice(0, 128), slice(0, 32))
    assert surroundings(before[0, 0], far[0]) == (slice(0, 32), slice(0, 32))
    torch.testing.assert_close(network.decode(code, far, before), network.decode(code, far[:, :1], before))


def test_surroundings_end_where_the_slice_does():
    assert surroundings(marking((150, 90), 0, 86)[0, 0], torch.tensor([[1, 87, 1]])) == (slice(0, 80), slice(16, 90))


@pytest.mark.parametrize("answer", [torch.zeros(70, 90), torch.full((70, 90), 0.4)])
def test_where_nothing_is_marked_the_whole_slice_is_looked_at(short_sighted, answer):
    assert surroundings(answer, torch.tensor([[30, 30, 1]])) == (slice(0, 70), slice(0, 90))


def test_slices_as_large_as_a_trainings_are_looked_at_as_a_whole(short_sighted):
    code, clicks, before = slices(96, 96)[:1], torch.tensor([[[8, 8, 1]]]), marking((96, 96), 8, 8)
    whole = looking(dataclasses.replace(FEEDBACK, size=96)).decode(code, clicks, before)
    near = looking(NEAR).decode(code, clicks, before)
    torch.testing.assert_close(near[..., :8, :8], whole[..., :8, :8], atol=0.05, rtol=0)  # all but out of sight
    assert not torch.allclose(near[..., 48:, 48:], whole[..., 48:, 48:])


def test_the_network_says_round_a_structure_what_it_says_of_the_whole_slice(monkeypatch):
    monkeypatch.setattr(nearby, "REACH", 107)  # all that a pixel of the answer depends on
    code, clicks, before = slices(400, 400)[:1], torch.tensor([[[203, 190, 1]]]), marking((400, 400), 200, 188)
    whole = looking(dataclasses.replace(FEEDBACK, size=400)).decode(code, clicks, before)
    near = looking(NEAR).decode(code, clicks, before)
    torch.testing.assert_close(near[..., 200:204, 188:192], whole[..., 200:204, 188:192])


def test_each_slice_of_a_batch_has_surroundings_and_a_name_of_its_own(short_sighted):
    network = taught(dataclasses.replace(NAMED, size=32))
    code = network.called(slices(96, 96)[:2], ["liver", "spleen"])
    clicks = torch.tensor([[[8, 8, 1]], [[80, 80, 1]]])
    before = torch.cat([marking((96, 96), 8, 8), marking((96, 96), 79, 79)])
    both = network.decode(code, clicks, before)
    alone = [network.decode(code[i, None], clicks[i, None], before[i, None]) for i in range(2)]
    torch.testing.assert_close(both, torch.cat(alone))


# A coarser grid for slices without an answer (docs/adr/0024)


def test_a_slice_is_first_seen_on_the_overviews_grid_and_then_on_its_own():
    once, code = segmenter(FEEDBACK), slices(32, 32)
    clicks = torch.tensor([[[5, 6, 1], [9, 20, 0]], [[5, 6, 1], [9, 20, 0]]])
    before = torch.zeros(2, 1, 32, 32)
    before[1, 0, 5:9, 5:9] = 0.7
    halved, moved = resize(code[:1], (16, 16)), torch.tensor([[[2, 3, 1], [4, 10, 0]]])
    first = resize(once.decode(halved, moved, before[:1, :, :16, :16]), (32, 32))
    unmoved = resize(once.decode(halved, clicks[:1].clamp_max(15), before[:1, :, :16, :16]), (32, 32))
    for looks, expected in ((1, first), (2, once.decode(code[:1], clicks[:1], inside(first)))):
        coarse = looking(dataclasses.replace(FEEDBACK, looks=looks, overview=2 * FEEDBACK.spacing))
        answer = coarse.decode(code, clicks, before)
        torch.testing.assert_close(answer[:1], expected, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(answer[1:], once.decode(code[1:], clicks[1:], before[1:]))
    assert not torch.allclose(first, unmoved, atol=1e-3)


@pytest.mark.parametrize("grid", [0.5, 2.0])
def test_names_are_heard_in_an_overview(grid):
    network, code = taught(dataclasses.replace(NAMED, overview=grid * NAMED.spacing)), slices(32, 32)[:1]
    answers = [network.decode(network.called(code, [name]), CLICKS[:1, :1]) for name in ("", "liver")]
    assert not torch.allclose(*answers)


def test_an_overview_without_feedback_is_refused():
    with pytest.raises(ValueError, match="overview must be 0, or more if feedback is on"):
        dataclasses.replace(TINY, overview=2.0)


# Names (docs/adr/0021)

NAMED = dataclasses.replace(TINY, labels={"spleen": 1, "right kidney": 2, "liver": 6}, named=0.5, feedback=True)


def taught(recipe=NAMED, seed=0):
    """A network to which each name means something."""
    network = segmenter(recipe, seed)
    with torch.no_grad():
        for table in network.network.names:
            table.weight[1:] = torch.randn_like(table.weight[1:]) / 40
    return network


def test_what_a_structure_is_called_changes_the_answer_and_each_name_in_its_own_way():
    network, code = taught(), slices(32, 32)[:1]
    answers = [network.decode(network.called(code, [name]), CLICKS[:1]) for name in ("", *NAMED.labels)]
    for number, one in enumerate(answers):
        assert all(not torch.allclose(one, other) for other in answers[number + 1 :])


def test_names_that_weights_do_not_know_are_as_none_and_spelling_does_not_matter():
    network, code = taught(), slices(32, 32)[:1]
    nameless = network.decode(code, CLICKS[:1])
    assert torch.equal(network.decode(network.called(code, ["tumour"]), CLICKS[:1]), nameless)
    spelled = [network.called(code, [name]) for name in ("right kidney", "Right_Kidney", " RIGHT  KIDNEY ")]
    assert all(torch.equal(spelled[0], other) for other in spelled[1:])
    plain = segmenter(dataclasses.replace(NAMED, named=0.0))
    assert plain.called(code, ["liver"]) is code, "weights that have learnt without names heed none"


def test_each_image_of_a_batch_has_its_own_name_or_none_in_a_replay_too():
    network, code = taught(), slices(32, 32)
    clicks = torch.tensor([[[5, 6, 1], [9, 20, 0]], [[12, 3, 1], [4, 4, 0]]])
    together = network.decode(network.called(code, ["liver", ""]), clicks)
    alone = network.decode(network.called(code[:1], ["liver"]), clicks[:1])
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together[1:], network.decode(code[1:], clicks[1:]), atol=1e-5, rtol=1e-5)


def test_no_name_never_means_anything():
    network, code = taught(), slices(32, 32)
    without = segmenter(dataclasses.replace(NAMED, named=0.0))
    kept = {name: value for name, value in network.state_dict().items() if not name.startswith(NAMES)}
    without.load_state_dict(kept)
    torch.testing.assert_close(network.decode(code, CLICKS), without.decode(code, CLICKS))
    network.train()
    network(code, CLICKS, torch.zeros(2, 1, 32, 32), ["", "liver"]).sum().backward()
    for table in network.network.names:
        assert not table.weight.grad[0].any()
        assert table.weight.grad[3].any()


def test_weights_start_deaf_to_names_and_answer_as_before():
    before, network, code = segmenter(dataclasses.replace(NAMED, named=0.0), seed=3), segmenter(NAMED), slices(32, 32)
    network.load_state_dict(network.adopt(before.state_dict(), before.recipe))
    answer = before.decode(code, CLICKS)
    torch.testing.assert_close(network.decode(network.called(code, ["liver", "spleen"]), CLICKS), answer)


def test_names_keep_their_meaning_in_weights_with_other_labels():
    before = taught()
    labels = {"cyst": 1, "Liver": 2, "spleen": 3}
    network, code = segmenter(dataclasses.replace(NAMED, labels=labels)), slices(32, 32)[:1]
    network.load_state_dict(network.adopt(before.state_dict(), before.recipe))
    for name in ("liver", "spleen"):
        answers = [one.decode(one.called(code, [name]), CLICKS[:1]) for one in (before, network)]
        torch.testing.assert_close(*answers)
    nameless = network.decode(code, CLICKS[:1])
    torch.testing.assert_close(network.decode(network.called(code, ["cyst"]), CLICKS[:1]), nameless)


def test_labels_that_are_spelled_alike_share_what_they_mean_and_the_order_of_labels_means_nothing():
    alike = dataclasses.replace(NAMED, labels={**NAMED.labels, "Liver": 7, "_": 8})
    assert alike.names == {"spleen": 1, "right kidney": 2, "liver": 3}, "a name of no letters is none"
    network, before, code = segmenter(alike), taught(), slices(32, 32)[:1]
    network.load_state_dict(network.adopt(before.state_dict(), before.recipe))
    asked = [network.decode(network.called(code, [name]), CLICKS[:1]) for name in ("liver", "Liver")]
    torch.testing.assert_close(*asked)
    network.train()(code, CLICKS[:1], torch.zeros(1, 1, 32, 32), ["Liver"])
    turned = dataclasses.replace(NAMED, labels=dict(reversed(NAMED.labels.items())))
    assert turned.names == NAMED.names


def test_an_automatic_segmentation_hears_no_names():
    with pytest.raises(ValueError, match="reads neither its last answer nor a name"):
        AutomaticRecipe(labels={"liver": 1}, named=0.5)


def test_weights_may_forget_names():
    before = taught()
    network, code = segmenter(dataclasses.replace(NAMED, named=0.0)), slices(32, 32)
    network.load_state_dict(network.adopt(before.state_dict(), before.recipe))
    torch.testing.assert_close(network.decode(code, CLICKS), before.decode(code, CLICKS))


@pytest.mark.parametrize("width", [3, 4])
@pytest.mark.parametrize("feedback", [False, True])
def test_weights_answer_as_before_in_a_wider_network_which_then_learns_with_all_of_it(width, feedback):
    before = taught(dataclasses.replace(NAMED, feedback=feedback))
    network, code = segmenter(dataclasses.replace(NAMED, width=width), seed=1), slices(32, 32)
    own = network.network.down[1][0].weight.clone()
    network.load_state_dict(network.adopt(before.state_dict(), before.recipe))
    assert torch.equal(network.network.down[1][0].weight[4:], own[4:]), "what is new stays as it was"
    for names in ([], ["liver", "spleen"]):
        wide, narrow = (one.decode(one.called(code, names), CLICKS) for one in (network, before))
        torch.testing.assert_close(wide, narrow)
    optimizer = torch.optim.SGD(network.train().parameters(), lr=0.1)
    for _ in range(2):  # at first nothing hears the new channels, so that they learn from the second step on
        optimizer.zero_grad()
        network(code, CLICKS, torch.zeros(2, 1, 32, 32), ["liver", "spleen"]).square().mean().backward()
        optimizer.step()
    for name, value in network.named_parameters():
        assert value.grad.flatten(1).any(1).all() if value.dim() == 4 else value.grad.any(), name


def test_weights_do_not_fit_a_narrower_network():
    wide = dataclasses.replace(TINY, width=4)
    assert TINY.unlike(wide) == ["width"]
    assert wide.unlike(TINY) == []
    assert DeepgrowRecipe(width=4).unlike(DeepgrowRecipe(width=2)) == ["width"], "nor one of MONAI's a wider one"


def test_without_a_window_nothing_is_clipped():
    image = slices(16, 16) * 100
    code = segmenter(dataclasses.replace(TINY, window=None)).encode(image)
    torch.testing.assert_close(code * TINY.deviation + TINY.mean, image)


def test_an_initial_mask_is_refused_because_the_paper_has_no_input_for_it():
    network = segmenter()
    with pytest.raises(ValueError, match="initial mask"):
        network(slices(16, 16), CLICKS, previous=torch.zeros(2, 2, 16, 16))


# The loss of III-C


def logits_of(probability):
    """(B, 2, *S) logits whose softmax is this probability (B, *S) of inside."""
    probability = torch.as_tensor(probability, dtype=torch.float64)
    logits = torch.stack([torch.zeros_like(probability), torch.log(probability / (1 - probability))], dim=1)
    assert INSIDE == 1
    return logits


def test_the_loss_is_one_minus_the_papers_dice_by_hand():
    truth = torch.tensor([[[[1.0, 1], [0, 0]]]])
    logits = logits_of([[[0.8, 0.5], [0.25, 0.1]]])
    overlap = 0.8 + 0.5
    squares = (1 + 1) + (0.8**2 + 0.5**2 + 0.25**2 + 0.1**2)
    assert float(dice_loss(logits, truth)) == pytest.approx(1 - 2 * overlap / squares, rel=1e-5)


def test_the_loss_is_averaged_over_the_images_and_not_over_their_pixels():
    truth = torch.tensor([[[[1.0, 1], [1, 1]]], [[[1.0, 0], [0, 0]]]])
    probability = torch.tensor([[[0.9, 0.9], [0.9, 0.9]], [[0.2, 0.2], [0.2, 0.2]]])
    alone = [float(dice_loss(logits_of(probability[i : i + 1]), truth[i : i + 1])) for i in range(2)]
    assert alone[0] == pytest.approx(1 - 2 * 3.6 / (4 + 4 * 0.81), rel=1e-5)
    assert alone[1] == pytest.approx(1 - 2 * 0.2 / (1 + 4 * 0.04), rel=1e-5)
    assert float(dice_loss(logits_of(probability), truth)) == pytest.approx(sum(alone) / 2, rel=1e-5)


def test_the_loss_of_the_truth_is_zero_and_of_its_opposite_one():
    truth = (torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    sure = torch.cat([-truth, truth], dim=1) * 80 + torch.tensor([40.0, -40])[:, None, None]
    assert float(dice_loss(sure, truth)) == pytest.approx(0, abs=1e-6)
    assert float(dice_loss(-sure, truth)) == pytest.approx(1, abs=1e-6)


def test_the_loss_of_an_empty_label_is_finite_and_so_is_its_gradient():
    logits = torch.full((1, 2, 4, 4), -50.0).index_fill(1, torch.tensor([0]), 50.0).requires_grad_()
    loss = dice_loss(logits, torch.zeros(1, 1, 4, 4))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_the_loss_leads_towards_the_truth():
    truth = torch.tensor([[[[1.0, 0]]]])
    logits = torch.zeros(1, 2, 1, 2, requires_grad=True)
    dice_loss(logits, truth).backward()
    assert logits.grad[0, 1, 0, 0] < 0 < logits.grad[0, 1, 0, 1]


# Recipes


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("spacing", 0),
        ("deviation", -1.0),
        ("looks", 0),
        ("overview", -1.0),
        ("width", 0),
        ("width", 2.5),
        ("width", "16"),
        ("sigma", float("nan")),
        ("max_clicks", 0),
        ("max_clicks", True),
        ("batch", 0),
        ("batch", 1.5),
        ("steps_per_epoch", 0),
        ("learning_rate", 0),
        ("learning_rate", "fast"),
        ("reading", "sometimes"),
        ("first_click", "outside"),
        ("click_unit", "inch"),
        ("click_metric", "euclidean"),
        ("size", 100),
        ("size", 0),
        ("strained", 1.5),
        ("named", -0.5),
        ("window", (100, -100)),
        ("window", (0,)),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_and_says_which_field(field, value):
    name = "metric" if field == "click_metric" else field
    with pytest.raises(ValueError, match=name):
        UNet2dRecipe.from_dict({field: value})


def test_unknown_fields_are_refused_by_name():
    with pytest.raises(ValueError, match=r"unknown recipe fields depth, height; known: .*width"):
        UNet2dRecipe.from_dict({"width": 4, "height": 3, "depth": 2})


def test_a_recipe_of_another_method_is_refused():
    with pytest.raises(ValueError, match="'tis'"):
        UNet2dRecipe.from_dict({"method": "tis", "width": 4})


def test_missing_fields_take_their_defaults():
    assert UNet2dRecipe.from_dict({"width": 4}) == UNet2dRecipe(width=4)


def test_a_recipe_comes_back_from_its_dictionary_and_from_json(tmp_path):
    recipe = UNet2dRecipe(labels={"liver": 6, "spleen": 1}, window=(-100.0, 200.0), sigma=1.5, reading="skip")
    assert UNet2dRecipe.from_dict(recipe.to_dict()) == recipe
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    assert UNet2dRecipe.from_json(tmp_path / "recipe.json") == recipe


@pytest.mark.parametrize("text", ["{", "[1, 2]", '"width"', ""])
def test_a_recipe_file_that_holds_no_object_is_refused_by_name(tmp_path, text):
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(ValueError, match=r"recipe\.json"):
        UNet2dRecipe.from_json(tmp_path / "recipe.json")


def test_a_missing_recipe_file_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.json"):
        UNet2dRecipe.from_json(tmp_path / "nowhere.json")


def test_the_papers_recipe_is_table_i_but_for_the_window_of_its_fixed_numbers():
    recipe = UNet2dRecipe.find("paper")
    assert (recipe.batch, recipe.learning_rate, recipe.seed, recipe.sigma) == (16, 1e-4, 4242, 2.0)
    assert (recipe.spacing, recipe.size) == (1.0, 512)
    assert (recipe.warmup, recipe.decay) == (0, 0)  # "fixed throughout training"
    assert not recipe.augment
    air, bone = UNet2d(recipe).encode(torch.tensor([-1024.0, 3000.0]))
    assert -1 < air < 0 < bone < 4, "ordinary CT is standardised as the clipped data is that the numbers are of"


def test_a_recipe_is_found_by_name_or_by_file_and_else_the_names_are_told(tmp_path):
    (tmp_path / "mine.json").write_text('{"width": 8}')
    assert UNet2dRecipe.find(str(tmp_path / "mine.json")).width == 8
    assert UNet2dRecipe.find("practical").augment
    with pytest.raises(ValueError, match="no recipe 'impractical': it is no file, and unet2d has paper, practical"):
        UNet2dRecipe.find("impractical")


def test_labels_are_filled_in_only_where_the_recipe_names_none():
    assert UNet2dRecipe().with_labels({"liver": 6}).labels == {"liver": 6}
    assert UNet2dRecipe(labels={"spleen": 1}).with_labels({"liver": 6}).labels == {"spleen": 1}


def test_labels_that_the_data_numbers_otherwise_are_refused():
    recipe = UNet2dRecipe(labels={"spleen": 1, "pancreas": 11})
    assert recipe.with_labels({"spleen": 1, "tumour": 2}) is recipe
    with pytest.raises(ValueError, match="pancreas has the value 10 in the data and 11 in the recipe"):
        recipe.with_labels({"pancreas": 10, "right adrenal": 11})


def test_labels_that_the_data_names_otherwise_are_refused():
    recipe = UNet2dRecipe(labels={"anterior": 1, "posterior": 2})
    with pytest.raises(ValueError, match="the value 1 is tumour in the data and anterior in the recipe"):
        recipe.with_labels({"tumour": 1, "cyst": 2})
    with pytest.raises(ValueError, match="the value 2 is cyst in the data and posterior in the recipe"):
        recipe.with_labels({"anterior": 1, "cyst": 2})
    assert recipe.with_labels({"head": 1, "anterior": 1, "posterior": 2}) is recipe, "a value may have two names"


@pytest.mark.parametrize("labels", ["liver", ["a"], 5, None, {"a": "1"}, {"a": 300}, {"a": 0}, {"a": True}, {1: 1}])
def test_labels_of_a_recipe_are_names_with_a_value_that_a_label_map_can_hold(labels):
    with pytest.raises(ValueError, match="recipe field labels must hold"):
        UNet2dRecipe.from_dict({"labels": labels})


def test_the_training_user_measures_in_the_recipes_unit():
    recipe = UNet2dRecipe(click_metric="taxicab", first_click="anywhere")
    assert recipe.user(1.25) == SakinisUser(metric="taxicab", scale=1.25, first="anywhere")
    voxels = dataclasses.replace(recipe, click_unit="voxel")
    assert voxels.user(1.25) == SakinisUser(metric="taxicab", scale=1.0, first="anywhere")


# Weights files


def saved(path, **changes):
    """A weights file with parts of its content exchanged; a part that is None is left out."""
    save_weights(path, segmenter(), TINY, {"data": "phantom"})
    if changes:
        content = torch.load(path, weights_only=True) | changes
        torch.save({name: part for name, part in content.items() if part is not None}, path)
    return path


def test_weights_rebuild_their_own_method(tmp_path):
    model = load_model(saved(tmp_path / "weights.pt"))
    assert model.recipe == TINY
    assert model.card == {"data": "phantom"}
    assert not model.segmenter.training
    for name, tensor in segmenter().state_dict().items():
        torch.testing.assert_close(model.segmenter.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)


def test_weights_are_stored_in_half_precision_and_rebuilt_in_full(tmp_path):
    path = saved(tmp_path / "weights.pt")
    state = torch.load(path, weights_only=True)["state"]
    assert {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} == {torch.float16}
    assert {p.dtype for p in load_model(path).segmenter.parameters()} == {torch.float32}


def test_weights_that_do_not_fit_their_recipe_are_refused(tmp_path):
    path = saved(tmp_path / "weights.pt", recipe={**TINY.to_dict(), "width": 4})
    with pytest.raises(ValueError, match=r"weights\.pt do not fit the recipe"):
        load_model(path)


def test_incomplete_weights_are_refused(tmp_path):
    state = segmenter().state_dict()
    state.pop("network.head.weight")
    with pytest.raises(ValueError, match=r"(?s)do not fit.*head"):
        load_model(saved(tmp_path / "weights.pt", state=state))


@pytest.mark.parametrize(
    ("part", "content", "complaint"),
    [
        ("recipe", {**TINY.to_dict(), "flavour": "vanilla"}, "unknown recipe fields flavour"),
        ("recipe", {**TINY.to_dict(), "method": "other"}, "unknown method 'other'"),
        ("recipe", {**TINY.to_dict(), "width": "wide"}, "field width"),
        ("recipe", {"width": 2}, "unknown method None"),
        ("recipe", [1, 2], "recipe and state"),
        ("recipe", None, "recipe and state"),
        ("state", None, "recipe and state"),
        ("state", {"network.head.weight": "text"}, "do not fit"),
        ("clickseg", 999, "of format 1"),
        ("clickseg", None, "of format 1"),
    ],
)
def test_a_weights_file_of_another_making_is_refused(tmp_path, part, content, complaint):
    with pytest.raises(ValueError, match=complaint):
        load_model(saved(tmp_path / "weights.pt", **{part: content}))


def test_weights_without_a_card_still_load(tmp_path):
    """A training's checkpoint is such a file."""
    assert load_model(saved(tmp_path / "weights.pt", card=None)).card == {}


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 not really a zip", bytes(range(256)) * 8], ids=len)
def test_garbage_is_refused_by_name(tmp_path, content):
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.pt is not a clickseg weights file"):
        load_model(tmp_path / "weights.pt")


def test_half_a_file_is_refused(tmp_path):
    path = saved(tmp_path / "weights.pt")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"weights\.pt is not a clickseg weights file"):
        load_model(path)


class _Trap:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "caught")


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_weights_file_is_refused_and_not_run(tmp_path, write):
    write({"clickseg": 1, "recipe": TINY.to_dict(), "state": _Trap(tmp_path / "trap"), "card": {}}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w\.pt is not a clickseg weights file"):
        load_model(tmp_path / "w.pt")
    assert not (tmp_path / "trap").exists()


def test_missing_weights_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"no weights file at .*nowhere\.pt"):
        load_model(tmp_path / "nowhere.pt")


# Atomic writes


def test_a_write_that_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = saved(tmp_path / "weights.pt")
    before = path.read_bytes()

    def dies(content, file):
        file.write(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(weights.torch, "save", dies)
    with pytest.raises(OSError, match="no space"):
        save_weights(path, segmenter(seed=1), TINY)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_killed_half_way_through_a_write_leaves_the_old_file(tmp_path):
    path = saved(tmp_path / "weights.pt")
    before = path.read_bytes()
    child = os.fork()
    if child == 0:

        def is_killed(content, file):
            file.write(b"half of it")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        weights.torch.save = is_killed
        write_atomically(path, {})
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert path.read_bytes() == before
    (left,) = set(tmp_path.iterdir()) - {path}
    assert left.name.startswith("."), "beside it, for an atomic rename, and hidden from whoever lists weights"


def test_a_new_file_replaces_the_old_in_folders_made_as_needed(tmp_path):
    path = tmp_path / "a" / "b" / "weights.pt"
    save_weights(path, segmenter(), TINY, {"run": 1})
    save_weights(path, segmenter(), TINY, {"run": 2})
    assert load_model(path).card == {"run": 2}
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644
