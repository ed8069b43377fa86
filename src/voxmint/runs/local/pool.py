"""Worker processes: started, fed with batches of indices, heard, replaced when they die."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import voxmint.errors
from voxmint.datasets.lines import compact, parse
from voxmint.errors import RunError, VoxmintError
from voxmint.runs.local.shares import Shares
from voxmint.sample import JSON
from voxmint.system import KILLED

ATTEMPTS = 3
"""How often a sample is tried whose worker died, or that failed for a reason that may pass."""
_STARTS = 3
_WINDOW = 2
_TICK = 0.5
_STDERR_TAIL = 4000
_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"),
    # glibc: keep the memory of large arrays for the next sample instead of giving it back and faulting it in again,
    # which costs a fifth of the time
    **dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(1 << 30)),
}


@dataclass(frozen=True)
class Done:
    """A sample that is stored or rejected: the ledger's entry."""

    index: int
    entry: JSON


@dataclass(frozen=True)
class Failed:
    """A sample that could not be made, and why."""

    index: int
    why: str
    details: str = ""
    error: VoxmintError | None = None


@dataclass(frozen=True)
class Note:
    """Something a person should know at once, such as the death of a worker."""

    text: str


Event = Done | Failed | Note | None


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    number: int
    held: deque[dict[int, None]] = field(default_factory=deque)
    """Batches it was given, the one in hand first, each without the samples it has reported already."""
    unread: bytes = b""
    stderr: bytes = b""
    ready: bool = False

    def send(self, text: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its end is told by the other pipe
            self.process.stdin.write(text.encode() + b"\n")
            self.process.stdin.flush()


class Pool:
    """A number of worker processes that share one job.

    Parameters
    ----------
    job : dict
        What `voxmint.runs.local.worker` is told first: specs of sampler, format and output.
    workers : int
        How many. All start at once, and settle among themselves who compiles what the others load.
    """

    def __init__(self, job: JSON, workers: int) -> None:
        self._job, self._wanted = compact(job), workers
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._attempts: dict[int, int] = {}
        self._shares = Shares([], 1, 1)
        self._failed_starts = 0
        self._events: deque[Event | VoxmintError] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, shares: Shares) -> Iterator[Event]:
        """Make all samples; yield what happens, and None at least twice a second.

        Raises
        ------
        VoxmintError
            Whatever would befall every sample: no space, or an input that a worker cannot open.
        """
        self._shares = shares
        for _ in range(self._wanted):
            self._start()
        while True:
            busy = self._feed()
            while self._events:
                event = self._events.popleft()
                if isinstance(event, VoxmintError):
                    raise event
                yield event
            if not busy:
                return
            for key, _ in self._selector.select(_TICK):
                self._hear(*key.data)
            yield None

    def close(self) -> None:
        """End all workers, whatever they are doing, and wait for them."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            self._release(worker)
        self._workers.clear()
        self._selector.close()

    def _start(self) -> None:
        paths = [path or os.getcwd() for path in sys.path]  # noqa: PTH109 - '' in sys.path means this
        environment = {
            **os.environ,
            **_ENVIRONMENT,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONFAULTHANDLER": "1",
            "PYTHONIOENCODING": "utf-8:backslashreplace",
        }
        # A session of its own: Ctrl-C goes to the parent alone, which ends the workers in order.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "voxmint.runs.local.worker"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        taken = {worker.number for worker in self._workers}
        worker = _Worker(process, next(n for n in range(self._wanted) if n not in taken))
        self._workers.append(worker)
        self._selector.register(process.stdout, selectors.EVENT_READ, (worker, False))  # type: ignore[arg-type]
        self._selector.register(process.stderr, selectors.EVENT_READ, (worker, True))  # type: ignore[arg-type]
        worker.send(self._job)

    def _feed(self) -> bool:
        """Give every ready worker its share; return whether anything is left to wait for."""
        for depth in range(1, _WINDOW + 1):  # one each first, so that the last samples are shared evenly
            for worker in self._workers:
                if worker.ready and len(worker.held) < depth:
                    batch = self._shares.take(worker.number)
                    if batch is not None:
                        worker.held.append(dict.fromkeys(batch))
                        worker.send(compact(batch))
        return bool(self._shares) or any(worker.held for worker in self._workers)

    def _hear(self, worker: _Worker, is_stderr: bool) -> None:
        stream = worker.process.stderr if is_stderr else worker.process.stdout
        assert stream is not None
        if stream.closed:
            return
        data = os.read(stream.fileno(), 1 << 16)
        if is_stderr:
            worker.stderr = (worker.stderr + data)[-_STDERR_TAIL:]
            if not data:
                self._selector.unregister(stream)
            return
        if not data:
            self._bury(worker)
            return
        *lines, worker.unread = (worker.unread + data).split(b"\n")
        for line in lines:
            self._answer(worker, parse(line))

    def _answer(self, worker: _Worker, message: JSON) -> None:
        if "ready" in message:
            worker.ready, self._failed_starts = True, 0
            return
        if "note" in message:
            self._events.append(Note(message["note"]))
            return
        index = int(message.get("index", -1))
        if index >= 0:  # also if the disk failed: others may have been told after it
            del worker.held[0][index]
            if not worker.held[0]:
                worker.held.popleft()
        if "fatal" in message:
            self._events.append(as_error(message["fatal"]))
            return
        if "done" in message:
            self._events.append(Done(index, message["done"]))
            return
        error = message["error"]
        why = f"{error['type']}: {as_error(error) if 'where' in error else error['what']}"
        if not error["transient"] or not self._retry(index):
            self._events.append(Failed(index, why, error["traceback"], as_error(error)))

    def _retry(self, index: int) -> bool:
        self._attempts[index] = self._attempts.get(index, 0) + 1
        if self._attempts[index] >= ATTEMPTS:
            return False
        self._shares.again(index)
        return True

    def _bury(self, worker: _Worker) -> None:
        """Tell how a worker ended, put back what it held, and start another."""
        self._workers.remove(worker)
        self._release(worker)
        how = _how_it_ended(worker.process.returncode)
        stderr = worker.stderr.decode(errors="replace").strip()
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= _STARTS:
                why = f"worker processes cannot start: {how}"
                self._events.append(RunError(why, got=stderr or None, remedy="mend what its last words name"))
                return
        elif worker.held:
            in_hand = list(worker.held.popleft())
            self._shares.put_back(map(list, worker.held))
            self._blame(f"worker {worker.process.pid} {how} while making", in_hand, f"its worker {how}", stderr)
        self._start()

    def _blame(self, what: str, in_hand: list[int], why: str, details: str) -> None:
        """Tell what a dead worker had in hand, and have it made again if it may.

        Which of a batch was to blame shows only when its samples are made one by one, and so that counts no attempt.
        """
        if len(in_hand) > 1:
            self._shares.put_back([index] for index in in_hand)
            some = f"{len(in_hand)} samples from {in_hand[0]} to {in_hand[-1]}"
            self._events.append(Note(f"{what} {some}; trying them one by one"))
            return
        (index,) = in_hand
        again = self._retry(index)
        then = "trying it again" if again else f"given up after {ATTEMPTS} attempts"
        self._events.append(Note(f"{what} sample {index}; {then}"))
        if not again:
            self._events.append(Failed(index, why, details))

    def _release(self, worker: _Worker) -> None:
        """Reap an ended worker, read its last words, close its pipes."""
        process, stderr = worker.process, worker.process.stderr
        assert stderr is not None
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # it closed its output but lives
            process.kill()
            process.wait()
        os.set_blocking(stderr.fileno(), False)
        with contextlib.suppress(BlockingIOError):  # a child of the worker may keep the pipe open
            worker.stderr = (worker.stderr + (os.read(stderr.fileno(), 1 << 20)))[-_STDERR_TAIL:]
        for stream in (process.stdin, process.stdout, stderr):
            assert stream is not None
            with contextlib.suppress(KeyError):
                self._selector.unregister(stream)
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def as_error(said: JSON) -> VoxmintError:
    """Build the error that a worker described; one that is not ours becomes a `RunError`."""
    cls = getattr(voxmint.errors, str(said["type"]), None)
    fields = {name: said.get(name) for name in ("where", "expected", "got", "remedy")}
    if isinstance(cls, type) and issubclass(cls, VoxmintError):
        error: VoxmintError = cls.__new__(cls)  # some classes are made from other arguments
        VoxmintError.__init__(error, said["what"], **fields)
        return error
    if "where" in said:  # one of ours that lives beside what raises it
        return VoxmintError(said["what"], **fields)
    shown = said["traceback"] if os.environ.get("VOXMINT_TRACEBACK") else None
    return RunError(f"{said['type']}: {said['what']}", got=shown, remedy="set VOXMINT_TRACEBACK=1 to see where")


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    hint = ", as the system does when memory runs out" if code == KILLED else ""
    return f"was killed by signal {-code} ({signal.strsignal(-code)}){hint}"
