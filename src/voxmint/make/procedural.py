"""Banks of procedural shapes: grown once on a machine, kept in its cache, and copied from there into data sets.

A link in place of the copy would be cheaper and wrong: one damaged byte would be in the cache and in every data set.
What was copied is compared with the checksums of the bank's manifest, so that a damaged cache costs its growing again.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from voxmint.datasets.bank import BankFormat
from voxmint.datasets.format import Output
from voxmint.datasets.manifest import MANIFEST, RECIPE, manifest_entries
from voxmint.errors import PlanError, StorageError, TemplateBankError, VerificationError
from voxmint.files import PARTIAL, file_entry, publish, storage_errors, user_cache
from voxmint.make.common import checked_seed
from voxmint.recipe import read_yaml
from voxmint.runs.execute import RunResult, execute
from voxmint.runs.lock import claim
from voxmint.runs.progress import Progress, Silent
from voxmint.runs.verify import verify
from voxmint.sample import JSON
from voxmint.stores.place import Place
from voxmint.templates.procedural.source import SHAPES, ProceduralSource

PROCEDURAL = "procedural"
PROCEDURAL_COUNT = 256
CACHE = "VOXMINT_CACHE"
"""Environment variable that names the folder of grown banks; by default one in the user's cache."""
_PATIENCE_S = 600.0
"""How long a run waits for another one that grows the same bank."""
_USE_THE_BANK = "name the bank itself, it lies in the folder `templates` of its data set: --templates BANK"


def procedural_templates(
    out: str | Path,
    count: int = PROCEDURAL_COUNT,
    seed: int = 0,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> RunResult:
    """Make a template bank of ``count`` procedural shapes; it is a copy of the one in this machine's cache.

    Parameters
    ----------
    out : path
        Folder of the bank.
    count, seed : int
        Number of shapes, and the seed they grow from.
    workers, progress, dry_run
        As for `prepare_templates`.

    Raises
    ------
    PlanError
        The folder holds something else, or the beginning of a bank of other shapes.

    Examples
    --------
    >>> import voxmint as vm
    >>> vm.procedural_templates("bank", 8, workers=1).complete
    True
    """
    source, output = ProceduralSource(count, checked_seed(seed)), Output.at(out)
    grow = partial(execute, source, BankFormat(), workers=workers, progress=progress)
    if (output.directory / RECIPE).exists() or output.url is not None or dry_run:
        if not (output.directory / MANIFEST).exists():
            _check_begun(output)
        return grow(out, dry_run=dry_run)
    started, plan = time.monotonic(), grow(out, dry_run=True).plan
    with claim(output):
        name = f"v{SHAPES}-{count}-{seed}-{hashlib.sha256(plan.output.note.encode()).hexdigest()[:8]}"
        if not _from_cache(name, output.directory, partial(grow, claimed=True), progress or Silent()):
            return grow(out, claimed=True)
    return RunResult(plan, count, True, time.monotonic() - started)


def check_grown(made: JSON, where: str | Path | None) -> None:
    """Raise `TemplateBankError` if a recorded bank is of shapes that this version does not grow."""
    if (there := made.get("version", 1)) != SHAPES:
        raise TemplateBankError("procedural shapes of another version, which are grown no more", where=where,
                                expected=f"version {SHAPES}", got=f"version {there}", remedy=_USE_THE_BANK)  # fmt: skip


def _check_begun(output: Output) -> None:
    """Refuse to go on with a bank of which some shapes were grown by another version: it would be neither."""
    recipe = output.directory / RECIPE
    there = read_yaml(recipe) if recipe.is_file() else {}
    if there.get("templates") == PROCEDURAL and there.get("version", 1) != SHAPES:
        raise PlanError("the bank here was begun with procedural shapes of another version", where=output.where,
                        expected=f"version {SHAPES}", got=f"version {there.get('version', 1)}",
                        remedy="remove this folder, or choose another one")  # fmt: skip


def _from_cache(name: str, out: Path, grow: Callable[[Path], object], progress: Progress) -> bool:
    """Copy a bank from the cache, where it is grown if it is not there; return False if that cannot be."""
    try:
        kept = user_cache(CACHE, "banks") / name
        if (kept / MANIFEST).is_file() and _copied(kept, out):
            return True
        with claim(Output.at(kept), _PATIENCE_S):
            if (kept / MANIFEST).is_file() and not verify(kept).ok:
                progress.note(f"{kept}: damaged, so it is grown again")
                _clear(kept)
            grow(kept)
    except (PlanError, StorageError) as error:
        progress.note(
            f"no bank is kept for other data sets ({error.what}: {error.where}); {CACHE} names another folder"
        )
        return False
    return _copied(kept, out)


def _copied(kept: Path, out: Path) -> bool:
    """Copy a finished bank, its manifest last; return False if a copy is not what the manifest says."""
    try:
        files = {str(entry["file"]): entry for entry in manifest_entries(Place(kept))}
    except VerificationError:
        return False
    if RECIPE not in files:
        return False
    names = [RECIPE, *(name for name in files if name != RECIPE), MANIFEST]
    for name in names:  # the recipe first: it says whose the files are that a killed run leaves
        final = out / name
        partial_ = final.with_name(final.name + PARTIAL)
        with storage_errors(final, "copying from the cache"):
            out.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(kept / name, partial_)
            except FileNotFoundError:
                return False
        if name in files and file_entry(out, partial_) | {"file": name} != files[name]:
            return False
        publish(partial_, final)
    return True


def _clear(folder: Path) -> None:
    """Remove a damaged bank; the lock of its folder stays."""
    with storage_errors(folder, "removing a damaged bank"):
        (folder / MANIFEST).unlink(missing_ok=True)
        for path in folder.iterdir():
            if path.is_file():
                path.unlink()
