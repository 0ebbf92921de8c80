import time

import pytest

from clickseg.stopwatch import stage, stopwatch


def test_a_stage_within_another_has_its_time_for_itself():
    with stopwatch() as seconds:
        with stage("outer"):
            time.sleep(0.05)
            with stage("inner"):
                time.sleep(0.2)
            time.sleep(0.05)
        with stage("inner"):
            time.sleep(0.1)
    assert 0.1 <= seconds["outer"] < 0.2
    assert 0.3 <= seconds["inner"] < 0.5
    assert seconds["other"] < 0.1
    assert seconds["total"] == pytest.approx(sum(seconds.values()) - seconds["total"], abs=1e-3)


def test_stages_without_a_stopwatch_cost_nothing_and_break_nothing():
    with stage("alone"):
        pass


def test_the_watch_runs_on_after_a_failure_and_the_next_begins_anew():
    with stopwatch() as first:
        with pytest.raises(ValueError, match="broken"), stage("fails"):
            raise ValueError("broken")
        with stage("goes on"):
            pass
    with stopwatch() as second:
        pass
    assert list(first) == ["other", "fails", "goes on", "total"]
    assert list(second) == ["other", "total"]
