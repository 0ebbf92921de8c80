import dataclasses
import json
import logging

import nibabel as nib
import numpy as np
import pytest
import torch
from monailabel.interfaces.datastore import DefaultLabelTag

from clickseg import files
from clickseg.labelled import LabelledImage
from clickseg.methods import METHODS, learnt_from, load_model, save_weights
from clickseg.methods.tis import TisRecipe
from lib.server.datastore import careful
from lib.trainers import click
from lib.trainers.click import ClickTrainTask
from lib.trainers.labels import labelled_images, whole_studies
from lib.trainers.wishes import Wishes
from lib.weights import Weights

ONE_EPOCH = {"max_epochs": 1, "device": "cpu"}


@pytest.fixture
def task(weights):
    return ClickTrainTask("unet2d", "unet2d", weights)


@pytest.fixture
def labelled(datastore, tmp_path):
    """Both images with a box of spleen, saved without names."""
    values = np.zeros((24, 20, 12), np.uint8)
    values[6:16, 6:16, 3:9] = 1
    path = tmp_path / "label.nii.gz"
    nib.save(nib.Nifti1Image(values, np.diag([3, 2, 5, 1])), path)
    for name in ("a", "b"):
        datastore.save_label(name, str(path), DefaultLabelTag.FINAL, {})
    return datastore


def learnt(weights):
    """The ids of the studies that the weights in use have learnt from."""
    return set().union(*learnt_from(load_model(weights.current).card).values())


def test_training_publishes_other_weights_of_the_same_recipe(task, labelled, weights):
    before = load_model(weights.current)
    stats = task(ONE_EPOCH, labelled)
    after = load_model(weights.current)
    assert after.recipe == before.recipe
    assert learnt(weights) == {"a", "b"}
    assert not torch.equal(before.segmenter.network.head.weight, after.segmenter.network.head.weight)
    assert (stats["epoch"], stats["total_epochs"]) == (1, 1)
    assert stats == task.stats()
    assert task.stats()["total_time"] > 0


def test_what_is_saved_while_a_training_prepares_its_cases_is_not_learnt_under_the_names_of_before(
    task, labelled, tmp_path, monkeypatch
):
    """Its voxels are read minutes after its names."""
    store, build = careful(labelled), click.build_trainer

    def saved_meanwhile(method, recipe, cases, plan):
        seen = [np.asarray(nib.load(case.label).dataobj) for case in cases]
        values = np.full((24, 20, 12), 4, np.uint8)
        nib.save(nib.Nifti1Image(values, np.diag([3, 2, 5, 1])), tmp_path / "other.nii.gz")
        for name in ("a", "b"):
            store.save_label(name, str(tmp_path / "other.nii.gz"), DefaultLabelTag.FINAL.value, {})
        for case, before in zip(cases, seen, strict=True):
            np.testing.assert_array_equal(np.asarray(nib.load(case.label).dataobj), before)
        return build(method, recipe, cases, plan)

    monkeypatch.setattr(click, "build_trainer", saved_meanwhile)
    task(ONE_EPOCH, store)


def test_weights_that_were_put_there_by_hand_stay_when_a_training_replaces_them(task, labelled, weights):
    by_hand = weights.trained.read_bytes()
    for name in ("first", "second"):
        task({**ONE_EPOCH, "name": name}, labelled)
    (aside,) = weights.trained.parent.glob("*.replaced")
    assert aside.read_bytes() == by_hand, "and what the first training made lies in its folder"


def test_nothing_is_left_of_a_run_but_its_results(task, labelled, weights):
    task({**ONE_EPOCH, "name": "trial"}, labelled)
    (run,) = (weights.trained.parent / "runs/unet2d/trial").iterdir()
    assert {"checkpoint.pt", "weights.pt", "log.csv"} <= {path.name for path in run.iterdir()}
    assert not (run / "cache").exists()
    left = [path.name for path in (weights.trained.parent / "runs/unet2d").glob(".*")]
    assert left in ([], [".lock"]), "nor of what was made for it"


