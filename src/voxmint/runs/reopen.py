"""A finished data set turned back into an unfinished one, of which what is damaged can be made again.

Three steps, of which each can be repeated and none loses what the next one needs: a ledger of all samples is written
under a name that no run uses; the manifest goes, so that the data set is an unfinished one; its samples are read, and
those that are well become the ledger that the next run goes on from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from voxmint.datasets.format import Format, Output
from voxmint.datasets.ledger import NAME as LEDGER
from voxmint.datasets.ledger import REOPENED, Ledger
from voxmint.datasets.lines import seal, unseal
from voxmint.datasets.manifest import MANIFEST, REJECTED, manifest_entries, read_rejected, tidy
from voxmint.datasets.records import INDEX, RECORDS, Records, parse_record
from voxmint.errors import VerificationError
from voxmint.files import file_entry, storage_errors, sync_directory, write_atomically
from voxmint.runs.progress import Progress
from voxmint.runs.verify import check_ledger
from voxmint.sample import JSON, Sampler
from voxmint.stores.place import Place


def reopen(output: Output, format: Format) -> None:
    """Make a finished data set an unfinished one; an unfinished one is prepared for the same check."""
    ledger, reopened, manifest = output.state / LEDGER, output.state / REOPENED, output.directory / MANIFEST
    if manifest.exists():
        if ledger.exists():  # the run was killed just before its end
            tidy(output, format)
        write_atomically(reopened, _all_entries(output))
        with storage_errors(manifest, "removing"):
            manifest.unlink()
            sync_directory(output.directory)
    elif ledger.exists():
        with storage_errors(reopened, "renaming"):
            ledger.replace(reopened)
            sync_directory(output.state)
    elif not reopened.exists():
        write_atomically(reopened, _all_entries(output))


def check_reopened(sampler: Sampler, output: Output, format: Format, ledger: Ledger, progress: Progress) -> None:
    """Read all samples of a reopened data set, and let its ledger be of those that are well, as they are counted now.

    The format has begun already.
    """
    ill = {problem.sample for problem in check_ledger(format, output, ledger, progress=progress)}
    well = (line for index, line in ledger.lines() if index not in ill)
    write_atomically(output.state / LEDGER, _counted_anew(sampler, well) if sampler.grows else well)
    with storage_errors(ledger.path, "removing"):
        ledger.path.unlink()
        sync_directory(output.state)


def _counted_anew(sampler: Sampler, lines: Iterable[bytes]) -> Iterator[bytes]:
    for line in lines:
        entry = unseal(line)
        assert entry is not None, "it was read before"
        index = sampler.index_now(entry["sample"])
        if index is not None:
            entry["sample"]["index"] = index
            yield seal(entry)


def vouched(home: Place) -> dict[str, JSON]:
    """Return the manifest's entries of the files that belong to no single sample, as far as they can be read."""
    faults: list[str] = []
    return {entry["file"]: entry for entry in manifest_entries(home, faults) if "sample" not in entry}


def is_vouched(home: Place, name: str, entries: dict[str, JSON]) -> bool:
    """Tell whether a file is as the manifest says: one of which it says nothing may be damaged as well as it."""
    path = home.home / name
    return name in entries and path.is_file() and file_entry(path.parent, path) == entries[name]


def _all_entries(output: Output) -> Iterator[bytes]:
    """Yield the ledger's lines of a finished data set, as far as its own files vouch for them."""
    home, faults = Place(output.directory), list[str]()
    entries = vouched(home)
    of_samples = (entry for entry in manifest_entries(home, faults) if "sample" in entry)
    entry = next(of_samples, None)
    for record in vouched_records(output, home):
        files = []
        while entry is not None and entry["sample"] <= record["index"]:  # both go by the samples' index
            if entry["sample"] == record["index"]:
                files.append({key: entry[key] for key in entry if key != "sample"})
            entry = next(of_samples, None)
        yield seal({"sample": record, "files": files})
    for rejection in _rejections(output, home, entries):
        yield seal({"rejected": rejection})


def vouched_records(output: Output, home: Place) -> Iterator[JSON]:
    """Yield the records for which their table, or the manifest, vouches."""
    table = _table_of(home)
    if not home.exists(RECORDS) or (table is None and not is_vouched(home, RECORDS, vouched(home))):
        return
    for line in home.lines(RECORDS):
        record = parse_record(line) if table is None else table.vouches_for(line)
        if record is not None and record["index"] in range(output.count):
            yield record


def _table_of(home: Place) -> Records | None:
    """Return the table of records that was written with them, None if there is none or it is damaged."""
    try:
        return Records(home) if home.exists(INDEX) else None
    except VerificationError:
        return None


def _rejections(output: Output, home: Place, entries: dict[str, JSON]) -> list[JSON]:
    if not is_vouched(home, REJECTED, entries):
        return []
    try:
        return [row for row in read_rejected(home) if row["index"] in range(output.count)]
    except VerificationError:
        return []
