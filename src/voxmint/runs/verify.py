"""Everything of a data set read again, and compared with what was recorded when it was made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from voxmint.datasets.format import Format, Target, format_from_spec
from voxmint.datasets.ledger import NAME as LEDGER
from voxmint.datasets.ledger import Ledger
from voxmint.datasets.manifest import MANIFEST, RECIPE, RECORDS, REJECTED, read_manifest, read_rejected
from voxmint.errors import InputError, VerificationError, VoxmintError
from voxmint.files import file_entry
from voxmint.recipe import read_yaml
from voxmint.runs.progress import Progress, Silent
from voxmint.sample import JSON, arrays_digest

_UNREADABLE = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, VoxmintError)
"""What h5py, NumPy and our readers raise on damaged files."""


@dataclass(frozen=True)
class Problem:
    """Something that is not as it was recorded.

    Attributes
    ----------
    file : str
        Relative to the data set's directory.
    sample : int or None
        Index of the sample it belongs to; None when it concerns the file as a whole.
    what : str
        One sentence.
    """

    file: str
    sample: int | None
    what: str

    def __str__(self) -> str:
        return f"{self.file}{'' if self.sample is None else f', sample {self.sample}'}: {self.what}"


@dataclass(frozen=True)
class Report:
    """What `verify` found.

    Attributes
    ----------
    directory : Path
        The data set.
    finished : bool
        The run that made it ended; otherwise only what is stored so far was checked.
    samples : int
        How many samples were compared with their digests.
    problems : tuple of Problem
        Empty if all is well.
    rejected : int
        How many samples the data set does not have, because they were rejected.
    """

    directory: Path
    finished: bool
    samples: int
    problems: tuple[Problem, ...]
    rejected: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        state = "" if self.finished else " (the run that makes it is not finished)"
        end = "all as recorded" if self.ok else f"{len(self.problems)} problems"
        rejected = f", {self.rejected:,} rejected" if self.rejected else ""
        head = f"{self.directory}: {self.samples:,} samples checked{rejected}{state}: {end}"
        return "\n".join([head, *map(str, self.problems)])

    def raise_if_wrong(self) -> None:
        """Raise `VerificationError` that lists the problems, if there are any."""
        if self.problems:
            shown = "".join(f"\n    {problem}" for problem in self.problems[:20])
            more = f"\n    and {len(self.problems) - 20} more" if len(self.problems) > 20 else ""
            raise VerificationError(
                "the stored data differ from what was recorded",
                where=self.directory,
                got=shown + more,
                remedy="make again what is damaged with `voxmint repair`, or restore the files from a copy",
            )


def verify(directory: str | Path, *, threads: int = 2, progress: Progress | None = None) -> Report:
    """Read a finished or unfinished data set, byte for byte, and compare it with its records; changes nothing.

    Parameters
    ----------
    directory : path
        What `execute` was given.
    threads : int
        How many samples to read at once.
    progress : Progress, optional
        Told what goes on.

    Raises
    ------
    InputError
        There is no data set in this directory.
    """
    directory = Path(directory).absolute()
    if not (directory / MANIFEST).exists() and not (directory / RECIPE).exists():
        raise InputError("no data set in this directory", where=directory, expected=f"{RECIPE} and {MANIFEST}")
    check = _Check(directory, threads, progress or Silent())
    finished = (directory / MANIFEST).exists()
    samples = check.finished() if finished else check.unfinished()
    return Report(directory, finished, samples, tuple(dict.fromkeys(check.problems)), check.rejected)


def check_ledger(
    store: Format, target: Target, ledger: Ledger, *, threads: int = 2, progress: Progress | None = None
) -> tuple[Problem, ...]:
    """Read all samples that a ledger says are stored, and compare them with it; changes nothing."""
    check = _Check(target.directory, threads, progress or Silent())
    check.stored(store, target, ledger)
    return tuple(check.problems)


class _Check:
    """One verification: collects problems."""

    def __init__(self, directory: Path, threads: int, progress: Progress) -> None:
        self.directory, self.threads, self.progress = directory, threads, progress
        self.problems: list[Problem] = []
        self.rejected = 0

    def finished(self) -> int:
        """Check a data set that has a manifest; return the number of samples read."""
        try:
            head, entries = read_manifest(self.directory)
        except VerificationError as error:
            self._add(MANIFEST, None, error.what)
            head, entries = {}, []
        opened = self._open(head)
        if opened is None:
            return 0
        store, target = opened
        with ThreadPoolExecutor(self.threads) as pool:
            for problem in pool.map(lambda entry: self._file(store, target, entry), entries):
                self.problems += problem
        known = {entry["file"] for entry in entries}
        for path in store.present(target) if entries else ():
            name = path.relative_to(self.directory).as_posix()
            if name not in known:
                self._add(name, None, "is not part of the data set")
        return self._samples(store, target, self._records(target.count, self._left_out(head)))

    def unfinished(self) -> int:
        """Check what a run that has not ended stored so far; return the number of samples read."""
        opened = self._open({})
        if opened is None:
            return 0
        store, target = opened
        with Ledger(target.state / LEDGER, reading=True) as ledger:
            return self.stored(store, target, ledger)

    def stored(self, store: Format, target: Target, ledger: Ledger) -> int:
        """Check all samples of a ledger; return their number."""
        self.rejected = len(ledger.rejected)
        for entry in ledger.entries():
            for file in entry["files"]:
                self.problems += self._file(store, target, {**file, "sample": entry["sample"]["index"]})
        return self._samples(store, target, (entry["sample"] for entry in ledger.entries()))

    def _open(self, head: JSON) -> tuple[Format, Target] | None:
        """Find format and count, in the manifest's head or else in the recipe."""
        try:
            about = head or read_yaml(self.directory / RECIPE)
            layout = {name: (tuple(array["shape"]), array["dtype"]) for name, array in about["arrays"].items()}
            return format_from_spec(about["format"]), Target(self.directory, int(about["count"]), layout)
        except _UNREADABLE as error:
            self._add(RECIPE, None, f"cannot tell format and count: {_first_line(error)}")
            return None

    def _file(self, store: Format, target: Target, entry: JSON) -> list[Problem]:
        name, sample = str(entry["file"]), entry.get("sample")
        path = self.directory / name
        try:
            if not path.is_file():
                return [Problem(name, sample, "missing")]
            size = path.stat().st_size
            if size != entry["bytes"]:
                return [Problem(name, sample, f"{size:,} bytes instead of {entry['bytes']:,}")]
            found = file_entry(self.directory, path) if entry["covers"] == "file" else store.entry(target, entry)
        except _UNREADABLE as error:
            return [Problem(name, sample, f"unreadable: {_first_line(error)}")]
        part = "" if entry["covers"] == "file" else " outside its arrays"
        return [] if found["sha256"] == entry["sha256"] else [Problem(name, sample, f"changed{part}")]

    def _left_out(self, head: JSON) -> frozenset[int] | None:
        """Return the indices that were rejected, None if their list is damaged."""
        try:
            indices = [row["index"] for row in read_rejected(self.directory)]
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
        path = self.directory / RECORDS
        if not path.is_file():
            self._add(RECORDS, None, "missing")
            return
        made = iter(index for index in range(count) if not left_out or index not in left_out)
        lines = 0
        with path.open("rb") as stream:
            for line in stream:
                lines += 1
                expected = next(made, count)
                try:
                    record = json.loads(line)
                    index, _, _ = int(record["index"]), str(record["key"]), str(record["digest"])
                except (ValueError, KeyError, TypeError):
                    self._add(RECORDS, expected, "the record is unreadable")
                    continue
                while left_out is None and expected < index:  # nobody knows which were rejected
                    expected = next(made, count)
                if index == expected < count:
                    yield record
                else:
                    self._add(RECORDS, expected, f"the record is of sample {index}")
        if left_out is not None and lines != count - len(left_out):
            self._add(RECORDS, None, f"{lines} records and {len(left_out)} rejected samples instead of {count}")

    def _samples(self, store: Format, target: Target, records: Iterable[JSON]) -> int:
        done = 0
        self.progress.begin(target.count, 0)
        try:
            with ThreadPoolExecutor(self.threads) as pool:
                for problems in pool.map(lambda record: self._sample(store, target, record), records):
                    self.problems += problems
                    self.progress.advance()
                    done += 1
        finally:
            self.progress.end()
        return done

    def _sample(self, store: Format, target: Target, record: JSON) -> list[Problem]:
        index, key = record["index"], record["key"]
        files = [path for paths in store.files(target, index, key).values() for path in paths]
        name = ", ".join(dict.fromkeys(path.relative_to(self.directory).as_posix() for path in files))
        try:
            arrays = store.read(target, index, key)
        except _UNREADABLE as error:
            return [Problem(name, index, f"unreadable: {_first_line(error)}")]
        if arrays is None or arrays_digest(arrays) == record["digest"]:
            return []
        return [Problem(name, index, "the arrays differ from their digest")]

    def _add(self, file: str, sample: int | None, what: str) -> None:
        self.problems.append(Problem(file, sample, what))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
