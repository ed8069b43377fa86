"""What is shown of a download: a bar on a terminal, a line now and then elsewhere, and words while no byte comes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

_EVERY_S = 10.0


class DownloadBar:
    """Bytes and words on standard error."""

    def __init__(self, bar: Progress) -> None:
        self._bar, self._task, self._said = bar, bar.add_task("archive", total=None), 0.0

    def move(self, done: int, total: int) -> None:
        """Show how far it is."""
        self._bar.update(self._task, completed=done, total=total)
        now = time.monotonic()
        if not self._bar.console.is_terminal and (done == total or now - self._said > _EVERY_S):
            self._said = now
            self.tell(f"{done / 1e9:,.2f} of {total / 1e9:,.2f} GB ({100 * done // total} %)")

    def tell(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def download_bar() -> Iterator[DownloadBar]:
    """Show a bar, from the first moment."""
    console = Console(stderr=True)
    columns = ("archive", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield DownloadBar(bar)
