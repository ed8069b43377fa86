"""Draw instances from a table of any size: the same ones for the same seed, however the table is cut into files.

Each row gets a random priority, a hash of the seed and of its id (or of its number where there are no ids), and those
with the smallest are drawn. So a draw depends neither on batches nor on files, a larger draw begins with the smaller
one, and little more than the rows drawn is ever held: of each its priority and stratum in memory, the rest in a file.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from voxmint.errors import InputError
from voxmint.files import storage_errors
from voxmint.instances.draw.reservoir import Reservoir, Words, mix, mix_cells
from voxmint.instances.table.columns import missing_column
from voxmint.instances.table.table import Batch, InstanceTable, Point, Rows
from voxmint.instances.table.values import Integers, absent
from voxmint.randomness import Stream
from voxmint.recipe import Recipe
from voxmint.sample import JSON

BoxNm = tuple[Point, Point]
"""Start and (excluded) stop (x, y, z) in nm."""
DUPLICATES_CHECKED = 1 << 22
"""Rows up to which all ids are compared; in larger tables only those drawn are."""
MOST_STRATA = 100_000
"""Distinct values that a column to stratify by may have."""


class TooFewRowsError(InputError):
    """A table has fewer rows that pass the filters than were asked for.

    Attributes
    ----------
    rows, eligible : int
        Rows that have a point, and those of them that pass.
    """

    rows: int = 0
    eligible: int = 0


class SamplingRecipe(Recipe):
    """How many instances are drawn from a table, and how."""

    count: PositiveInt | None = None
    """Instances to draw; without it all that pass the filters."""
    method: Literal["uniform", "stratified", "density"] = "uniform"
    """Uniform over rows, or as equal in number as can be over a column's values, or over occupied grid cells."""
    stratify_by: str | None = None
    """Column whose values are the strata."""
    cell_nm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (10_000.0, 10_000.0, 10_000.0)
    """Grid cell (x, y, z) in nm over which ``density`` balances."""
    box_nm: BoxNm | None = None
    """Only centres in this box: start and (excluded) stop in nm."""
    ids: Annotated[tuple[int, ...], Field(min_length=1)] | None = None
    """Only these ids."""
    without_point: Literal["refuse", "drop"] = "refuse"
    """What becomes of rows with neither centre nor both points: an error, or left out and counted."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.method == "stratified") != (self.stratify_by is not None):
            raise ValueError("stratify_by names a column exactly when method is 'stratified'")
        if self.box_nm is not None and not all(a < b for a, b in zip(*self.box_nm, strict=True)):
            raise ValueError(f"box_nm must be (start, stop) with start < stop on every axis, got {self.box_nm}")
        return self


@dataclass(frozen=True)
class Draw:
    """Rows drawn, in random order, and the counts of how they were. The rows lie in a temporary file."""

    rows: Rows
    report: JSON


def draw_instances(
    table: InstanceTable, sampling: SamplingRecipe, seed: int, inside: Mapping[str, BoxNm] | None = None
) -> Draw:
    """Draw instances in one pass over a table that is never in memory as a whole.

    Parameters
    ----------
    table : InstanceTable
        Where from.
    sampling : SamplingRecipe
        How many and how.
    seed : int
        Seed of the data set.
    inside : mapping of str to box, optional
        Boxes in nm that must hold the centre, by the name to count those that do not under, for example
        ``{"target volume": (start, stop)}``.

    Returns
    -------
    Draw
        The first instances of a draw are those of a smaller one with the same seed.

    Raises
    ------
    InputError
        Fewer rows than asked for, a damaged table, a row without a point, or an id that is there twice.
    """
    boxes = {**(inside or {}), **({"box_nm": sampling.box_nm} if sampling.box_nm else {})}
    if sampling.stratify_by is not None and sampling.stratify_by not in table.names:
        raise missing_column(sampling.stratify_by, table.names, table.where)
    tally = _Tally(table, sampling, boxes)
    strata = _Strata(sampling, seed)
    reservoir = Reservoir(sampling.count)
    keys = Stream(seed, "instances", "rows")
    first, second = np.uint64(keys.word()), np.uint64(keys.word())
    for batch in table.batches(sampling.stratify_by):
        keep = tally.filter(batch)
        rows = batch.rows.take(keep)
        priority = mix(mix(rows.id.astype(np.uint64) + first) ^ second)
        reservoir.add(rows, strata.of(batch, keep, rows), priority)
    tally.finish(reservoir.offered)
    drawn, stratum, twice = reservoir.drawn()
    tally.refuse_duplicates(twice)
    report = {**tally.report(), "drawn": len(drawn), "method": sampling.method, "seed": seed}
    return Draw(drawn, {**report, **strata.report(stratum)})


class _Tally:
    """What passes the filters, what does not and why; and whether an id is there twice."""

    def __init__(self, table: InstanceTable, sampling: SamplingRecipe, boxes: Mapping[str, BoxNm]) -> None:
        self.table, self.sampling, self.boxes = table, sampling, boxes
        self.read = self.eligible = 0
        wanted = {"without a point": sampling.without_point == "drop", "not among the ids": sampling.ids is not None}
        self.dropped = {name: 0 for name, used in wanted.items() if used} | {f"outside {name}": 0 for name in boxes}
        self._ids = None if sampling.ids is None else np.unique(np.array(sampling.ids, np.int64))
        self._found = np.zeros(0 if self._ids is None else self._ids.size, np.bool_)
        # in a file, like the rows: while these are pruned, memory is needed for that
        self._seen = None
        if "id" in table.roles:
            self._seen = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
            weakref.finalize(self, self._seen.close)
        self._low, self._high = np.full(3, np.inf), np.full(3, -np.inf)

    def filter(self, batch: Batch) -> NDArray[np.bool_]:
        """Return which rows pass, and count those that do not under the first reason."""
        rows = batch.rows
        self.read += len(rows)
        if self._seen is not None:
            self._note(self._seen, rows.id)
        keep = ~absent(rows.centre_nm)
        if self.sampling.without_point == "refuse" and not keep.all():
            at = int(np.flatnonzero(~keep)[0])
            raise batch.spot.error(
                *("no centre, nor both pre and post points,", ", ".join(self._point_columns()), at, None),
                *("numbers", "complete the table, or set without_point: drop to leave such rows out"),
            )
        self._count("without a point", ~keep)
        self._low = np.fmin(self._low, np.fmin.reduce(rows.centre_nm, axis=0))
        self._high = np.fmax(self._high, np.fmax.reduce(rows.centre_nm, axis=0))
        if self._ids is not None:
            among = np.isin(rows.id, self._ids)
            self._found |= np.isin(self._ids, rows.id[among])
            self._count("not among the ids", keep & ~among)
            keep &= among
        for name, (start, stop) in self.boxes.items():
            within = np.ones(len(rows), np.bool_)
            for axis in range(3):
                along = rows.centre_nm[:, axis]
                within &= (along >= start[axis]) & (along < stop[axis])
            self._count(f"outside {name}", keep & ~within)
            keep &= within
        return keep

    def _note(self, seen: IO[bytes], ids: Integers) -> None:
        """Note ids to compare them all in the end, unless there are too many."""
        if self.read > DUPLICATES_CHECKED:
            seen.close()
            self._seen = None
        else:
            with storage_errors(Path(tempfile.gettempdir()), "writing a temporary file of ids", ids.nbytes):
                seen.write(ids.tobytes())

    def _count(self, reason: str, which: NDArray[np.bool_]) -> None:
        if reason in self.dropped:
            self.dropped[reason] += int(which.sum())

    def _point_columns(self) -> list[str]:
        return [name for role in ("centre", "pre", "post") for name in self.table.roles.get(role, ())]

    def report(self) -> JSON:
        """Return the counts."""
        return {"rows": self.read, "dropped": dict(self.dropped), "eligible": self.eligible}

    def finish(self, eligible: int) -> None:
        """Refuse ids that are there twice, and fewer rows than asked for."""
        self.eligible = eligible
        if self._seen is not None:
            self._seen.seek(0)
            ids = np.fromfile(self._seen, np.int64)
            ids.sort()
            self.refuse_duplicates(np.unique(ids[1:][ids[1:] == ids[:-1]]))
        if self._ids is not None and not self._found.all():
            absent = self._ids[~self._found]
            raise InputError(
                f"{absent.size:,} of {self._ids.size:,} ids are not in the table",
                where=self._where(),
                got=", ".join(map(str, absent[:5])) + ("..." if absent.size > 5 else ""),
                remedy="correct the ids; without an id column they are row numbers, from 0",
            )
        asked = self.sampling.count or 1
        if eligible < asked:
            what = f"{asked:,} instances asked for, but there are {eligible:,}"
            error = TooFewRowsError(
                what if self.sampling.count else "no row is left",
                where=self._where(),
                expected=f"at least {asked:,} rows that pass the filters",
                got=self._got(),
                remedy=f"ask for {eligible:,} or fewer, or widen the filters" if eligible else self._nowhere(),
            )
            error.rows, error.eligible = self.read - self.dropped.get("without a point", 0), eligible
            raise error

    def _where(self) -> str:
        return self.table.where

    def _got(self) -> str:
        dropped = ", ".join(f"{n:,} {reason}" for reason, n in self.dropped.items() if n)
        return f"{self.read:,} rows" + (f" ({dropped})" if dropped else "")

    def _nowhere(self) -> str:
        lies = f"the table's points lie in {_box_text(self._low, self._high)}"
        boxes = "; ".join(f"{name}: {_box_text(*map(np.array, box))}" for name, box in self.boxes.items())
        return f"{lies}{'; ' if boxes else ''}{boxes}: check the voxel size of the table and the filters"

    def refuse_duplicates(self, ids: Integers) -> None:
        """Raise when there are any."""
        if ids.size:
            raise InputError(
                f"{ids.size:,} ids are there more than once",
                where=self._where(),
                expected=f"one row for each {self.table.roles['id'][0]}",
                got=", ".join(map(str, ids[:5])) + ("..." if ids.size > 5 else ""),
                remedy="remove the repeated rows, or set id: [] in the column map to number the rows",
            )


def _box_text(low: NDArray[np.float64], high: NDArray[np.float64]) -> str:
    return ", ".join(f"{axis} {a:.0f} to {b:.0f}" for axis, a, b in zip("xyz", low, high, strict=True)) + " nm"


class _Strata:
    """The stratum of each row as a random word: equal for the same stratum in any file."""

    def __init__(self, sampling: SamplingRecipe, seed: int) -> None:
        self.sampling, self.seed = sampling, seed
        self._key = np.uint64(Stream(seed, "instances", "cells").word())
        self._words: dict[str, int] = {}

    def of(self, batch: Batch, keep: NDArray[np.bool_], rows: Rows) -> Words:
        """Return a word for each row kept."""
        if self.sampling.method == "density":
            cells = np.floor(rows.centre_nm / np.array(self.sampling.cell_nm)).astype(np.int64)
            return mix_cells(cells, self._key)
        if batch.labels is None:
            return np.zeros(len(rows), np.uint64)
        distinct, codes = batch.labels
        words = np.array([self._word(text) for text in distinct], np.uint64)
        return words[codes[keep]]

    def _word(self, text: str) -> int:
        if text not in self._words:
            if len(self._words) >= MOST_STRATA:
                raise InputError(
                    f"column {self.sampling.stratify_by} has more than {MOST_STRATA:,} different values",
                    expected="a column of few kinds, to draw equally from each",
                    remedy="stratify by another column, or use method: density to balance over space",
                )
            self._words[text] = Stream(self.seed, "instances", "stratum", text).word()
        return self._words[text]

    def report(self, stratum: Words) -> JSON:
        """Return how many were drawn from each stratum, or from how many cells."""
        if self.sampling.method == "uniform":
            return {}
        ordered = np.sort(stratum)
        ends = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
        words, counts = ordered[ends], np.diff(ends, prepend=-1)
        if self.sampling.method == "density":
            return {"cells": int(words.size), "most_in_a_cell": int(counts.max())}
        number = dict(zip(words.tolist(), counts.tolist(), strict=True))
        return {"strata": {text: number.get(word, 0) for text, word in sorted(self._words.items())}}
