"""Gzip streams of every kind, against Python's own reader."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

import numpy as np
import pytest

from voxmint.errors import InputError
from voxmint.nifti.gunzip import gunzipped

CONTENT = np.random.default_rng(0).bytes(70_000) + bytes(700_000) + b"end"
WHOLE = gzip.compress(CONTENT, 6)
EMPTY = gzip.compress(b"")


def header(flags: int, extra: bytes) -> bytes:
    """Return `WHOLE` with an optional field of its header."""
    return bytes([0x1F, 0x8B, 8, flags, 0, 0, 0, 0, 0, 0]) + extra + WHOLE[10:]


HEADER_SUM = (zlib.crc32(bytes([0x1F, 0x8B, 8, 2, 0, 0, 0, 0, 0, 0])) & 0xFFFF).to_bytes(2, "little")
READ = {
    "one member": (WHOLE, 1),
    "two members": (WHOLE + WHOLE, 2),
    "an empty one between": (WHOLE + EMPTY + WHOLE, 2),
    "thousands of empty ones": (EMPTY * 20_000 + WHOLE, 1),
    "stored": (gzip.compress(CONTENT, 0), 1),
    "a zero": (WHOLE + b"\0", 1),
    "many zeros": (WHOLE + bytes(1 << 20), 1),
    "zeros between": (WHOLE + bytes(600_000) + WHOLE, 2),
    "a name": (header(8, b"name\0"), 1),
    "a comment": (header(16, b"text\0"), 1),
    "an extra field": (header(4, b"\3\0abc"), 1),
    "a checksum of the header": (header(2, HEADER_SUM), 1),
}
REFUSED = {
    "garbage": WHOLE + b"abc",
    "much garbage": WHOLE + b"garbage " * 99,
    "half a magic": WHOLE + b"\x1f",
    "a magic": WHOLE + b"\x1f\x8b",
    "zeros and garbage": WHOLE + bytes(600_000) + b"x",
    "zeros and half a magic": WHOLE + b"\0\x1f",
    "no checksum": WHOLE[:-8],
    "half a checksum": WHOLE[:-5],
    "half a length": WHOLE[:-1],
    "half": WHOLE[: len(WHOLE) // 2],
    "half a header": WHOLE[:9],
    "half a second member": WHOLE + WHOLE[:5000],
    "half a second header": WHOLE + WHOLE[:5],
    "another checksum": WHOLE[:-8] + b"\1\2\3\4" + WHOLE[-4:],
    "another length": WHOLE[:-4] + b"\1\2\3\4",
    "a flipped byte": WHOLE[:5000] + bytes([WHOLE[5000] ^ 255]) + WHOLE[5001:],
    "another method": WHOLE[:2] + b"\x09" + WHOLE[3:],
    "another checksum of the header": header(2, b"\1\2"),
    "a name without end": header(8, b"a" * 3_000_000),
}


def unpacked(data: bytes) -> bytes:
    with gunzipped(io.BytesIO(data), Path("some.gz")) as stream:
        return b"".join(iter(lambda: stream.read(99_999), b""))


@pytest.mark.parametrize("name", READ)
def test_what_gzip_allows_is_read(name: str) -> None:
    """Members one after the other, padding with zeros and optional fields give what Python's own reader gives."""
    data, count = READ[name]
    assert unpacked(data) == CONTENT * count == gzip.decompress(data)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_damaged_is_told(name: str) -> None:
    """Cuts, wrong checksums and lengths, and whatever follows the data, are errors that name the file."""
    with pytest.raises(InputError, match=r"some\.gz") as caught:
        unpacked(REFUSED[name])
    assert caught.value.remedy


def test_other_files_are_given_as_they_are() -> None:
    """What is no gzip is not touched."""
    for data in (b"", b"\x1f", zlib.compress(CONTENT), CONTENT):
        assert unpacked(data) == data
