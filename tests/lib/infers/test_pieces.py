import gzip
import zlib
from pathlib import Path

import itk
import nibabel as nib
import nrrd
import numpy as np
import pytest

from clickseg.clicks.wire import Reply
from clickseg.geometry import Grid
from lib.infers.measure import measure
from lib.infers.pieces import PIECE, gzipped, pieces, plain
from lib.infers.reply import write_reply

SIZES = [0, 1, 7, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 4 * PIECE + 5]
FILLED = {"empty": [], "one": [0], "the last": [-1], "some": [1, 2 * PIECE, 2 * PIECE + 9]}


def content(size, filled):
    array = np.zeros(size, np.uint8)
    for number, place in enumerate(filled):
        if -size <= place < size:
            array[place] = number + 3
    return array


def read_with_pynrrd(path):
    return nrrd.read(str(path))[0]


def read_with_itk(path):
    return itk.array_from_image(itk.imread(str(path))).T


def read_with_nibabel(path):
    return np.asarray(nib.load(path).dataobj)


@pytest.mark.parametrize("filled", FILLED.values(), ids=FILLED)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("head", [b"", b"head"])
def test_what_is_unpacked_is_what_was_packed(head, size, filled):
    array = content(size, filled)
    assert gzip.decompress(b"".join(gzipped(head, array))) == head + array.tobytes()


def test_it_is_one_member_which_a_reader_of_one_member_reads_to_its_end():
    array = content(3 * PIECE + 5, [1, 2 * PIECE])
    reader = zlib.decompressobj(wbits=31)  # checks the sum and the size as well
    assert reader.decompress(b"".join(gzipped(b"head", array))) == b"head" + array.tobytes()
    assert reader.eof
    assert reader.unused_data == b""


def test_a_bit_of_the_content_that_is_not_as_it_was_is_found_out():
    packed = bytearray(b"".join(gzipped(b"", content(2 * PIECE, []))))
    packed[-6] ^= 1  # of the sum
    with pytest.raises(gzip.BadGzipFile, match="CRC"):
        gzip.decompress(bytes(packed))


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("planes", [1, 2, 5])
def test_what_is_known_to_be_empty_is_not_looked_at_and_the_rest_is(size, planes):
    array = np.zeros((planes, size), np.uint8)
    array[planes // 2, [0, -1]] = 1, 2
    whole = list(pieces(array))
    for known in ([planes // 2], range(planes), None):
        assert [filled for _, filled in pieces(array, known)] == [filled for _, filled in whole]
        assert gzip.decompress(b"".join(gzipped(b"", array, known))) == array.tobytes()
        assert b"".join(plain(array, known)) == array.tobytes()
    assert not any(filled for _, filled in pieces(array, []))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float64"])
@pytest.mark.parametrize("planes", [None, [4, 8]], ids=["looked for", "known"])
@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ((".nrrd", False), read_with_pynrrd),
        ((".nrrd", False), read_with_itk),
        ((".nii", False), read_with_nibabel),
        ((".nrrd", True), read_with_pynrrd),
        ((".nrrd", True), read_with_itk),
        ((".nii.gz", False), read_with_nibabel),
        ((".nii.gz", False), read_with_itk),
    ],
)
def test_the_readers_that_clients_use_read_masks_of_many_pieces(reply, read, planes, dtype, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mask = np.zeros((300, 400, 12), np.uint8, order="F")
    mask[100:200, 100:300, 4], mask[5, 7, 8] = 1, 2
    extension, compress = reply
    path = Path(write_reply(mask, Grid(mask.shape, np.eye(4)), Reply(extension, dtype, compress), planes))
    found = read(path)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize("planes", [None, [*range(30), *range(70, 80)]], ids=["looked for", "known"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_volumes_are_counted_over_all_pieces(order, planes):
    mask = np.asarray(np.random.default_rng(0).integers(0, 3, (100, 90, 80)), dtype=np.uint8, order=order)
    mask[:, :, 30:70] = 0
    found = measure(mask, Grid(mask.shape, np.eye(4)), {"a": 1, "b": 2}, [(5, 5, 3)], planes)
    assert found["volume_ml"] == {name: (mask == value).sum() / 1000 for name, value in (("a", 1), ("b", 2))}
    assert found["area_mm2"]["b"] == {"3": (mask[:, :, 3] == 2).sum()}
