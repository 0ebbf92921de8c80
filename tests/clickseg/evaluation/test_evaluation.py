import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from clickseg.datasets import Case, CaseFolder
from clickseg.evaluation import Game, Protocol, Result, Task, find_tasks, make_report, tabulate
from clickseg.methods import load_model

ONE, TWO, THREE = (Case(name, Path(f"{name}.nii.gz"), Path(f"{name}.nii.gz")) for name in ("one", "two", "three"))


def result(case, name, number, dice, clicks=1, distance=1.0, overlap=10, total=40):
    task = Task(case, number, name, value=1)
    return Result(task, clicks, dice, iou=dice / 2, hd_mm=distance, mad_mm=distance, overlap=overlap, total=total)


def test_a_label_is_averaged_over_its_slices_of_all_cases_and_then_the_labels_are_averaged():
    results = [
        result(ONE, "liver", 0, 0.9),
        result(ONE, "liver", 1, 0.7),
        result(TWO, "liver", 0, 0.5),
        result(TWO, "aorta", 0, 0.3),
    ]
    report = make_report(results, Protocol(clicks=(1,)), {})
    assert report["labels"]["liver"]["1"]["dice"] == pytest.approx(0.7)
    assert report["mean"]["1"]["dice"] == pytest.approx((0.7 + 0.3) / 2)
    assert report["cases"]["one"] == {"liver": {"1": pytest.approx(report["cases"]["one"]["liver"]["1"])}}
    assert report["cases"]["one"]["liver"]["1"]["dice"] == pytest.approx(0.8)


def test_volume_dice_pools_the_voxels_of_a_case_before_it_averages_cases():
    results = [
        result(ONE, "liver", 0, 0.0, overlap=0, total=10),
        result(ONE, "liver", 1, 1.0, overlap=45, total=90),
        result(TWO, "liver", 0, 0.5, overlap=25, total=100),
    ]
    report = make_report(results, Protocol(clicks=(1,)), {})
    assert report["cases"]["one"]["liver"]["1"]["dice_volume"] == pytest.approx(0.9)
    assert report["mean"]["1"]["dice_volume"] == pytest.approx((0.9 + 0.5) / 2)


def test_an_undefined_distance_is_left_out_of_the_mean_and_counted():
    results = [result(ONE, "liver", 0, 0.9, distance=3.0), result(ONE, "liver", 1, 0.0, distance=math.nan)]
    report = make_report(results, Protocol(clicks=(1,)), {})
    assert report["mean"]["1"]["hd_mm"] == pytest.approx(3.0)
    assert report["mean"]["1"]["undefined"] == report["labels"]["liver"]["1"]["undefined"] == 1
    assert report["mean"]["1"]["dice"] == pytest.approx(0.45)


def test_a_report_is_json_even_when_nothing_is_defined():
    report = make_report([result(ONE, "liver", 0, 0.0, distance=math.nan)], Protocol(clicks=(1,)), {})
    assert json.loads(json.dumps(report, allow_nan=False))["mean"]["1"]["mad_mm"] is None


def test_the_interval_comes_from_drawing_patients_not_slices():
    same = [result(case, "liver", k, 0.2 + 0.6 * (k % 2)) for case in (ONE, TWO, THREE) for k in range(20)]
    report = make_report(same, Protocol(clicks=(1,)), {})
    assert report["interval"]["1"]["dice"] == [pytest.approx(0.5), pytest.approx(0.5)]
    values = {ONE: 0.2, TWO: 0.5, THREE: 0.8}
    apart = [result(case, "liver", k, value) for case, value in values.items() for k in range(20)]
    low, high = make_report(apart, Protocol(clicks=(1,)), {})["interval"]["1"]["dice"]
    assert (low, high) == (pytest.approx(0.2), pytest.approx(0.8))


@pytest.mark.parametrize("cases", [[ONE], [ONE, TWO]], ids=len)
def test_fewer_than_three_patients_have_means_and_no_interval(cases):
    report = make_report([result(case, "liver", 0, 0.9) for case in cases], Protocol(clicks=(1,)), {})
    assert report["mean"]["1"]["dice"] == pytest.approx(0.9)
    assert report["interval"]["1"]["dice"] == report["effort"]["interval"]["auc_dice"] == [None, None]


def test_every_draw_of_patients_behind_an_interval_has_a_figure_of_every_label():
    """Three patients have an easy organ, one alone a hard one: without it the mean would be of the easy organ alone."""
    cases = [Case(str(number), Path("a"), Path("a")) for number in range(3)]
    easy = [result(case, "easy", 0, 0.9) for case in cases]
    report = make_report([*easy, result(cases[0], "hard", 0, 0.1)], Protocol(clicks=(1,)), {})
    assert report["mean"]["1"]["dice"] == pytest.approx(0.5)
    assert report["interval"]["1"]["dice"] == [pytest.approx(0.5), pytest.approx(0.5)]
    assert report["effort"]["interval"]["auc_dice"] == [pytest.approx(0.5), pytest.approx(0.5)]


