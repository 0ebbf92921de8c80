"""Files that are there whole or not at all."""

import pytest

from clickseg.files import plain_name, whole_file


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


def test_a_name_of_a_structure_becomes_a_part_of_one_file_name():
    assert plain_name("prostate/uterus (left)") == "prostate_uterus_left_"
    assert plain_name("right kidney") == "right_kidney"
    assert plain_name("Leber-ä_1") == "Leber-ä_1"
