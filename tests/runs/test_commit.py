"""Groups of samples that are flushed and recorded beside a run: none is lost, and nothing that fails is swallowed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from toy import ToySampler

import voxmint.runs.commit as module
from voxmint.datasets.format import Output
from voxmint.datasets.ledger import Ledger
from voxmint.datasets.npy import NpyFormat
from voxmint.errors import StorageError
from voxmint.runs.commit import GroupCommit
from voxmint.runs.parts import Parts, Stock

ENTRIES = [{"sample": {"index": index, "record": {}}, "files": []} for index in range(2)]


class Slow(NpyFormat):
    """Flushes when it is told to, or fails then; notes what went on at the same time."""

    def __init__(self, fails: bool) -> None:
        super().__init__()
        object.__setattr__(self, "told", threading.Event())
        object.__setattr__(self, "fails", fails)
        object.__setattr__(self, "flushing", [])

    def sync(self, output: Output) -> None:
        """Wait, and note how many wait."""
        self.flushing.append(None)
        assert len(self.flushing) == 1, "two flushes at a time"
        assert self.told.wait(10)
        self.flushing.pop()
        if self.fails:
            raise StorageError("the disk is gone", where=output.directory)


@pytest.mark.parametrize("fails", [False, True])
def test_the_end_waits_for_the_flush_that_goes_on(tmp_path, monkeypatch, fails) -> None:
    """What waits is recorded after it; or its failure is raised, though nothing else would fail."""
    monkeypatch.setattr(module, "GROUP_SECONDS", 0.0)
    format, output = Slow(fails), Output(tmp_path, 2, {})
    ledger = Ledger(tmp_path / "ledger")
    with ThreadPoolExecutor(1) as thread:
        group = GroupCommit(ToySampler(), format, output, Stock(ledger, Parts({})), thread)
        group.add(ENTRIES[0])
        group.tick()
        group.add(ENTRIES[1])
        threading.Timer(0.1, format.told.set).start()
        if fails:
            with pytest.raises(StorageError, match="the disk is gone"):
                group.finish()
            assert not len(ledger)
        else:
            group.finish()
            assert list(ledger.entries()) == ENTRIES


def test_what_was_recorded_last_of_a_sample_counts(tmp_path) -> None:
    """Rejected and then stored, or the other way round, it is one or the other, also when the ledger is read again."""
    stored, rejected = {"sample": {"index": 4}, "files": []}, {"rejected": {"index": 4}}
    for entries in ([rejected, stored], [stored, rejected]):
        ledger = Ledger(tmp_path / "ledger")
        ledger.append(entries)
        for opened in (ledger, Ledger(ledger.path)):
            assert opened.rejected == ([4] if entries[-1] is rejected else [])
            assert len(opened) == 1
