"""Training and playing in 3D."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from torch.nn import functional

from clickseg.cli import main
from clickseg.datasets import CaseFolder
from clickseg.evaluation import Protocol, evaluate
from clickseg.images import read_volume
from clickseg.methods import METHODS, load_model
from clickseg.methods.tis import Tis, TisRecipe
from clickseg.phantom import LABELS
from clickseg.training import Interact, Plan, build_trainer, click_schedule
from clickseg.volumes import (
    CodeDataset,
    PatchDataset,
    augment3d,
    collate,
    collate_for,
    even_planes,
    read_case,
    store_volumes,
)

RECIPE = TisRecipe(
    labels=LABELS, spacing=16.0, patch=(16, 16, 8), width=4, tokens=8, heads=2, layers=2, steps_per_epoch=4, copies=2,
    max_clicks=3,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def weights_that_are_the_same_on_all_processors():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clickseg.machine.cpu_multiplies_bfloat16", lambda: False)
        yield


@pytest.fixture(scope="module")
def store(cases, tmp_path_factory):
    return store_volumes(cases, RECIPE, tmp_path_factory.mktemp("store"), progress=False)


def train(cases, output, recipe, epochs=2, **options):
    losses = []
    trainer = build_trainer("tis", recipe, cases, Plan(output, epochs=epochs, progress=False, **options))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output["loss"]))
    trainer.run()
    return losses


@pytest.fixture(scope="module")
def encoder(cases, tmp_path_factory):
    """Weights of a trained encoder, and its losses."""
    output = tmp_path_factory.mktemp("encoder")
    return output / "weights.pt", train(cases, output, RECIPE, epochs=12)


@pytest.fixture(scope="module")
def refiner(cases, encoder, tmp_path_factory):
    output = tmp_path_factory.mktemp("refiner")
    recipe = dataclasses.replace(RECIPE, stage="refiner")
    return output / "weights.pt", train(cases, output, recipe, epochs=12, init=encoder[0])


def test_a_patch_is_made_from_its_number_alone_and_has_the_size_of_the_recipe(store):
    first, second = PatchDataset(store, RECIPE), PatchDataset(store, RECIPE)
    for number in (3, 0, 7):
        one, other = first[number], second[number]
        assert one["image"].shape == one["label"].shape == (1, 16, 16, 8)
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])
        assert one["label"].dtype == torch.int64
    labels = torch.stack([first[number]["label"] for number in range(8)])
    assert set(labels.unique().tolist()) <= set(range(len(LABELS) + 1))
    assert len(labels.unique()) > 2


def test_as_many_of_an_encoders_patches_are_strained_as_the_recipe_says(store):
    plain = PatchDataset(store, RECIPE)
    some = PatchDataset(store, dataclasses.replace(RECIPE, strained=0.25))
    used = []
    for strained, transforms in enumerate(some.transforms):
        transforms.transforms = (lambda sample, strained=strained: used.append(strained) or sample,)
    for number in range(200):
        some[number]
    assert 0.15 < np.mean(used) < 0.35
    plain.transforms[True] = None  # without a share nothing is drawn for it, and patches are what they were
    assert plain[0]["image"].shape == (1, 16, 16, 8)


@pytest.mark.parametrize(("value", "dtype"), [(261, np.int16), (1.5, np.float32), (np.nan, np.float32)])
def test_a_label_map_whose_values_would_wrap_is_refused_by_name(cases, tmp_path, value, dtype):
    case = cases[0]
    label, grid = read_volume(case.label)
    changed = label.astype(dtype)
    changed[0, 0, 0] = value
    nib.save(nib.Nifti1Image(changed, grid.affine), tmp_path / "label.nii.gz")
    with pytest.raises(ValueError, match=r"label label.nii.gz has values outside 0..255, or that are not whole"):
        read_case(dataclasses.replace(case, label=tmp_path / "label.nii.gz"), RECIPE)


def test_codes_are_kept_on_disk_and_made_again_for_another_encoder(store):
    recipe = dataclasses.replace(RECIPE, stage="refiner")
    torch.manual_seed(0)
    network = Tis(recipe)
    before = {path.name for path in store.folder.glob("*.code.npy")}
    dataset = CodeDataset(store, recipe, network, progress=False)
    made = {path.name for path in store.folder.glob("*.code.npy")} - before
    assert len(made) == len(dataset.codes) == 4
    sample = dataset[0]
    assert sample["image"].shape[0] == RECIPE.width + len(LABELS) + 1
    assert sample["image"].shape[1:] == sample["label"].shape[1:]
    CodeDataset(store, recipe, network, progress=False)
    assert {path.name for path in store.folder.glob("*.code.npy")} - before == made
    CodeDataset(store, recipe, Tis(recipe), progress=False)
    assert len({path.name for path in store.folder.glob("*.code.npy")} - before) == 8


@pytest.mark.parametrize("change", [{"seed": 7}, {"augment": False}, {"overlap": 0.25}])
def test_codes_are_made_again_for_a_recipe_that_makes_others(cases, tmp_path, change):
    recipe = dataclasses.replace(RECIPE, stage="refiner", copies=1)
    store = store_volumes(cases[:1], recipe, tmp_path, progress=False)
    network = Tis(recipe)
    CodeDataset(store, recipe, network, progress=False)
    CodeDataset(store, dataclasses.replace(recipe, **change), network, progress=False)
    assert len(list(tmp_path.glob("*.code.npy"))) == 2


def test_codes_that_do_not_fit_on_the_disk_are_made_when_they_are_drawn(cases, tmp_path):
    recipe = dataclasses.replace(RECIPE, stage="refiner")
    store = store_volumes(cases, RECIPE, tmp_path, progress=False)
    torch.manual_seed(0)
    network = Tis(recipe)
    dataset = CodeDataset(store, recipe, network, progress=False)
    whole = [dataset[number]["image"] for number in range(8)]
    paths = sorted(tmp_path.glob("*.code.npy"))
    most = sum(path.stat().st_size for path in [*paths[:2], *tmp_path.glob("*-0-*.label.npy")])
    for path in paths:
        path.unlink()
    bounded = CodeDataset(store, recipe, network, progress=False, most_bytes=most)
    assert len(list(tmp_path.glob("*.code.npy"))) == 2
    for number, image in enumerate(whole):
        assert torch.equal(bounded[number]["image"], image)


def test_hard_copies_are_made_beside_the_others_and_leave_those_as_they_were(cases, tmp_path):
    recipe = dataclasses.replace(RECIPE, stage="refiner", copies=1)
    store, network = store_volumes(cases, recipe, tmp_path, progress=False), Tis(recipe)
    plain = CodeDataset(store, recipe, network, progress=False)
    mixed = CodeDataset(store, dataclasses.replace(recipe, hard_copies=3), network, progress=False)
    assert len(mixed.codes) == 4 * len(cases) == 4 * len(plain.codes)
    assert len(list(tmp_path.glob("*-hard?-*.code.npy"))) == 3 * len(cases)
    for before, after in zip(plain.codes, mixed.codes, strict=False):
        assert np.array_equal(before()["code"], after()["code"])


def test_a_strained_volume_is_changed_more_than_an_augmented_one(store):
    volume = {name: torch.as_tensor(np.asarray(store[0][name], dtype=np.float32))[None] for name in ("image", "label")}
    changes = {"augmented": [], "strained": []}
    for seed in range(12):
        for name, strained in (("augmented", False), ("strained", True)):
            change = augment3d(RECIPE, volume["image"].shape[1:], strained)
            change.set_random_state(seed=seed)
            changed = change(dict(volume))
            assert changed["image"].shape == changed["label"].shape == volume["image"].shape
            assert set(changed["label"].unique().tolist()) <= set(volume["label"].unique().tolist())
            changes[name].append(float((changed["image"] - volume["image"]).abs().mean()))
    assert np.mean(changes["strained"]) > 1.5 * np.mean(changes["augmented"])


def test_volumes_of_thick_slices_are_turned_within_their_slices_alone(store):
    assert even_planes((3.0, 3.0, 3.0)) == [True, True, True]
    assert even_planes((0.8, 0.8, 5.0)) == [False, False, True]
    assert even_planes((4.0, 1.0, 1.2)) == [True, False, False]
    label = torch.zeros(1, 24, 24, 24)
    label[:, 4:20, 4:20, 12:] = 1  # its floor is a slice's: a turn round another axis would tilt it
    for spacing, level in ((16.0, False), ((1.0, 1.0, 4.0), True)):
        change = augment3d(dataclasses.replace(RECIPE, spacing=spacing), (24, 24, 24))
        floors = []
        for seed in range(12):
            change.set_random_state(seed=seed)
            changed = change({"image": torch.zeros(1, 24, 24, 24), "label": label.clone()})["label"][0]
            floors.append(len(changed[8:16, 8:16].argmax(-1).unique()))
        assert (max(floors) == 1) == level


def test_a_crop_of_the_codes_holds_an_error_of_some_structure(store):
    recipe = dataclasses.replace(RECIPE, stage="refiner", crop=(6, 5, 40))
    torch.manual_seed(0)
    dataset = CodeDataset(store, recipe, Tis(recipe), progress=False)
    seen = set()
    for number in range(20):
        sample = dataset[number]
        label, automatic = sample["label"][0], sample["image"][recipe.width :].argmax(0)
        assert sample["image"].shape[1:] == label.shape
        assert label.shape[:2] == (6, 5)
        assert label.shape[2] <= 40, "a volume that is smaller is not enlarged"
        missed = (label > 0) & (automatic != label)
        assert missed.any()
        seen.update(label[missed].tolist())
    assert len(seen) > 1
    assert torch.equal(dataset[3]["image"], dataset[3]["image"])


def test_volumes_of_unlike_sizes_make_a_batch():
    samples = [
        {"image": torch.ones(3, *shape), "label": torch.ones(1, *shape, dtype=torch.int64), "seed": seed}
        for seed, shape in enumerate([(4, 6, 5), (5, 3, 5)])
    ]
    batch = collate(samples)
    assert batch["image"].shape == (2, 3, 5, 6, 5)
    assert batch["label"].shape == (2, 1, 5, 6, 5)
    assert batch["image"].flatten(1).sum(1).tolist() == [3 * 120, 3 * 75]
    assert batch["seed"].tolist() == [0, 1]


def test_from_what_is_added_to_a_smaller_volume_nothing_is_learnt():
    samples = [
        {"image": torch.randn(4 + 3, side, 4, 4), "label": torch.zeros(1, side, 4, 4).long(), "seed": 1}
        for side in (4, 8)
    ]
    batch = collate(samples, background=4)
    logits, label = batch["image"][:1, 4:], batch["label"][:1, 0]
    added = functional.cross_entropy(logits, label, reduction="none")[:, 4:]
    assert torch.equal(batch["image"][0, :, :4], samples[0]["image"])
    assert float(added.max()) < 1e-6
    assert torch.equal(batch["image"][1], samples[1]["image"])
    assert collate_for(dataclasses.replace(RECIPE, stage="refiner")).keywords == {"background": RECIPE.width}
    assert collate_for(RECIPE).keywords == {"background": None}


def test_codes_are_those_of_the_files_and_of_no_other_case_beside(cases, tmp_path):
    """Labels are corrected, and data sets that share a cache have cases of one name."""
    folders = [tmp_path / name for name in ("data", "other")]
    for folder in folders:
        for part, files in (("imagesTr", (cases[0].image,)), ("labelsTr", (cases[0].label,))):
            (folder / part).mkdir(parents=True)
            for file in files:
                shutil.copy(file, folder / part / "case.nii.gz")
    recipe = dataclasses.replace(RECIPE, copies=1, augment=False, stage="refiner")
    network = Tis(recipe).eval()

    def labelled(folder):
        store = store_volumes(CaseFolder.read(folder).cases, recipe, tmp_path / "cache", progress=False)
        return int((CodeDataset(store, recipe, network, progress=False)[0]["label"] > 0).sum())

    before = labelled(folders[0])
    corrected = nib.load(folders[1] / "labelsTr/case.nii.gz")
    values = np.zeros(corrected.shape, np.uint8)
    nib.save(nib.Nifti1Image(values, corrected.affine), folders[1] / "labelsTr/case.nii.gz")
    assert before > 0
    assert labelled(folders[1]) == 0
    assert labelled(folders[0]) == before
    shutil.copy(folders[1] / "labelsTr/case.nii.gz", folders[0] / "labelsTr/case.nii.gz")
    assert labelled(folders[0]) == 0


def test_a_copy_is_the_same_whichever_cases_are_trained_on_beside_it(cases, tmp_path):
    recipe, network = dataclasses.replace(RECIPE, copies=1, stage="refiner"), Tis(RECIPE).eval()
    alone, both = (
        CodeDataset(store_volumes(chosen, recipe, tmp_path / name, progress=False), recipe, network, progress=False)
        for name, chosen in (("alone", cases[1:2]), ("both", cases[:2]))
    )
    assert np.array_equal(alone.codes[0]()["label"], both.codes[1]()["label"])


def test_workers_that_would_have_to_encode_on_a_gpu_are_refused_before_hours_of_encoding(cases, tmp_path):
    recipe = dataclasses.replace(RECIPE, stage="refiner")
    store, network = store_volumes(cases, recipe, tmp_path, progress=False), Tis(recipe)
    on_gpu = SimpleNamespace(encoder=network.encoder, parameters=lambda: iter([SimpleNamespace(is_cuda=True)]))
    with pytest.raises(ValueError, match=r"worker processes cannot do on a GPU: --workers 0, or more room"):
        CodeDataset(store, recipe, on_gpu, progress=False, most_bytes=10, workers=2)


def test_any_number_of_clicks_up_to_k_is_as_likely_as_another():
    schedule = click_schedule(5, "uniform", torch.rand(5, 20000, generator=torch.Generator().manual_seed(0)))
    counts = torch.bincount(schedule.sum(0), minlength=6)[1:]
    assert counts.sum() == 20000
    assert (counts - 4000).abs().max() < 300
    assert torch.equal(schedule.cummin(0).values, schedule), "who stops has stopped"


def test_each_stage_trains_its_own_part_and_leaves_the_other_alone(encoder, refiner):
    states = [torch.load(path)["state"] for path in (encoder[0], refiner[0])]
    same = {
        part: [torch.equal(states[0][k], states[1][k]) for k in states[0] if k.startswith(part)]
        for part in ("encoder", "refiner")
    }
    assert all(same["encoder"])
    assert not all(same["refiner"])
    for _, losses in (encoder, refiner):
        assert np.isfinite(losses).all()
    assert np.mean(encoder[1][-6:]) < np.mean(encoder[1][:6])


def test_an_interrupted_training_of_the_refiner_ends_with_the_same_weights(cases, encoder, tmp_path):
    recipe = dataclasses.replace(RECIPE, stage="refiner", quick=1.0)
    train(cases, tmp_path / "whole", recipe, epochs=2, init=encoder[0])
    stop = build_trainer("tis", recipe, cases, Plan(tmp_path / "half", epochs=2, progress=False, init=encoder[0]))
    stop.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda engine: engine.terminate())
    stop.run()
    train(cases, tmp_path / "half", recipe, epochs=2, resume=True)
    whole, half = (torch.load(tmp_path / run / "weights.pt")["state"] for run in ("whole", "half"))
    assert all(torch.equal(whole[name], half[name]) for name in whole)


def test_a_volume_is_played_with_all_its_classes_and_more_clicks_do_not_hurt(study, refiner, tmp_path):
    report = evaluate("tis", refiner[0], study, tmp_path, Protocol(clicks=(0, 1, 5, 10), user="liu")).report
    assert set(report["labels"]) == set(LABELS)
    dice = [report["mean"][clicks]["dice"] for clicks in ("0", "1", "5", "10")]
    assert dice[0] < dice[2] < dice[3]
    assert report["mean"]["5"]["dice_volume"] == pytest.approx(report["mean"]["5"]["dice"])


def test_both_stages_and_the_game_from_the_command_line(study, tmp_path, capsys):
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({**RECIPE.to_dict(), "steps_per_epoch": 1, "labels": {}}))
    start = ["train", "--method", "tis", "--data", str(study), "--epochs", "1", "--recipe", str(recipe)]
    assert main([*start, "--stage", "encoder", "--output", str(tmp_path / "e")]) == 0
    more = ["--stage", "refiner", "--init", str(tmp_path / "e/weights.pt"), "--output", str(tmp_path / "r")]
    assert main([*start, *more]) == 0
    assert load_model(tmp_path / "r/weights.pt").recipe.stage == "refiner"
    assert main([*start, *more, "--resume"]) == 0, "its checkpoint has the encoder, too"
    assert main([*start, "--stage", "refiner", "--output", str(tmp_path / "n")]) == 2
    assert "a refiner is trained on an encoder that has learnt: name the weights" in capsys.readouterr().err
    assert main([*start, "--stage", "both", "--output", str(tmp_path / "n")]) == 2
    assert main(["train", "--data", str(study), "--stage", "encoder", "--output", str(tmp_path / "n")]) == 2
    assert capsys.readouterr().err.endswith("the method unet2d is trained in one go, without stages\n")
    game = ["evaluate", "--method", "tis", "--data", str(study), "--weights", str(tmp_path / "r/weights.pt")]
    assert main([*game, "--clicks", "0,1", "--output", str(tmp_path / "report")]) == 0
    assert json.loads((tmp_path / "report/report.json").read_text())["user"] == "liu", "in 3D, where nobody is named"
    assert main([*game, "--user", "sakinis", "--clicks", "0,1", "--output", str(tmp_path / "report")]) == 2
    assert "user sakinis clicks for one structure at a time" in capsys.readouterr().err


@pytest.mark.parametrize("present", [(True, False), (False, False)], ids=["one of two", "none"])
def test_a_refiner_learns_from_studies_without_the_structure_too(cases, tmp_path, present):
    """Where the automatic segmentation rightly finds nothing, there is nothing to click and nothing to learn."""
    recipe = dataclasses.replace(RECIPE, stage="refiner", copies=1, batch=2)
    torch.manual_seed(0)
    network = Tis(recipe)
    classes, width = 1 + len(LABELS), recipe.width
    code = torch.randn(2, width + classes, 8, 8, 8)
    code[:, width:] = 0
    code[:, width] = 9.0
    label = torch.zeros(2, 1, 8, 8, 8, dtype=torch.int64)
    for item, there in enumerate(present):
        label[item, :, 2:5, 2:5, 2:5] = int(there)
    batch = {"image": code, "label": label, "seed": torch.tensor([1, 2])}
    engine = SimpleNamespace(
        state=SimpleNamespace(device=torch.device("cpu")),
        network=network,
        optimizer=METHODS["tis"].optimizer(recipe, network),
        loss_function=METHODS["tis"].loss(recipe),
    )
    step = Interact.of(recipe)
    for _ in range(3):
        assert np.isfinite(step(engine, batch)["loss"])
    learnt = [value for value in network.parameters() if value.requires_grad]
    assert all(value.grad is not None and value.grad.isfinite().all() for value in learnt)
    assert any(value.grad.abs().sum() > 0 for value in learnt) == any(present)
