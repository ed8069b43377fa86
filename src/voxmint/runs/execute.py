"""A run: every sample made once, by worker processes, into one data set. Killed at any moment, it can go on."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

from voxmint.datasets.format import Format, Output
from voxmint.datasets.ledger import REOPENED, Ledger
from voxmint.datasets.lines import compact
from voxmint.datasets.manifest import FAILURES, RECIPE, Also, finish, tidy_whole
from voxmint.errors import RunError
from voxmint.files import write_atomically
from voxmint.generators import remote
from voxmint.runs.commit import group_commit, in_order
from voxmint.runs.grow import clear, grow
from voxmint.runs.local.pool import Done, Failed, Note, Pool
from voxmint.runs.local.shares import Shares
from voxmint.runs.lock import claim
from voxmint.runs.parts import Stock
from voxmint.runs.plan import Plan, make_plan, settle
from voxmint.runs.progress import Progress, Silent
from voxmint.runs.reopen import check_reopened
from voxmint.runs.shard import Shard, absorb
from voxmint.sample import Sampler
from voxmint.system import cores

_PATIENCE = 60.0
"""Seconds that the run of a shard waits for the lock of the directory, which others hold for moments."""
_HOPELESS = 10
"""A run whose first samples all fail is stopped after so many."""


@dataclass(frozen=True)
class RunResult:
    """What a run did.

    Attributes
    ----------
    plan : Plan
        What it set out to do.
    made : int
        Samples made by this run.
    complete : bool
        The data set is finished.
    seconds : float
        Wall time.
    rejected : int
        Samples that this run found to be none; ``rejected.csv`` of the finished data set says why.
    """

    plan: Plan
    made: int
    complete: bool
    seconds: float
    rejected: int = 0


@dataclass(frozen=True)
class Job:
    """What a run is asked to do, in one piece.

    Attributes
    ----------
    sampler : Sampler
        Makes the samples; worker processes open their own.
    format : Format
        What files they become.
    progress : Progress
        Told what goes on.
    also : callable
        Writes what belongs to the data set beside its samples; see `voxmint.datasets.manifest.finish`.
    """

    sampler: Sampler
    format: Format
    progress: Progress
    also: Also

    def stock(self, output: Output) -> Stock:
        """Read what there is so far."""
        return Stock.of(output, self.format, self.sampler.definition())


def execute(
    sampler: Sampler,
    format: Format,
    out: str | Path | Output,
    *,
    count: int | None = None,
    workers: int | None = None,
    only: range | None = None,
    progress: Progress | None = None,
    dry_run: bool = False,
    also: Also = tuple,
    claimed: bool = False,
    overwrite: bool = False,
) -> RunResult:
    """Make a data set, or what is left of it; one that is there with fewer samples, and else the same, gets more.

    Parameters
    ----------
    sampler : Sampler
        Makes the samples; worker processes open their own from its definition.
    format : Format
        What files they become.
    out : path, URL or Output
        Where; made if absent. Files of other origin in it are left alone.
    count : int, optional
        How many samples the data set has; ``len(sampler)`` by default.
    workers : int, optional
        Worker processes; one a processor core by default.
    only : range, optional
        Make only these indices now, a contiguous shard; others may be made at the same time by other runs. The data set
        appears when the last one ends.
    progress : Progress, optional
        Told what goes on.
    dry_run : bool
        Plan, check, and stop there: nothing is written.
    also : callable, optional
        Called when all samples are there, before the data set is finished: writes pictures and reports, and returns
        the names of these files, whose checksums the manifest then has.
    claimed : bool
        The caller holds the lock of the directory (see `voxmint.runs.lock.claim`).
    overwrite : bool
        Remove the data set that is there, whatever it is, and begin anew.

    Raises
    ------
    PlanError
        The run cannot start: no space, or the directory holds another data set or an active run.
    InputError
        An input is gone, damaged, or was changed meanwhile: nothing that was made after that is kept.
    RunError
        Some samples could not be made; the others are stored, and a rerun tries only those again. Or all were rejected.
    StorageError
        The disk failed. A rerun goes on where this run stopped.
    VerificationError
        The data set was finished before, and files of it are missing or cut.
    """
    started = time.monotonic()
    output = out if isinstance(out, Output) else Output.at(out)
    count = len(sampler) if count is None else count
    workers = cores() if workers is None else workers
    # what is refused is so before anything is written, or removed
    output, format, change = settle(sampler, format, output, count, workers, overwrite=overwrite)
    job = Job(sampler, format, progress or Silent(), also)
    shard = Shard(0, count) if only is None else Shard(only.start, only.stop)
    if dry_run or overwrite:
        plan = make_plan(format, output, workers, shard, job.stock(output).ledger, change)
        if dry_run:
            return RunResult(plan, 0, plan.finished, 0.0)
        sampler.check()
        with nullcontext() if claimed else claim(output):
            clear(output)
    if shard == Shard(0, count):
        with nullcontext() if claimed else claim(output):
            plan, made, rejected, complete = _make_whole(job, output, workers, shard)
    else:
        plan, made, rejected, complete = _make_shard(job, output, workers, shard)
    return RunResult(plan, made, complete, time.monotonic() - started, rejected)


def _make_whole(job: Job, output: Output, workers: int, shard: Shard) -> tuple[Plan, int, int, bool]:
    """Make what is left under the lock of the directory; return what was made and rejected, and if all is there."""
    plan, stock, left = _begin(job, output, workers, shard)
    made, rejected = (0, 0) if plan.finished else _make_left(job, plan, stock, left)
    return plan, made, rejected, plan.finished or _complete(job, plan.output, stock.ledger)


def _make_shard(job: Job, output: Output, workers: int, shard: Shard) -> tuple[Plan, int, int, bool]:
    """Make what is left of a shard, while others may make theirs; the last one to end finishes the data set."""
    with ExitStack() as held:
        with claim(output, _PATIENCE):
            plan, stock, left = _begin(job, output, workers, shard)
            if plan.finished:
                return plan, 0, 0, True
            held.enter_context(shard.hold(output))
        stock = Stock(Ledger(shard.ledger(output)), stock.parts)
        made, rejected = _make_left(job, plan, stock, left)
        with claim(output, _PATIENCE):
            stock = job.stock(output)
            absorb(output, stock, shard, mine=shard)
            return plan, made, rejected, _complete(job, plan.output, stock.ledger)


def _begin(job: Job, output: Output, workers: int, shard: Shard) -> tuple[Plan, Stock, list[int]]:
    """Plan, and write what a run starts from; return what is there already, and what is left.

    All of it can be repeated. The lock of the directory is held.
    """
    output, _, change = settle(job.sampler, job.format, output, output.count, workers)  # another run may have ended
    stock = job.stock(output)
    plan = make_plan(job.format, output, workers, shard, stock.ledger, change)
    if plan.finished:
        tidy_whole(output, job.format)
        return plan, stock, []
    job.sampler.check()
    if change:
        grow(output, stock)
        stock = job.stock(output)
    if not (output.directory / RECIPE).exists():
        write_atomically(output.directory / RECIPE, [output.note.encode()])
    job.sampler.deposit(output.directory)
    job.format.begin(output)
    if stock.ledger.path.name == REOPENED:
        check_reopened(job.sampler, output, job.format, stock.ledger, job.progress)
        stock = job.stock(output)
    elif stock.ledger.lost:  # what is made again may be written and not recorded: the old lines must not vouch for it
        write_atomically(stock.ledger.path, (line for _, line in stock.ledger.lines()))
        stock = job.stock(output)
    absorb(output, stock, shard)
    return plan, stock, [index for index in shard.within(output.count) if index not in stock.ledger]


def _make_left(job: Job, plan: Plan, stock: Stock, left: list[int]) -> tuple[int, int]:
    """Have all samples of ``left`` made and recorded; return how many were made and rejected."""
    output, ledger = plan.output, stock.ledger
    already, already_rejected = len(ledger), len(ledger.rejected)
    job.progress.begin(already + len(left), already)
    try:
        failures = _make(job, plan, stock, left) if left else []
    except KeyboardInterrupt as interrupt:
        stopped = type(interrupt)(
            f"stopped with {len(ledger):,} of {output.count:,} samples stored in {output.where}; "
            "the same command goes on from there"
        )
        raise stopped from None
    finally:
        job.progress.end()
    if failures:
        raise _failed(output, failures, len(ledger))
    rejected = len(ledger.rejected) - already_rejected
    return len(ledger) - already - rejected, rejected


def _complete(job: Job, output: Output, ledger: Ledger) -> bool:
    """Finish the data set if all its samples are stored or rejected; return whether they are."""
    if len(ledger.rejected) == output.count:
        raise _all_rejected(output, ledger)
    if len(ledger) < output.count:
        return False
    finish(output, job.format, ledger, list_rejected=job.sampler.rejects, also=job.also)
    return True


def _make(job: Job, plan: Plan, stock: Stock, left: list[int]) -> list[Failed]:
    """Have all samples of ``left`` made and recorded; return those that failed."""
    sampler, format, progress = job.sampler, job.format, job.progress
    told = {"sampler": remote(sampler), "format": format.spec(), "output": plan.output.spec()}
    failures: list[Failed] = []
    done, workers = 0, min(plan.workers, len(left))
    shares = Shares(in_order(sampler, left), max(1, sampler.batch), workers)
    with group_commit(sampler, format, plan.output, stock) as group, Pool(told, workers) as pool:
        for event in pool.run(shares):
            if isinstance(event, Done):
                done += 1
                group.add(event.entry)
                progress.advance()
            elif isinstance(event, Note):
                progress.note(event.text)
            elif isinstance(event, Failed):
                failures.append(event)
                progress.note(f"sample {event.index} failed: {event.why}")
                if not (done or sampler.tries_all) and len(failures) >= _HOPELESS:
                    break
            group.tick()
    return failures


def _failed(output: Output, failures: list[Failed], stored: int) -> RunError:
    failures = sorted(failures, key=lambda failure: failure.index)
    path = output.state / FAILURES
    lines = [{"index": failure.index, "why": failure.why, "details": failure.details} for failure in failures]
    write_atomically(path, (compact(line).encode() + b"\n" for line in lines))
    shown = "".join(f"\n    sample {failure.index}: {failure.why}" for failure in failures[:10])
    more = f"\n    and {len(failures) - 10} more" if len(failures) > 10 else ""
    told = RunError(
        f"{len(failures)} samples could not be made, so the data set is not finished; {stored:,} samples are stored",
        where=output.where,
        got=shown + more,
        remedy=f"see {path}; when the cause is mended, the same command makes only what is missing",
    )
    told.causes = [failure.error for failure in failures]
    return told


def _all_rejected(output: Output, ledger: Ledger) -> RunError:
    reasons = Counter(rejection["reason"] for rejection in ledger.rejections())
    shown = "".join(f"\n    {count:,} times: {reason}" for reason, count in reasons.most_common(5))
    more = f"\n    and {len(reasons) - 5} more reasons" if len(reasons) > 5 else ""
    return RunError(
        f"all {output.count:,} samples were rejected, so there is no data set",
        where=output.where,
        got=shown + more,
        remedy="correct what the reasons name, and run in another directory",
    )
