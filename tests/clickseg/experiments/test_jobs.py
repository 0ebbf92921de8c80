import json

import pytest

from clickseg import cli
from clickseg.experiments import Budget, ExperimentError, Job, run_jobs
from clickseg.experiments.commands import Commands
from clickseg.experiments.jobs import is_done
from clickseg.files import held_alone

GOOD = ("--version",)
BAD = ("predict", "no image")


def runs(folder, job):
    """How often a job was started."""
    log = (folder / "logs" / f"{job.file_name}.log").read_text()
    return sum(line.startswith(f"clickseg {job.command[0]}") and "error:" not in line for line in log.splitlines())


@pytest.fixture
def jobs():
    return [Job("train a", GOOD), Job("test a", GOOD, needs=("train a",)), Job("train b", GOOD)]


def test_every_job_is_run_once_and_remembered(jobs, tmp_path):
    run_jobs(jobs, tmp_path, resume=False)
    assert all(is_done(tmp_path, job) for job in jobs)
    run_jobs(jobs, tmp_path, resume=True)
    assert [runs(tmp_path, job) for job in jobs] == [1, 1, 1]


def test_a_failure_is_named_and_what_does_not_need_it_is_run_all_the_same(tmp_path):
    jobs = [Job("train a", BAD), Job("test a", GOOD, needs=("train a",)), Job("train b", GOOD)]
    with pytest.raises(ExperimentError, match=r"train a failed \(.*logs says why\); 1 other"):
        run_jobs(jobs, tmp_path, resume=False)
    assert [is_done(tmp_path, job) for job in jobs] == [False, False, True]
    assert "the following arguments are required" in (tmp_path / "logs/train_a.log").read_text()


def test_what_failed_is_tried_again_by_a_resumed_experiment(tmp_path):
    job = Job("train a", BAD)
    for resume in (False, True):
        with pytest.raises(ExperimentError):
            run_jobs([job], tmp_path, resume=resume)
    assert runs(tmp_path, job) == 2


def test_the_command_of_a_test_may_be_repeated(study, tmp_path, capsys):
    job = Commands(tmp_path, study, Budget(limit=1), clicks=(1,)).baseline("disc", "disc")
    for again in (False, True):  # as after a computer that was switched off before the job was remembered
        assert cli.main(job.command) == 0
        assert ("finished before" in capsys.readouterr().out) == again


def test_an_experiment_is_not_run_over_another_one(jobs, tmp_path):
    run_jobs(jobs, tmp_path, resume=False)
    with pytest.raises(ValueError, match="resume it"):
        run_jobs(jobs, tmp_path, resume=False)
    with pytest.raises(ValueError, match="another experiment: train b would be another command"):
        run_jobs([*jobs[:2], Job("train b", BAD)], tmp_path, resume=True)
    run_jobs([*jobs, Job("train c", GOOD)], tmp_path, resume=True)  # more of the same is welcome
    assert json.loads((tmp_path / "plan.json").read_text())["train c"] == list(GOOD)


def test_an_experiment_that_is_being_run_is_not_run_by_a_second_process(jobs, tmp_path):
    with held_alone(tmp_path, ""), pytest.raises(ValueError, match="this experiment is being run already: wait"):
        run_jobs(jobs, tmp_path, resume=True)
    assert not any(is_done(tmp_path, job) for job in jobs)


def test_each_gpu_gets_a_job_of_its_own_or_all_of_them_one(monkeypatch, tmp_path):
    seen = []

    def pretend(command, env, **_):
        seen.append((env["CUDA_VISIBLE_DEVICES"], " ".join(command[1:])))
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr("clickseg.experiments.jobs.subprocess.run", pretend)
    run_jobs([Job("train a", ("train",)), Job("train b", ("train",))], tmp_path / "one", False, gpus=["0", "1"])
    assert {place for place, _ in seen} <= {"0", "1"}
    assert all(command == "-m clickseg train" for _, command in seen)
    seen.clear()
    jobs = [Job("train a", ("train",)), Job("test a", ("evaluate",))]
    run_jobs(jobs, tmp_path / "all", False, gpus=["0", "1"], data_parallel=True)
    assert seen == [
        ("0,1", "-m torch.distributed.run --standalone --nproc-per-node=2 -m clickseg train"),
        ("0,1", "-m clickseg evaluate"),
    ]
