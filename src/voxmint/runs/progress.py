"""Progress of a run: a moving bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import time
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.progress import Task as BarTask
from rich.text import Text

_EVERY_SECONDS = 10.0
_EVERY_SHARE = 0.05


class Progress(Protocol):
    """What a run tells while it goes on."""

    def begin(self, total: int, done: int) -> None:
        """Start with ``done`` of ``total`` samples stored."""

    def advance(self) -> None:
        """Count one more sample."""

    def note(self, text: str) -> None:
        """Say something that a person should know."""

    def end(self) -> None:
        """End, well or not."""


class Silent:
    """Tells nothing."""

    def begin(self, total: int, done: int) -> None:
        """Do nothing."""

    def advance(self) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


class Terminal:
    """A bar with rate and time left."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=console, speed_estimate_period=120)
        self._task: TaskID | None = None

    def begin(self, total: int, done: int) -> None:
        """Show the bar."""
        if self._task is not None:  # a run may follow on a verification
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task("samples", total=total, completed=done)
        self._bar.start()

    def advance(self) -> None:
        """Move the bar."""
        if self._task is not None:
            self._bar.advance(self._task)

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)

    def end(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()


class Lines:
    """A plain line every ten seconds, and at least every 5 % but not more than once a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._total = self._done = self._before = 0
        self._start = self._said_at = 0.0
        self._said_done = 0

    def begin(self, total: int, done: int) -> None:
        """Take the time."""
        self._total, self._done, self._before = total, done, done
        self._start = self._said_at = time.monotonic()
        self._said_done = done

    def advance(self) -> None:
        """Say a line when it is time."""
        self._done += 1
        waited, made = time.monotonic() - self._said_at, self._done - self._said_done
        due = waited >= _EVERY_SECONDS or (waited >= 1 and made >= self._total * _EVERY_SHARE)
        if due or self._done == self._total:
            self._say()

    def note(self, text: str) -> None:
        """Print it."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def end(self) -> None:
        """Say nothing more."""

    def _say(self) -> None:
        now = time.monotonic()
        rate = (self._done - self._before) / max(now - self._start, 1e-9)
        left = (self._total - self._done) / rate
        share = 100 * self._done // self._total
        self.note(f"{self._done:,} of {self._total:,} samples ({share} %), {_rate(rate)}, {_duration(left)} left")
        self._said_at, self._said_done = now, self._done


class EverySamples(Lines):
    """A plain line every so many samples, and at the end."""

    def __init__(self, every: int, console: Console | None = None) -> None:
        super().__init__(console or Console(stderr=True))
        self._every = max(1, every)

    def advance(self) -> None:
        """Say a line when the number is reached."""
        self._done += 1
        if self._done % self._every == 0 or self._done == self._total:
            self._say()


def make_progress(console: Console | None = None) -> Progress:
    """Return the kind of progress that suits where standard error goes."""
    console = console or Console(stderr=True)
    return Terminal(console) if console.is_terminal else Lines(console)


class _Rate(ProgressColumn):
    def render(self, task: BarTask) -> Text:
        return Text("" if task.speed is None else _rate(task.speed))


def _rate(per_second: float) -> str:
    return f"{per_second:.1f} samples/s" if per_second >= 1 else f"{1 / max(per_second, 1e-9):.1f} s a sample"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
