"""A shard: a contiguous range of a data set's samples, made by whoever takes it, with a lock and a ledger of its own.

Several shards of one data set are made at the same time by runs that know nothing of each other. What a shard's run has
stored goes over into the data set's ledger when it ends, or, should it have been killed, when the next run begins.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from voxmint.datasets.format import Output
from voxmint.datasets.ledger import NAME as LEDGER
from voxmint.datasets.ledger import Ledger, index_of, read_ledger
from voxmint.errors import InputError, PlanError
from voxmint.files import storage_errors
from voxmint.runs.lock import hold_lock
from voxmint.runs.parts import Stock, reads_of
from voxmint.sample import JSON

_FOLDER = "shards"


@dataclass(frozen=True, order=True)
class Shard:
    """Samples ``start`` to ``stop`` (excluded) of a data set: plain data, to be handed to any machine."""

    start: int
    stop: int

    @property
    def name(self) -> str:
        """Name of its folder in the state of the run."""
        return f"{self.start:09d}-{self.stop:09d}"

    @classmethod
    def named(cls, name: str) -> Shard:
        """Return the shard of a folder."""
        start, _, stop = name.partition("-")
        return cls(int(start), int(stop))

    def within(self, count: int) -> range:
        """Return its indices in a data set of so many samples."""
        return range(max(0, self.start), min(self.stop, count))

    def overlaps(self, other: Shard) -> bool:
        """Tell whether both have a sample in common."""
        return self.start < other.stop and other.start < self.stop

    def folder(self, output: Output) -> Path:
        """Return where its lock and ledger lie; made if absent."""
        path = output.state / _FOLDER / self.name
        with storage_errors(path, "making the folder"):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def hold(self, output: Output) -> AbstractContextManager[None]:
        """Hold its lock; see `voxmint.runs.lock.hold_lock`."""
        return hold_lock(self.folder(output))

    def ledger(self, output: Output) -> Path:
        """Return the file of its ledger."""
        return self.folder(output) / LEDGER

    def remove(self, output: Output) -> None:
        """Remove what is kept of it."""
        with storage_errors(self.folder(output), "removing"):
            shutil.rmtree(self.folder(output))


def shards_of(output: Output) -> Iterator[Shard]:
    """Yield the shards that were begun and have not gone over into the data set's ledger."""
    folder = output.state / _FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        yield Shard.named(path.name)


def absorb(output: Output, stock: Stock, wanted: Shard, mine: Shard | None = None) -> None:
    """Enter what ended shards stored into the data set's stock; the lock of the directory must be held.

    What was made of an input that had another content for the samples that are there already is left out.

    Parameters
    ----------
    output : Output
        The data set.
    stock : Stock
        What it has already.
    wanted : Shard
        What is about to be made.
    mine : Shard, optional
        The shard whose lock the caller holds: it goes over, too.

    Raises
    ------
    PlanError
        Another run is making samples of ``wanted``.
    InputError
        Something was left out; names the part of the input.
    """
    faults: list[InputError] = []
    for shard in list(shards_of(output)):
        if shard == mine:
            faults += _enter(shard, output, stock)
            continue
        try:
            with shard.hold(output):
                faults += _enter(shard, output, stock)
        except PlanError as error:
            if shard.overlaps(wanted):
                raise PlanError("another run is making some of these samples", where=output.where, got=error.got,
                                expected=f"nobody at samples {wanted.start} to {wanted.stop - 1}",
                                remedy="wait for it or end it, or take another range") from None  # fmt: skip
    if faults:
        raise faults[0]


def apart(output: Output, ledger: Ledger) -> Iterator[JSON]:
    """Yield the entries of shards that the data set's ledger has not, of runs that go on or were killed."""
    for shard in shards_of(output):
        entries = (entry for entry, _ in read_ledger(shard.ledger(output)) if ledger.stored(entry))
        yield from (entry for entry in entries if index_of(entry) not in ledger)


def _enter(shard: Shard, output: Output, stock: Stock) -> list[InputError]:
    faults: list[InputError] = []

    def consistent() -> Iterator[tuple[JSON, bytes]]:
        for entry, line in read_ledger(shard.ledger(output)):
            if not stock.ledger.stored(entry):
                continue
            try:
                stock.parts.add(reads_of(entry))
            except InputError as error:
                faults.append(error)
            else:
                yield entry, line

    stock.ledger.append_lines(consistent())
    shard.remove(output)
    return faults[:1]
