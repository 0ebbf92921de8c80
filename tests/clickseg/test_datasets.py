import pytest

from clickseg.datasets import read_ids


def test_ids_are_listed_or_lie_in_a_file(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("img0001\nimg0002\n")
    assert read_ids(str(path)) == read_ids("img0001, img0002,") == ["img0001", "img0002"]
    assert read_ids(None) is None


def test_hundreds_of_ids_are_not_looked_up_as_one_path():
    ids = [f"hippocampus_{number:03d}" for number in range(400)]
    assert read_ids(",".join(ids)) == ids


def test_no_ids_are_refused():
    with pytest.raises(ValueError, match="no case ids"):
        read_ids(" , ")
