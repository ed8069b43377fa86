"""`voxmint pairs`: the data set in one go, or stage by stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App

from voxmint.cli.common import (
    FLAGS,
    INPUT,
    OUTPUT,
    Count,
    DryRun,
    Folder,
    Overwrite,
    PresetName,
    RecipePath,
    Seed,
    SkipUnusable,
    Templates,
    ValCount,
    Workers,
    Yes,
    agreed,
    flag,
    say,
)
from voxmint.cli.recorded import RecipeFile
from voxmint.pairs.recipe import EnsembleRecipe, PairRecipe, ViewRecipe

app = App(name="pairs", help="Randomized synthesis: pairs of volumes that share geometry and nothing else.")

Ensembles = Annotated[Path, flag(INPUT, "Folder of NIfTI label volumes, ours or any with labels up to 255.")]


@app.command
def make(
    *,
    out: Folder,
    count: Count = None,
    templates: Templates = None,
    seed: Seed = None,
    workers: Workers = None,
    val_count: ValCount = None,
    format: Annotated[
        Literal["hdf5", "nifti"] | None, flag(OUTPUT, "Two HDF5 files (hdf5, the default), or a tree of NIfTI files.")
    ] = None,
    skip_unusable: SkipUnusable = False,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    yes: Yes = False,
    preset: PresetName = None,
    recipe_file: RecipePath = None,
    recipe: Annotated[PairRecipe | None, FLAGS] = None,
) -> None:
    """Make a data set of pairs. The same command again goes on after an interruption; a larger --count adds pairs."""
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
    out: Folder,
    count: Count = None,
    templates: Templates = None,
    seed: Seed = None,
    workers: Workers = None,
    skip_unusable: SkipUnusable = False,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    yes: Yes = False,
    preset: PresetName = None,
    recipe_file: RecipePath = None,
    recipe: Annotated[EnsembleRecipe | None, FLAGS] = None,
) -> None:
    """First stage: label ensembles, one NIfTI file each."""
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
    ensembles: Ensembles,
    out: Folder,
    start: Annotated[int, flag(OUTPUT, "First file, in sorted order of their names.")] = 0,
    stop: Annotated[int | None, flag(OUTPUT, "The file before which to end; after the last by default.")] = None,
    seed: Seed = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    yes: Yes = False,
    preset: PresetName = None,
    recipe_file: RecipePath = None,
    recipe: Annotated[ViewRecipe | None, FLAGS] = None,
) -> None:
    """Second stage: two views of every label volume of a folder."""
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
    ensembles: Ensembles,
    views: Annotated[Path, flag(INPUT, "Folder that holds view1 and view2.")],
    out: Folder,
    order: Annotated[
        Literal["name", "made"] | None,
        flag(
            OUTPUT,
            "Samples in the order of the ensembles' names (name), or in that in which they were made (made, the "
            "default where their folder tells it). Names begin with the kind: by name, validation has one.",
        ),
    ] = None,
    val_count: ValCount = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    yes: Yes = False,
) -> None:
    """Third stage: pack label ensembles and their views into HDF5."""
    from voxmint.make import pack_pairs
    from voxmint.runs.progress import make_progress

    folders = [views / "view1", views / "view2"]
    result = pack_pairs(
        ensembles, folders, out, order=order, val_count=val_count, workers=workers, progress=make_progress(),
        dry_run=dry_run, overwrite=agreed(out, overwrite=overwrite, yes=yes),
    )  # fmt: skip
    say(result, dry_run=dry_run)
