"""The rows of a run in one small file: `Rows` as a structured ``.npy``, so that every worker reads the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import InputError
from voxmint.files import atomic_path
from voxmint.instances.table.table import Instance, Rows

_POINTS = ("centre_nm", "pre_nm", "post_nm")
_DTYPE = np.dtype([(f.name, "<f8", (3,)) if f.name in _POINTS else (f.name, "<i8") for f in fields(Rows)])
_NOWHERE = (float("nan"),) * 3


def rows_of(instances: Sequence[Instance]) -> Rows:
    """Return instances as arrays; the inverse of `Rows.instances`."""
    columns = {}
    for name in _DTYPE.names or ():
        nothing: Any = _NOWHERE if name in _POINTS else 0
        values = [nothing if (value := getattr(row, name)) is None else value for row in instances]
        columns[name] = np.array(values, _DTYPE[name].base).reshape(len(values), *_DTYPE[name].shape)
    return Rows(**columns)


def save_rows(path: Path, rows: Rows) -> None:
    """Write rows to a ``.npy`` file, whole or not at all."""
    with atomic_path(path) as part, part.open("xb") as file:
        np.save(file, _packed(rows), allow_pickle=False)


def load_rows(path: Path) -> Rows:
    """Read what `save_rows` wrote.

    Raises
    ------
    InputError
        The file is missing, cut or of another kind.
    """
    try:
        packed = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"cannot read the rows: {error}", where=path, remedy="draw them again from the table"
        ) from error
    if not isinstance(packed, np.ndarray) or packed.dtype != _DTYPE or packed.ndim != 1:
        got = getattr(packed, "dtype", type(packed).__name__)
        raise InputError("not a file of rows", where=path, expected=_DTYPE, got=got, remedy="draw them from the table")
    return Rows(**{name: np.ascontiguousarray(packed[name]) for name in _DTYPE.names or ()})


def rows_fingerprint(rows: Rows) -> str:
    """Return the SHA-256 (hex) of all values."""
    return hashlib.sha256(_packed(rows).tobytes()).hexdigest()


def _packed(rows: Rows) -> NDArray[Any]:
    packed = np.zeros(len(rows), _DTYPE)
    for name in _DTYPE.names or ():
        packed[name] = getattr(rows, name)
        if name in _POINTS:
            packed[name][np.isnan(packed[name])] = np.nan  # one NaN of the many there are: equal rows, equal bytes
    return packed
