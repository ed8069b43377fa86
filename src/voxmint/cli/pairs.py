"""`voxmint pairs`: the data set in one go, or stage by stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from voxmint.cli.common import FLAGS, agreed, say
from voxmint.cli.recorded import RecipeFile
from voxmint.pairs.presets import Preset
from voxmint.pairs.recipe import EnsembleRecipe, PairRecipe, ViewRecipe

app = App(name="pairs", help="Randomized synthesis: pairs of volumes that share geometry and nothing else.")

RecipePath = Annotated[Path | None, Parameter(name="--recipe")]


@app.command
def make(
    *,
    out: Path,
    count: int | None = None,
    templates: str | None = None,
    seed: int | None = None,
    workers: int | None = None,
    val_count: int | None = None,
    format: Literal["hdf5", "nifti"] | None = None,
    skip_unusable: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
    yes: bool = False,
    preset: Preset | None = None,
    recipe_file: RecipePath = None,
    recipe: Annotated[PairRecipe | None, FLAGS] = None,
) -> None:
    """Make a data set of pairs. The same command again goes on after an interruption; a larger --count adds pairs.

    Parameters
    ----------
    out
        Folder of the data set.
    count
        Number of pairs; that of the recipe where this is a data set's.
    templates
        "procedural" (the default), a template bank, or label files: a TotalSegmentator tree, a folder of masks, a NIfTI
        file.
    seed
        Seed of the data set; 0 by default.
    workers
        Worker processes; one a core by default.
    val_count
        Pairs that go to val_data.hdf5; a tenth by default, at most 100.
    format
        Two HDF5 files (hdf5, the default), or a tree of NIfTI files.
    skip_unusable
        Leave out label files that cannot be used; the bank's records list them. Otherwise an error lists them all.
    dry_run
        Print the plan and stop.
    overwrite
        Remove the data set that is there, whatever it is, and begin anew; asks first.
    yes
        Agree to that.
    preset
        Recipe by name, see `voxmint recipe show NAME`; fields of --recipe and flags go over it.
    recipe_file
        YAML file with recipe fields; or another data set's recipe.yaml, whose seed, templates and count then count,
        too. Flags go over it, which is told.
    recipe
        Fields of the recipe.
    """
    from voxmint.make import make_pairs
    from voxmint.runs.progress import make_progress

    given = RecipeFile(recipe_file, "pairs", preset)
    name = given.choose("--format", format, "format.name", "hdf5")
    if val_count is None and name == "hdf5" and count is None:
        val_count = given.about.get("format", {}).get("val_count")
    result = make_pairs(
        given.fields(PairRecipe, recipe), out, given.choose("--count", count, "count"), templates=templates,
        recorded=given.about.get("templates"), seed=given.choose("--seed", seed, "seed", 0), val_count=val_count,
        format=name, skip_unusable=skip_unusable, workers=workers, progress=make_progress(), dry_run=dry_run,
        overwrite=agreed(out, overwrite=overwrite, yes=yes),
    )  # fmt: skip
    say(result, dry_run=dry_run)


@app.command
def ensembles(
    *,
    out: Path,
    count: int | None = None,
    templates: str | None = None,
    seed: int | None = None,
    workers: int | None = None,
    skip_unusable: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
    yes: bool = False,
    preset: Preset | None = None,
    recipe_file: RecipePath = None,
    recipe: Annotated[EnsembleRecipe | None, FLAGS] = None,
) -> None:
    """First stage: label ensembles, one NIfTI file each.

    Parameters
    ----------
    out
        Folder of the label ensembles.
    count
        Number of ensembles; that of the recipe where this is a data set's.
    templates, seed, workers, skip_unusable, dry_run, overwrite, yes, preset, recipe_file
        As for `pairs make`.
    recipe
        Fields of the recipe.
    """
    from voxmint.make import make_ensembles
    from voxmint.runs.progress import make_progress

    given = RecipeFile(recipe_file, "pairs.ensembles", preset)
    result = make_ensembles(
        given.fields(EnsembleRecipe, recipe), out, given.choose("--count", count, "count"), templates=templates,
        recorded=given.about.get("templates"), seed=given.choose("--seed", seed, "seed", 0), workers=workers,
        skip_unusable=skip_unusable, progress=make_progress(), dry_run=dry_run,
        overwrite=agreed(out, overwrite=overwrite, yes=yes),
    )  # fmt: skip
    say(result, dry_run=dry_run)


@app.command
def views(
    *,
    ensembles: Path,
    out: Path,
    start: int = 0,
    stop: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    yes: bool = False,
    preset: Preset | None = None,
    recipe_file: RecipePath = None,
    recipe: Annotated[ViewRecipe | None, FLAGS] = None,
) -> None:
    """Second stage: two views of every label volume of a folder.

    Parameters
    ----------
    ensembles
        Folder of NIfTI label volumes, ours or any with labels up to 255.
    out
        Folder of the views; they go to view1 and view2 in it.
    start, stop
        Which files, in sorted order of their names; stop is exclusive.
    seed
        Seed of the data set; with the seed of the ensembles the views are those of `pairs make`.
    workers, dry_run, overwrite, yes, preset, recipe_file
        As for `pairs make`.
    recipe
        Fields of the recipe.
    """
    from voxmint.make import make_views
    from voxmint.runs.progress import make_progress

    given = RecipeFile(recipe_file, "pairs.views", preset)
    result = make_views(
        given.fields(ViewRecipe, recipe), ensembles, out, start=start, stop=stop,
        seed=given.choose("--seed", seed, "seed", 0), workers=workers, progress=make_progress(), dry_run=dry_run,
        overwrite=agreed(out, overwrite=overwrite, yes=yes),
    )  # fmt: skip
    say(result, dry_run=dry_run)


@app.command
def pack(
    *,
    ensembles: Path,
    views: Path,
    out: Path,
    order: Literal["name", "made"] | None = None,
    val_count: int | None = None,
    workers: int | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    yes: bool = False,
) -> None:
    """Third stage: pack label ensembles and their views into HDF5.

    Parameters
    ----------
    ensembles
        Folder of the label ensembles.
    views
        Folder that holds view1 and view2.
    out
        Folder of the data set.
    order
        Samples in the order of the ensembles' names (name), or in that in which they were made (made, the default where
        their folder tells it); names begin with the kind, so that by name one kind alone is for validation.
    val_count, workers, dry_run, overwrite, yes
        As for `pairs make`.
    """
    from voxmint.make import pack_pairs
    from voxmint.runs.progress import make_progress

    folders = [views / "view1", views / "view2"]
    result = pack_pairs(
        ensembles, folders, out, order=order, val_count=val_count, workers=workers, progress=make_progress(),
        dry_run=dry_run, overwrite=agreed(out, overwrite=overwrite, yes=yes),
    )  # fmt: skip
    say(result, dry_run=dry_run)
