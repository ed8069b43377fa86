"""A materialization table: one row an instance, in any format and number of files, streamed in batches."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import InputError
from voxmint.instances.table.columns import POINTS, ColumnMap, Names, missing_column, resolve
from voxmint.instances.table.parts import column_names, column_of, find_parts, read_batches, release_unused
from voxmint.instances.table.sources import fetched
from voxmint.instances.table.values import Floats, Integers, Spot, absent, numbers, texts, triples, whole_numbers
from voxmint.retry import PATIENCE_S
from voxmint.sample import JSON

Point = tuple[float, float, float]
"""A point (x, y, z) in nm."""
PIECE = 1 << 14
"""Rows that are looked at together where there may be very many."""
POINT_FIELDS = ("centre_nm", "pre_nm", "post_nm")
"""Fields of `Rows` that are points; the others are whole numbers."""
_DECIMALS = 6
_TIDY = 32
"""Batches after which freed memory is given back: readers leave holes that grow for a while."""


@dataclass(frozen=True)
class Instance:
    """One row of a table.

    Attributes
    ----------
    id : int
        The table's own id, else `row`.
    row : int
        Number of the row, from 0, over all parts in their order.
    centre_nm : tuple of float
        Centre (x, y, z) in nm; halfway between pre and post where the table has no centre.
    pre_nm, post_nm : tuple of float or None
        Pre- and postsynaptic points in nm.
    pre_neuron_id, post_neuron_id, target_id : int or None
        Neurons, and the instance's id in the target segmentation.
    """

    id: int
    row: int
    centre_nm: Point
    pre_nm: Point | None = None
    post_nm: Point | None = None
    pre_neuron_id: int | None = None
    post_neuron_id: int | None = None
    target_id: int | None = None

    def to_dict(self) -> JSON:
        """Return all fields as JSON-able values."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_dict(cls, values: JSON) -> Self:
        """Build from what `to_dict` gave."""
        given: JSON = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**given)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Rows:
    """Some rows of a table as arrays of equal length: points (x, y, z) in nm, NaN where none, and ids, 0 where none."""

    row: Integers
    id: Integers
    centre_nm: Floats
    pre_nm: Floats
    post_nm: Floats
    pre_neuron_id: Integers
    post_neuron_id: Integers
    target_id: Integers

    def __len__(self) -> int:
        return len(self.row)

    def take(self, which: NDArray[Any] | slice) -> Rows:
        """Return the rows at positions, of a slice, or where a mask is true."""
        return Rows(**{field.name: getattr(self, field.name)[which] for field in fields(self)})

    def pieces(self, size: int = PIECE) -> Iterator[Rows]:
        """Yield all rows in order, ``size`` at a time; where they lie in a file, memory holds no more than these."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))
            self.let_go()

    def column(self, name: str) -> NDArray[Any]:
        """Return one field of all rows as an array of its own."""
        field: NDArray[Any] = getattr(self, name)
        out, start = np.empty(field.shape, field.dtype), 0
        for piece in self.pieces():
            out[start : start + len(piece)] = getattr(piece, name)
            start += len(piece)
        return out

    def let_go(self) -> None:
        """Let memory forget what it holds of a mapped file; it is read again when it is looked at."""
        base: Any = self.row
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
            base.madvise(mmap.MADV_DONTNEED)

    def instances(self) -> list[Instance]:
        """Return the rows one by one."""
        return [
            Instance(
                id=int(self.id[i]),
                row=int(self.row[i]),
                centre_nm=_point(self.centre_nm[i]),
                pre_nm=None if np.isnan(self.pre_nm[i]).any() else _point(self.pre_nm[i]),
                post_nm=None if np.isnan(self.post_nm[i]).any() else _point(self.post_nm[i]),
                pre_neuron_id=_positive(self.pre_neuron_id[i]),
                post_neuron_id=_positive(self.post_neuron_id[i]),
                target_id=_positive(self.target_id[i]),
            )
            for i in range(len(self))
        ]


def _point(values: Floats) -> Point:
    return (float(values[0]), float(values[1]), float(values[2]))


def _positive(value: np.int64) -> int | None:
    return int(value) if value > 0 else None


def _listed(parts: list[Path]) -> str:
    return f"{parts[0]}" + (f" and {len(parts) - 1} more files" if len(parts) > 1 else "")


@dataclass(frozen=True)
class Batch:
    """Rows that were read together, and the text of one more column when it was asked for."""

    rows: Rows
    spot: Spot
    labels: tuple[list[str], Integers] | None
    """Distinct texts, and the number of each row's."""


