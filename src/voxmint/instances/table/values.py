"""Arrow columns to NumPy arrays of points and ids, whatever way they were written; a bad value is told by row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from voxmint.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TRIPLE = (
    rf"^[\[\(\{{\s]*(?P<a>{_NUMBER})(?:\s*[,;]\s*|\s+)(?P<b>{_NUMBER})(?:\s*[,;]\s*|\s+)(?P<c>{_NUMBER})[\]\)\}}\s,]*$"
)
_NAMED = r"""(?:^|[^A-Za-z_]){axis}["']?\s*[:=]\s*["']?(?P<v>{number})"""
_LARGEST_EXACT = 2.0**53


@dataclass(frozen=True)
class Spot:
    """Where a batch stands, to name the row of a bad value."""

    part: str | Path
    first_row: int
    """Number within the part, from 0, of the batch's first row."""

    def error(self, what: str, column: str, position: int, value: object, expected: str, remedy: str) -> InputError:
        """Build the error about one value."""
        return InputError(
            f"{what} in column {column}, row {self.first_row + position + 1:,}",
            where=self.part,
            expected=expected,
            got=repr(value),
            remedy=remedy,
        )


def numbers(column: Any, name: str, spot: Spot) -> Floats:
    """Return float64 values of a numeric or text column, NaN where there is none.

    Raises
    ------
    InputError
        A value is no number, or infinite.
    """
    kind = column.type
    if _is_text(kind):
        text, values = column, _cast(column, pa.float64())
        if values is None:  # empty or padded text, seldom: trimming all would take as long as reading
            text = _trimmed(column)
            values = _cast(text, pa.float64())
        if values is None:
            raise _first_bad(text, pa.float64(), name, spot, "a number")
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = column.cast(pa.float64(), safe=False)
    elif pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    else:
        raise spot.error(
            f"{kind} values", name, 0, _value(column, 0), "numbers", "map another column in the column map"
        )
    array: Floats = values.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    infinite = np.flatnonzero(np.isinf(array))
    if infinite.size:
        at = int(infinite[0])
        raise spot.error("an infinite coordinate", name, at, _value(column, at), "a finite number", "correct the table")
    return array


def whole_numbers(column: Any, name: str, spot: Spot) -> tuple[Integers, NDArray[np.bool_]]:
    """Return int64 values and a mask of those that are there; 0 where there is none.

    Text such as ``123.0``, which follows from a missing value in the same column, counts as 123.

    Raises
    ------
    InputError
        A value is no whole number, is larger than int64, or lost digits as a real number.
    """
    kind = column.type
    if _is_text(kind):
        text, values = column, _cast(column, pa.int64())
        if values is None:
            text = pc.replace_substring_regex(_trimmed(column), r"\.0*$", "")
            values = _cast(text, pa.int64())
        if values is None:
            raise _first_bad(text, pa.int64(), name, spot, "a whole number (ids as integers, never as 7.2e17)")
    elif pa.types.is_integer(kind):
        values = _cast(column, pa.int64())
        if values is None:
            raise _first_bad(column, pa.int64(), name, spot, "a whole number below 2^63")
    elif pa.types.is_null(kind):
        return np.zeros(len(column), np.int64), np.zeros(len(column), np.bool_)
    else:
        return _whole_floats(numbers(column, name, spot), column, name, spot)
    present: NDArray[np.bool_] = values.is_valid().to_numpy(zero_copy_only=False)
    array: Integers = values.fill_null(0).to_numpy(zero_copy_only=False)
    return array, present


def _whole_floats(values: Floats, column: Any, name: str, spot: Spot) -> tuple[Integers, NDArray[np.bool_]]:
    present = ~np.isnan(values)
    bad = np.flatnonzero(present & ((np.floor(values) != values) | (np.abs(values) >= _LARGEST_EXACT)))
    if bad.size:
        at = int(bad[0])
        raise spot.error(
            "an id that is no exact whole number",
            *(name, at, _value(column, at), "integers: ids above 2^53 lose digits as real numbers"),
            "export the table again with integer ids",
        )
    return np.where(present, values, 0).astype(np.int64), present


def triples(column: Any, name: str, axes: str, spot: Spot) -> Floats:
    """Return (n, 3) points (x, y, z) of a column of lists, of objects with x, y, z, or of text; NaN where none.

    Parameters
    ----------
    column : pyarrow.Array
        Lists of three, structs, or text such as ``[1 2 3]``, ``1,2,3`` or ``{"x": 1, "y": 2, "z": 3}``.
    axes : str
        Order of the numbers where they are not named.
    """
    kind = column.type
    out = np.full((len(column), 3), np.nan)
    order = ["xyz".index(axis) for axis in axes]
    if pa.types.is_struct(kind):
        return _struct_triples(column, name, spot)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        out[:, order] = _list_triples(column, name, spot)
        return out
    if pa.types.is_null(kind):
        return out
    if not _is_text(kind):
        raise spot.error(
            f"{kind} values",
            name,
            0,
            _value(column, 0),
            "three numbers a row",
            "name three columns, or one with triples",
        )
    return _text_triples(_trimmed(column), name, order, spot)


def _struct_triples(column: Any, name: str, spot: Spot) -> Floats:
    fields = {field.name.lower(): i for i, field in enumerate(column.type)}
    if not {"x", "y", "z"} <= set(fields):
        got = ", ".join(field.name for field in column.type)
        raise spot.error("an object without x, y, z", name, 0, got, "fields x, y, z", "map another column")
    return np.stack([numbers(pc.struct_field(column, [fields[a]]), f"{name}.{a}", spot) for a in "xyz"], axis=1)


def _list_triples(column: Any, name: str, spot: Spot) -> Floats:
    lengths = pc.list_value_length(column).fill_null(-1).to_numpy(zero_copy_only=False)
    bad = np.flatnonzero((lengths != 3) & (lengths > 0))
    if bad.size:
        at = int(bad[0])
        raise spot.error("a list that is no triple", name, at, _value(column, at), "three numbers", "correct the table")
    out = np.full((len(column), 3), np.nan)
    full = pc.list_flatten(column.filter(pa.array(lengths == 3)))
    out[lengths == 3] = numbers(full, name, spot).reshape(-1, 3)
    return out


def _text_triples(text: Any, name: str, order: list[int], spot: Spot) -> Floats:
    out = np.full((len(text), 3), np.nan)
    plain = pc.extract_regex(text, _TRIPLE)
    for number, group in zip(order, "abc", strict=True):
        out[:, number] = numbers(pc.struct_field(plain, group), name, spot)
    rest = np.flatnonzero(np.isnan(out[:, 0]) & text.is_valid().to_numpy(zero_copy_only=False))
    if rest.size:
        left = text.take(pa.array(rest))
        for i, axis in enumerate("xyz"):
            pattern = _NAMED.format(axis=axis, number=_NUMBER)
            out[rest, i] = numbers(pc.struct_field(pc.extract_regex(left, pattern), "v"), name, spot)
        bad = rest[np.isnan(out[rest]).any(axis=1)]
        if bad.size:
            at = int(bad[0])
            raise spot.error(
                "text that is no point",
                *(name, at, _value(text, at), "[x y z], x,y,z or an object with x, y, z"),
                "correct the table or map another column",
            )
    return out


def absent(points: Floats) -> NDArray[np.bool_]:
    """Return which points (n, 3) lack a coordinate."""
    return np.isnan(points[:, 0] + points[:, 1] + points[:, 2])


def texts(column: Any) -> tuple[list[str], Integers]:
    """Return the distinct values as text and the number of each row's; '' stands for none."""
    encoded = column.dictionary_encode(null_encoding="encode")
    distinct = ["" if value is None else str(value) for value in encoded.dictionary.to_pylist()]
    codes: Integers = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return distinct, codes


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _trimmed(column: Any) -> Any:
    text = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, text.type), text)


def _cast(column: Any, kind: Any) -> Any:
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        return None


def _value(column: Any, position: int) -> object:
    return column[position].as_py() if len(column) else None


def _first_bad(column: Any, kind: Any, name: str, spot: Spot, expected: str) -> InputError:
    low, high = 0, len(column)
    while high - low > 1:  # the first half that fails holds the first bad value
        middle = (low + high) // 2
        low, high = (low, middle) if _cast(column.slice(low, middle - low), kind) is None else (middle, high)
    return spot.error(
        "a value that cannot be read",
        name,
        low,
        _value(column, low),
        expected,
        "correct the table or map another column",
    )
