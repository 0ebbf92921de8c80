"""Masks are almost empty: they are counted and compressed in pieces, and pieces of zeros cost next to nothing."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

PIECE = 2**18  # bytes: a slice of 512 x 512
ZEROS = memoryview(bytes(PIECE))
FASTEST = 1  # level of deflate that finds matches: masks shrink a hundredfold at any
GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # RFC 1952: deflate, no name, no time, unknown system
DEFLATE_END = b"\x03\0"  # RFC 1951: a last block, empty


def pieces(array: NDArray, planes: Iterable[int] | None = None) -> Iterator[tuple[NDArray[np.uint8], bool]]:
    """The bytes of an array in the order of its memory, by `PIECE`, and whether there is any but 0 among them.

    planes: numbers along the first axis, of a contiguous array; all else is known to be 0 and is not looked at.
    """
    content = array.ravel(order="K").view(np.uint8)
    known = None
    if planes is not None and array.flags.c_contiguous:
        size = content.size // len(array)
        known = {part for n in planes for part in range(n * size // PIECE, ((n + 1) * size - 1) // PIECE + 1)}
    for number, begin in enumerate(range(0, content.size, PIECE)):
        piece = content[begin : begin + PIECE]
        yield piece, (known is None or number in known) and bool(piece.view(np.bool_).any())


def plain(array: NDArray, planes: Iterable[int] | None = None) -> Iterator[memoryview]:
    """The bytes of an array in the order of its memory, a piece of zeros as `ZEROS`; planes as `pieces`."""
    for piece, filled in pieces(array, planes):
        yield piece.data if filled or piece.size < PIECE else ZEROS


def gzipped(head: bytes, array: NDArray, planes: Iterable[int] | None = None) -> Iterator[bytes]:
    """`head` and then the bytes of an array in the order of its memory, as one gzip member; planes as `pieces`.

    Each piece is deflated by itself and ends with a byte, so that those of zeros can be had ready; one member, because
    not all readers go on to a second.
    """
    size, crc = len(head), isal_zlib.crc32(head)
    yield GZIP_HEAD + _deflated(head)
    for piece, filled in pieces(array, planes):
        size += piece.size
        if filled or piece.size < PIECE:
            yield _deflated(piece)
            crc = isal_zlib.crc32(piece, crc)
        else:
            yield _deflated_zeros()
            crc = _crc32_with_zeros(crc)
    yield DEFLATE_END + struct.pack("<II", crc, size % 2**32)


def _deflated(content: bytes | memoryview | NDArray[np.uint8]) -> bytes:
    stream = isal_zlib.compressobj(FASTEST, wbits=-15)
    return stream.compress(content) + stream.flush(isal_zlib.Z_SYNC_FLUSH)


@functools.cache
def _deflated_zeros() -> bytes:
    return _deflated(ZEROS)


def _crc32_with_zeros(crc: int) -> int:
    """The checksum of a content with this one, and a piece of zeros after it."""
    found, bits = _crc32_of_bits()
    for place, changed in enumerate(bits):
        if crc >> place & 1:
            found ^= changed
    return found


@functools.cache
def _crc32_of_bits() -> tuple[int, list[int]]:
    """The checksum of a piece of zeros after 0, and what each bit of another one before it changes: it is linear."""
    found = isal_zlib.crc32(ZEROS)
    return found, [isal_zlib.crc32(ZEROS, 1 << place) ^ found for place in range(32)]
