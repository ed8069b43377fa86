"""Everything of a data set read again, and compared with what was recorded when it was made."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from voxmint.datasets.format import Format, Output
from voxmint.datasets.ledger import Ledger, ledger_of
from voxmint.datasets.manifest import (
    MANIFEST,
    RECIPE,
    REJECTED,
    manifest_entries,
    manifest_head,
    read_rejected,
)
from voxmint.datasets.records import INDEX, RECORDS, Records, parse_record
from voxmint.datasets.stored import format_and_output, read_about
from voxmint.errors import InputError, VerificationError, VoxmintError
from voxmint.runs.progress import Progress, Silent
from voxmint.runs.report import Problem, Report
from voxmint.runs.shard import apart
from voxmint.sample import JSON, arrays_digest
from voxmint.stores.place import Place

UNREADABLE = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, EOFError, VoxmintError)
"""What h5py, NumPy and our readers raise on damaged files."""
_AHEAD = 64
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def verify(
    place: str | Path, *, secrets: str | Path | None = None, threads: int = 2, progress: Progress | None = None
) -> Report:
    """Read everything of a data set again and compare it with what was recorded; changes nothing.

    Parameters
    ----------
    place : path or URL
        A data set, finished or not, in a folder or a bucket.
    secrets : path, optional
        JSON file of credentials for a bucket.
    threads : int
        Files read at a time.
    progress : Progress, optional
        Told of each sample.

    Raises
    ------
    InputError
        There is no data set in this place.

    Examples
    --------
    >>> import voxmint as vm
    >>> done = vm.procedural_templates("bank", 8, workers=1)
    >>> vm.verify("bank").ok
    True
    """
    here = Place(place, secrets=secrets)
    if not here.exists(MANIFEST) and not here.exists(RECIPE):
        raise InputError("no data set in this directory", where=here.url, expected=f"{RECIPE} and {MANIFEST}",
                         remedy="correct the path")  # fmt: skip
    check = _Check(here, threads, progress or Silent())
    finished = here.exists(MANIFEST)
    samples = check.finished() if finished else check.unfinished()
    return Report(here.url, finished, samples, tuple(dict.fromkeys(check.problems)), check.rejected)


def check_ledger(
    format: Format, output: Output, ledger: Ledger, *, threads: int = 2, progress: Progress | None = None
) -> tuple[Problem, ...]:
    """Read all samples that a ledger says are stored, and compare them with it; changes nothing."""
    check = _Check(output.place, threads, progress or Silent())
    check.stored(format, output, ledger.everything())
    return tuple(check.problems)


class _Check:
    """One verification: collects problems."""

    def __init__(self, place: Place, threads: int, progress: Progress) -> None:
        self.place, self.threads, self.progress = place, threads, progress
        self.problems: list[Problem] = []
        self.rejected = 0

    def finished(self) -> int:
        """Check a data set that has a manifest; return the number of samples read."""
        head, faults, seen = manifest_head(self.place), list[str](), _Names()
        opened = self._open(head)
        entries = seen.noted(manifest_entries(self.place, faults))
        if opened is None:  # files of their own can be compared all the same
            entries = (entry for entry in entries if entry["covers"] == "file")
        for problems in self._each(lambda entry: self._file(opened, entry), entries):
            self.problems += problems
        for fault in faults:
            self._add(MANIFEST, None, fault)
        if opened is None:
            return 0
        needed = [RECIPE, RECORDS, *([INDEX] if head.get("voxmint manifest") != 1 else [])]
        for name in needed:
            if not seen.has(name):
                self._add(name, None, "is not vouched for by the manifest")
        format, output = opened
        for name in format.present(output):
            if not seen.has(name) and not faults:
                self._add(name, None, "is not part of the data set")
        return self._recorded(format, output, head)

    def unfinished(self) -> int:
        """Check what a run that has not ended stored so far; return the number of samples read."""
        opened = self._open({})
        if opened is None:
            return 0
        format, output = opened
        path = ledger_of(output)
        if not path.exists() and self.place.exists(RECORDS):
            self._add(MANIFEST, None, "missing")
            return self._recorded(format, output, {})
        ledger = Ledger(path)
        return self.stored(format, output, chain(ledger.everything(), apart(output, ledger)))

    def stored(self, format: Format, output: Output, entries: Iterable[JSON]) -> int:
        """Check all samples that a ledger's entries tell of; return their number."""

        def made() -> Iterator[JSON]:
            for entry in entries:
                if "sample" in entry:
                    yield entry
                else:
                    self.rejected += 1

        def check(entry: JSON) -> list[Problem]:
            files = ({**file, "sample": entry["sample"]["index"]} for file in entry["files"])
            found = [problem for file in files for problem in self._file((format, output), file)]
            return found + self._sample(format, output, entry["sample"])

        return self._samples(output, check, made())

    def _recorded(self, format: Format, output: Output, head: JSON) -> int:
        records = self._records(output.count, self._left_out(head))
        return self._samples(output, lambda record: self._sample(format, output, record), records)

    def _open(self, head: JSON) -> tuple[Format, Output] | None:
        """Find format and count, in the manifest's head or else in the recipe."""
        try:
            return format_and_output(self.place, head or read_about(self.place))
        except UNREADABLE as error:
            self._add(RECIPE, None, f"cannot tell format and count: {_first_line(error)}")
            return None

    def _file(self, opened: tuple[Format, Output] | None, entry: JSON) -> list[Problem]:
        name, sample = str(entry["file"]), entry.get("sample")
        try:
            size = self.place.size(name)
            if size is None:
                return [Problem(name, sample, "missing")]
            if size != entry["bytes"]:
                return [Problem(name, sample, f"{size:,} bytes instead of {entry['bytes']:,}")]
            if entry["covers"] == "file" or opened is None:
                found = self.place.entry(name)
            else:
                found = opened[0].entry(opened[1], entry)
        except UNREADABLE as error:
            return [Problem(name, sample, f"unreadable: {_first_line(error)}")]
        part = "" if entry["covers"] == "file" else " outside its arrays"
        return [] if found["sha256"] == entry["sha256"] else [Problem(name, sample, f"changed{part}")]

    def _left_out(self, head: JSON) -> frozenset[int] | None:
        """Return the indices that were rejected, None if their list is damaged."""
        try:
            indices = [row["index"] for row in read_rejected(self.place)]
        except VerificationError as error:
            self._add(REJECTED, None, error.what)
            return None
        self.rejected = len(indices)
        if len(indices) != head.get("rejected", len(indices)):
            self._add(REJECTED, None, f"{len(indices)} rejected samples instead of {head['rejected']}")
        if indices != sorted(set(indices)):
            self._add(REJECTED, None, "samples are listed twice, or out of order")
        return frozenset(indices)

    def _records(self, count: int, left_out: frozenset[int] | None) -> Iterator[JSON]:
        """Yield the records that can be read, in order; every index must be there or rejected, once."""
        if not self.place.exists(RECORDS):
            self._add(RECORDS, None, "missing")
            return
        made = iter(index for index in range(count) if not left_out or index not in left_out)
        lines, table = 0, self._table()
        for line in self.place.lines(RECORDS):
            lines += 1
            expected = next(made, count)
            record = parse_record(line) if table is None else table.vouches_for(line)
            if record is None:
                self._add(RECORDS, expected, "the record is unreadable")
                continue
            index = record["index"]
            while left_out is None and expected < index:  # nobody knows which were rejected
                expected = next(made, count)
            if index == expected < count:
                yield record
            else:
                self._add(RECORDS, expected, f"the record is of sample {index}")
        if left_out is not None and lines != count - len(left_out):
            self._add(RECORDS, None, f"{lines} records and {len(left_out)} rejected samples instead of {count}")

    def _table(self) -> Records | None:
        if not self.place.exists(INDEX):
            return None
        try:
            return Records(self.place)
        except VerificationError as error:
            self._add(INDEX, None, error.what)
            return None

    def _samples(self, output: Output, check: Callable[[JSON], list[Problem]], items: Iterable[JSON]) -> int:
        done = 0
        self.progress.begin(output.count, 0)
        try:
            for problems in self._each(check, items):
                self.problems += problems
                self.progress.advance()
                done += 1
        finally:
            self.progress.end()
        return done

    def _sample(self, format: Format, output: Output, record: JSON) -> list[Problem]:
        index, key = record["index"], record["key"]
        names = [name for names in format.files(output, index, key).values() for name in names]
        name = ", ".join(dict.fromkeys(names))
        try:
            arrays = format.read(output, index, key)
        except UNREADABLE as error:
            return [Problem(name, index, f"unreadable: {_first_line(error)}")]
        if arrays is None or arrays_digest(arrays) == record["digest"]:
            return []
        return [Problem(name, index, "the arrays differ from their digest")]

    def _each(self, action: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
        """Yield what an action returns for each item, in order, with few of them in memory."""
        with ThreadPoolExecutor(self.threads) as pool:
            items = iter(items)
            flying = deque(pool.submit(action, item) for item in islice(items, _AHEAD))
            while flying:
                result = flying.popleft().result()
                flying.extend(pool.submit(action, item) for item in islice(items, 1))
                yield result

    def _add(self, file: str, sample: int | None, what: str) -> None:
        self.problems.append(Problem(file, sample, what))


class _Names:
    """Names that were met, 8 bytes each."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._sorted: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None

    def noted(self, entries: Iterable[JSON]) -> Iterator[JSON]:
        """Pass entries on, and note their files."""
        for entry in entries:
            self._hashes.append(hash(entry["file"]))
            yield entry

    def has(self, name: str) -> bool:
        """Tell whether a file was met."""
        if self._sorted is None:
            self._sorted = np.sort(np.array(self._hashes, np.int64))
        at = int(np.searchsorted(self._sorted, hash(name)))
        return at < len(self._sorted) and int(self._sorted[at]) == hash(name)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
