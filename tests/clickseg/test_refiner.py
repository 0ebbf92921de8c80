"""The refinement module of TIS: what holds whatever it has learnt."""

import dataclasses

import pytest
import torch
from torch import nn

from clickseg.networks import ClickTokens, Refiner, RefinerDesign, Tokens

CLASSES, FEATURES = 3, 6
PAPER = RefinerDesign(width=8, heads=2, layers=2, grid=3)
ARMS = {
    "paper": PAPER,
    "no click encoding": dataclasses.replace(PAPER, encode_clicks=False),
    "no label assignment": dataclasses.replace(PAPER, assign_labels=False),
    "scalar product": dataclasses.replace(PAPER, alike="product"),
    "literal": dataclasses.replace(PAPER, balance="scalar", copy=False, distance=False, alike="product"),
}


def refiner(design=PAPER, seed=0):
    """With every parameter at random, so that no part is silent."""
    torch.manual_seed(seed)
    network = Refiner(FEATURES, CLASSES, design)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network.eval()


def tokens(number=20, batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return Tokens(
        features=torch.randn(batch, number, FEATURES, generator=generator),
        positions=torch.rand(batch, number, 3, generator=generator) * 20,
        automatic=torch.randn(batch, number, CLASSES, generator=generator) * 2,
        real=torch.ones(batch, number, dtype=torch.bool),
    )


def clicks(*lists):
    """Lists of (token, label)."""
    longest = max(map(len, lists))
    padded = [[*pairs, *[(0, -1)] * (longest - len(pairs))] for pairs in lists]
    rows = torch.tensor(padded).reshape(len(lists), longest, 2)
    return ClickTokens(index=rows[..., 0], labels=rows[..., 1])


@pytest.fixture(params=ARMS)
def design(request):
    return ARMS[request.param]


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def close(first, second):
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)


def test_without_clicks_the_automatic_segmentation_stands_exactly(design):
    network, voxels = refiner(design), tokens()
    assert torch.equal(network(voxels, clicks([], [])), voxels.automatic)
    mixed = network(voxels, clicks([(3, 1)], []))
    assert torch.equal(mixed[1], voxels.automatic[1])
    assert not torch.allclose(mixed[0], voxels.automatic[0])


def one_image(voxels, item):
    return Tokens(*(part[item : item + 1] for part in dataclasses.astuple(voxels)))


def test_padding_of_clicks_changes_nothing(design):
    network, voxels = refiner(design), tokens()
    lists = [[(3, 1)], [(5, 0), (7, 2), (9, 2)]]
    alone = [network(one_image(voxels, item), clicks(own)) for item, own in enumerate(lists)]
    close(network(voxels, clicks(*lists)), torch.cat(alone))


def test_padding_of_voxels_changes_nothing(design):
    network, voxels, more = refiner(design), tokens(20), tokens(30, seed=5)
    pairs = zip(dataclasses.astuple(voxels), dataclasses.astuple(more), strict=True)
    padded = Tokens(*(torch.cat([own, other[:, 20:]], 1) for own, other in pairs))
    padded.real[:, 20:] = False
    given = clicks([(3, 1), (4, 2)], [(5, 0)])
    close(network(padded, given)[:, :20], network(voxels, given))


def test_neither_the_order_of_clicks_nor_of_voxels_matters(design):
    network, voxels = refiner(design), tokens()
    answer = network(voxels, clicks([(3, 1), (4, 2)], [(5, 0), (6, 1)]))
    close(network(voxels, clicks([(4, 2), (3, 1)], [(6, 1), (5, 0)])), answer)
    turned = Tokens(*(part.flip(1) for part in dataclasses.astuple(voxels)))
    close(network(turned, clicks([(16, 1), (15, 2)], [(14, 0), (13, 1)])).flip(1), answer)


def test_the_label_of_a_click_matters(design):
    network, voxels = refiner(design), tokens()
    first, second = (network(voxels, clicks([(3, label)], [(3, label)])) for label in (1, 2))
    assert not torch.allclose(first, second)


def test_a_voxel_copies_the_label_of_a_click_like_it_and_near_it_and_keeps_the_automatic_one_elsewhere():
    """As it starts, before any training: the compare-and-copy that the paper is about."""
    torch.manual_seed(0)
    network = Refiner(FEATURES, CLASSES, dataclasses.replace(PAPER, layers=6, heads=4))
    voxels = tokens(20, batch=1)
    voxels.automatic[:] = torch.tensor([1.0, 0.0, 0.0])
    voxels.features[:, 1:3] = voxels.features[:, :1]
    voxels.positions[:, 1] = voxels.positions[:, 0] + 0.1
    voxels.positions[:, 2] = voxels.positions[:, 0] + 40
    answer = network(voxels, clicks([(0, 2)]))[0].argmax(-1)
    assert answer[:3].tolist() == [2, 2, 0]


def test_a_voxel_near_a_click_but_unlike_it_keeps_the_automatic_label_before_any_training():
    torch.manual_seed(0)
    network = Refiner(FEATURES, CLASSES, RefinerDesign())
    voxels = tokens(20, batch=1)
    voxels.automatic[:] = torch.tensor([1.5, 0.0, 0.0])
    voxels.positions[:] = voxels.positions[:, :1]
    voxels.features[:, 1] = voxels.features[:, 0]
    voxels.features[:, 2] = -voxels.features[:, 0]
    answer = network(voxels, clicks([(0, 2)]))[0].argmax(-1)
    assert answer[:3].tolist() == [2, 2, 0]


def test_with_one_click_the_literal_reading_gives_every_voxel_the_same_label_whatever_it_looks_like():
    """A softmax over one click is one: the reason for the extra slot."""
    voxels, click, automatic = torch.randn(1, 9, 8), torch.randn(1, 1, 8), torch.zeros(1, 9, 8)
    places, real = (torch.rand(1, 9, 3), torch.rand(1, 1, 3)), torch.ones(1, 1, dtype=torch.bool)
    values, label = (torch.randn(1, 1, 8), automatic), torch.eye(CLASSES)[None, :1]
    for design, different in ((ARMS["literal"], 1), (PAPER, 9)):
        taken, _ = refiner(design).assigners[0](voxels, click, values, places, real, label)
        assert (taken - voxels).round(decimals=4).unique(dim=1).shape[1] == different


@pytest.mark.parametrize("block", [1, 50, 10**6])
def test_voxels_are_computed_in_parts_whose_size_does_not_matter(design, monkeypatch, block):
    network, voxels, asked = refiner(design), tokens(), clicks([(3, 1), (4, 2), (9, 0)], [(5, 0)])
    whole = network(voxels, asked)
    monkeypatch.setattr("clickseg.networks.refiner.BLOCK", block)
    close(network(voxels, asked), whole)


@torch.enable_grad()
def test_every_part_of_the_module_learns(design):
    network, voxels = refiner(design), tokens()
    network(voxels, clicks([(3, 1), (4, 2)], [(5, 0)])).square().sum().backward()
    assert all(value.grad is not None and value.grad.any() for name, value in network.named_parameters()), [
        name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()
    ]


def test_a_width_that_does_not_divide_among_the_heads_is_refused():
    with pytest.raises(ValueError, match="a width of 8 does not divide among 3 heads"):
        Refiner(FEATURES, CLASSES, dataclasses.replace(PAPER, heads=3))
