"""The records of a finished data set: one JSON line a sample, and a table of where each lies: none need be in memory.

`records.npy` has a row a sample, ascending by index: ``index`` int64, ``start`` and ``stop`` int64, the bytes of its
line in `records.jsonl`, ``digest``, the 32 bytes of the SHA-256 over its arrays, and ``check``, 16 bytes of BLAKE2b
over its line: records and table vouch for each other, whatever becomes of the manifest.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.datasets.lines import parse
from voxmint.errors import VerificationError
from voxmint.files import write_atomically
from voxmint.sample import JSON
from voxmint.stores.place import Place

RECORDS, INDEX = "records.jsonl", "records.npy"
_ROW = np.dtype([("index", "<i8"), ("start", "<i8"), ("stop", "<i8"), ("digest", "V32"), ("check", "V16")])
_FIELDS = {"index", "key", "digest", "record"}


def write_records(directory: Path, samples: Iterable[tuple[JSON, bytes]], count: int) -> None:
    """Write both files from ``count`` samples (index, key, digest, record), each with its JSON, in ascending order."""
    rows = np.zeros(count, _ROW)

    def lines() -> Iterator[bytes]:
        place = 0
        for number, (sample, text) in enumerate(samples):
            line = text + b"\n"
            rows[number] = (sample["index"], place, place + len(line), bytes.fromhex(sample["digest"]), _check(line))
            place += len(line)
            yield line

    write_atomically(directory / RECORDS, lines())
    table = io.BytesIO()
    np.save(table, rows, allow_pickle=False)
    write_atomically(directory / INDEX, [table.getvalue()])


class Records:
    """The records of a finished data set; read when they are asked for.

    Parameters
    ----------
    place : Place
        The data set.

    Raises
    ------
    VerificationError
        A record or the table of their places is damaged.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._rows = _table(place)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def indices(self) -> NDArray[np.int64]:
        """Indices of all samples, ascending, (n,)."""
        return self._rows["index"]

    def __contains__(self, index: int) -> bool:
        return self._row(index) is not None

    def __getitem__(self, index: int) -> JSON:
        """Return index, key, digest and record of a sample; a `KeyError` if there is none."""
        row = self._row(index)
        if row is None:
            raise KeyError(index)
        line = self._place.read_part(RECORDS, int(row["start"]), int(row["stop"]))
        record = parse_record(line)
        if record is None or record["index"] != index:
            raise VerificationError("the record is unreadable", where=f"{self._place.url}/{RECORDS}, sample {index}",
                                    remedy="see `voxmint verify`")  # fmt: skip
        return record

    def vouches_for(self, line: bytes) -> JSON | None:
        """Return what a line of `records.jsonl` holds if it is as it was written, else None."""
        record = parse_record(line)
        row = None if record is None else self._row(record["index"])
        if record is None or row is None:
            return None
        same = row["check"].tobytes() == _check(line) and row["digest"].tobytes().hex() == record["digest"]
        return record if same else None

    def digest(self, index: int) -> str:
        """Return the digest of a sample as the table has it; a `KeyError` if there is none."""
        row = self._row(index)
        if row is None:
            raise KeyError(index)
        found: str = row["digest"].tobytes().hex()
        return found

    def _row(self, index: int) -> Any:
        """Return what the table has of a sample, None if it has nothing."""
        at = int(np.searchsorted(self.indices, index))
        return self._rows[at] if at < len(self) and int(self.indices[at]) == index else None


def parse_record(line: bytes) -> JSON | None:
    """Return what a line of `records.jsonl` holds, None if it is damaged."""
    try:
        record = parse(line)
        if isinstance(record, dict) and set(record) == _FIELDS and len(bytes.fromhex(record["digest"])) == 32:
            record["index"], record["key"] = int(record["index"]), str(record["key"])
            return record
    except (ValueError, TypeError):
        pass
    return None


def _check(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()


def read_records(place: Place) -> Iterator[JSON]:
    """Yield all records in order.

    Raises
    ------
    VerificationError
        One is damaged.
    """
    for number, line in enumerate(place.lines(RECORDS), 1):
        record = parse_record(line)
        if record is None:
            raise VerificationError(f"line {number} is unreadable", where=f"{place.url}/{RECORDS}",
                                    remedy="see `voxmint verify`")  # fmt: skip
        yield record


def _table(place: Place) -> NDArray[Any]:
    """Read or map the table; data sets of version 0.1 have none, and it is made of their records."""
    if not place.exists(INDEX):
        rows, start = [], 0
        for line in place.lines(RECORDS):
            record = parse_record(line)
            if record is not None:  # `verify` tells of the others
                digest = bytes.fromhex(record["digest"])
                rows.append((record["index"], start, start + len(line), digest, _check(line)))
            start += len(line)
        return np.array(sorted(rows, key=lambda row: row[0]), _ROW)
    where = f"{place.url}/{INDEX}"
    try:
        if place.is_local:
            table: Any = np.load(Path(place.url) / INDEX, mmap_mode="r", allow_pickle=False)
        else:
            table = np.load(io.BytesIO(place.read(INDEX)), allow_pickle=False)
        if table.dtype != _ROW or table.ndim != 1 or (np.diff(table["index"]) <= 0).any():
            raise ValueError(f"{table.dtype}, {table.shape}")
    except Exception as error:  # a damaged header makes NumPy raise many kinds
        raise VerificationError(f"the table of records is damaged: {error}", where=where,
                                remedy="see `voxmint verify`; `voxmint repair` makes it again") from error  # fmt: skip
    return np.asarray(table)
