"""Structures for training that nobody has drawn."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage

from clickseg.datasets import CaseFolder
from clickseg.methods import UNet2dRecipe
from clickseg.phantom import LABELS, write_phantoms
from clickseg.samples import StructureDataset, open_slices
from clickseg.synthetic import RandSuperpixeld

MEAN, DEVIATION = 50.0, 100.0


def sample():
    """A bright disc, a dark square and noise; the label is elsewhere."""
    rows, columns = np.indices((64, 64))
    image = np.random.default_rng(0).normal(50, 5, (64, 64))
    image[(rows - 20) ** 2 + (columns - 20) ** 2 < 100] = 250
    image[40:56, 36:58] = -150
    label = torch.zeros(1, 64, 64)
    label[:, 2:6, 50:60] = 1
    return {"image": torch.tensor(image, dtype=torch.float32)[None], "label": label, "seed": 3}


def drawn(seed, prob=1.0):
    transform = RandSuperpixeld(prob, MEAN, DEVIATION)
    transform.set_random_state(seed=seed)
    return transform(sample())


def test_a_superpixel_is_one_part_without_holes_and_neither_tiny_nor_most_of_the_image():
    given, changed = sample()["label"], 0
    for seed in range(20):
        found = drawn(seed)["label"]
        assert found.shape == given.shape
        assert found.dtype == given.dtype
        assert set(found.unique().tolist()) == {0.0, 1.0}
        if torch.equal(found, given):
            continue
        changed += 1
        mask = found[0].numpy() > 0
        assert ndimage.label(mask)[1] == 1
        assert np.array_equal(ndimage.binary_fill_holes(mask), mask)
        assert RandSuperpixeld.LEAST <= mask.sum() <= RandSuperpixeld.MOST * mask.size
    assert changed >= 15


def test_borders_of_the_image_are_borders_of_superpixels():
    overlaps = []
    for seed in range(30):
        result = drawn(seed)
        mask, disc = result["label"][0].numpy() > 0, result["image"][0].numpy() > 200
        overlaps.append(2 * (mask & disc).sum() / (mask.sum() + disc.sum()))
    assert max(overlaps) > 0.85


def test_the_same_seed_draws_the_same():
    for key in ("image", "label"):
        assert torch.equal(drawn(5)[key], drawn(5)[key])
        assert torch.equal(drawn(5, prob=0.0)[key], sample()[key])


def test_superpixels_are_seen_from_all_eight_sides_and_samples_of_organs_are_not():
    image = sample()["image"]
    sides = [torch.rot90(side, quarters, (1, 2)) for side in (image, image.flip(2)) for quarters in range(4)]
    seen = set()
    for seed in range(80):
        result = drawn(seed)
        side = next(number for number, side in enumerate(sides) if torch.equal(side, result["image"]))
        assert side == 0 or not torch.equal(result["label"], sample()["label"])
        seen.add(side)
    assert seen == set(range(8))


def test_a_training_draws_as_many_as_its_recipe_says(tmp_path):
    write_phantoms(tmp_path, shape=(96, 96, 24))
    recipe = UNet2dRecipe(labels=LABELS, size=64, spacing=4.0)
    store = open_slices(CaseFolder.read(tmp_path).cases, recipe, tmp_path / "cache", progress=False)
    plain = StructureDataset(store, recipe)
    with_some = StructureDataset(store, dataclasses.replace(recipe, superpixels=0.5))
    changed = [not torch.equal(plain[number]["label"], with_some[number]["label"]) for number in range(60)]
    assert 10 < sum(changed) < 40


def test_as_many_samples_as_the_recipe_says_come_with_a_name_and_superpixels_have_none(tmp_path):
    write_phantoms(tmp_path, shape=(96, 96, 24))
    recipe = UNet2dRecipe(labels=LABELS, size=64, spacing=4.0)
    store = open_slices(CaseFolder.read(tmp_path).cases, recipe, tmp_path / "cache", progress=False)
    plain, drawn = StructureDataset(store, recipe), dataclasses.replace(recipe, superpixels=0.5)
    named, mixed = (StructureDataset(store, dataclasses.replace(some, named=0.75)) for some in (recipe, drawn))
    called = 0
    for number in range(60):
        sample, other = named[number], mixed[number]
        assert torch.equal(sample["label"], plain[number]["label"]), "the samples are the same"
        assert sample["name"] in {"", *LABELS}
        called += bool(sample["name"])
        assert other["name"] == (sample["name"] if torch.equal(other["label"], sample["label"]) else "")
    assert 35 < called < 55
    assert "name" not in plain[0]


def test_as_many_samples_as_the_recipe_says_are_strained_and_the_others_stay_as_they_were(tmp_path):
    write_phantoms(tmp_path, shape=(96, 96, 24))
    recipe = UNet2dRecipe(labels=LABELS, size=64, spacing=4.0, named=0.75)
    store = open_slices(CaseFolder.read(tmp_path).cases, recipe, tmp_path / "cache", progress=False)
    plain, some, all_of_them = (
        StructureDataset(store, dataclasses.replace(recipe, strained=share)) for share in (0.0, 0.4, 1.0)
    )
    strained = 0
    for number in range(60):
        usual, mixed, hard = plain[number], some[number], all_of_them[number]
        assert usual["name"] == mixed["name"] == hard["name"]
        if not torch.equal(mixed["image"], usual["image"]):
            strained += 1
            assert torch.equal(mixed["image"], hard["image"])
            assert torch.equal(mixed["label"], hard["label"])
        assert hard["label"].unique().tolist() == [0, 1]
    assert 12 < strained < 36


def test_strained_samples_are_in_the_images_own_units(tmp_path):
    write_phantoms(tmp_path, shape=(96, 96, 24))
    recipe = UNet2dRecipe(labels=LABELS, size=64, spacing=4.0)
    store = open_slices(CaseFolder.read(tmp_path).cases, recipe, tmp_path / "cache", progress=False)
    plain, hard = (StructureDataset(store, dataclasses.replace(recipe, strained=share)) for share in (0.0, 1.0))

    def inside(samples):
        return torch.stack([one["image"][one["label"] == 1].median() for one in map(samples.__getitem__, range(40))])

    assert abs(inside(hard).median() - inside(plain).median()) < 40


def test_more_than_all_of_the_samples_cannot_be_superpixels():
    with pytest.raises(ValueError, match="superpixels must be a share from 0 to 1"):
        UNet2dRecipe(labels=LABELS, superpixels=1.5)
