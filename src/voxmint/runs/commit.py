"""Finished samples flushed to the disk and recorded, many at once and beside the run; and the order of making."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from voxmint.datasets.format import Format, Output
from voxmint.errors import PlanError
from voxmint.runs.parts import Stock, reads_of
from voxmint.sample import JSON, Sampler

GROUP_SECONDS = 5.0
"""How often finished samples are flushed to the disk and recorded: what a power loss may cost."""
_GROUP_SAMPLES = 256


def in_order(sampler: Sampler, wanted: Sequence[int]) -> Sequence[int]:
    """Return the wanted indices (ascending) in the order in which the sampler likes to make them.

    Raises
    ------
    PlanError
        Its order leaves out indices or has some twice.
    """
    suggested = sampler.order() if len(wanted) else None
    if suggested is None:
        return wanted
    order = np.asarray(suggested, np.int64)
    if not np.array_equal(np.sort(order), np.arange(len(sampler))):
        raise PlanError("the sampler's order does not have every index once", where=type(sampler).__name__,
                        expected=f"0 to {len(sampler) - 1}", got=f"{len(order)} indices")  # fmt: skip
    chosen = np.zeros(len(order), np.bool_)
    chosen[np.asarray(wanted, np.int64)] = True
    ordered: list[int] = order[chosen[order]].tolist()
    return ordered


class GroupCommit:
    """Flushes many samples at once and then records them, beside the run, so that workers never wait for the disk.

    Before anything is recorded the inputs are looked at: what was made of one that changed is not kept.
    """

    def __init__(
        self, sampler: Sampler, format: Format, output: Output, stock: Stock, thread: ThreadPoolExecutor
    ) -> None:
        self._sampler, self._format = sampler, format
        self._output, self._stock, self._thread = output, stock, thread
        self._waiting: list[JSON] = []
        self._running: Future[None] | None = None
        self._last = time.monotonic()

    def add(self, entry: JSON) -> None:
        """Have the entry of a stored or rejected sample recorded with the next flush."""
        self._waiting.append(entry)

    def tick(self) -> None:
        """Start a flush when it is time and none is going on."""
        if self._running is not None and self._running.done():
            self.wait()
        due = time.monotonic() - self._last >= GROUP_SECONDS or len(self._waiting) >= _GROUP_SAMPLES
        if due and self._waiting and self._running is None:
            self._running = self._thread.submit(self._record, self._waiting)
            self._waiting, self._last = [], time.monotonic()

    def wait(self) -> None:
        """Wait for the flush that is going on, and raise what went wrong in it."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def finish(self) -> None:
        """Record all that waits."""
        self.wait()
        self._record(self._waiting)

    def _record(self, entries: list[JSON]) -> None:
        if not entries:
            return
        self._sampler.check()
        for entry in entries:
            self._stock.parts.add(reads_of(entry))
        self._format.sync(self._output)
        self._stock.ledger.append(entries)


@contextmanager
def group_commit(sampler: Sampler, format: Format, output: Output, stock: Stock) -> Iterator[GroupCommit]:
    """Give what records the samples of a run, and record all that waits at the end of the block, however it ends."""
    with ThreadPoolExecutor(1) as thread:
        group = GroupCommit(sampler, format, output, stock, thread)
        try:
            yield group
        finally:  # also after an error or Ctrl-C: what is stored need not be made again
            group.finish()
