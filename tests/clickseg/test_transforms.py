"""Random changes that all trainings share."""

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from clickseg.methods.unet2d import UNet2dRecipe
from clickseg.transforms import CropAroundLabeld, RandTurnd, SlicesOnModelGridd, augment, cut


@pytest.mark.parametrize(("dimension", "frayed_at_most"), [(2, 5e-4), (3, 1e-3)])
def test_the_border_of_a_turned_structure_does_not_fray(dimension, frayed_at_most):
    """The nearest voxel's label gives .0011 in 2D and .006 in 3D."""
    places = torch.meshgrid(*[torch.arange(40)] * dimension, indexing="ij")
    half = (sum(places) < 20 * dimension - 1).float()[None]
    change = RandTurnd(half.shape[1:], 0.7, (0.26,) * (2 * dimension - 3), (0.15,) * dimension)
    turned = [change.set_random_state(seed=seed)({"image": half, "label": half})["label"] for seed in range(10)]
    inner = [np.asarray(label[0][(slice(4, -4),) * dimension]) > 0 for label in turned]
    frayed = [
        np.not_equal(ndimage.uniform_filter(part.astype(float), 3) > 0.5, part)[(slice(1, -1),) * dimension]
        for part in inner
    ]
    assert sum(not torch.equal(label, half) for label in turned) > 4
    assert max(map(np.mean, frayed)) < frayed_at_most


@pytest.mark.parametrize(("strained", "most"), [(False, 0.2), (True, 0.3)])
def test_training_of_slices_grows_and_shrinks_each_axis_by_itself(strained, most):
    (turn,) = (each for each in augment(UNet2dRecipe(size=16), strained) if isinstance(each, RandTurnd))
    scales = []
    for seed in range(200):
        voxels = torch.as_tensor(turn.set_random_state(seed=seed).grid((16, 16)))[:2]
        scales.append([(voxels[:, 1, 0] - voxels[:, 0, 0]).norm(), (voxels[:, 0, 1] - voxels[:, 0, 0]).norm()])
    for of_axis in np.array(scales).T:
        assert 1 - most <= of_axis.min() < 1 - most * 0.9
        assert 1 + most * 0.9 < of_axis.max() <= 1 + most
    assert abs(np.corrcoef(np.array(scales).T)[0, 1]) < 0.2


@pytest.mark.parametrize("corner", [(2, 2), (2, 17), (17, 9)])
def test_a_structure_is_not_turned_out_of_its_crop(corner):
    image, label = torch.rand(1, 20, 20), torch.zeros(1, 20, 20)
    label[(0, *corner)] = 1
    turn, lost = RandTurnd((16, 16), 1.0, (0.5,), (0.3, 0.3)), 0
    for seed in range(40):
        found = turn.set_random_state(seed=seed)({"image": image, "label": label})
        assert found["label"].any()
        if torch.equal(found["image"], image[:, 2:-2, 2:-2]):
            lost += 1
            assert torch.equal(found["label"], label[:, 2:-2, 2:-2])
    assert 0 < lost < 40


def test_a_turn_keeps_the_numbers_of_classes():
    label = torch.zeros(1, 30, 30)
    label[0, 5:25, 5:15], label[0, 5:25, 15:25] = 3, 1
    change = RandTurnd((30, 30), 1.0, (0.26,), (0.2,))
    for seed in range(5):
        turned = change.set_random_state(seed=seed)({"image": label, "label": label})["label"]
        assert turned.shape == label.shape
        assert set(turned.unique().tolist()) == {0, 1, 3}, "between 3 and 1 there is no 2"


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_crop_wholly_inside_an_organ_stays_wholly_labelled_however_it_is_turned(dimension):
    inside = torch.ones(1, *[20] * dimension)
    change = RandTurnd(inside.shape[1:], 1.0, (0.5,) * (2 * dimension - 3), (0.3,) * dimension)
    for seed in range(20):
        turned = change.set_random_state(seed=seed)({"image": inside, "label": inside})
        assert (turned["label"] == 1).all(), "what the crop cuts through does not end at its border"
        assert (turned["image"] > 0.999).all()


