"""Data sets of pairs, in one go or stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from voxmint.datasets.format import Format, Output
from voxmint.datasets.hdf5 import Hdf5Format
from voxmint.datasets.manifest import RECIPE, manifest_head
from voxmint.datasets.nifti import PAIR_PATHS, NiftiFormat
from voxmint.datasets.stored import read_about
from voxmint.errors import InputError, PlanError, RecipeError
from voxmint.make.common import TEMPLATES_FOLDER, checked_seed, pictures_of_pairs
from voxmint.make.templates import UnmadeBank, check_templates, find_bank
from voxmint.pairs.recipe import EnsembleRecipe, PairRecipe, ViewRecipe
from voxmint.runs.execute import RunResult, execute
from voxmint.runs.grow import clear
from voxmint.runs.identity import differences, identity
from voxmint.runs.lock import claim
from voxmint.runs.progress import Progress
from voxmint.sample import JSON, Sampler
from voxmint.stores.place import Place

if TYPE_CHECKING:
    from voxmint.pairs.sampler import EnsembleSampler
    from voxmint.templates.bank import TemplateBank


def make_pairs(
    recipe: PairRecipe,
    out: str | Path,
    count: int,
    *,
    templates: str | Path | None = None,
    recorded: JSON | None = None,
    seed: int = 0,
    val_count: int | None = None,
    format: str = "hdf5",
    skip_unusable: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
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
    templates : str or path, optional
        ``procedural``, a bank, or label files. By default those of the recipe recorded, else ``procedural``.
    recorded : dict, optional
        What the recipe of a data set says of its ``templates``.
    seed : int
        Pair i depends on (recipe, bank, seed, i) alone.
    val_count : int, optional
        How many pairs go to ``val_data.hdf5``; by default a tenth, at most 100.
    format : {"hdf5", "nifti"}
        Format of the data set.
    skip_unusable : bool
        Whether label files that cannot be used are left out, and listed in the bank's records.
    workers, progress, dry_run, overwrite
        As for `voxmint.runs.execute.execute`.

    Examples
    --------
    >>> import voxmint as vm
    >>> done = vm.procedural_templates("bank", 8, workers=1)
    >>> [vm.make_pairs(vm.PairRecipe(side=16), "pairs", n, templates="bank", workers=1).made for n in (2, 3)]
    [2, 1]
    """
    from voxmint.pairs.sampler import PairSampler

    return _from_bank(PairSampler, recipe, pair_format(format, count, val_count), out, count, templates, recorded, seed,
                      skip_unusable, workers, progress, dry_run, overwrite)  # fmt: skip