class InstanceTable:
    """A materialization table on disk.

    Parameters
    ----------
    source : path, glob, sequence of paths, or address
        Files of one format (CSV, JSON lines, gzipped or not, Parquet, Feather, Arrow), or a folder of them. Rows are
        numbered over all parts in the natural order of their names. Or a folder or address of Neuroglancer's
        precomputed annotations, or ``cave://DATASTACK/TABLE?version=N``; their rows are in the order of their ids.
    columns : ColumnMap
        Which column is what, and the unit of the coordinates.
    secrets : path, optional
        JSON file with credentials, for an address.
    patience : float
        Seconds that an object or a page of an address may take.

    Raises
    ------
    InputError
        No table, or one without the columns asked for, or whose unit is neither given nor carried.
    """

    def __init__(
        self,
        source: str | Path | Sequence[str | Path],
        columns: ColumnMap,
        *,
        secrets: str | Path | None = None,
        patience: float = PATIENCE_S,
    ) -> None:
        self.fetched = fetched(source, columns.named(), secrets, patience)
        self.parts = find_parts(source) if self.fetched is None else self.fetched.parts
        self.where = _listed(self.parts) if self.fetched is None else self.fetched.where
        """The files, or the address without secrets, for errors."""
        carried = self.fetched
        self.columns = columns.settled(
            self.where, carried.voxel_size_nm if carried else None, carried.preset if carried else None
        )
        self.names = column_names(self.parts[0])
        """Columns of the first part, nested fields as ``outer.inner``."""
        self.roles = resolve(self.columns, self.names, self._shown(self.parts[0]))
        """The columns of each role that the table has."""

    @property
    def voxel_size_nm(self) -> tuple[float, float, float]:
        """Size (x, y, z) in nm of one unit of the table's coordinates."""
        assert self.columns.voxel_size_nm is not None
        return self.columns.voxel_size_nm

    def batches(self, label: str | None = None) -> Iterator[Batch]:
        """Read all rows in order, a bounded number at a time.

        Parameters
        ----------
        label : str, optional
            One more column to read, as text.

        Raises
        ------
        InputError
            A part is damaged or lacks a column, a value cannot be read, or there are no rows.
        """
        needed = list(
            dict.fromkeys([*(name for names in self.roles.values() for name in names), *filter(None, [label])])
        )
        row = 0
        for part in self.parts:
            self._check_part(part, needed)
            first = 0
            for number, raw in enumerate(read_batches(part, needed)):
                if number % _TIDY == 0:
                    release_unused()
                if raw.num_rows:
                    spot = Spot(self._shown(part), first)
                    labels = texts(column_of(raw, label)) if label else None
                    yield Batch(self._rows(raw, row, spot), spot, labels)
                    first += raw.num_rows
                    row += raw.num_rows
        if row == 0:
            raise InputError("the table has no rows", where=self.where, expected="one row an instance")

    def _shown(self, part: Path) -> str:
        """Return the name of a part for errors: files of an address are not the user's."""
        return str(part) if self.fetched is None else self.fetched.where

    def _check_part(self, part: Path, needed: list[str]) -> None:
        names = self.names if part == self.parts[0] else column_names(part)
        for name in needed:
            if name not in names:
                raise missing_column(name, names, self._shown(part))

    def _rows(self, raw: Any, row: int, spot: Spot) -> Rows:
        count = raw.num_rows
        points = {role: self._points(raw, role, spot) for role in POINTS}
        middle = (points["pre"] + points["post"]) / 2
        centre: Floats = np.where(absent(points["centre"])[:, None], middle, points["centre"])
        number = np.arange(row, row + count, dtype=np.int64)
        return Rows(
            row=number,
            id=self._ids(raw, spot) if "id" in self.roles else number,
            # six decimals, so that a voxel's corner is the decimal it is written as and never falls one voxel short
            centre_nm=np.round(centre, _DECIMALS),
            pre_nm=points["pre"],
            post_nm=points["post"],
            pre_neuron_id=self._whole(raw, "pre_neuron_id", spot),
            post_neuron_id=self._whole(raw, "post_neuron_id", spot),
            target_id=self._whole(raw, "target_id", spot),
        )

    def _points(self, raw: Any, role: str, spot: Spot) -> Floats:
        names: Names = self.roles.get(role, ())
        if not names:
            return np.full((raw.num_rows, 3), np.nan)
        if len(names) == 1:
            points = triples(column_of(raw, names[0]), names[0], self.columns.axes, spot)
        else:
            split = [numbers(column_of(raw, name), name, spot) for name in names]
            points = np.stack([split[self.columns.axes.index(axis)] for axis in "xyz"], axis=1)
        nm: Floats = np.round(points * np.array(self.voxel_size_nm), _DECIMALS)
        return nm

    def _whole(self, raw: Any, role: str, spot: Spot) -> Integers:
        if role not in self.roles:
            return np.zeros(raw.num_rows, np.int64)
        name = self.roles[role][0]
        return whole_numbers(column_of(raw, name), name, spot)[0]

    def _ids(self, raw: Any, spot: Spot) -> Integers:
        name = self.roles["id"][0]
        ids, present = whole_numbers(column_of(raw, name), name, spot)
        if not present.all():
            at = int(np.flatnonzero(~present)[0])
            raise spot.error(
                *("no id", name, at, None, "a whole number in every row"),
                "complete the ids, or set id: [] in the column map to number the rows",
            )
        return ids
