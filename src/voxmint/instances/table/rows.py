"""The rows of a run in one small file: `Rows` as a structured ``.npy``, so that every worker reads the same ones.

A file of rows is mapped, not loaded: what was looked at is let go again, piece by piece (`Rows.pieces`).
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import InputError
from voxmint.files import atomic_file
from voxmint.instances.table.table import POINT_FIELDS, Instance, Rows

ROWS = "rows.npy"
"""Name of the file in a run's folder."""
ROW = np.dtype([(f.name, "<f8", (3,)) if f.name in POINT_FIELDS else (f.name, "<i8") for f in fields(Rows)])
"""One row as it is stored."""
_MAGIC = b"\x93NUMPY\x01\x00"
_NOWHERE = (float("nan"),) * 3


def rows_of(instances: Rows | Sequence[Instance]) -> Rows:
    """Return instances as arrays, the inverse of `Rows.instances`; rows as they are."""
    if isinstance(instances, Rows):
        return instances
    columns = {}
    for name in ROW.names or ():
        nothing: Any = _NOWHERE if name in POINT_FIELDS else 0
        values = [nothing if (value := getattr(row, name)) is None else value for row in instances]
        columns[name] = np.array(values, ROW[name].base).reshape(len(values), *ROW[name].shape)
    return Rows(**columns)


def save_rows(path: Path, rows: Rows) -> None:
    """Write rows to a ``.npy`` file, whole or not at all."""
    with atomic_file(path) as file:
        file.write(_header(len(rows)))
        for piece in _packed(rows):
            file.write(piece)


def load_rows(path: Path) -> Rows:
    """Map what `save_rows` wrote.

    Raises
    ------
    InputError
        The file is missing, cut, or not what `save_rows` writes, to the last byte of its header.
    """
    remedy = "put it back from a copy, or remove it and run the command that drew these rows again"
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError("cannot read the rows: not a regular file", where=path, remedy=remedy)
        count, odd = divmod(status.st_size - len(_header(0)), ROW.itemsize)
        with path.open("rb") as file:
            if count < 0 or odd or file.read(len(_header(0))) != _header(count):
                raise InputError(
                    "cannot read the rows: cut, damaged, or not a file of rows",
                    where=path,
                    expected=f"the header of {max(count, 0):,} rows, and {ROW.itemsize} bytes a row",
                    got=f"{status.st_size:,} bytes",
                    remedy=remedy,
                )
            return mapped(file, len(_header(0)), count)
    except OSError as error:
        raise InputError(f"cannot read the rows: {error.strerror or error}", where=path, remedy=remedy) from error


def mapped(file: Any, offset: int, count: int) -> Rows:
    """Return rows that lie in an open file, which may be closed and even removed afterwards."""
    return unpacked(np.asarray(np.memmap(file, ROW, "r", offset, (count,))) if count else np.zeros(0, ROW))


def unpacked(packed: NDArray[Any]) -> Rows:
    """Return rows whose columns are views of an array of ``ROW``."""
    return Rows(**{name: packed[name] for name in ROW.names or ()})


def packed_rows(rows: Rows) -> NDArray[Any]:
    """Return rows as an array of ``ROW``: equal rows, equal bytes."""
    packed = np.zeros(len(rows), ROW)
    for name in ROW.names or ():
        packed[name] = getattr(rows, name)
        if name in POINT_FIELDS:
            packed[name][np.isnan(packed[name])] = np.nan  # one NaN of the many there are
    return packed


def rows_fingerprint(rows: Rows) -> str:
    """Return the SHA-256 (hex) of all values."""
    sha = hashlib.sha256()
    for piece in _packed(rows):
        sha.update(piece)
    return sha.hexdigest()


def _packed(rows: Rows) -> Iterator[memoryview]:
    for piece in rows.pieces():
        yield packed_rows(piece).view(np.uint8).data


def _header(count: int) -> bytes:
    """Return the header that `numpy.save` gives to ``count`` rows, 21 digits kept free: a whole file has no other."""
    text = f"{{'descr': {ROW.descr!r}, 'fortran_order': False, 'shape': ({count},), }}".encode()
    text += b" " * (21 - len(str(count)))
    text += b" " * (-(len(_MAGIC) + 2 + len(text) + 1) % 64) + b"\n"
    return _MAGIC + len(text).to_bytes(2, "little") + text
