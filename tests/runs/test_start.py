"""What workers tell: when they start, and all at once while nobody listens."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from test_execute import Heard
from toy import ToySampler

from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.errors import RunError, StorageError
from voxmint.runs.execute import execute
from voxmint.sample import Rejected, Sample


class LoudToy(ToySampler):
    """Has something to say when it is built in a worker."""

    @classmethod
    def open(cls, definition: dict[str, Any], access: dict[str, Any]) -> ToySampler:
        """Build, and log at two levels."""
        logging.getLogger("voxmint.toy").warning("building for\nthe first time")
        logging.getLogger("voxmint.toy").info("nothing that matters")
        return super().open(definition, access)


def test_warnings_of_a_starting_worker_reach_the_user(tmp_path):
    """What the library logs as a warning in a worker becomes a note of the run; one from each worker."""
    heard = Heard()
    assert execute(LoudToy(seconds=0.2), Hdf5Format(), tmp_path, workers=2, progress=heard).made == 12
    assert heard.notes == 2 * ["building for\nthe first time"]


class ShyToy(ToySampler):
    """Some starts of its workers, counted from 0 and named by the fault "start", end with their process."""

    @classmethod
    def open(cls, definition: dict[str, Any], access: dict[str, Any]) -> ToySampler:
        """Build, or end this process after a last word."""
        sampler = super().open(definition, access)
        start = len(list(Path(sampler.once).glob("start*")))
        (Path(sampler.once) / f"start{start}").touch(exist_ok=False)
        if sampler.faults["start"] == "all" or str(start) in sampler.faults["start"].split():
            print("the library is missing", file=sys.stderr, flush=True)
            os._exit(7)
        return sampler


def test_workers_that_cannot_start_end_the_run_with_their_last_words(tmp_path):
    """Three starts in a row that fail are enough; the run says how they ended."""
    sampler = ShyToy(faults={"start": "all"}, once=str(tmp_path))
    with pytest.raises(RunError, match="cannot start: exited with code 7") as caught:
        execute(sampler, Hdf5Format(), tmp_path / "data", workers=1)
    assert "the library is missing" in str(caught.value.got)
    assert len(list(tmp_path.glob("start*"))) == 3


def test_starts_that_fail_now_and_then_cost_nothing(tmp_path):
    """Two failing starts are passed over, and two more after a worker that had started and died later."""
    sampler = ShyToy(faults={"start": "0 1 3 4", "6": "kill"}, once=str(tmp_path))
    assert execute(sampler, Hdf5Format(), tmp_path / "data", workers=1).made == 12
    assert len(list(tmp_path.glob("start*"))) == 6


class FullToy(ToySampler):
    """Finds no space for sample 1, after a while."""

    def make(self, index: int) -> Sample | Rejected:
        """Make any other sample."""
        if index == 1:
            time.sleep(0.2)
            raise StorageError("no space is left", where="here")
        return super().make(index)


class Sleepy(Heard):
    """Takes its time over each sample."""

    def advance(self) -> None:
        """Sleep while the worker goes on."""
        time.sleep(0.6)


def test_a_disk_that_failed_is_told_though_more_was_said_after(tmp_path):
    """A worker goes on until its parent hears of the failure; answers that come with it hide nothing."""
    with pytest.raises(StorageError, match="no space is left"):
        execute(FullToy(), Hdf5Format(), tmp_path, workers=1, progress=Sleepy())