def make_ensembles(
    recipe: EnsembleRecipe,
    out: str | Path,
    count: int,
    *,
    templates: str | Path | None = None,
    recorded: JSON | None = None,
    seed: int = 0,
    skip_unusable: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    add: bool = False,
) -> RunResult:
    """Make label ensembles alone, one NIfTI file each, in ``out``.

    With ``add`` there shall be ``count`` more than a finished data set that is there has; one that is unfinished is
    gone on with. The other parameters are those of `make_pairs`.

    Examples
    --------
    >>> import voxmint as vm
    >>> done = vm.procedural_templates("bank", 8, workers=1)
    >>> vm.make_ensembles(vm.EnsembleRecipe(side=16), "labels", 2, templates="bank", workers=1).complete
    True
    """
    from voxmint.pairs.sampler import EnsembleSampler

    format = NiftiFormat({"seg": "{key}.nii.gz"})
    count = _added(out, count) if add else count
    return _from_bank(EnsembleSampler, recipe, format, out, count, templates, recorded, seed, skip_unusable,
                      workers, progress, dry_run, overwrite)  # fmt: skip


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
    overwrite: bool = False,
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
    seed, workers, progress, dry_run, overwrite
        As for `make_pairs`.

    Examples
    --------
    >>> import voxmint as vm
    >>> done = vm.procedural_templates("bank", 8, workers=1)
    >>> made = vm.make_ensembles(vm.EnsembleRecipe(side=16), "labels", 2, templates="bank", workers=1)
    >>> vm.make_views(vm.ViewRecipe(), "labels", "views", workers=1).made
    2
    """
    from voxmint.pairs.stages import ViewSampler, label_files

    files = label_files(ensembles)
    chosen = range(len(files))[max(start, 0) : stop]
    if not chosen or start < 0:
        raise PlanError("no label volumes in this range", where=ensembles, expected=f"from 0 to {len(files)}",
                        got=f"{start} to {len(files) if stop is None else stop}")  # fmt: skip
    sampler = ViewSampler(files, recipe, checked_seed(seed))
    format = NiftiFormat({"img": PAIR_PATHS["img"].partition("/")[2]})
    return _run(sampler, format, Output.at(out), workers, progress, dry_run, only=chosen, overwrite=overwrite)


def pack_pairs(
    ensembles: str | Path,
    views: Sequence[str | Path],
    out: str | Path,
    *,
    order: str | None = None,
    val_count: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    repack: bool = False,
) -> RunResult:
    """Pack label ensembles and their views into HDF5; ensembles that have no views are left out, which is told.

    Parameters
    ----------
    ensembles : path
        Folder of NIfTI label volumes.
    views : two paths
        Folders of the first and the second views.
    out : path
        Folder of the data set.
    order : {"name", "made"}, optional
        Samples in sorted order of the ensembles' names, or in that in which they were made, of which their folder
        must have the record; by default the latter where there is a record. Names begin with the kind of ensemble, so
        that in their order the part for validation has one kind alone.
    val_count, workers, progress, dry_run, overwrite
        As for `make_pairs`.
    repack : bool
        Overwrite what was packed of other files, or otherwise, and nothing else.

    Examples
    --------
    >>> import voxmint as vm
    >>> done = vm.procedural_templates("bank", 8, workers=1)
    >>> made = vm.make_ensembles(vm.EnsembleRecipe(side=16), "labels", 2, templates="bank", workers=1)
    >>> made = vm.make_views(vm.ViewRecipe(), "labels", "views", workers=1)
    >>> vm.pack_pairs("labels", ["views/view1", "views/view2"], "packed", val_count=1, workers=1).complete
    True
    """
    from voxmint.pairs.stages import PackSampler, label_files, matching_views, order_made

    made = None if order == "name" else order_made(ensembles)
    if made is None and order == "made":
        raise InputError("nothing tells in which order the label volumes were made", where=ensembles,
                         expected="records.jsonl of a finished stage", remedy="use --order name")  # fmt: skip
    files = label_files(ensembles) if made is None else made
    triples = matching_views(files, views)
    if progress is not None:
        progress.note(f"packed in the order of {'names' if made is None else 'making'}")
        if len(triples) < len(files):
            progress.note(f"{len(files) - len(triples):,} of {len(files):,} label ensembles have no views: left out")
    sampler = PackSampler(triples, "name" if made is None else "made")
    format = pair_format("hdf5", len(sampler), val_count)
    output = Output.at(out)
    there = read_about(output.place) if repack else {}
    if there.get("generator") == sampler.generator:
        asked = replace(output, count=len(sampler), layout=sampler.layout())
        overwrite = bool(differences(there, identity(sampler, format, asked)))
    return _run(sampler, format, output, workers, progress, dry_run, overwrite=overwrite)


def _added(out: str | Path, count: int) -> int:
    """Return how many samples there are with ``count`` more; those of an unfinished data set are none yet."""
    home = Place(out)
    head = manifest_head(home)
    if not head and home.exists(RECIPE):
        return max(count, int(read_about(home).get("count", 0)))
    return count + int(head.get("count", 0))


def pair_format(format: str, count: int, val_count: int | None = None) -> Format:
    """Return the format called ``format``; a tenth of the samples, at most 100, is for validation unless stated."""
    if format == "hdf5":
        return Hdf5Format(val_count=min(100, count // 10) if val_count is None else val_count)
    if format == "nifti":
        if val_count:
            raise RecipeError("a NIfTI tree has no validation part", where="val_count", got=val_count,
                              remedy="leave it out, or choose the hdf5 format")  # fmt: skip
        return NiftiFormat(PAIR_PATHS)
    raise RecipeError("unknown format", where="format", expected="hdf5 or nifti", got=format)


def _from_bank(
    kind: type[EnsembleSampler],
    recipe: EnsembleRecipe,
    format: Format,
    out: str | Path,
    count: int,
    templates: str | Path | None,
    recorded: JSON | None,
    seed: int,
    skip_unusable: bool,
    workers: int | None,
    progress: Progress | None,
    dry_run: bool,
    overwrite: bool,
) -> RunResult:
    """Find or make the bank, and run; nothing is written unless the directory is this data set's and nobody else's."""
    output, seed = Output.at(out), checked_seed(seed)
    draft = kind(recipe, cast("TemplateBank", UnmadeBank(output.directory)), seed, count)
    execute(draft, format, output, workers=workers, dry_run=True, overwrite=overwrite)
    with nullcontext() if dry_run else claim(output):
        if overwrite and not dry_run:
            check_templates(templates)
            clear(output)
            own, named = output.directory / TEMPLATES_FOLDER, templates or (recorded or {}).get("address")
            if named is None or not Path(named).resolve().is_relative_to(own.resolve()):
                clear(Output.at(own))
        bank = find_bank(templates, output.directory, recorded, workers=workers, skip_unusable=skip_unusable,
                         progress=progress, dry_run=dry_run)  # fmt: skip
        return _run(kind(recipe, bank, seed, count), format, output, workers, progress, dry_run,
                    claimed=not dry_run, overwrite=overwrite and dry_run)  # fmt: skip


def _run(
    sampler: Sampler,
    format: Format,
    output: Output,
    workers: int | None,
    progress: Progress | None,
    dry_run: bool,
    *,
    only: range | None = None,
    claimed: bool = False,
    overwrite: bool = False,
) -> RunResult:
    return execute(sampler, format, output, workers=workers, only=only, progress=progress, dry_run=dry_run,
                   also=pictures_of_pairs(output), claimed=claimed, overwrite=overwrite)  # fmt: skip
