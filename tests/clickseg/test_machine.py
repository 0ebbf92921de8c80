import sys

import nibabel as nib
import numpy as np
import psutil
import pytest
import torch

from clickseg import Session, VolumeSession, machine
from clickseg.clicks.users import innermost
from clickseg.machine import half_precision, pick_device, present_values, zeros
from clickseg.metrics import dice
from clickseg.phantom import LABELS, phantom


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("count", [0, 1, 5000, 2**22 + 3])
def test_zeros_are_zeros_and_can_be_written_to(count, scattered):
    found = zeros(count, scattered)
    assert found.dtype == np.uint8
    assert found.shape == (count,)
    assert not found.any()
    found[-1:] = 7
    assert found.sum() == 7 * bool(count)
    assert not zeros(count, scattered).any()


@pytest.mark.parametrize("turn", [np.asfortranarray, np.ascontiguousarray, lambda label: label[::2, :, ::-1]])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_the_values_of_a_label_map_are_found_and_those_of_bytes_without_sorting_them(monkeypatch, turn, dtype):
    label = np.zeros((6, 5, 4), dtype)
    label[4, 2, 1], label[2, 4, 3], label[0, 0, 0] = 255, 7, 1
    if dtype == np.uint8:
        monkeypatch.delattr(np, "unique")
        monkeypatch.setattr(machine, "PIECE", 7)
    assert present_values(turn(label)) == [1, 7, 255]
    assert present_values(turn(np.zeros_like(label))) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they are numpy's")
def test_zeros_that_nobody_writes_to_take_no_memory_and_the_others_give_it_back():
    process, size = psutil.Process(), 2**28
    before = process.memory_info().rss
    found = zeros(size)
    found[:4096] = 1
    assert process.memory_info().rss - before < size / 2
    found[:] = 1
    assert process.memory_info().rss - before > size / 2
    del found
    assert process.memory_info().rss - before < size / 2


@pytest.mark.parametrize("instructions", ["_is_amx_tile_supported", "_is_avx512_bf16_supported"])
def test_networks_run_in_bfloat16_where_the_processor_multiplies_it(monkeypatch, instructions):
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == instructions, raising=False)
    with half_precision("cpu"):
        assert torch.is_autocast_enabled("cpu")
    monkeypatch.setattr(torch.cpu, instructions, lambda: False)
    with half_precision("cpu"):
        assert not torch.is_autocast_enabled("cpu")


emulated = pytest.mark.skipif(
    not machine.cpu_multiplies_bfloat16(),
    reason="no instructions for bfloat16: in 3D their emulation takes many minutes",
)


@pytest.mark.parametrize(
    ("session", "weights"), [(Session, "unet2d"), pytest.param(VolumeSession, "tis_abdomen", marks=emulated)]
)
def test_the_shipped_weights_give_nearly_the_same_mask_in_either_number_format(tmp_path, monkeypatch, session, weights):
    patient = phantom(seed=0, shape=(96, 96, 40))
    liver = patient.label == LABELS["liver"]
    i, j, k = (slice(found.min(), found.max() + 1) for found in liver.nonzero())
    box = i, j, slice(k.start - 4, k.stop + 4)  # more than one patch high
    image, place = tmp_path / "liver.nii.gz", innermost(liver[box])
    nib.save(nib.Nifti1Image(patient.image[box], patient.affine), image)
    masks = []
    for fast in (False, True):
        monkeypatch.setattr(machine, "cpu_multiplies_bfloat16", lambda fast=fast: fast)
        opened = session.open(image, weights)
        masks.append(opened.predict_labels({"liver": [place]}, opened.recipe.labels) == opened.recipe.labels["liver"])
    assert masks[0].any()
    assert dice(*masks) > 0.98


@pytest.mark.parametrize("name", ["abacus", "mps", "meta", 1, None, ["cpu"]])
def test_a_device_that_is_none_of_ours_is_refused(name):
    with pytest.raises(ValueError, match="use auto, cpu, cuda or cuda:N"):
        pick_device(name)
