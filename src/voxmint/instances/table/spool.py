"""Rows that are too many for memory, in a file without a name: gone when nobody holds it, even after a kill."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.files import storage_errors
from voxmint.instances.table.rows import ROW, mapped, packed_rows
from voxmint.instances.table.table import PIECE, Rows
from voxmint.system import pread, pwrite


class Spool:
    """A growing file of rows in the folder for temporary files (``TMPDIR``), read and written piece by piece.

    Written with system calls: a full disk then is an error, where a write to mapped memory would end the process.
    """

    def __init__(self) -> None:
        self._where = Path(tempfile.gettempdir())
        with storage_errors(self._where, "making a temporary file of rows"):
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - lives as long as the spool
        weakref.finalize(self, self._file.close)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, rows: Rows) -> None:
        """Write rows behind those that are there."""
        self._write(packed_rows(rows), self._count)
        self._count += len(rows)

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Drop the rows where the mask is false; the others keep their order."""
        kept = 0
        for start, piece in self._pieces():
            left = piece[mask[start : start + len(piece)]]
            self._write(left, kept)  # never beyond what was read already
            kept += len(left)
        self._count = kept
        self._file.truncate(kept * ROW.itemsize)

    def ordered(self, positions: NDArray[np.intp]) -> Rows:
        """Return the rows at distinct positions, in that order, in a file of their own."""
        place = np.full(self._count, -1, np.int64)
        place[positions] = np.arange(len(positions))
        out = Spool()
        for start, piece in self._pieces():
            places = place[start : start + len(piece)]
            wanted = np.flatnonzero(places >= 0)
            wanted = wanted[np.argsort(places[wanted])]
            out._write_runs(piece[wanted], places[wanted])
        out._count = len(positions)
        return out.rows()

    def rows(self) -> Rows:
        """Return all rows, mapped; they outlive the spool."""
        with storage_errors(self._where, "reading the temporary file of rows"):
            return mapped(self._file, 0, self._count)

    def _pieces(self) -> Iterator[tuple[int, NDArray[Any]]]:
        for start in range(0, self._count, PIECE):
            piece = np.empty(min(PIECE, self._count - start), ROW)
            with storage_errors(self._where, "reading the temporary file of rows"):
                view, offset = piece.view(np.uint8).data, start * ROW.itemsize
                while view.nbytes:
                    read = pread(self._file.fileno(), view.nbytes, offset)
                    if not read:
                        raise OSError("the temporary file of rows was cut")
                    view[: len(read)] = read
                    view, offset = view[len(read) :], offset + len(read)
            yield start, piece

    def _write_runs(self, packed: NDArray[Any], places: NDArray[np.int64]) -> None:
        """Write rows to ascending places, those next to each other together."""
        ends = np.flatnonzero(np.diff(places, append=-2) != 1) + 1
        for start, stop in pairwise([0, *ends.tolist()]):
            self._write(packed[start:stop], int(places[start]))

    def _write(self, packed: NDArray[Any], place: int) -> None:
        data, offset = packed.view(np.uint8).data, place * ROW.itemsize
        with storage_errors(self._where, "writing a temporary file of rows", data.nbytes):
            while data.nbytes:
                written = pwrite(self._file.fileno(), data, offset)
                data, offset = data[written:], offset + written


def chosen_rows(rows: Rows, which: NDArray[np.bool_]) -> Rows:
    """Return the rows where a mask is true, in a temporary file."""
    spool, start = Spool(), 0
    for piece in rows.pieces():
        spool.append(piece.take(which[start : start + len(piece)]))
        start += len(piece)
    return spool.rows()
