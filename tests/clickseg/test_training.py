import contextlib
import csv
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from clickseg import cli
from clickseg.clicks import PADDING, SakinisUser, SimulateClickd
from clickseg.datasets import CaseFolder
from clickseg.files import held_alone
from clickseg.interaction import interact
from clickseg.methods import UNet2dRecipe, learnt_from, load_model, save_weights
from clickseg.methods.unet2d import ENTRY, NAMES, UNet2d, dice_loss
from clickseg.phantom import LABELS
from clickseg.samples import GlobalOrder, StructureDataset, open_slices
from clickseg.training import Clock, Interact, Plan, build_trainer, click_schedule
from clickseg.training import run as around_steps
from clickseg.training.interact import click_loss
from clickseg.training.processes import join_processes

TINY = UNet2dRecipe(
    labels=LABELS, width=4, size=32, spacing=16.0, batch=4, steps_per_epoch=3, max_clicks=3, learning_rate=1e-2
)
EPOCHS = 4


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "recipe.json"
    path.write_text(json.dumps(TINY.to_dict()))
    return path


def train(cases, output, recipe=TINY, epochs=EPOCHS, **options):
    """The loss of every step."""
    losses = []
    trainer = build_trainer("unet2d", recipe, cases, Plan(output, epochs=epochs, progress=False, **options))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output["loss"]))
    trainer.run()
    return losses


def state_of(path):
    return torch.load(path, weights_only=True)["state"]


def assert_same_tensors(path, other):
    first, second = state_of(path), state_of(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.fixture(scope="module")
def uninterrupted(cases, tmp_path_factory):
    """The folder of a run that nothing happened to, and its losses."""
    output = tmp_path_factory.mktemp("runs") / "uninterrupted"
    return output, train(cases, output)


@pytest.fixture(scope="module")
def environment(repository):
    return os.environ | {"PYTHONPATH": str(repository / "apps/clickseg"), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def begin(starter, environment, tmp_path):
    """begin(*arguments): Python as a process of its own, and the file with all that it says."""

    def begin(*arguments):
        return starter.start(arguments, environment, tmp_path, tmp_path / "log"), tmp_path / "log"

    return begin


def run_to_its_end(environment, *commands, timeout=200):
    """The exit status of each, run at the same time, and the end of their messages.

    Who does not end is told to, and stops its workers: so are the others once one has failed, for whom they would wait.
    A launcher that does not listen, because it waits for its like, is killed.
    """
    with contextlib.ExitStack() as stack:
        messages = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in commands]
        processes = [
            subprocess.Popen(arguments, env=environment, stdout=file, stderr=file)
            for arguments, file in zip(commands, messages, strict=True)
        ]
        deadline = time.monotonic() + timeout
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            if any(process.poll() for process in processes):
                break
            time.sleep(0.1)
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
        statuses = [process.wait() for process in processes]
        for file in messages:
            file.seek(0)
        return statuses, "\n".join(file.read()[-3000:] for file in messages)


# Who clicks when


@pytest.mark.parametrize("max_clicks", [1, 3, 5])
def test_the_chance_to_click_falls_linearly_with_the_turn(max_clicks):
    generator = torch.Generator().manual_seed(0)
    schedule = click_schedule(max_clicks, "skip", torch.rand(max_clicks, 20_000, generator=generator))
    expected = torch.tensor([1 - turn / max_clicks for turn in range(max_clicks)])
    torch.testing.assert_close(schedule.float().mean(1), expected, atol=0.012, rtol=0)
    assert schedule[0].all()


def test_skipping_means_that_every_turn_is_drawn_for_itself():
    draws = torch.rand(4, 20_000, generator=torch.Generator().manual_seed(0))
    schedule = click_schedule(4, "skip", draws).float()
    together = (schedule[1] * schedule[2]).mean()
    assert together == pytest.approx(0.75 * 0.5, abs=0.012)
    assert ((1 - schedule[1]) * schedule[2]).mean() == pytest.approx(0.25 * 0.5, abs=0.012)


def test_stopping_means_that_who_sat_out_is_done():
    draws = torch.rand(4, 20_000, generator=torch.Generator().manual_seed(0))
    schedule = click_schedule(4, "stop", draws)
    assert not (schedule[1:] & ~schedule[:-1]).any()
    expected = torch.tensor([1, 0.75, 0.75 * 0.5, 0.75 * 0.5 * 0.25])
    torch.testing.assert_close(schedule.float().mean(1), expected, atol=0.012, rtol=0)


@pytest.mark.parametrize(("reading", "expected"), [("skip", [1, 0, 1, 0]), ("stop", [1, 0, 0, 0])])
def test_the_two_readings_differ_for_who_is_drawn_again(reading, expected):
    draws = torch.tensor([[0.99], [0.8], [0.4], [0.3]])
    assert click_schedule(4, reading, draws)[:, 0].int().tolist() == expected


# One step


class Step:
    """What ignite hands to an iteration: a network that notes how it was used."""

    def __init__(self, freeze=False, **recipe):
        torch.manual_seed(0)
        self.recipe = dataclasses.replace(TINY, **recipe)
        self.network = UNet2d(self.recipe)
        self.uses = []
        self.network.network.register_forward_hook(self.note)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1)
        self.loss_function = dice_loss
        self.state = SimpleNamespace(device=torch.device("cpu"))
        self.recipe = dataclasses.replace(self.recipe, freeze_batchnorm=freeze)
        self.interact = Interact.of(self.recipe, SimulateClickd(self.recipe.user(1.0)))

    def note(self, module, inputs, output):
        self.uses.append((module.training, output.requires_grad, len(output), inputs[0].detach()))

    def run(self, batch):
        return self.interact(self, batch)