def test_a_label_without_a_figure_in_one_column_spares_the_draws_of_the_others():
    values = {1: (0.2, math.nan, math.nan), 5: (0.4, 0.8, 0.6)}  # clicks -> of each patient
    results = [
        result(case, "liver", 0, 0.5, clicks, distance=distances[number])
        for clicks, distances in values.items()
        for number, case in enumerate((ONE, TWO, THREE))
    ]
    table = tabulate(results)
    np.testing.assert_allclose(table.intervals("hd_mm", 0), [[0.2, 0.4], [0.2, 0.8]])


def test_where_every_patient_has_every_label_each_draw_counts():
    values = {"a": (0.11, 0.52, 0.75), "b": (0.33, 0.94, 0.26)}  # label -> of each patient
    cases = (ONE, TWO, THREE)
    table = tabulate(
        [result(case, name, 0, dice[number]) for name, dice in values.items() for number, case in enumerate(cases)]
    )
    draws = np.random.default_rng(7).integers(3, size=(1000, 3))
    means = [table.means("dice", drawn)[0] for drawn in draws]
    assert table.intervals("dice", 7)[:, 0].tolist() == np.quantile(means, (0.025, 0.975)).tolist()


def test_every_number_of_clicks_has_its_own_column():
    results = [result(ONE, "liver", 0, dice, clicks) for clicks, dice in ((1, 0.5), (5, 0.9))]
    means = tabulate(results).means("dice", [0])
    np.testing.assert_allclose(means, [0.5, 0.9])


def test_the_seed_of_a_task_depends_on_case_slice_and_label():
    tasks = [Task(ONE, 3, "a", 1), Task(TWO, 3, "a", 1), Task(ONE, 4, "a", 1), Task(ONE, 3, "b", 2)]
    assert len({task.seed(0) for task in tasks} | {tasks[0].seed(1)}) == 5
    assert tasks[0].seed(0) == Task(ONE, 3, "a", 1).seed(0)


def test_a_limit_draws_the_same_slices_every_time_and_no_more_than_asked(phantom_study):
    cases = CaseFolder.read(phantom_study).cases
    drawn = [find_tasks(cases, {"liver": 1, "spleen": 2}, Protocol(limit=2, seed=5)) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert [task.name for task in drawn[0]] == ["liver", "liver", "spleen", "spleen"]


def test_labels_that_are_nowhere_are_refused(phantom_study):
    with pytest.raises(ValueError, match="none of the labels"):
        find_tasks(CaseFolder.read(phantom_study).cases, {"unicorn": 99}, Protocol())


@pytest.mark.parametrize(
    "options", [{"clicks": (5, 1)}, {"clicks": ()}, {"clicks": (-1,)}, {"user": "x"}, {"limit": 0}]
)
def test_a_protocol_that_makes_no_sense_is_refused(options):
    with pytest.raises(ValueError, match=r"clicks|user|limit"):
        Protocol(**options)


def row_of_clicks(name, number, ious):
    return [
        dataclasses.replace(result(ONE, name, number, dice=2 * iou / (1 + iou), clicks=click), iou=iou)
        for click, iou in enumerate(ious, start=1)
    ]


def test_the_effort_is_the_first_click_that_is_good_enough_and_twenty_where_none_is():
    ious = [0.5, 0.86, 0.84, 0.91] + [0.95] * 16
    results = row_of_clicks("liver", 0, ious) + row_of_clicks("liver", 1, [0.87] * 20)
    effort = make_report(results, Protocol(clicks=tuple(range(1, 21))), {})["effort"]
    assert effort["labels"]["liver"]["noc85"] == pytest.approx((2 + 1) / 2)
    assert effort["mean"]["noc90"] == pytest.approx((4 + 20) / 2)
    assert (effort["mean"]["failed85"], effort["mean"]["failed90"]) == (0.0, 0.5)


def test_the_number_of_clicks_is_not_guessed_when_some_were_not_measured():
    report = make_report(row_of_clicks("liver", 0, [0.9] * 5), Protocol(clicks=(1, 2, 3, 4, 5)), {})
    assert report["effort"]["mean"]["noc85"] is None
    assert report["effort"]["mean"]["auc_dice"] == pytest.approx(1.8 / 1.9)


@pytest.mark.usefixtures("single_precision")
def test_no_clicks_at_all_is_the_answer_before_the_first(phantom_study, tmp_path, tiny_weights):
    case = CaseFolder.read(phantom_study).cases[0]
    tiny_weights(tmp_path / "weights.pt", {"liver": 1})
    model = load_model(tmp_path / "weights.pt")
    protocol = Protocol(clicks=(0, 1), limit=2)
    tasks = find_tasks([case], {"liver": 1}, protocol)
    game = Game(model.segmenter, model.recipe.spacing, case)
    before, after = game.turns(tasks, protocol, "cpu")
    assert [before.number, after.number] == [0, 1]
    assert before.clicks == [[], []]
    images, _ = game.stack(tasks)
    with torch.no_grad():
        logits = game.segmenter(images, torch.empty(2, 0, 3, dtype=torch.int64))
    assert np.array_equal(before.masks, logits.argmax(1) == 1)