@pytest.mark.parametrize(("rotation", "scale"), [(0.26, 0.15), (0.5, 0.3)])
@pytest.mark.parametrize("size", [(20, 20), (24, 16), (20, 16, 12)])
def test_a_turned_crop_shows_what_lies_beside_it_and_makes_nothing_up(size, rotation, scale):
    dimension, generator = len(size), torch.Generator().manual_seed(0)
    image = torch.rand(1, *[80] * dimension, generator=generator)
    label = (image > 0.5).float()
    change = RandTurnd(size, 1.0, (rotation,) * (2 * dimension - 3), (scale,) * dimension)

    def turned(margin, seed):
        crops = {
            key: cut(whole, (30,) * dimension, size, margin) for key, whole in {"image": image, "label": label}.items()
        }
        return change.set_random_state(seed=seed)(crops)

    made_up = 0
    for seed in range(10):
        enough, more = turned(change.margin, seed), turned((30,) * dimension, seed)
        assert enough["image"].shape == enough["label"].shape == (1, *size)
        torch.testing.assert_close(enough["image"], more["image"], atol=1e-4, rtol=0)
        assert (enough["label"] != more["label"]).float().mean() < 0.001, "rounding aside"
        made_up += not torch.allclose(turned((0,) * dimension, seed)["image"], more["image"], atol=1e-4)
    assert made_up >= 8, "without what lies beside it, some of it would be made up"


def test_an_axis_that_nothing_is_turned_out_of_has_a_margin_for_its_scale_alone():
    assert RandTurnd((128, 128, 16), 0.7, (0.0, 0.0, 0.26), (0.15,) * 3).margin[2] == 2
    assert RandTurnd((128, 128, 16), 0.7, (0.26, 0.0, 0.0), (0.15,) * 3).margin[0] == 10


@pytest.mark.parametrize("prob", [0.5, 0.8])
@pytest.mark.parametrize("dimension", [2, 3])
def test_turns_go_both_ways_alike(dimension, prob):
    """MONAI's RandAffine, set by a seed for each sample, turns the first axis one way: it draws its angle twice."""
    place = torch.linspace(-1, 1, 16)
    places = torch.meshgrid(*[place] * dimension, indexing="ij")
    image, across = places[-1][None], places[-2]  # a turn tilts what rises along the last axis; in 3D round the first
    change = RandTurnd(image.shape[1:], prob, (0.3,) if dimension == 2 else (0.3, 0.0, 0.0), (0.0,))
    signs = []
    for seed in range(300):
        turned = change.set_random_state(seed=seed)({"image": image, "label": torch.zeros_like(image)})["image"]
        tilt = float((turned * across).mean())
        if abs(tilt) > 1e-3:
            signs.append(tilt > 0)
    assert 0.6 * prob * 300 < len(signs)
    assert 0.4 < np.mean(signs) < 0.6


def test_a_crop_that_is_not_turned_is_its_middle():
    image = torch.arange(400.0).reshape(1, 20, 20)
    crops = {"image": cut(image, (5, 6), (8, 6), (3, 3)), "label": cut(image, (5, 6), (8, 6), (3, 3))}
    kept = RandTurnd((8, 6), 0.0, (0.3,), (0.2,))(crops)
    assert torch.equal(kept["image"], image[:, 5:13, 6:12])
    assert torch.equal(kept["label"], image[:, 5:13, 6:12])


@pytest.mark.parametrize("shape", [(10, 40), (40, 10), (10, 13)])
def test_a_slice_smaller_than_the_crop_is_padded_by_repetition_in_image_and_label_alike(shape):
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    label = (image > 0.5).float()
    crop = CropAroundLabeld(32)
    for seed in range(5):
        cut = crop.set_random_state(seed=seed)({"image": image, "label": label, "class": 1})
        assert cut["image"].shape == cut["label"].shape == (1, 32, 32)
        assert torch.equal(cut["label"], (cut["image"] > 0.5).float()), "the label goes on wherever the image does"
        for axis, count in enumerate(shape, start=1):
            if count < 32:
                added = cut["image"].narrow(axis, count, 32 - count)
                assert torch.equal(added, cut["image"].narrow(axis, count - 1, 1).expand_as(added))


@pytest.mark.parametrize(("brightest", "kept"), [(32767, np.int16), (60000, np.float32)])
def test_slices_are_kept_as_short_numbers_only_if_those_hold_their_values(tmp_path, brightest, kept):
    values = np.zeros((8, 8, 3), np.uint16)
    values[2:6, 2:6] = brightest
    for name in ("image", "label"):
        nib.save(nib.Nifti1Image(values if name == "image" else (values > 0).astype(np.uint8), np.eye(4)),
                 tmp_path / f"{name}.nii.gz")  # fmt: skip
    slices = SlicesOnModelGridd(1.0)({name: tmp_path / f"{name}.nii.gz" for name in ("image", "label")})
    assert slices["image"].dtype == kept
    assert slices["image"].max() == brightest
