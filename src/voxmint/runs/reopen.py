"""A finished data set turned back into an unfinished one, of which what is damaged can be made again.

Three steps, of which each can be repeated and none loses what the next one needs: a ledger of all samples is written
under a name that no run uses; the manifest goes, so that the data set is an unfinished one; its samples are read, and
those that are well become the ledger that the next run goes on from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from voxmint.datasets.format import Format, Target
from voxmint.datasets.ledger import NAME as LEDGER
from voxmint.datasets.ledger import Ledger
from voxmint.datasets.lines import seal, unseal
from voxmint.datasets.manifest import MANIFEST, RECORDS, REJECTED, REOPENED, read_rejected, tidy
from voxmint.errors import VerificationError
from voxmint.files import file_entry, storage_errors, sync_directory, write_atomically
from voxmint.runs.progress import Progress
from voxmint.runs.verify import check_ledger
from voxmint.sample import JSON


def reopen(target: Target, store: Format) -> None:
    """Make a finished data set an unfinished one; an unfinished one is prepared for the same check."""
    ledger, reopened, manifest = target.state / LEDGER, target.state / REOPENED, target.directory / MANIFEST
    if manifest.exists():
        if ledger.exists():  # the run was killed just before its end
            tidy(target, store)
        write_atomically(reopened, _all_entries(target))
        with storage_errors(manifest, "removing"):
            manifest.unlink()
            sync_directory(target.directory)
    elif ledger.exists():
        with storage_errors(reopened, "renaming"):
            ledger.replace(reopened)
            sync_directory(target.state)
    elif not reopened.exists():
        write_atomically(reopened, _all_entries(target))


def check_reopened(target: Target, store: Format, progress: Progress) -> None:
    """Read all samples of a reopened data set, and enter those that are well into the ledger.

    Does nothing unless `reopen` was called. The format has begun already.
    """
    reopened = target.state / REOPENED
    if not reopened.exists():
        return
    with Ledger(reopened, stored=lambda files: store.stored(target, files), reading=True) as ledger:
        ill = {problem.sample for problem in check_ledger(store, target, ledger, progress=progress)}
        well = (seal(entry) for entry in ledger.entries() if entry["sample"]["index"] not in ill)
        rejected = (seal({"rejected": rejection}) for rejection in ledger.rejections())
        write_atomically(target.state / LEDGER, (line for lines in (well, rejected) for line in lines))
    with storage_errors(reopened, "removing"):
        reopened.unlink()
        sync_directory(target.state)


def readable_manifest(directory: Path) -> tuple[JSON, list[JSON]]:
    """Return head and entries of a manifest as far as its lines are whole; the head is empty if it is not."""
    path, head, entries = directory / MANIFEST, {}, []
    if path.is_file():
        with path.open("rb") as stream:
            for line in stream:
                entry = unseal(line) or {}
                if "voxmint manifest" in entry:
                    head = entry
                elif "file" in entry:
                    entries.append(entry)
    return head, entries


def _all_entries(target: Target) -> Iterator[bytes]:
    """Yield the ledger's lines of a finished data set, as far as its own files tell them."""
    _, entries = readable_manifest(target.directory)
    files: dict[int, list[JSON]] = {}
    for entry in entries:
        if "sample" in entry:
            files.setdefault(entry["sample"], []).append({key: entry[key] for key in entry if key != "sample"})
    for record in _records(target, entries):
        yield seal({"sample": record, "files": files.get(record["index"], [])})
    for rejection in _rejections(target, entries):
        yield seal({"rejected": rejection})


def _records(target: Target, entries: list[JSON]) -> Iterator[JSON]:
    path = target.directory / RECORDS
    if not _trusted(path, entries):
        return
    with path.open("rb") as stream:
        for line in stream:
            try:
                record = json.loads(line)
                if set(record) == {"index", "key", "digest", "record"} and record["index"] in range(target.count):
                    yield record
            except (ValueError, TypeError):
                continue


def _rejections(target: Target, entries: list[JSON]) -> list[JSON]:
    if not _trusted(target.directory / REJECTED, entries):
        return []
    try:
        return [row for row in read_rejected(target.directory) if row["index"] in range(target.count)]
    except VerificationError:
        return []


def _trusted(path: Path, entries: list[JSON]) -> bool:
    """Tell whether a file is as the manifest says, or is there and the manifest says nothing of it any more."""
    said = [entry for entry in entries if entry["file"] == path.name]
    return path.is_file() and (not said or file_entry(path.parent, path) == said[0])