def test_nothing_is_left_of_runs_that_failed_or_were_killed(task, labelled, weights, monkeypatch):
    runs = weights.trained.parent / "runs/unet2d"
    killed = runs / ".scratch/cache/codes.npy"
    killed.parent.mkdir(parents=True)
    killed.write_bytes(b"x")
    monkeypatch.setattr(click, "publish", lambda *paths: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        task(ONE_EPOCH, labelled)
    assert not killed.parent.parent.exists()


def test_two_servers_of_one_folder_of_weights_do_not_train_at_once(task, labelled, weights):
    other = ClickTrainTask("unet2d", "unet2d", weights)
    with task._scratch(keep=False) as (data, _):
        (data / "images").mkdir()
        with pytest.raises(ValueError, match="unet2d is being trained already, by another server"):
            other(ONE_EPOCH, labelled)
        assert (data / "images").is_dir(), "the data of the one that goes on is there"
    assert other(ONE_EPOCH, labelled)["epoch"] == 1


def test_a_second_run_of_the_same_name_does_not_disturb_the_first(task, labelled, weights):
    for _ in range(2):
        task(ONE_EPOCH, labelled)
    assert len(list((weights.trained.parent / "runs/unet2d/train_01").iterdir())) == 2


def test_an_interrupted_run_is_resumed_when_asked_to(task, labelled, weights, monkeypatch):
    monkeypatch.setattr(click, "publish", lambda *paths: None)  # as if killed before it published
    task(ONE_EPOCH, labelled)
    stats = task({**ONE_EPOCH, "max_epochs": 2, "resume": True}, labelled)
    assert stats["epoch"] == 2
    assert len(list((weights.trained.parent / "runs/unet2d/train_01").iterdir())) == 1


def test_what_a_resumed_run_has_learnt_from_stays_known_when_its_label_is_gone(task, labelled, weights):
    task({**ONE_EPOCH, "pretrained": False}, labelled)
    labelled.remove_label("a", DefaultLabelTag.FINAL)
    task({**ONE_EPOCH, "pretrained": False, "max_epochs": 2, "resume": True}, labelled)
    assert learnt(weights) == {"a", "b"}


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_share_of_the_images_is_kept_out_of_training_and_validated_on(task, labelled, weights, share):
    stats = task({**ONE_EPOCH, "val_split": share}, labelled)
    assert len(learnt(weights)) == 1
    assert 0 <= stats["dice@1"] <= 1
    assert stats["best_metric"] == stats["dice@5"]


def test_what_was_kept_out_stays_out_when_labels_come_and_what_was_learnt_is_never_measured_on(caplog):
    images = [LabelledImage(f"image_{number}", None, None) for number in range(40)]

    def split(count, learnt=()):
        return {item.id for item in click._split(images[:count], 0.25, frozenset(learnt))[1]}

    early = split(20)
    trained = {item.id for item in images[:20]} - early
    assert (len(early), len(split(40, trained))) == (5, 10)
    assert not split(40, trained) & trained
    assert len(early & split(22)) >= 4, "two more images do not deal the cards anew"
    assert split(40, [item.id for item in images[:38]]) == {"image_38", "image_39"}
    assert "2 of 10 images to keep out" in caplog.text


def test_the_next_training_measures_on_nothing_that_the_last_has_learnt(task, labelled, weights):
    first = task({**ONE_EPOCH, "val_split": 0.5}, labelled)
    early = learnt(weights)
    again = task({**ONE_EPOCH, "val_split": 0.5, "name": "again"}, labelled)
    assert learnt(weights) == early
    assert {"best_metric"} <= set(first) & set(again)
    task({**ONE_EPOCH, "name": "all"}, labelled)
    assert learnt(weights) == {"a", "b"}
    assert "best_metric" not in task({**ONE_EPOCH, "val_split": 0.5, "name": "too late"}, labelled)


def test_without_labels_training_is_refused_and_nothing_is_published(task, datastore, weights):
    before = weights.trained.read_bytes()
    for refuse in (task.check, lambda store: task(ONE_EPOCH, store)):
        with pytest.raises(ValueError, match="no labels to train on"):
            refuse(datastore)
    assert weights.trained.read_bytes() == before


def test_wishes_that_do_not_work_are_refused(task, labelled):
    with pytest.raises(ValueError, match="max_epochs must be"):
        task({**ONE_EPOCH, "max_epochs": 0}, labelled)


def test_weights_that_do_not_load_do_not_take_info_down(task, weights):
    weights.trained.write_bytes(b"no weights")
    assert task.info()["labels"] == []
    assert task.stats() == {}


GPU_CASES = [
    # wishes, device, GPUs that there are, processes, what the log says
    ({}, "cpu", 4, 1, "the device is cpu"),
    ({"multi_gpu": False}, "cuda", 4, 1, "multi_gpu is off"),
    ({}, "cuda", 1, 1, "there is 1 GPU"),
    ({}, "cuda", 2, 2, "training in 2 processes"),
    ({"gpus": "0,2"}, "cuda", 4, 2, "training in 2 processes"),
    ({}, "cuda", 3, 2, "a batch of 2"),
]


@pytest.mark.parametrize("case", GPU_CASES, ids=str)
def test_one_process_per_gpu_and_the_log_says_why_there_is_only_one(weights, monkeypatch, caplog, case):
    wishes, device, gpus, processes, reason = case
    wishes = Wishes(device=device, **wishes)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with caplog.at_level(logging.INFO, logger="lib.trainers.click"):
        assert click._processes(wishes, weights.recipe) == processes
    assert reason in caplog.text


def test_what_is_wrong_in_one_of_several_processes_is_said_in_its_own_words(task, labelled, monkeypatch, capfd):
    """torchrun says a screen of other things after it, and bars would fill the server's log."""
    monkeypatch.setattr(click, "_processes", lambda *given: 2)
    monkeypatch.setattr(ClickTrainTask, "_recipe", lambda task, labels: dataclasses.replace(
        task.weights.recipe, labels=dict(labels), batch=3))  # fmt: skip
    with pytest.raises(RuntimeError, match="exit status 1: a batch of 3 does not divide among 2 processes"):
        task(ONE_EPOCH, labelled)
    assert "\r" not in capfd.readouterr().err


@pytest.mark.slow
def test_two_processes_train_and_publish_like_one(task, labelled, weights, monkeypatch):
    monkeypatch.setattr(click, "_processes", lambda *given: 2)
    stats = task(ONE_EPOCH, labelled)
    assert stats["epoch"] == 1
    assert load_model(weights.current).card["steps"] == 2


@pytest.fixture
def tis(tmp_path, monkeypatch):
    """A task with weights of a 3D method that knows the spleen."""
    monkeypatch.setenv("CLICKSEG_MODEL_DIR", str(tmp_path / "model"))
    torch.manual_seed(0)
    small = {"spacing": 12.0, "patch": (8, 8, 8), "width": 2, "tokens": 4, "heads": 2, "layers": 1, "copies": 1}
    recipe = TisRecipe(labels={"spleen": 1}, stage="refiner", steps_per_epoch=2, max_clicks=2, **small)
    weights = Weights("tis_spleen.pt")
    save_weights(weights.trained, METHODS["tis"].build(recipe), recipe)
    return ClickTrainTask("tis_spleen", "tis", weights)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_3d_method_learns_from_the_datastore_too(tis, labelled, share):
    before = load_model(tis.weights.current)
    stats = tis({**ONE_EPOCH, "val_split": share}, labelled)
    after = load_model(tis.weights.current)
    assert after.recipe == before.recipe
    changed = {name.split(".")[0] for name, value in after.segmenter.state_dict().items()
               if not torch.equal(value, before.segmenter.state_dict()[name])}  # fmt: skip
    assert changed == {"refiner"}
    assert ("best_metric" in stats) == bool(share)


def test_a_3d_method_says_which_labels_it_cannot_learn(tis, labelled):
    names = [{"name": "tumour", "idx": 1}]
    for name in ("a", "b"):
        labelled.update_label_info(name, DefaultLabelTag.FINAL, {"label_info": names})
    with pytest.raises(ValueError, match="tis_spleen knows spleen and cannot learn tumour as well"):
        tis(ONE_EPOCH, labelled)


def test_a_3d_method_learns_from_studies_with_nearly_all_of_its_labels_only(tis, labelled, datastore, tmp_path):
    """What nobody has marked would be learnt as background."""
    names = [{"name": "spleen", "idx": 1}]
    for name in ("a", "b"):
        labelled.update_label_info(name, DefaultLabelTag.FINAL, {"label_info": names})
    items = labelled_images(labelled)
    organs = ["spleen", "liver", "stomach", "aorta", "pancreas", "duodenum"]
    assert whole_studies(items, "tis", {"spleen": 1}, {}) == items
    assert whole_studies(items, "tis", {"Spleen": 1}, {}) == items, "it is spelt alike"
    with pytest.raises(ValueError, match="tis learns its 6 labels together, and no study has more than 1 of them"):
        whole_studies(items, "tis", {name: value for value, name in enumerate(organs, 1)}, {})
    image = nib.load(items[0].label)
    values = np.zeros(image.shape, np.uint8)
    values[0, 0, :5] = 1, 2, 3, 4, 5  # no duodenum
    nib.save(nib.Nifti1Image(values, image.affine), tmp_path / "five.nii.gz")
    five = LabelledImage("five", items[0].image, tmp_path / "five.nii.gz", [{"name": name} for name in organs[:5]])
    assert whole_studies([*items, five], "tis", {name: value for value, name in enumerate(organs, 1)}, {}) == [five]


def test_stats_tell_how_far_a_run_is(task, weights, tmp_path):
    (tmp_path / "run").mkdir()
    task._write_stats({"total_epochs": 50, "epoch": 0, "output": str(tmp_path / "run")})
    assert task.stats()["epoch"] == 0
    (tmp_path / "run/log.csv").write_text("epoch,loss,dice@5\n1,0.9,\n2,0.8,\n")
    assert json.loads(json.dumps(task.stats())) == {
        "total_epochs": 50,
        "epoch": 2,
        "loss": 0.8,
        "output": str(tmp_path / "run"),
    }


def test_images_kept_out_that_cannot_be_measured_do_not_cost_what_was_learnt(task, labelled, weights, tmp_path):
    empty = tmp_path / "empty.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((24, 20, 12), np.uint8), np.diag([3, 2, 5, 1])), empty)
    (out,) = (item.id for item in click._split(labelled_images(labelled), 0.5)[1])
    labelled.save_label(out, str(empty), DefaultLabelTag.FINAL, {})
    before = weights.trained.read_bytes()
    stats = task({**ONE_EPOCH, "val_split": 0.5}, labelled)
    assert weights.trained.read_bytes() != before
    assert "best_metric" not in stats
    assert stats["total_time"] > 0


def test_a_study_with_holes_trains_finite_weights(tis, labelled, tmp_path):
    path = tmp_path / "studies/a.nii.gz"
    values = np.asarray(nib.load(path).dataobj).astype(np.float32)
    values[:, :, :3] = np.nan
    nib.save(nib.Nifti1Image(values, np.diag([3, 2, 5, 1])), path)
    tis(ONE_EPOCH, labelled)
    assert all(value.isfinite().all() for value in load_model(tis.weights.current).segmenter.state_dict().values())


@pytest.mark.parametrize("torn", ["", "{", "[1]", "null"])
def test_a_file_of_stats_that_is_broken_is_as_good_as_none(task, torn):
    task._stats_path.write_text(torn)
    assert task.stats() == {}
    assert task.info()["labels"] == ["spleen", "liver"]
    assert task.log().epochs == []


def test_a_torn_line_of_the_log_and_what_is_no_number_are_left_out(task, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/log.csv").write_text("epoch,step,loss\n1,2,nan\n2,4,0.5\n,\nx,0.")
    task._write_stats({"total_epochs": 9, "output": str(tmp_path / "run")})
    assert task.log().epochs == [{"epoch": 1, "step": 2}, {"epoch": 2, "step": 4, "loss": 0.5}]
    json.dumps(task.stats(), allow_nan=False)


def test_stats_that_do_not_fit_on_the_disk_leave_the_earlier_ones(task, monkeypatch):
    task._write_stats({"total_epochs": 9})

    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        task._write_stats({"total_epochs": 10})
    assert task.stats() == {"total_epochs": 9}
    assert not list(task._stats_path.parent.glob(".*"))
