import re
import threading

import pytest

from lib.weights import publish, put_away


@pytest.fixture
def place(tmp_path):
    """place(content): puts new weights where the server looks for them, and returns what lies beside them."""
    folder, source = tmp_path / "trained", tmp_path / "source.pt"

    def place(content):
        source.write_bytes(content)
        publish(source, folder / "unet2d.pt")
        assert (folder / "unet2d.pt").read_bytes() == content
        return sorted(path.read_bytes() for path in folder.glob("unet2d.pt.*"))

    return place


def test_weights_that_are_replaced_stay_beside_the_new_ones_once_each(place, tmp_path):
    assert place(b"first") == []
    assert place(b"second") == [b"first"]
    assert place(b"second") == [b"first"]
    assert place(b"first") == [b"first", b"second"]
    assert place(b"third") == [b"first", b"second"]
    names = [path.name for path in (tmp_path / "trained").glob("unet2d.pt.*")]
    assert all(re.fullmatch(r"unet2d\.pt\.\d{8}_\d{6}_\d{6}\.replaced", name) for name in names)


def test_what_a_training_made_is_kept_in_its_folder_alone(place, tmp_path):
    run = tmp_path / "trained/runs/unet2d/train_01/20260101-000000-000000"
    run.mkdir(parents=True)
    (run / "weights.pt").write_bytes(b"trained")
    place(b"trained")
    assert place(b"sent") == []
    (run / "weights.pt").write_bytes(b"another")
    place(b"trained")
    assert b"trained" in place(b"third"), "the folder holds other weights of the same size"


def test_weights_that_are_deleted_twice_in_a_second_are_both_there(place, tmp_path):
    for content in (b"first", b"second"):
        place(content)
        put_away(tmp_path / "trained/unet2d.pt")
    assert sorted(path.read_bytes() for path in (tmp_path / "trained").glob("*.deleted")) == [b"first", b"second"]


def test_readers_never_see_half_a_weights_file_or_none(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    contents = [bytes([number]) * 2**20 for number in range(2)]
    target.write_bytes(contents[0])
    seen, stop = set(), threading.Event()

    def read():
        while not stop.is_set():
            content = target.read_bytes() if target.exists() else b""
            seen.add((len(content), *set(content)))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(20):
        source.write_bytes(contents[number % 2])
        publish(source, target)
    stop.set()
    reader.join()
    assert seen <= {(2**20, 0), (2**20, 1)}
    aside = set(tmp_path.glob("target.*.replaced"))
    assert set(tmp_path.iterdir()) == {source, target} | aside
    assert sorted(path.read_bytes() for path in aside) == contents
