"""Structures for training that nobody has drawn."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage

from clickseg.datasets import CaseFolder, StructureDataset, open_slices
from clickseg.methods import UNet2dRecipe
from clickseg.phantom import LABELS, write_phantoms
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
    disc = sample()["image"][0].numpy() > 200
    masks = [drawn(seed)["label"][0].numpy() > 0 for seed in range(30)]
    overlaps = [2 * (mask & disc).sum() / (mask.sum() + disc.sum()) for mask in masks]
    assert max(overlaps) > 0.85


def test_the_same_seed_draws_the_same_and_the_image_stays():
    assert torch.equal(drawn(5)["label"], drawn(5)["label"])
    assert torch.equal(drawn(5)["image"], sample()["image"])
    assert torch.equal(drawn(5, prob=0.0)["label"], sample()["label"])


def test_a_training_draws_as_many_as_its_recipe_says(tmp_path):
    write_phantoms(tmp_path, shape=(96, 96, 24))
    recipe = UNet2dRecipe(labels=LABELS, size=64, spacing=4.0)
    store = open_slices(CaseFolder.read(tmp_path).cases, recipe, tmp_path / "cache", progress=False)
    plain = StructureDataset(store, recipe)
    with_some = StructureDataset(store, dataclasses.replace(recipe, superpixels=0.5))
    changed = [not torch.equal(plain[number]["label"], with_some[number]["label"]) for number in range(60)]
    assert 10 < sum(changed) < 40


def test_more_than_all_of_the_samples_cannot_be_superpixels():
    with pytest.raises(ValueError, match="superpixels must be a share from 0 to 1"):
        UNet2dRecipe(labels=LABELS, superpixels=1.5)
