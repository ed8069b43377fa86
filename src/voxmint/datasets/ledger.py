"""The ledger of an unfinished run: which samples are stored, each with its digest, and which are rejected and why.

Lines are appended only after the samples' data were flushed to the disk, so that even a power loss leaves no line
without its data. A line that was cut by a kill is dropped when the ledger is opened again, and its sample made again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from voxmint.datasets.lines import seal, unseal
from voxmint.files import storage_errors, sync_directory
from voxmint.sample import JSON

NAME = "ledger.jsonl"


class Ledger:
    """Samples that are stored or rejected; lines stay on the disk and only their places in memory.

    Parameters
    ----------
    path : Path
        The file; made when absent, unless ``reading``.
    stored : callable, optional
        Given a sample's manifest entries, tells whether its files are still there. Others are forgotten.
    reading : bool
        Open without changing anything; a file that does not exist is an empty ledger.
    """

    def __init__(
        self, path: Path, *, stored: Callable[[list[JSON]], bool] = lambda _: True, reading: bool = False
    ) -> None:
        self.path, self.stored = path, stored
        self._places: dict[int, int] = {}
        self._rejected: set[int] = set()
        self._stream: BinaryIO | None = None
        if reading and not path.exists():
            return
        with storage_errors(path, "opening the ledger"):
            self._stream = path.open("rb" if reading else "a+b")
            end = self._scan()
            if not reading:
                self._stream.truncate(end)
                os.fsync(self._stream.fileno())
                sync_directory(path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, index: int) -> bool:
        return index in self._places

    @property
    def rejected(self) -> list[int]:
        """Indices of rejected samples, ascending."""
        return sorted(self._rejected)

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()

    def append(self, entries: Iterable[JSON]) -> None:
        """Add samples.

        Each is ``{"sample": {"index": ...}, "files": [...]}`` with its data safely stored, or
        ``{"rejected": {"index": ..., "key": ..., "reason": ..., "record": ...}}``.
        """
        assert self._stream is not None, "the ledger was opened for reading"
        with storage_errors(self.path, "writing the ledger"):
            place = self._stream.seek(0, os.SEEK_END)
            for entry in entries:
                line = seal(entry)
                self._stream.write(line)
                self._note(entry, place)
                place += len(line)
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def entries(self) -> Iterator[JSON]:
        """Yield all that is stored in order of the samples' index."""
        return self._read(index for index in sorted(self._places) if index not in self._rejected)

    def rejections(self) -> Iterator[JSON]:
        """Yield index, key, reason and record of all rejected samples in order of their index."""
        return (entry["rejected"] for entry in self._read(self.rejected))

    def everything(self) -> Iterator[JSON]:
        """Yield the entries of all samples, stored or rejected, in order of their index."""
        return self._read(sorted(self._places))

    def _read(self, indices: Iterable[int]) -> Iterator[JSON]:
        for index in indices:
            assert self._stream is not None
            with storage_errors(self.path, "reading the ledger"):
                self._stream.seek(self._places[index])
                line = self._stream.readline()
            entry = unseal(line)
            assert entry is not None, f"{self.path} was changed while it was open"
            yield entry

    def _scan(self) -> int:
        """Find the places of all whole lines; return where the last of them ends."""
        assert self._stream is not None
        self._stream.seek(0)
        place = 0
        for line in self._stream:
            entry = unseal(line)
            if entry is None:
                break
            if "rejected" in entry or self.stored(entry["files"]):
                self._note(entry, place)
            place += len(line)
        return place

    def _note(self, entry: JSON, place: int) -> None:
        rejected = "rejected" in entry
        index: int = entry["rejected" if rejected else "sample"]["index"]
        self._places[index] = place
        (self._rejected.add if rejected else self._rejected.discard)(index)
