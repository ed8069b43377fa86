"""A run: every sample made once, by worker processes, into one data set. Killed at any moment, it can go on."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from voxmint.datasets.format import Format, Target
from voxmint.datasets.ledger import NAME as LEDGER
from voxmint.datasets.ledger import Ledger
from voxmint.datasets.lines import compact
from voxmint.datasets.manifest import FAILURES, RECIPE, Also, finish, tidy, wrong_sizes
from voxmint.errors import RunError, VerificationError
from voxmint.files import write_atomically
from voxmint.generators import remote
from voxmint.runs.commit import group_commit, in_order
from voxmint.runs.local.pool import Done, Failed, Note, Pool
from voxmint.runs.local.shares import Shares
from voxmint.runs.lock import claim
from voxmint.runs.plan import Plan, make_plan
from voxmint.runs.progress import Progress, Silent
from voxmint.runs.reopen import check_reopened
from voxmint.sample import Sampler
from voxmint.stores.place import Store

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
    store : Format
        What files they become.
    only : range or None
        Make only these indices now.
    progress : Progress
        Told what goes on.
    also : callable
        Writes what belongs to the data set beside its samples; see `voxmint.datasets.manifest.finish`.
    """

    sampler: Sampler
    store: Format
    only: range | None
    progress: Progress
    also: Also


def execute(
    sampler: Sampler,
    store: Format,
    out: str | Path | Target,
    *,
    count: int | None = None,
    workers: int | None = None,
    only: range | None = None,
    progress: Progress | None = None,
    dry_run: bool = False,
    also: Also = tuple,
    claimed: bool = False,
) -> RunResult:
    """Make a data set, or what is left of it.

    Parameters
    ----------
    sampler : Sampler
        Makes the samples; worker processes open their own from its definition.
    store : Format
        What files they become.
    out : path, URL or Target
        Where; made if absent. Files of other origin in it are left alone.
    count : int, optional
        How many samples the data set has; ``len(sampler)`` by default.
    workers : int, optional
        Worker processes; one a processor core by default.
    only : range, optional
        Make only these indices now. The data set appears when a later run has made the others.
    progress : Progress, optional
        Told what goes on.
    dry_run : bool
        Plan, check, and stop there: nothing is written.
    also : callable, optional
        Called when all samples are there, before the data set is finished: writes pictures and reports, and returns
        the names of these files, whose checksums the manifest then has.
    claimed : bool
        The caller holds the lock of the directory (see `voxmint.runs.lock.claim`).

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
    target = out if isinstance(out, Target) else Target.at(out)
    count = len(sampler) if count is None else count
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    plan = make_plan(sampler, store, target, count, workers, only)
    if dry_run:
        return RunResult(plan, 0, plan.finished, 0.0)
    job = Job(sampler, store, only, progress or Silent(), also)
    with nullcontext() if claimed else claim(plan.target):
        sampler.check()
        plan = make_plan(sampler, store, target, count, workers, only)  # another run may have ended in between
        if plan.finished:
            _check_finished(plan.target)
            tidy(plan.target, store)
            return RunResult(plan, 0, True, time.monotonic() - started)
        made, rejected, complete = _run(job, plan)
    return RunResult(plan, made, complete, time.monotonic() - started, rejected)


def _run(job: Job, plan: Plan) -> tuple[int, int, bool]:
    """Make what is left; return how many samples were made and rejected, and whether the data set is complete."""
    target, store = plan.target, job.store
    if not (target.directory / RECIPE).exists():
        write_atomically(target.directory / RECIPE, [target.note.encode()])
    job.sampler.deposit(target.directory)
    store.begin(target)
    check_reopened(target, store, job.progress)
    with Ledger(target.state / LEDGER, stored=lambda files: store.stored(target, files)) as ledger:
        already, already_rejected = len(ledger), len(ledger.rejected)
        only = job.only or range(target.count)
        left = [index for index in range(target.count) if index in only and index not in ledger]
        job.progress.begin(target.count, already)
        try:
            failures = _make(job, plan, ledger, left) if left else []
        except KeyboardInterrupt as interrupt:
            stopped = type(interrupt)(
                f"stopped with {len(ledger):,} of {target.count:,} samples stored in {target.where}; "
                "the same command goes on from there"
            )
            raise stopped from None
        finally:
            job.progress.end()
        if failures:
            raise _failed(target, failures, len(ledger))
        complete, rejected = len(ledger) == target.count, len(ledger.rejected)
        if rejected == target.count:
            raise _all_rejected(target, ledger)
        if complete:
            finish(target, store, ledger, list_rejected=job.sampler.rejects, also=job.also)
        new, new_rejected = len(ledger) - already, rejected - already_rejected
        return new - new_rejected, new_rejected, complete


def _make(job: Job, plan: Plan, ledger: Ledger, left: list[int]) -> list[Failed]:
    """Have all samples of ``left`` made and recorded; return those that failed."""
    sampler, store, progress = job.sampler, job.store, job.progress
    told = {"sampler": remote(sampler), "format": store.spec(), "target": plan.target.spec()}
    failures: list[Failed] = []
    done, workers = 0, min(plan.workers, len(left))
    shares = Shares(in_order(sampler, left), max(1, sampler.batch), workers)
    with group_commit(sampler, store, plan.target, ledger) as group, Pool(told, workers) as pool:
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
                if not done and len(failures) >= _HOPELESS:
                    break
            group.tick()
    return failures


def _failed(target: Target, failures: list[Failed], stored: int) -> RunError:
    failures = sorted(failures, key=lambda failure: failure.index)
    path = target.state / FAILURES
    lines = [{"index": failure.index, "why": failure.why, "details": failure.details} for failure in failures]
    write_atomically(path, (compact(line).encode() + b"\n" for line in lines))
    shown = "".join(f"\n    sample {failure.index}: {failure.why}" for failure in failures[:10])
    more = f"\n    and {len(failures) - 10} more" if len(failures) > 10 else ""
    return RunError(
        f"{len(failures)} samples could not be made, so the data set is not finished; {stored:,} samples are stored",
        where=target.where,
        got=shown + more,
        remedy=f"see {path}; when the cause is mended, the same command makes only what is missing",
    )


def _all_rejected(target: Target, ledger: Ledger) -> RunError:
    reasons = Counter(rejection["reason"] for rejection in ledger.rejections())
    shown = "".join(f"\n    {count:,} times: {reason}" for reason, count in reasons.most_common(5))
    more = f"\n    and {len(reasons) - 5} more reasons" if len(reasons) > 5 else ""
    return RunError(
        f"all {target.count:,} samples were rejected, so there is no data set",
        where=target.where,
        got=shown + more,
        remedy="correct what the reasons name, and run in another directory",
    )


def _check_finished(target: Target) -> None:
    wrong = wrong_sizes(Store(target.directory))
    if wrong:
        raise VerificationError(
            "files of this finished data set are missing or cut",
            where=target.where,
            got="; ".join(wrong[:8]),
            remedy="run `voxmint verify` for the full list",
        )