def squares(number=4):
    label = torch.zeros(number, 1, 32, 32)
    for index in range(number):
        label[index, 0, 4 + index : 14, 6:20] = 1
    image = label * 100 - 50 + torch.randn(label.shape, generator=torch.Generator().manual_seed(1)) * 5
    return {"image": image, "label": label, "seed": torch.arange(number) + 40}


def test_a_step_plays_without_gradients_in_evaluation_mode_and_then_learns_once():
    step = Step()
    step.run(squares())
    *played, learned = step.uses
    assert len(played) in (1, 2)
    assert all(use[:2] == (False, False) for use in played)
    assert learned[:3] == (True, True, 4)


@pytest.mark.usefixtures("single_precision")
def test_a_step_learns_from_the_clicks_of_its_game():
    step, batch = Step(), squares()
    draws = [torch.rand(3, generator=torch.Generator().manual_seed(int(seed))) for seed in batch["seed"]]
    schedule = click_schedule(3, step.recipe.reading, torch.stack(draws, dim=1))
    other = Step().network.eval()
    code = other.encode(batch["image"])
    *_, last = interact(other, code, batch["label"], step.interact.click, batch["seed"], 3, schedule)
    counts = (last.clicks[..., -1] != PADDING).sum(1)
    output = step.run(batch)
    assert output["clicks"] == pytest.approx(float(counts.float().mean()))
    assert counts.min() >= 1
    assert counts.unique().numel() > 1, "all alike: the schedule was not seen"
    guidance = step.uses[-1][3][:, 1:]
    logits_input = []
    other.network.register_forward_hook(lambda module, inputs, output: logits_input.append(inputs[0]))
    other.train()
    loss = dice_loss(other(batch["image"], last.clicks), batch["label"])
    torch.testing.assert_close(guidance, logits_input[0][:, 1:])
    assert output["loss"] == pytest.approx(float(loss), rel=1e-5)


def test_a_step_changes_the_weights_once():
    step, batch = Step(), squares()
    before = {name: tensor.clone() for name, tensor in step.network.named_parameters()}
    step.run(batch)
    for name, tensor in step.network.named_parameters():
        torch.testing.assert_close(tensor, before[name] - 0.1 * tensor.grad, msg=name)
    assert sum(float(tensor.grad.abs().sum()) for tensor in step.network.parameters()) > 0


def test_the_loss_near_clicks_sees_what_is_near_a_click_and_nothing_else():
    label = torch.zeros(2, 1, 20, 20, dtype=torch.int64)
    clicks = torch.tensor([[[5, 5, 1], [14, 14, 0]], [[10, 10, 1], [0, 0, PADDING]]])
    logits = torch.zeros(2, 2, 20, 20, requires_grad=True)
    loss = click_loss(logits, label, clicks)
    assert float(loss.detach()) == pytest.approx(np.log(2))  # undecided everywhere
    loss.backward()
    rows, columns = np.indices((20, 20))
    for item, positions in enumerate(([(5, 5), (14, 14)], [(10, 10)])):
        apart = [np.hypot(rows - row, columns - column) for row, column in positions]
        seen = logits.grad[item, 0].numpy() != 0
        np.testing.assert_array_equal(seen, np.min(apart, axis=0) <= 4)


def test_without_clicks_there_is_no_loss_near_them():
    nothing = torch.full((2, 1, 3), PADDING)
    assert float(click_loss(torch.randn(2, 2, 8, 8), torch.ones(2, 1, 8, 8), nothing)) == 0.0


def test_a_step_adds_the_loss_near_clicks_with_its_weight():
    plain, weighted = Step().run(squares()), Step(click_weight=0.5).run(squares())
    assert weighted["clicks"] == plain["clicks"]
    assert weighted["loss"] > plain["loss"] + 0.1


