"""Rows in files: mapped, moved into a run's folder, and found out when one byte is another."""

from __future__ import annotations

import io
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxmint.errors import InputError
from voxmint.instances.table.rows import ROW, load_rows, packed_rows, rows_fingerprint, save_rows
from voxmint.instances.table.spool import Spool, chosen_rows
from voxmint.instances.table.table import Rows


def some_rows(count: int, seed: int = 0) -> Rows:
    """Return rows of random values, some points missing."""
    rng = np.random.Generator(np.random.Philox(seed))
    columns = {}
    for field in fields(Rows):
        point = field.name.endswith("_nm")
        columns[field.name] = rng.random((count, 3)) if point else rng.integers(0, 2**62, count)
    columns["pre_nm"][::3] = np.nan
    return Rows(**columns)


def test_the_file_is_what_numpy_saves(tmp_path: Path) -> None:
    """Byte for byte, for numbers of rows of one to six digits."""
    for count in (0, 1, 12, 99_999, 100_000):
        rows = some_rows(count)
        save_rows(tmp_path / "rows.npy", rows)
        plain = io.BytesIO()
        np.save(plain, packed_rows(rows))
        assert (tmp_path / "rows.npy").read_bytes() == plain.getvalue()
        assert rows_fingerprint(load_rows(tmp_path / "rows.npy")) == rows_fingerprint(rows)


def test_any_flipped_byte_of_the_header_is_told(tmp_path: Path) -> None:
    """Each bit of each byte, and a file cut or grown at any of some places."""
    path = tmp_path / "rows.npy"
    save_rows(path, some_rows(3))
    whole = path.read_bytes()
    for place in range(len(whole) - 3 * ROW.itemsize):
        for bit in range(8):
            data = bytearray(whole)
            data[place] ^= 1 << bit
            path.write_bytes(data)
            with pytest.raises(InputError, match=r"rows\.npy: cannot read the rows"):
                load_rows(path)
    for data in (b"", whole[:5], whole[:-1], whole[: -ROW.itemsize], whole + b"\0" * ROW.itemsize):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"rows\.npy: cannot read the rows"):
            load_rows(path)


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.integers(0, 9), max_size=6),
    kept=st.lists(st.booleans(), min_size=60, max_size=60),
    piece=st.integers(1, 7),
    seed=st.integers(0, 99),
)
def test_a_spool_is_an_array(sizes: list[int], kept: list[bool], piece: int, seed: int) -> None:
    """Appended, thinned out and put in another order, rows in a file are those of an array in memory."""
    from voxmint.instances.table import spool as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", piece)
        spool, plain = Spool(), np.zeros(0, ROW)
        for number, size in enumerate(sizes):
            spool.append(some_rows(size, number))
            plain = np.concatenate([plain, packed_rows(some_rows(size, number))])
        mask = np.array(kept[: len(plain)], np.bool_)
        spool.keep(mask)
        plain = plain[mask]
        assert packed_rows(spool.rows()).tobytes() == plain.tobytes()
        order = np.random.Generator(np.random.Philox(seed)).permutation(len(plain))[: len(plain) // 2 + 1]
        assert packed_rows(spool.ordered(order)).tobytes() == plain[order].tobytes()
        which = np.arange(len(plain)) % 2 == 0
        assert packed_rows(chosen_rows(spool.rows(), which)).tobytes() == plain[which].tobytes()


def test_calls_that_the_system_cuts_short_are_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what a spool writes and reads, a call may do less than it was asked to."""
    write, read = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: write(file, data[: len(data) // 2 + 1], place))
    monkeypatch.setattr(
        os, "preadv", lambda file, views, place: read(file, [views[0][: len(views[0]) // 2 + 1]], place)
    )
    rows, spool = some_rows(7), Spool()
    spool.append(rows)
    assert packed_rows(spool.rows()).tobytes() == packed_rows(rows).tobytes()
    order = np.array([3, 0, 6])
    assert packed_rows(spool.ordered(order)).tobytes() == packed_rows(rows)[order].tobytes()
