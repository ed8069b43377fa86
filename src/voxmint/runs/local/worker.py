"""A worker process: makes the samples it is told, stores them, and reports each at once in one JSON line.

Spoken to over pipes rather than through `multiprocessing`, so that a user's script needs no ``__main__`` guard. It ends
at once when its standard input closes, and so never outlives a parent that was killed. Should it still be writing in
that moment, it writes the bytes that the next run would write at the same place.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from voxmint.datasets.format import Format, Output, format_from_spec
from voxmint.datasets.lines import compact
from voxmint.errors import StorageError, VoxmintError
from voxmint.generators import open_remote
from voxmint.sample import JSON, Failed, Outcome, Rejected, Sample, Sampler, attempt
from voxmint.system import STOP_SIGNALS

_FIELDS = ("what", "where", "expected", "got", "remedy")


def main() -> None:
    """Read one job, then batches of indices, from standard input, until it closes."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # batch systems send them to all: the parent ends its workers in order
    thresholds = gc.get_threshold()
    gc.set_threshold(1_000_000)  # imports leave next to no garbage, and looking for it takes a tenth of the start
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a sampler prints must not mix with the answers
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, lines), daemon=True).start()
    logging.getLogger("voxmint").addHandler(_Notes(answers))
    try:
        job = json.loads(lines.get())
        sampler, output = open_remote(job["sampler"]), Output.from_spec(job["output"])
        sampler.prepare()
        format = None if job["format"] is None else format_from_spec(job["format"])
    except Exception as error:  # told to the parent, which raises it
        _tell(answers, {"fatal": describe(error)})
        return
    gc.freeze()  # modules stay: they need not be looked through again
    gc.set_threshold(*thresholds)
    _tell(answers, {"ready": os.getpid()})
    while True:
        for answer in make_batch(json.loads(lines.get()), sampler, format, output):
            _tell(answers, answer)


def make_batch(indices: Sequence[int], sampler: Sampler, format: Format | None, output: Output) -> Iterator[JSON]:
    """Make and store samples, together if they are several; yield what the parent needs to know of each.

    Whatever goes wrong with the stream, each sample that it did not give is made alone before it counts as failed.
    """
    waiting = dict.fromkeys(indices)
    if len(waiting) > 1:
        try:
            for outcome in sampler.stream(indices):
                if outcome.index not in waiting:
                    raise ValueError(f"the stream gave sample {outcome.index}, which nobody waits for")
                del waiting[outcome.index]
                yield settle(outcome, format, output)
        except Exception as error:  # told, and each sample gets its own chance
            why = f"making samples together failed ({type(error).__name__}: {error})"
            yield {"note": f"{why}; the {len(waiting)} that are left are made one by one"}
    for index in waiting:
        yield settle(attempt(sampler, index), format, output)


def settle(outcome: Outcome, format: Format | None, output: Output) -> JSON:
    """Store what was made, if there is where to; return the ledger's entry, or why there is none."""
    try:
        if isinstance(outcome, Failed):
            raise outcome.cause
        if isinstance(outcome, Rejected):
            entry: JSON = {"rejected": about_rejected(outcome)}
            compact(entry)
        else:
            about = about_sample(outcome)
            compact(about)  # what cannot be recorded is not stored
            entry = {"sample": about, "files": [] if format is None else format.write(output, outcome)}
    except StorageError as error:
        return {"index": outcome.index, "fatal": describe(error)}
    except Exception as error:  # told to the parent, which decides
        return {"index": outcome.index, "error": describe(error)}
    return {"index": outcome.index, "done": entry}


def about_sample(sample: Sample) -> JSON:
    """Return index, key, digest and record of a sample."""
    return {"index": sample.index, "key": sample.key, "digest": sample.digest(), "record": _record(sample)}


def about_rejected(rejected: Rejected) -> JSON:
    """Return index, key, reason (on one line) and record of a rejected sample."""
    reason = " ".join(rejected.reason.split())
    return {"index": rejected.index, "key": rejected.key, "reason": reason, "record": _record(rejected)}


def _record(made: Sample | Rejected) -> JSON:
    return {**made.record, "reads": dict(made.reads)} if made.reads else made.record


def describe(error: BaseException) -> JSON:
    """Return an error as JSON."""
    name = type(error).__name__
    said: JSON = {"type": name, "what": str(error) or name, "traceback": "".join(traceback.format_exception(error))}
    if isinstance(error, VoxmintError):
        fields = {field: getattr(error, field) for field in _FIELDS}
        said |= {field: None if value is None else str(value) for field, value in fields.items()}
    said["transient"] = isinstance(error, OSError | MemoryError) and not isinstance(error, VoxmintError)
    return said


class _Notes(logging.Handler):
    """Passes on what the library logs for a person to know."""

    def __init__(self, answers: BinaryIO) -> None:
        super().__init__(logging.WARNING)
        self._answers = answers

    def emit(self, record: logging.LogRecord) -> None:
        _tell(self._answers, {"note": record.getMessage()})


def _listen(stream: BinaryIO, lines: queue.SimpleQueue[bytes]) -> None:
    for line in stream:
        lines.put(line)
    os._exit(0)  # the parent closed the pipe or is dead: nobody wants the sample in hand


def _tell(answers: BinaryIO, message: JSON) -> None:
    try:
        data = compact(message).encode() + b"\n"
        while data:
            data = data[answers.write(data) :]
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    main()