@pytest.mark.parametrize("freeze", [False, True])
def test_frozen_batch_statistics_do_not_move_and_others_do(freeze):
    step = Step(freeze=freeze)
    layers = [module for module in step.network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [layer.running_mean.clone() for layer in layers]
    for _ in range(2):
        step.run(squares())
    moved = [not torch.equal(layer.running_mean, old) for layer, old in zip(layers, before, strict=True)]
    assert len(moved) == 18
    assert not any(moved) if freeze else all(moved)


def test_the_loss_falls_when_one_sample_is_seen_again_and_again():
    step, batch = Step(), squares(1)
    step.optimizer = torch.optim.Adam(step.network.parameters(), lr=1e-2)
    losses = [step.run(batch)["loss"] for _ in range(60)]
    assert losses[0] > 0.3
    assert losses[-1] < 0.1


# The learning rate and the clock


def test_the_learning_rate_warms_up_holds_and_falls_to_zero():
    recipe = dataclasses.replace(TINY, decay=0.3, warmup=50)
    assert recipe.rate(0, 0.0) == pytest.approx(1 / 50)
    assert recipe.rate(24, 0.1) == pytest.approx(0.5)
    assert recipe.rate(500, 0.69) == 1
    assert recipe.rate(500, 0.85) == pytest.approx(0.5)
    assert recipe.rate(500, 1.0) == 0
    assert dataclasses.replace(recipe, decay=0.0).rate(500, 1.0) == 1
    assert dataclasses.replace(recipe, decay=0.0, warmup=0).rate(0, 0.0) == 1


def test_minutes_before_a_resumption_count(tmp_path):
    clock = Clock(Plan(tmp_path, minutes=1), steps_per_epoch=10, elapsed=45.0)
    assert 0.75 <= clock.progress(step=0) < 0.9


@pytest.mark.parametrize(
    "lengths", [{}, {"epochs": 1, "minutes": 1}, {"epochs": 0}, {"minutes": -1}, {"minutes": float("nan")}]
)
def test_a_plan_has_one_length_and_that_is_positive(tmp_path, lengths):
    with pytest.raises(ValueError, match=r"epochs|minutes"):
        Plan(tmp_path, **lengths)


# Samples


@pytest.fixture(scope="module")
def dataset(cases, tmp_path_factory):
    return StructureDataset(open_slices(cases, TINY, tmp_path_factory.mktemp("cache"), progress=False), TINY)


def test_a_sample_is_a_function_of_its_number_alone(dataset):
    first = [dataset[number] for number in (7, 3, 8)]
    dataset[100]
    for sample, number in zip(reversed(first), (8, 3, 7), strict=True):
        again = dataset[number]
        assert torch.equal(sample["image"], again["image"])
        assert torch.equal(sample["label"], again["label"])
        assert sample["seed"] == again["seed"]
    assert not torch.equal(first[0]["image"], first[1]["image"])


def test_every_sample_shows_one_structure_of_its_slice(dataset):
    for number in range(30):
        sample = dataset[number]
        assert sample["image"].shape == sample["label"].shape == (1, 32, 32)
        assert set(sample["label"].unique().tolist()) <= {0.0, 1.0}
        assert sample["seed"] >= 0
    assert sum(bool(dataset[number]["label"].any()) for number in range(30)) >= 28  # a turned crop may lose a tiny one


def test_the_processes_share_the_batches_of_one(study):
    """Rank-strided: together they see what one process sees, step by step."""

    def batches(rank, processes):
        order = iter(GlobalOrder(4, first_step=5, rank=rank, processes=processes))
        return [next(order) for _ in range(3)]

    alone = batches(0, 1)
    assert alone[0] == [20, 21, 22, 23]
    shares = [batches(rank, 2) for rank in range(2)]
    assert shares[0][0] == [20, 22]
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == alone
    with pytest.raises(ValueError, match="batch of 4 does not divide among 3"):
        GlobalOrder(4, processes=3)


# Whole runs


def test_a_run_leaves_weights_a_checkpoint_a_log_and_curves(uninterrupted, cases):
    output, losses = uninterrupted
    model = load_model(output / "weights.pt")
    assert model.recipe == TINY
    assert model.card["steps"] == EPOCHS * TINY.steps_per_epoch == len(losses)
    checkpoint = torch.load(output / "checkpoint.pt", weights_only=True)
    assert {"recipe", "state", "optimizer", "epoch", "step", "random"} <= checkpoint.keys()
    assert (checkpoint["epoch"], checkpoint["step"]) == (EPOCHS, len(losses))
    rows = (output / "log.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,step,seconds,loss")
    assert [row.split(",")[:2] for row in rows[1:]] == [[str(e), str(3 * e)] for e in range(1, EPOCHS + 1)]
    assert curve(output) == pytest.approx(losses, rel=1e-6)


def curve(output):
    """The loss of every step, as TensorBoard shows it."""
    events = EventAccumulator(str(output / "tensorboard")).Reload()
    return [event.value for event in events.Scalars("train/loss")]


def test_the_same_seed_trains_the_same_weights_and_another_seed_others(uninterrupted, cases, tmp_path):
    output, losses = uninterrupted
    assert train(cases, tmp_path / "again") == losses
    assert_same_tensors(tmp_path / "again" / "weights.pt", output / "weights.pt")
    assert train(cases, tmp_path / "other", dataclasses.replace(TINY, seed=1), epochs=1) != losses[:3]


def test_trainings_share_what_is_made_of_the_cases(cases, tmp_path):
    def kept():
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "shared").iterdir()}

    one = train(cases, tmp_path / "one", epochs=1, cache=tmp_path / "shared")
    made = kept()
    other = train(cases, tmp_path / "other", epochs=1, cache=tmp_path / "shared")
    assert made
    assert kept() == made
    assert one == other
    assert not (tmp_path / "one/cache").exists()


def test_a_resumed_run_ends_with_the_weights_of_one_that_was_never_interrupted(uninterrupted, cases, tmp_path):
    output, losses = uninterrupted
    # Stopped by an error in the middle of the third epoch, as a full disk or a power cut would.
    trainer = build_trainer("unet2d", TINY, cases, Plan(tmp_path, epochs=EPOCHS, progress=False))

    @trainer.on(Events.ITERATION_COMPLETED(once=8))
    def fail(engine):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    torch.manual_seed(999)  # whatever else happened in the meantime
    assert train(cases, tmp_path, resume=True) == losses[6:]
    assert_same_tensors(tmp_path / "checkpoint.pt", output / "checkpoint.pt")
    assert_same_tensors(tmp_path / "weights.pt", output / "weights.pt")


