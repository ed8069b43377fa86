"""The ledger of an unfinished run: which samples are stored, each with its digest, and which are rejected and why.

Lines are appended only after the samples' data were flushed to the disk, so that even a power loss leaves no line
without its data. A line that was cut by a kill is dropped when something is appended, and its sample made again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from voxmint.datasets.format import Output
from voxmint.datasets.lines import seal, unseal
from voxmint.files import storage_errors, sync_directory
from voxmint.sample import JSON

NAME = "ledger.jsonl"
REOPENED = "reopened.jsonl"
"""The ledger of a data set that is being repaired, none of its samples checked yet."""


def ledger_of(output: Output) -> Path:
    """Return the file of a data set's ledger; there may be none."""
    reopened = output.state / REOPENED
    return reopened if reopened.exists() else output.state / NAME


def read_ledger(path: Path) -> Iterator[tuple[JSON, bytes]]:
    """Yield the entries of all whole lines as they follow each other, each with its line; none if there is no file.

    Each is ``{"sample": {"index": ..., "key": ..., "digest": ..., "record": ...}, "files": [...]}``, its data being
    stored, or ``{"rejected": {"index": ..., "key": ..., "reason": ..., "record": ...}}``.
    """
    if not path.exists():
        return
    with storage_errors(path, "reading the ledger"), path.open("rb") as stream:
        for line in stream:
            entry = unseal(line)
            if entry is None:
                return
            yield entry, line


def index_of(entry: JSON) -> int:
    """Return the index of a ledger's entry."""
    index: int = entry["rejected" if "rejected" in entry else "sample"]["index"]
    return index


class Ledger:
    """Samples that are stored or rejected; lines stay on the disk and only their places in memory.

    Parameters
    ----------
    path : Path
        The file, read once from its start to its end; it is made, or changed, when something is appended.
    stored : callable, optional
        Given an entry, tells whether it counts: a sample whose files are gone does not.
    noted : callable, optional
        Told each entry that counts, as it is read.
    """

    def __init__(
        self,
        path: Path,
        stored: Callable[[JSON], bool] = lambda _: True,
        noted: Callable[[JSON], object] = lambda _: None,
    ) -> None:
        self.path, self.stored = path, stored
        self._places: dict[int, int] = {}
        self._rejected: set[int] = set()
        self._end = 0
        self.lost = False
        """Whether there were entries that do not count."""
        with storage_errors(path, "reading the ledger"):
            for entry, line in read_ledger(path):
                if stored(entry):
                    noted(entry)
                    self._note(entry)
                else:
                    self.lost = True
                self._end += len(line)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, index: int) -> bool:
        return index in self._places

    @property
    def rejected(self) -> list[int]:
        """Indices of rejected samples, ascending."""
        return sorted(self._rejected)

    def append(self, entries: Iterable[JSON]) -> None:
        """Add samples; their data must be safely stored."""
        self.append_lines((entry, seal(entry)) for entry in entries)

    def append_lines(self, lines: Iterable[tuple[JSON, bytes]]) -> None:
        """Add samples whose lines were written before, as `read_ledger` gives them."""
        with storage_errors(self.path, "writing the ledger"), self.path.open("ab") as stream:
            stream.truncate(self._end)  # a line that was cut
            for entry, line in lines:
                stream.write(line)
                self._note(entry)
                self._end += len(line)
            stream.flush()
            os.fsync(stream.fileno())
            sync_directory(self.path.parent)

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield index and line of all samples, stored or rejected, in order of their index."""
        if not self._places:
            return
        with storage_errors(self.path, "reading the ledger"), self.path.open("rb") as stream:
            for index, place in sorted(self._places.items()):
                stream.seek(place)
                yield index, stream.readline()

    def everything(self) -> Iterator[JSON]:
        """Yield the entries of all samples, stored or rejected, in order of their index."""
        return (self._entry(line) for _, line in self.lines())

    def entries(self) -> Iterator[JSON]:
        """Yield the entries of all that is stored in order of the samples' index."""
        return (self._entry(line) for index, line in self.lines() if index not in self._rejected)

    def records(self) -> Iterator[tuple[JSON, bytes]]:
        """Yield index, key, digest and record of all that is stored, and the text that says so, by index."""
        for index, line in self.lines():
            if index not in self._rejected:
                # no text within a string looks so: there, a quote has a backslash before it
                text = line[line.index(b'"sample":') + len(b'"sample":') : line.rindex(b',"files":[')]
                yield self._entry(line)["sample"], text

    def rejections(self) -> Iterator[JSON]:
        """Yield index, key, reason and record of all rejected samples in order of their index."""
        return (self._entry(line)["rejected"] for index, line in self.lines() if index in self._rejected)

    def _entry(self, line: bytes) -> JSON:
        entry = unseal(line)
        assert entry is not None, f"{self.path} was changed while it was open"
        return entry

    def _note(self, entry: JSON) -> None:
        """Note an entry whose line begins where the ledger ends by now."""
        index = index_of(entry)
        self._places[index] = self._end
        (self._rejected.add if "rejected" in entry else self._rejected.discard)(index)
