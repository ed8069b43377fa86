"""A data set repaired from what it says of itself: its sampler is opened again from ``recipe.yaml``."""

from __future__ import annotations

from pathlib import Path

from voxmint.datasets.format import Output, format_from_spec
from voxmint.datasets.manifest import MANIFEST, RECIPE, Also, manifest_entries
from voxmint.errors import InputError
from voxmint.files import file_entry
from voxmint.generators import addresses_from, open_sampler
from voxmint.make.common import TEMPLATES_FOLDER, pictures_of_pairs
from voxmint.recipe import read_yaml
from voxmint.runs.progress import Progress
from voxmint.runs.reopen import vouched
from voxmint.runs.repair import Repair, repair
from voxmint.sample import JSON, Sampler
from voxmint.stores.place import Place
from voxmint.system import cores


def repair_data_set(
    place: str | Path,
    access: JSON | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    secrets: str | Path | None = None,
) -> Repair:
    """Make what is damaged of a data set again, so that it ends in the bytes it had when it was made.

    Parameters
    ----------
    place : path or URL
        The data set, finished or not.
    access : dict, optional
        Where inputs lie that are not where the data set says: ``templates``, ``ensembles``, ``views``.
    workers, progress
        As for `voxmint.runs.execute.execute`.
    secrets : path, optional
        JSON file with credentials for layers and for a bucket.

    Raises
    ------
    InputError
        There is no data set, its ``recipe.yaml`` is damaged, or an input is not where or what it was.
    PlanError, RunError, StorageError
        As for `voxmint.runs.repair.repair`.
    """
    output = Output.at(place, secrets)
    if output.url is not None:
        bring_home(output)
    _check_recipe(output)
    about = read_yaml(output.directory / RECIPE)
    given = {name: str(path) for name, path in (access or {}).items() if path is not None}
    if secrets is not None:
        given["secrets"] = str(secrets)
    definition = addresses_from(about, output.directory)
    sampler = open_sampler(definition, given, output.directory / RECIPE)
    workers = cores() if workers is None else workers
    return repair(sampler, format_from_spec(about["format"]), output, workers=workers, progress=progress,
                  also=_also(output, sampler), kept=_kept(given))  # fmt: skip


def bring_home(output: Output) -> None:
    """Fetch recipe, records and reports of a data set in a bucket that another machine made."""
    place, home = output.place, Place(output.directory)
    if home.exists(RECIPE) or not place.exists(RECIPE):
        return
    names = [entry["file"] for entry in manifest_entries(place, []) if "sample" not in entry]
    for name in [*(names or [RECIPE]), *([MANIFEST] if place.exists(MANIFEST) else [])]:
        if place.exists(name):
            home.write(name, place.read(name))


def _also(output: Output, sampler: Sampler) -> Also:
    from voxmint.instances.sampler import InstanceSampler

    if isinstance(sampler, InstanceSampler):
        from voxmint.make.reports import reports_of_instances

        return reports_of_instances(output, sampler, None)
    return tuple if sampler.generator.startswith("templates") else pictures_of_pairs(output)


def _kept(given: JSON) -> tuple[str, ...]:
    """Return what no repair makes again: rows, the report of how they were drawn, and a bank of the data set's own.

    A bank that was named to lie elsewhere stands in for the latter.
    """
    from voxmint.instances.table.rows import ROWS
    from voxmint.make.reports import REPORT

    return (ROWS, REPORT) if "templates" in given else (ROWS, REPORT, TEMPLATES_FOLDER)


def _check_recipe(output: Output) -> None:
    """Refuse a recipe that is not the one that the manifest has the checksum of: other samples would come of it."""
    path = output.directory / RECIPE
    remedy = "put it back from a copy; the command that made the data set writes it in another directory, too"
    if not path.is_file():
        raise InputError("no data set in this directory, or its recipe is gone", where=output.where, expected=RECIPE,
                         remedy=remedy)  # fmt: skip
    entry = vouched(Place(output.directory)).get(RECIPE)
    if entry is not None and file_entry(output.directory, path) != entry:
        raise InputError("the recipe of this data set is damaged", where=path, expected=f"SHA-256 {entry['sha256']}",
                         remedy=remedy)  # fmt: skip
