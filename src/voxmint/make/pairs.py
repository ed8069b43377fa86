"""Data sets of pairs, in one go or stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from voxmint.datasets.format import Format
from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.datasets.manifest import RECORDS
from voxmint.datasets.nifti import PAIR_PATHS, NiftiFormat
from voxmint.errors import PlanError, RecipeError
from voxmint.make.common import checked_seed, run_with_montage
from voxmint.make.stored import records_of
from voxmint.make.templates import PROCEDURAL, find_bank
from voxmint.pairs.recipe import EnsembleRecipe, PairRecipe, ViewRecipe
from voxmint.runs.execute import RunResult
from voxmint.runs.progress import Progress

if TYPE_CHECKING:
    from voxmint.pairs.stages import PackSampler


def make_pairs(
    recipe: PairRecipe,
    out: str | Path,
    count: int,
    *,
    templates: str | Path = PROCEDURAL,
    seed: int = 0,
    val_count: int | None = None,
    store: str = "hdf5",
    workers: int | None = None,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> RunResult:
    """Make a data set of pairs, with its records and a montage; rerun to go on after an interruption.

    Parameters
    ----------
    recipe : PairRecipe
        How pairs are made.
    out : path
        Folder of the data set.
    count : int
        Number of pairs.
    templates : str or path
        ``procedural``, a bank, or label files.
    seed : int
        Pair i depends on (recipe, bank, seed, i) alone.
    val_count : int, optional
        How many pairs go to ``val_data.hdf5``; by default a tenth, at most 100.
    store : {"hdf5", "nifti"}
        Format of the data set.
    workers, progress, dry_run
        As for `voxmint.runs.execute.execute`.
    """
    from voxmint.pairs.sampler import PairSampler

    target = pair_format(store, count, val_count)
    bank = find_bank(templates, out, workers=workers, progress=progress, dry_run=dry_run)
    sampler = PairSampler(recipe, bank, checked_seed(seed), count)
    return run_with_montage(sampler, target, out, workers, progress, dry_run)


def make_ensembles(
    recipe: EnsembleRecipe,
    out: str | Path,
    count: int,
    *,
    templates: str | Path = PROCEDURAL,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> RunResult:
    """Make label ensembles alone, one NIfTI file each, in ``out``. Parameters are those of `make_pairs`."""
    from voxmint.pairs.sampler import EnsembleSampler

    bank = find_bank(templates, out, workers=workers, progress=progress, dry_run=dry_run)
    sampler = EnsembleSampler(recipe, bank, checked_seed(seed), count)
    store = NiftiFormat({"seg": "{key}.nii.gz"})
    return run_with_montage(sampler, store, out, workers, progress, dry_run)


def make_views(
    recipe: ViewRecipe,
    ensembles: str | Path,
    out: str | Path,
    *,
    start: int = 0,
    stop: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> RunResult:
    """Make two views of every label volume of a folder, in ``out/view1`` and ``out/view2``.

    Parameters
    ----------
    recipe : ViewRecipe
        How views are made.
    ensembles : path
        Folder of NIfTI label volumes.
    out : path
        Folder of the views.
    start, stop : int
        Which files, in sorted order of their names; ``stop`` is exclusive and cut at their number. Other ranges may
        follow in the same folder; its records and montage appear when all views are there.
    seed, workers, progress, dry_run
        As for `make_pairs`.
    """
    from voxmint.pairs.stages import ViewSampler, label_files

    files = label_files(ensembles)
    chosen = range(len(files))[max(start, 0) : stop]
    if not chosen or start < 0:
        raise PlanError("no label volumes in this range", where=ensembles, expected=f"from 0 to {len(files)}",
                        got=f"{start} to {len(files) if stop is None else stop}")  # fmt: skip
    sampler = ViewSampler(files, recipe, checked_seed(seed))
    store = NiftiFormat({"img": PAIR_PATHS["img"].partition("/")[2]})
    return run_with_montage(sampler, store, out, workers, progress, dry_run, only=chosen)


def pack_pairs(
    ensembles: str | Path,
    views: Sequence[str | Path],
    out: str | Path,
    *,
    val_count: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> RunResult:
    """Pack label ensembles and their views into HDF5.

    The samples come in the order in which the ensembles were made, if their folder has the record of it, and else in
    that of their names.

    Parameters
    ----------
    ensembles : path
        Folder of NIfTI label volumes.
    views : two paths
        Folders of the first and the second views.
    out : path
        Folder of the data set.
    val_count, workers, progress, dry_run
        As for `make_pairs`.
    """
    sampler = pack_sampler(ensembles, views)
    store = pair_format("hdf5", len(sampler), val_count)
    return run_with_montage(sampler, store, out, workers, progress, dry_run)


def pack_sampler(ensembles: str | Path, views: Sequence[str | Path]) -> PackSampler:
    """Return the sampler of `pack_pairs`."""
    from voxmint.pairs.stages import PackSampler, label_files, matching_views

    files = _in_order_made(label_files(ensembles), Path(ensembles))
    return PackSampler(matching_views(files, views))


def pair_format(store: str, count: int, val_count: int | None = None) -> Format:
    """Return the format called ``store``; a tenth of the samples, at most 100, is for validation unless stated."""
    if store == "hdf5":
        return Hdf5Format(val_count=min(100, count // 10) if val_count is None else val_count)
    if store == "nifti":
        if val_count:
            raise RecipeError("a NIfTI tree has no validation part", where="val_count", got=val_count,
                              remedy="leave it out, or choose the hdf5 format")  # fmt: skip
        return NiftiFormat(PAIR_PATHS)
    raise RecipeError("unknown format", where="format", expected="hdf5 or nifti", got=store)


def _in_order_made(files: list[Path], folder: Path) -> list[Path]:
    if not (folder / RECORDS).is_file():
        return files
    order = {f"{record['key']}.nii.gz": record["index"] for record in records_of(folder)}
    if any(file.name not in order for file in files):
        return files
    return sorted(files, key=lambda file: order[file.name])
