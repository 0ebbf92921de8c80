"""Files that are there whole or not at all."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from clickseg.evaluation.report import write_report
from clickseg.experiments.jobs import run_jobs
from clickseg.experiments.summary import write_markdown
from clickseg.files import held_alone, plain_name, readable, unique_names, whole_file
from clickseg.geometry import Grid
from clickseg.images import write_mask


def test_what_is_written_is_there_at_the_end_and_others_may_read_it(tmp_path):
    path = tmp_path / "new" / "file"
    with whole_file(path) as file:
        file.write(b"all of it")
        assert not path.exists()
    assert path.read_bytes() == b"all of it"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail():
        with whole_file(path) as file:
            file.write(b"ne")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def full_disk(monkeypatch):
    def fail(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)


def written_results(folder):
    """What each writer of results writes, and how."""
    mask, grid = np.ones((2, 3, 4), np.uint8), Grid((2, 3, 4), np.eye(4))
    return {
        "mask.nii": lambda: write_mask(folder / "mask.nii", mask, grid),
        "mask.nii.gz": lambda: write_mask(folder / "mask.nii.gz", mask, grid),
        "report.json": lambda: write_report({"schema": 1}, folder),
        "report.md": lambda: write_markdown(["new"], [], folder),
        "plan.json": lambda: run_jobs([], folder, resume=True),
    }


@pytest.mark.parametrize("name", written_results(Path()))
def test_a_full_disk_leaves_the_result_that_was_there(tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(b"{}")
    full_disk(monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        written_results(tmp_path)[name]()
    assert (tmp_path / name).read_bytes() == b"{}"


def test_a_folder_is_held_by_one_process_which_gives_it_back_even_if_it_is_killed(tmp_path):
    folder = tmp_path / "new"
    script = (
        "import sys, time; from clickseg.files import held_alone\n"
        "with held_alone(sys.argv[1], ''): print(flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script, folder], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(ValueError, match="somebody is there"), held_alone(folder, "somebody is there"):
            pass
        other.kill()
    for _ in range(2):
        with held_alone(folder, "nobody is there"):
            pass
    assert not list(folder.iterdir())


def test_the_same_mask_gives_the_same_bytes_at_any_time(tmp_path, monkeypatch):
    for second in (1, 2):
        monkeypatch.setattr("time.time", lambda second=second: 1e9 + second)
        written_results(tmp_path)["mask.nii.gz"]()
        (tmp_path / "mask.nii.gz").rename(tmp_path / f"{second}.nii.gz")
    assert (tmp_path / "1.nii.gz").read_bytes() == (tmp_path / "2.nii.gz").read_bytes()
    assert nib.load(tmp_path / "1.nii.gz").get_fdata().sum() == 24


def test_a_name_of_a_structure_becomes_a_part_of_one_file_name():
    assert plain_name("prostate/uterus (left)") == "prostate_uterus_left_"
    assert plain_name("right kidney") == "right_kidney"
    assert plain_name("Leber-ä_1") == "Leber-ä_1"


@pytest.mark.parametrize(
    ("wishes", "taken", "names"),
    [
        ([["a", "a_1"], ["b", "b_1"]], [], ["a", "b"]),
        ([["a", "a_1"], ["A", "a_2"], ["b"]], [], ["a_1", "a_2", "b"]),
        ([["a", "a_1"]], ["A"], ["a_1"]),
        ([["a", "a_1"], ["a", "a_2"], ["a_1"]], [], ["a_1_2", "a_2", "a_1"]),
        ([["a"], ["a"], ["a"]], ["a_3"], ["a_2", "a_4", "a_5"]),
        ([], ["a"], []),
    ],
)
def test_everybody_gets_the_first_name_that_is_no_one_elses(wishes, taken, names):
    assert unique_names(wishes, taken) == names


def test_a_name_that_is_too_long_is_shortened_and_still_its_own():
    one, other = unique_names([["ä" * 150 + end] for end in "ab"])
    assert one[:90] == other[:90] == "ä" * 90
    assert one != other
    assert max(len(name.encode()) for name in (one, other)) <= 200


@pytest.mark.parametrize(
    ("name", "seen"), [("Müller", "Müller"), ("M\udcfcller", "Müller"), ("a\udc81", "a\N{REPLACEMENT CHARACTER}")]
)
def test_a_name_that_is_no_utf_8_is_readable_all_the_same(name, seen):
    assert readable(name) == readable(Path(name)) == seen
