"""A data set repaired from what it says of itself: its sampler is built again from ``recipe.yaml``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from voxmint.datasets.format import Target, format_from_spec
from voxmint.datasets.ledger import NAME as LEDGER
from voxmint.datasets.ledger import Ledger
from voxmint.datasets.manifest import MANIFEST, RECIPE, RECORDS, REOPENED
from voxmint.errors import InputError, PlanError
from voxmint.make.stored import records_of
from voxmint.recipe import read_yaml
from voxmint.runs.progress import Progress
from voxmint.runs.reopen import readable_manifest
from voxmint.runs.repair import Repair, repair
from voxmint.sample import JSON, Sampler


@dataclass(frozen=True)
class Origin:
    """Where the inputs of a data set lie, as far as it does not tell itself.

    Attributes
    ----------
    templates : str or path, optional
        As for `voxmint.make.make_pairs`; by default the bank in the data set's own folder ``templates``.
    ensembles, views : path, optional
        As for `voxmint.make.make_views` and `voxmint.make.pack_pairs`; ``views`` holds ``view1`` and ``view2``.
    secrets : path, optional
        JSON file with credentials for the layers.
    """

    templates: str | Path | None = None
    ensembles: Path | None = None
    views: Path | None = None
    secrets: Path | None = None


def repair_data_set(
    directory: str | Path,
    origin: Origin | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Repair:
    """Make what is damaged of a data set again, so that it ends in the bytes it had when it was made.

    Parameters
    ----------
    directory : path
        The data set, finished or not.
    origin : Origin, optional
        Where its inputs lie.
    workers, progress
        As for `voxmint.runs.execute.execute`.

    Raises
    ------
    InputError
        There is no data set, its ``recipe.yaml`` is damaged, or an input is not where it was.
    PlanError, RunError, StorageError
        As for `voxmint.runs.repair.repair`.
    """
    directory = Path(directory).absolute()
    _check_recipe(directory)
    about = read_yaml(directory / RECIPE)
    build = _BUILDERS.get(str(about.get("generator")))
    if build is None:
        raise InputError("nothing is known that makes this data set", where=directory / RECIPE,
                         expected=f"generator: {', '.join(_BUILDERS)}", got=about.get("generator"),
                         remedy="make it again with its own command, in another directory")  # fmt: skip
    sampler = build(directory, about, origin or Origin())
    _check_sampler(directory, sampler)
    return repair(sampler, format_from_spec(about["format"]), directory, workers=workers, progress=progress)


def _check_recipe(directory: Path) -> None:
    """Refuse a recipe that is not the one that the manifest has the checksum of: other samples would come of it."""
    path, (_, entries) = directory / RECIPE, readable_manifest(directory)
    if not path.is_file():
        raise InputError("no data set in this directory, or its recipe is gone", where=directory, expected=RECIPE,
                         remedy=f"put {RECIPE} back from a copy; the command that made the data set writes it in "
                                "another directory, too")  # fmt: skip
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    for entry in entries:
        if entry["file"] == RECIPE and entry["sha256"] != found:
            raise InputError("the recipe of this data set is damaged", where=path,
                             expected=f"SHA-256 {entry['sha256']}", got=found,
                             remedy="put it back from a copy; the command that made the data set writes it in "
                                    "another directory, too")  # fmt: skip


def _check_sampler(directory: Path, sampler: Sampler) -> None:
    """Make one sample again and compare it with its record: another version may make others from the same recipe."""
    sample = next(_recorded(directory), None)
    if sample is not None and sampler[sample["index"]].digest() != sample["digest"]:
        raise PlanError("this data set was made by another version, or from another recipe", where=directory,
                        expected=f"sample {sample['index']} with the digest {sample['digest']}",
                        remedy="use the version that made it, or make it again in another directory")  # fmt: skip


def _recorded(directory: Path) -> Iterator[JSON]:
    """Yield what is recorded of samples, as far as checksums vouch for it."""
    if (directory / MANIFEST).exists():
        _, entries = readable_manifest(directory)
        whole = {entry["file"]: entry["sha256"] for entry in entries}
        path = directory / RECORDS
        if path.is_file() and whole.get(RECORDS) == hashlib.sha256(path.read_bytes()).hexdigest():
            yield from records_of(directory)
        return
    for name in (REOPENED, LEDGER):
        with Ledger(Target(directory, 0, {}).state / name, reading=True) as ledger:
            yield from (entry["sample"] for entry in ledger.entries())


def _pairs(directory: Path, about: JSON, origin: Origin) -> Sampler:
    from voxmint.make.templates import TEMPLATES_FOLDER, find_bank, is_bank
    from voxmint.pairs.recipe import EnsembleRecipe, PairRecipe
    from voxmint.pairs.sampler import EnsembleSampler, PairSampler

    templates = origin.templates
    if templates is None:
        templates = directory / TEMPLATES_FOLDER
        if not is_bank(templates):
            raise InputError("the templates of this data set lie elsewhere", where=templates,
                             remedy="name them: --templates")  # fmt: skip
    bank, recipe, seed = find_bank(templates, directory), about["recipe"], int(about["seed"])
    if about["generator"] == PairSampler.generator:
        return PairSampler(PairRecipe.from_dict(recipe), bank, seed, int(about["count"]))
    return EnsembleSampler(EnsembleRecipe.from_dict(recipe), bank, seed, int(about["count"]))


def _views(directory: Path, about: JSON, origin: Origin) -> Sampler:
    from voxmint.pairs.recipe import ViewRecipe
    from voxmint.pairs.stages import ViewSampler, label_files

    files = label_files(_given(origin.ensembles, "ensembles", directory))
    return ViewSampler(files, ViewRecipe.from_dict(about["recipe"]), int(about["seed"]))


def _pack(directory: Path, about: JSON, origin: Origin) -> Sampler:  # noqa: ARG001 - called as the others are
    from voxmint.make.pairs import pack_sampler

    views = _given(origin.views, "views", directory)
    return pack_sampler(_given(origin.ensembles, "ensembles", directory), [views / "view1", views / "view2"])


def _instances(directory: Path, about: JSON, origin: Origin) -> Sampler:
    from voxmint.instances.recipe import InstanceRecipe
    from voxmint.instances.sampler import InstanceSampler
    from voxmint.make.instances import ROWS
    from voxmint.volumes.opening import open_layer

    recipe = InstanceRecipe.from_dict(about["recipe"])
    sparse = {"source": recipe.source_sparse, "target": recipe.target_sparse}
    source, target = (
        open_layer(about[name]["url"], secrets=origin.secrets, sparse=sparse[name],
                   voxel_size_nm=tuple(about[name]["voxel_size_nm"]))
        for name in ("source", "target")
    )  # fmt: skip
    if not (directory / ROWS).is_file():
        raise InputError("the rows of this data set are gone", where=directory / ROWS,
                         remedy="put them back from a copy")  # fmt: skip
    return InstanceSampler(recipe, source, target, directory / ROWS, int(about["seed"]))


def _given(path: Path | None, name: str, directory: Path) -> Path:
    if path is None:
        raise InputError(f"the {name} that this data set was made from lie elsewhere", where=directory,
                         remedy=f"name their folder: --{name}")  # fmt: skip
    return path


_BUILDERS: dict[str, Callable[[Path, JSON, Origin], Sampler]] = {
    "pairs": _pairs,
    "pairs.ensembles": _pairs,
    "pairs.views": _views,
    "pairs.pack": _pack,
    "instances": _instances,
}
