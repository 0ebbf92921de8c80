"""An evaluation that was stopped goes on, and gives the report that it would have given."""

import dataclasses
import json
import math
import os
import shutil
from pathlib import Path

import pytest

from clickseg.datasets import Case
from clickseg.evaluation import Protocol, Result, Task, evaluate
from clickseg.evaluation.game import play_case
from clickseg.files import held_alone
from clickseg.phantom import LABELS

PROTOCOL = Protocol(clicks=(1, 2), limit=2)


@pytest.fixture(scope="module")
def finished(study, weights, tmp_path_factory):
    """The folder of an evaluation that nobody stopped."""
    output = tmp_path_factory.mktemp("evaluation")
    evaluate("unet2d", weights, study, output, PROTOCOL)
    return output


def report(folder):
    return (folder / "report.json").read_text()


@pytest.fixture
def stopped(study, weights, tmp_path, monkeypatch):
    """The folder of an evaluation that was stopped in its second case."""

    def stop_in_the_second(segmenter, spacing, tasks, *more):
        if tasks[0].case.id == "phantom_001":
            raise KeyboardInterrupt
        return play_case(segmenter, spacing, tasks, *more)

    with monkeypatch.context() as patch:
        patch.setattr("clickseg.evaluation.game.play_case", stop_in_the_second)
        with pytest.raises(KeyboardInterrupt):
            evaluate("unet2d", weights, study, tmp_path / "out", PROTOCOL)
    return tmp_path / "out"


@pytest.fixture
def played(monkeypatch):
    """The cases that are played."""
    cases = []

    def play(segmenter, spacing, tasks, *more):
        cases.append(tasks[0].case.id)
        return play_case(segmenter, spacing, tasks, *more)

    monkeypatch.setattr("clickseg.evaluation.game.play_case", play)
    return cases


def test_it_plays_what_is_left_and_gives_the_same_report(study, weights, finished, stopped, played):
    (stopped / "results.jsonl").open("a").write('{"case": "phantom_001", "resu')  # killed while it wrote
    evaluate("unet2d", weights, study, stopped, PROTOCOL, resume=True)
    assert played == ["phantom_001"]
    assert report(stopped) == report(finished)
    assert [path.name for path in stopped.iterdir()] == ["report.json"]


@pytest.mark.slow
def test_so_do_workers(study, weights, finished, stopped):
    evaluate("unet2d", weights, study, stopped, PROTOCOL, device="cpu", workers=2, resume=True)
    assert report(stopped) == report(finished)


@pytest.mark.parametrize("kind", ["stopped", "finished"])
def test_its_folder_is_not_written_over(study, weights, kind, request):
    folder = request.getfixturevalue(kind)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=r"holds an evaluation: resume it \(--resume\), or name another"):
        evaluate("unet2d", weights, study, folder, PROTOCOL)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("kind", ["stopped", "finished"])
@pytest.mark.parametrize(
    ("change", "differing"),
    [
        ({"protocol": dataclasses.replace(PROTOCOL, seed=1, clicks=(1, 3))}, "clicks, seed"),
        ({"cases": ["phantom_000"]}, "cases, files"),
        ({"method": "disc", "weights": None}, "method, weights, weights_sha256"),
    ],
    ids=["protocol", "cases", "method"],
)
def test_another_one_is_refused_with_what_differs(study, weights, kind, change, differing, request):
    same = {"method": "unet2d", "weights": weights, "data": study, "protocol": PROTOCOL}
    folder = request.getfixturevalue(kind)
    with pytest.raises(ValueError, match=rf"holds another evaluation: it had not the same {differing}$"):
        evaluate(**(same | change), output=folder, resume=True)


def test_other_weights_of_the_same_name_are_told_by_their_content(study, stopped, tmp_path, tiny_weights):
    tiny_weights(tmp_path / "tiny.pt", LABELS, seed=3)
    with pytest.raises(ValueError, match=r"not the same weights_sha256$"):
        evaluate("unet2d", tmp_path / "tiny.pt", study, stopped, PROTOCOL, resume=True)


@pytest.mark.parametrize("kind", ["stopped", "finished"])
def test_a_label_that_was_corrected_since_is_another_one(study, weights, kind, request, tmp_path):
    folder = shutil.copytree(request.getfixturevalue(kind), tmp_path / "copied")
    corrected = shutil.copytree(study, tmp_path / study.name)
    label = corrected / "labelsTr/phantom_000.nii.gz"
    os.utime(label, (label.stat().st_atime, label.stat().st_mtime + 1))
    with pytest.raises(ValueError, match=r"holds another evaluation: it had not the same files$"):
        evaluate("unet2d", weights, corrected, folder, PROTOCOL, resume=True)


def test_a_finished_one_is_not_played_again(study, weights, finished, played, tmp_path):
    again = shutil.copytree(finished, tmp_path / "again")
    done = evaluate("unet2d", weights, study, again, PROTOCOL, resume=True)
    assert (played, done.before) == ([], True)
    assert done.report == json.loads(report(finished))
    assert report(again) == report(finished)


def test_a_report_that_does_not_say_what_was_asked_is_not_taken_for_the_same(study, weights, tmp_path):
    (tmp_path / "report.json").write_text('{"schema": 1, "method": "unet2d"}')
    with pytest.raises(ValueError, match="holds another evaluation"):
        evaluate("unet2d", weights, study, tmp_path, PROTOCOL, resume=True)


def test_a_result_comes_back_exactly():
    case = Case("one", Path("one.nii.gz"), Path("label.nii.gz"))
    given = Result(Task(case, 3, "liver", 6), 5, 0.1 + 0.2, 1 / 3, math.nan, 1e-17, 12, 2**40, contained=1.0)
    found = Result.from_dict(case, json.loads(json.dumps(given.to_dict())))
    assert repr(found) == repr(given)  # NaN is not equal to itself


def test_what_another_process_is_writing_is_left_to_it(study, weights, stopped, played):
    before = (stopped / "results.jsonl").read_text()
    with held_alone(stopped, ""), pytest.raises(ValueError, match="another evaluation writes there: wait for its end"):
        evaluate("unet2d", weights, study, stopped, PROTOCOL, resume=True)
    assert (stopped / "results.jsonl").read_text() == before
    assert not played