def test_an_epoch_that_could_not_be_saved_or_validated_is_in_the_log_once(cases, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError("no space left on device")

    train(cases, tmp_path, epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(around_steps, "write_atomically", full)
        with pytest.raises(OSError, match="no space left"):
            train(cases, tmp_path, epochs=2, resume=True)
    train(cases, tmp_path, epochs=2, resume=True)
    rows = (tmp_path / "log.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:2] for row in rows] == [["1", "3"], ["2", "6"]]
    with pytest.raises(OSError, match="no space left"):
        train(cases, tmp_path, epochs=3, resume=True, validate=full, validate_every=1)
    assert train(cases, tmp_path, epochs=3, resume=True) == [], "what the epoch taught is kept"


def test_no_validation_at_all_is_not_every_0_epochs(tmp_path):
    with pytest.raises(ValueError, match="validate_every must be 1 or more epochs, got 0"):
        Plan(tmp_path, epochs=1, validate_every=0)


def test_a_card_names_all_that_the_weights_have_learnt_from_whatever_was_resumed_and_started_from(cases, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    train(cases, first, epochs=1, card={"learnt": {"here": ["a", "b"]}})
    train(cases, first, epochs=2, resume=True, card={"learnt": {"here": ["b", "c"]}})
    assert load_model(first / "weights.pt").card["learnt"] == {"here": ["a", "b", "c"]}
    train(cases, second, epochs=1, init=first / "weights.pt", card={"learnt": {"there": ["a"]}})
    train(cases, second, epochs=2, resume=True, card={"learnt": {"there": ["a"]}})
    assert load_model(second / "weights.pt").card["learnt"] == {"here": ["a", "b", "c"], "there": ["a"]}


def test_cards_of_earlier_versions_are_read_and_so_are_their_checkpoints(cases, tmp_path):
    train(cases, tmp_path, epochs=1)
    model = load_model(tmp_path / "weights.pt")
    early = {"data": "here", "cases": ["a", "b"]}
    save_weights(tmp_path / "weights.pt", model.segmenter, model.recipe, early)
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del checkpoint["card"]
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    assert learnt_from(early) == {"here": ["a", "b"]}
    train(cases, tmp_path, epochs=2, resume=True, card={"learnt": {"here": ["c"]}})
    assert load_model(tmp_path / "weights.pt").card["learnt"] == {"here": ["a", "b", "c"]}


def test_a_finished_run_is_left_alone_when_resumed_and_says_so(uninterrupted, cases, caplog):
    output, _ = uninterrupted
    before = (output / "checkpoint.pt").read_bytes()
    assert train(cases, output, resume=True) == []
    assert f"{output}: finished before; to go on ask for more epochs or minutes" in caplog.text
    assert (output / "checkpoint.pt").read_bytes() == before


def test_a_finished_run_is_not_written_over(uninterrupted, cases):
    output, _ = uninterrupted
    with pytest.raises(ValueError, match=r"checkpoint\.pt exists: resume"):
        train(cases, output)


def test_a_run_that_is_going_on_is_not_resumed_beside_it(uninterrupted, cases):
    output = uninterrupted[0]
    before = (output / "log.csv").read_text()
    with held_alone(output, ""), pytest.raises(ValueError, match="another training writes there: wait for its end"):
        train(cases, output, epochs=EPOCHS + 1, resume=True)
    assert (output / "log.csv").read_text() == before


def test_resuming_where_nothing_is_begins_and_says_so(uninterrupted, cases, tmp_path, caplog):
    assert train(cases, tmp_path, resume=True, epochs=EPOCHS) == uninterrupted[1]
    assert f"no checkpoint in {tmp_path} to resume: a training begins" in caplog.text


def test_a_checkpoint_older_than_a_field_of_the_recipe_is_resumed_with_its_default(cases, tmp_path):
    train(cases, tmp_path)
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert checkpoint["recipe"].pop("freeze_batchnorm") is False
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    assert train(cases, tmp_path, resume=True) == []
    with pytest.raises(ValueError, match="freeze_batchnorm"):
        train(cases, tmp_path, dataclasses.replace(TINY, freeze_batchnorm=True), resume=True)


def test_minutes_that_end_within_an_epoch_still_publish_weights(cases, tmp_path):
    recipe = dataclasses.replace(TINY, steps_per_epoch=10_000)
    build_trainer("unet2d", recipe, cases, Plan(tmp_path, minutes=0.02, progress=False)).run()
    steps = load_model(tmp_path / "weights.pt").card["steps"]
    assert 0 <= steps < 10_000
    assert len(curve(tmp_path)) >= steps


def test_a_run_whose_minutes_are_over_is_left_alone_until_more_are_asked_for(cases, tmp_path):
    recipe = dataclasses.replace(TINY, steps_per_epoch=10_000)

    def run(minutes):
        trainer = build_trainer("unet2d", recipe, cases, Plan(tmp_path, minutes=minutes, resume=True, progress=False))
        first = trainer.state.iteration
        trainer.run()
        return first, {name: (tmp_path / name).read_bytes() for name in ("weights.pt", "checkpoint.pt")}

    _, done = run(0.02)
    steps = load_model(tmp_path / "weights.pt").card["steps"]
    assert steps > 0
    first, after = run(0.02)
    assert first == steps
    assert after == done
    first, _ = run(0.04)
    assert first == steps, "what was learnt in the epoch that was cut short is gone on from"
    assert load_model(tmp_path / "weights.pt").card["steps"] > steps
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert checkpoint["step"] == load_model(tmp_path / "weights.pt").card["steps"]


def test_a_run_that_goes_on_after_its_minutes_loses_no_step_and_ends_as_one_without_them(cases, tmp_path, monkeypatch):
    recipe = dataclasses.replace(TINY, decay=0.0)  # the learning rate does not depend on what was asked for
    losses = train(cases, tmp_path / "whole", recipe)
    with monkeypatch.context() as patch:
        patch.setattr(Clock, "progress", lambda self, step: step / 4)  # over within the second epoch
        build_trainer("unet2d", recipe, cases, Plan(tmp_path / "cut", minutes=1, progress=False)).run()
    assert train(cases, tmp_path / "cut", recipe, resume=True) == losses[4:]
    assert_same_tensors(tmp_path / "cut/weights.pt", tmp_path / "whole/weights.pt")
    rows = (tmp_path / "cut/log.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:2] for row in rows] == [[str(e), str(3 * e)] for e in range(1, EPOCHS + 1)]


def test_the_log_has_a_column_for_each_number_that_a_validation_finds(cases, tmp_path):
    found = iter([{"dice@2": 0.25, "dice@5": 0.5}, {"dice@20": 0.75}])
    train(cases, tmp_path, epochs=2, validate=lambda segmenter: next(found), validate_every=1)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [[row[name] for name in ("dice@2", "dice@5", "dice@20")] for row in rows] == [
        ["0.25", "0.5", ""],
        ["", "", "0.75"],
    ]


def test_weights_to_start_from_must_compute_what_the_recipe_asks_for(cases, tmp_path):
    torch.manual_seed(5)
    given = UNet2d(TINY)
    save_weights(tmp_path / "given.pt", given, dataclasses.replace(TINY, labels={"tumour": 1}, max_clicks=9))
    plan = Plan(tmp_path / "run", epochs=1, init=tmp_path / "given.pt", progress=False)
    trainer = build_trainer("unet2d", TINY, cases, plan)
    for name, tensor in trainer.network.state_dict().items():
        torch.testing.assert_close(tensor, given.state_dict()[name].half().to(tensor.dtype), msg=name)
    wider = dataclasses.replace(TINY, width=TINY.width + 2)
    build_trainer("unet2d", wider, cases, dataclasses.replace(plan, output=tmp_path / "wider"))
    with pytest.raises(ValueError, match=r"given\.pt were made with another width, sigma"):
        build_trainer("unet2d", dataclasses.replace(TINY, width=2, sigma=3.0), cases, plan)


def test_a_user_of_ones_own_may_click(cases, tmp_path):
    asked = []

    class Watched(SakinisUser):
        def __call__(self, *arguments):
            asked.append(len(arguments[1]))
            return super().__call__(*arguments)

    plan = Plan(tmp_path, epochs=1, progress=False)
    build_trainer("unet2d", TINY, cases, plan, click=SimulateClickd(Watched())).run()
    assert asked == [4] * 3 * 3


# Killed, and several processes


@pytest.mark.parametrize(
    ("how", "status", "said"),
    [
        (signal.SIGKILL, -signal.SIGKILL, ""),
        (signal.SIGINT, cli.STOPPED, "clickseg train: stopped; the same command with --resume goes on\n"),
    ],
)
def test_a_training_that_is_stopped_resumes_to_the_weights_of_an_uninterrupted_one(
    uninterrupted, study, recipe_file, begin, tmp_path, how, status, said
):
    arguments = ["--data", study, "--recipe", recipe_file, "--output", tmp_path, "--epochs", EPOCHS, "--device", "cpu"]
    process, log = begin("-m", "clickseg", "train", *arguments)
    try:
        deadline = time.monotonic() + 300
        while not (tmp_path / "checkpoint.pt").exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.send_signal(how)
        process.wait()
    assert process.returncode == status
    assert said in log.read_text()
    assert "Traceback" not in log.read_text()
    done = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"]
    assert 0 < done < EPOCHS * TINY.steps_per_epoch, "it was killed too late to show anything"
    assert cli.main(["train", *map(str, arguments), "--resume"]) == 0
    assert_same_tensors(tmp_path / "weights.pt", uninterrupted[0] / "weights.pt")
    assert_same_tensors(tmp_path / "checkpoint.pt", uninterrupted[0] / "checkpoint.pt")


TRAIN = """
import sys
from clickseg import cli

def work():
    assert cli.main(["train", *sys.argv[1:]]) == 0
"""
AS_TORCHRUN = """
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

alone = {"rdzv_backend": "c10d", "rdzv_endpoint": "127.0.0.1:0", "run_id": "forks", "max_restarts": 0}
elastic_launch(LaunchConfig(1, 1, 2, start_method="fork", **alone), work)()
"""


@pytest.fixture
def in_two_processes(begin, tmp_path):
    """in_two_processes(script, *arguments): the exit status once its `work` is done, and all that was said.

    As `torchrun --standalone --nproc-per-node 2` does it, but by forks, which need not import.
    """

    def run(script, *arguments, timeout=200):
        (tmp_path / "script.py").write_text(script + AS_TORCHRUN)
        process, log = begin(tmp_path / "script.py", *arguments)
        try:
            process.wait(timeout)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        return process.returncode, log.read_text()[-3000:]

    return run


def turns_needed(dataset, recipe, step, rank, processes):
    """How many times a process predicts in a step before it learns, at most: the last scheduled click but one."""
    number = GlobalOrder(recipe.batch, step, rank, processes)
    seeds = [dataset[sample]["seed"] for sample in next(iter(number))]
    draws = [torch.rand(recipe.max_clicks, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    schedule = click_schedule(recipe.max_clicks, recipe.reading, torch.stack(draws, dim=1))
    return int(schedule.any(1).sum()) - 1


def test_two_processes_have_the_loss_curve_of_one_with_the_same_batch(
    study, cases, dataset, in_two_processes, tmp_path
):
    """20 steps, with batch statistics frozen. The processes interact a different number of times in some steps, and
    would wait for each other for ever if the game were played through DistributedDataParallel."""
    recipe = dataclasses.replace(TINY, steps_per_epoch=20, freeze_batchnorm=True, learning_rate=1e-3)
    turns = [[turns_needed(dataset, recipe, step, rank, 2) for rank in range(2)] for step in range(20)]
    assert any(first != second for first, second in turns), "the processes play equally long: nothing is shown"
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    arguments = ["--data", study, "--recipe", tmp_path / "recipe.json", "--epochs", 1, "--device", "cpu"]
    status, messages = in_two_processes(TRAIN, *arguments, "--output", tmp_path / "two")
    assert status == 0, messages
    alone = train(cases, tmp_path / "one", recipe, epochs=1)
    together = curve(tmp_path / "two")
    assert len(together) == 20
    assert together == pytest.approx(alone, rel=1e-4)
    assert max(alone) - min(alone) > 0.01, "the loss does not move: nothing is shown"
    first, second = (state_of(tmp_path / name / "checkpoint.pt") for name in ("one", "two"))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=2e-3, rtol=2e-2, msg=name)
    log = [(tmp_path / name / "log.csv").read_text().splitlines()[1].split(",")[3] for name in ("one", "two")]
    assert float(log[1]) == pytest.approx(float(log[0]), rel=1e-3)


def test_two_nodes_have_the_loss_curve_of_one_with_the_same_batch(study, cases, environment, tmp_path):
    """Two launchers that know each other's address only, as on two machines; the folders are the same for both."""
    recipe = dataclasses.replace(TINY, freeze_batchnorm=True, named=0.3)  # here and there nobody says a name
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--data", study, "--recipe", tmp_path / "recipe.json", "--epochs", 1, "--device", "cpu"]
    meet = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    training = ["-m", "clickseg", "train", *map(str, arguments), "--output", str(tmp_path / "two")]
    nodes = [
        [sys.executable, "-m", "torch.distributed.run", *meet, "--node-rank", str(node), *training] for node in range(2)
    ]
    statuses, messages = run_to_its_end(environment, *nodes)
    assert statuses == [0, 0], messages
    assert curve(tmp_path / "two") == pytest.approx(train(cases, tmp_path / "one", recipe, epochs=1), rel=1e-4)


JOIN_AND_LEAVE = """
import torch
from torch import distributed
from clickseg.training.processes import join_processes, leave_processes

def work():
    join_processes(torch.device("cpu"))
    store, rank = distributed.distributed_c10d._get_default_store(), distributed.get_rank()
    leave_processes()
    for turn in range(100):
        fresh = distributed.PrefixStore(str(turn), store)
        distributed.init_process_group("gloo", store=fresh, rank=rank, world_size=2)
        network = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 3))
        network(torch.ones(2, 3)).sum().backward()
        leave_processes()
        del network
"""


def test_processes_that_leave_their_group_end(in_two_processes):
    """The network is freed after its group, as at the end of a training. Without a group that outlives it, processes
    stopped for ever within the first 30 turns."""
    status, messages = in_two_processes(JOIN_AND_LEAVE, timeout=100)
    assert status == 0, messages


# Bad input


@pytest.fixture
def broken(study, tmp_path):
    """A copy of the study to be broken, and how to train on it: the exit status."""
    for kind in ("imagesTr", "labelsTr"):
        (tmp_path / "study" / kind).mkdir(parents=True)
        for path in (study / kind).iterdir():
            (tmp_path / "study" / kind / path.name).write_bytes(path.read_bytes())
    (tmp_path / "study" / "dataset.json").write_bytes((study / "dataset.json").read_bytes())
    return tmp_path / "study"


def attempt(folder, recipe_file, *more):
    arguments = ["--data", folder, "--recipe", recipe_file, "--output", folder / "run", "--epochs", 1, *more]
    return cli.main(["train", *map(str, arguments)])


@pytest.fixture(scope="module")
def unlabelled_recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "recipe.json"
    path.write_text(json.dumps({name: value for name, value in TINY.to_dict().items() if name != "labels"}))
    return path


def test_a_label_of_another_shape_is_refused_by_name(broken, recipe_file, capsys):
    label = broken / "labelsTr" / "phantom_001.nii.gz"
    stored = nib.load(label)
    nib.save(nib.Nifti1Image(np.asarray(stored.dataobj)[:, :, 1:], stored.affine), label)
    assert attempt(broken, recipe_file) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in ("phantom_001.nii.gz", "(24, 24, 11)", "(24, 24, 12)"))


def test_a_label_that_lies_elsewhere_is_refused_by_name(broken, recipe_file, capsys):
    """The same shape, but flipped: its voxels would fall on other tissue without a word."""
    label = broken / "labelsTr" / "phantom_001.nii.gz"
    stored = nib.load(label)
    nib.save(nib.Nifti1Image(np.asarray(stored.dataobj), stored.affine @ np.diag([-1, 1, 1, 1])), label)
    assert attempt(broken, recipe_file) == 2
    assert "label phantom_001.nii.gz lies elsewhere" in capsys.readouterr().err


def test_a_label_with_values_that_are_no_labels_is_refused_by_name(broken, recipe_file, capsys):
    label = broken / "labelsTr" / "phantom_000.nii.gz"
    stored = nib.load(label)
    nib.save(nib.Nifti1Image(np.asarray(stored.dataobj).astype(np.int16) * 100, stored.affine), label)
    assert attempt(broken, recipe_file) == 2
    assert "label phantom_000.nii.gz has values outside 0..255" in capsys.readouterr().err


@pytest.mark.parametrize("named", [True, False])
def test_nothing_labelled_at_all_is_refused(broken, unlabelled_recipe, capsys, named):
    for label in (broken / "labelsTr").iterdir():
        stored = nib.load(label)
        nib.save(nib.Nifti1Image(np.zeros(stored.shape, np.uint8), stored.affine), label)
    if not named:
        (broken / "dataset.json").unlink()
    assert attempt(broken, unlabelled_recipe) == 2
    assert "none of the labels" in capsys.readouterr().err


def test_an_image_without_its_label_is_refused_by_name(broken, recipe_file, capsys):
    (broken / "labelsTr" / "phantom_001.nii.gz").unlink()
    assert attempt(broken, recipe_file) == 2
    assert "phantom_001" in capsys.readouterr().err
    assert attempt(broken, recipe_file, "--cases", "phantom_000") == 0


def test_a_folder_without_labels_is_refused_by_name(broken, recipe_file, capsys):
    for label in (broken / "labelsTr").iterdir():
        label.unlink()
    (broken / "labelsTr").rmdir()
    assert attempt(broken, recipe_file) == 2
    assert "labelsTr is missing" in capsys.readouterr().err


def test_an_unknown_case_is_refused_with_the_known_ones(study, recipe_file, capsys):
    assert attempt(study, recipe_file, "--cases", "phantom_000,phantom_009") == 2
    error = capsys.readouterr().err
    assert "no image for case phantom_009" in error
    assert "phantom_001" in error


def test_labels_without_names_get_some(broken, unlabelled_recipe):
    (broken / "dataset.json").unlink()
    assert attempt(broken, unlabelled_recipe) == 0
    labels = load_model(broken / "run" / "weights.pt").recipe.labels
    assert labels == {f"label {value}": value for value in range(1, len(LABELS) + 1)}


def test_resuming_with_another_recipe_is_refused_and_says_what_differs(uninterrupted, study, tmp_path, capsys):
    other = dataclasses.replace(TINY, learning_rate=0.5, max_clicks=2)
    (tmp_path / "other.json").write_text(json.dumps(other.to_dict()))
    before = (uninterrupted[0] / "checkpoint.pt").read_bytes()
    arguments = ["--data", study, "--recipe", tmp_path / "other.json", "--output", uninterrupted[0], "--epochs", 9]
    assert cli.main(["train", *map(str, arguments), "--resume"]) == 2
    assert "made with another recipe (it differs in max_clicks, learning_rate)" in capsys.readouterr().err
    assert (uninterrupted[0] / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--epochs", "0"], "epochs must be positive"),
        (["--minutes", "1"], "either epochs or minutes"),
        (["--device", "abacus"], "unknown device 'abacus'"),
        (["--device", "cuda:77"], "'cuda:77' is not available"),
        (["--init", "nowhere.pt"], "no weights file at nowhere.pt"),
        (["--recipe", "nowhere.json"], "nowhere.json"),
        (["--method", "astrology"], "unknown method 'astrology'; known: unet2d"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(study, recipe_file, tmp_path, capsys, more, complaint):
    assert attempt(study, recipe_file, "--output", tmp_path, *more) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "checkpoint.pt").exists()


# A network that reads its answer before the last click

FEEDBACK = dataclasses.replace(TINY, feedback=True)


def test_the_game_gives_such_a_network_the_answers_that_a_replay_would_give():
    torch.manual_seed(0)
    network = UNet2d(FEEDBACK).eval()
    image, label = torch.randn(3, 1, 32, 32) * 100, torch.zeros(3, 1, 32, 32)
    label[:, :, 8:20, 8:20] = 1
    code = network.encode(image)
    for turn in interact(network, code, label, SimulateClickd(SakinisUser()), torch.arange(3), 4):
        torch.testing.assert_close(turn.logits, network.decode(code, turn.clicks), atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("single_precision")
@pytest.mark.parametrize("reading", ["skip", "stop"])
def test_such_a_network_learns_from_the_answer_that_its_last_click_was_made_for(reading):
    torch.manual_seed(0)
    network = UNet2d(FEEDBACK)
    image, label = torch.randn(24, 1, 32, 32) * 100, torch.zeros(24, 1, 32, 32)
    label[:, :, 8:20, 8:20] = 1
    step = Interact.of(dataclasses.replace(FEEDBACK, reading=reading))
    clicks, previous = step.play(network, image, label, torch.arange(24))
    counts = (clicks[..., -1] != PADDING).sum(1)
    assert counts.unique().numel() > 1, "images of one click and of several"
    torch.testing.assert_close(previous, network.replay(network.encode(image), clicks), atol=1e-5, rtol=1e-5)
    assert previous[counts == 1].max() < 1e-6


@pytest.mark.usefixtures("single_precision")
@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("reading", ["stop", "skip"])
def test_with_second_looks_half_of_those_who_click_once_learn_from_the_networks_own_first_answer(most, reading):
    recipe = dataclasses.replace(FEEDBACK, looks=2, max_clicks=most, reading=reading)
    torch.manual_seed(0)
    network = UNet2d(recipe)
    image, label = torch.randn(48, 1, 32, 32) * 100, torch.zeros(48, 1, 32, 32)
    label[:, :, 8:20, 8:20] = 1
    clicks, previous = Interact.of(recipe).play(network, image, label, torch.arange(48))
    once = (clicks[..., -1] != PADDING).sum(1) == 1
    read = once & (previous.flatten(1).amax(1) > 1e-6)
    assert 0.25 < read.sum() / once.sum() < 0.75, f"{read.sum()} of {once.sum()}"
    nothing = torch.zeros_like(previous)
    first = network.look(network.encode(image), clicks, nothing).softmax(1)[:, 1:]
    torch.testing.assert_close(previous[read], first[read], atol=1e-5, rtol=1e-5)
    replayed = network.replay(network.encode(image), clicks)
    torch.testing.assert_close(previous[~once], replayed[~once], atol=1e-5, rtol=1e-5)


def test_such_a_network_can_start_from_weights_that_never_read_an_answer(cases, uninterrupted, tmp_path):
    output, _ = uninterrupted
    trained, losses = tmp_path / "feedback", []
    plan = Plan(trained, epochs=1, progress=False, init=output / "weights.pt")
    trainer = build_trainer("unet2d", FEEDBACK, cases, plan)
    before = load_model(output / "weights.pt").segmenter
    code, clicks = torch.randn(1, 1, 32, 32), torch.tensor([[[5, 6, 1], [9, 20, 0]]])
    with torch.no_grad():
        torch.testing.assert_close(trainer.network.eval().decode(code, clicks), before.decode(code, clicks))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output["loss"]))
    trainer.run()
    assert np.isfinite(losses).all()
    learned = state_of(trained / "weights.pt")[ENTRY]
    assert learned[:, 3].any(), "and it learns to read it"
    with pytest.raises(ValueError, match="another feedback"):
        build_trainer("unet2d", TINY, cases, Plan(tmp_path / "back", epochs=1, init=trained / "weights.pt"))


@pytest.mark.usefixtures("single_precision")
def test_a_network_learns_what_structures_are_called(cases, tmp_path):
    recipe = dataclasses.replace(TINY, named=0.75)
    build_trainer("unet2d", recipe, cases, Plan(tmp_path / "one", epochs=1, progress=False)).run()
    tables = [value for name, value in state_of(tmp_path / "one" / "weights.pt").items() if name.startswith(NAMES)]
    assert tables
    for table in tables:
        assert not table[0].any(), "no name stays no name"
        assert table[1:].any()


def test_a_training_that_loses_its_numbers_ends_and_keeps_the_weights_of_its_last_epoch(cases, tmp_path):
    """As float16 overflows, or a learning rate that is too high ends."""
    trainer = build_trainer("unet2d", TINY, cases, Plan(tmp_path / "run", epochs=3, progress=False))

    def spoil(engine):
        with torch.no_grad():
            engine.network.network.head.weight.fill_(float("nan"))

    trainer.add_event_handler(Events.EPOCH_STARTED(once=2), spoil)
    with pytest.raises(ValueError, match=r"the loss is nan at step \d+: look for odd images"):
        trainer.run()
    for name in ("weights.pt", "checkpoint.pt"):
        assert all(value.isfinite().all() for value in state_of(tmp_path / "run" / name).values())


def test_who_waits_for_the_cases_to_be_prepared_waits_for_a_day(monkeypatch):
    asked = {}
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, **options: asked.update(options))
    join_processes(torch.device("cpu"))
    assert asked["timeout"] >= timedelta(hours=20)


@pytest.mark.parametrize(("window", "dtype"), [((0.0, 1.0), np.float32), ((-125.0, 275.0), np.int16)])
def test_images_are_rounded_to_whole_numbers_only_where_that_does_no_harm(tmp_path, window, dtype):
    values = np.random.default_rng(0).random((16, 16, 6)).astype(np.float32) * (window[1] - window[0]) + window[0]
    for kind, array in (("imagesTr", values), ("labelsTr", (values > values.mean()).astype(np.uint8))):
        (tmp_path / kind).mkdir()
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / kind / "mr.nii.gz")
    recipe = dataclasses.replace(TINY, labels={"bright": 1}, spacing=1.0, window=window)
    (case,) = CaseFolder.read(tmp_path).cases
    stored = open_slices([case], recipe, tmp_path / "cache", progress=False)[0]["image"]
    assert stored.dtype == dtype
    seen = UNet2d(recipe).encode(torch.from_numpy(np.array(stored))) * recipe.deviation
    right = UNet2d(recipe).encode(torch.from_numpy(values)) * recipe.deviation
    assert np.abs(np.sort(seen.ravel()) - np.sort(right.ravel())).max() < (window[1] - window[0]) / 100


def test_with_fewer_gpus_than_processes_the_training_is_refused_in_words(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="3 processes or more on a machine with 2 GPUs: one each, or --device cpu"):
        join_processes(torch.device("cuda"))


@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda", "nccl")])
def test_the_group_is_of_the_device_that_is_trained_on_whatever_else_the_machine_has(monkeypatch, device, backend):
    asked = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", asked.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, timeout: asked.append(backend))
    _, _, own = join_processes(torch.device(device))
    assert asked[-1] == backend
    assert own == (torch.device("cuda", 1) if device == "cuda" else torch.device("cpu"))
