"""What commands share: their flags, each described once and in its group, and what a run says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import CycloptsError, Group, Parameter

from voxmint.pairs.presets import Preset

INPUT, OUTPUT, RUN, RECIPE_FIELDS = (
    Group(name, sort_key=place) for place, name in enumerate(("Input", "Output", "Run", "Recipe"), 1)
)
FLAGS = Parameter(name="*", negative=(), group=RECIPE_FIELDS)
"""Every field of a recipe is a flag."""


def flag(group: Group, words: str, name: str | None = None) -> Parameter:
    """Return what describes a flag."""
    return Parameter(name=name, group=group, help=words)


Templates = Annotated[
    str | None,
    flag(INPUT, '"procedural" (the default), a template bank, or label files: a TotalSegmentator tree, a folder of '
                "masks, a NIfTI file."),
]  # fmt: skip
SkipUnusable = Annotated[
    bool,
    flag(INPUT, "Leave out label files that cannot be used; the bank's records list them. Otherwise an error lists "
                "them all."),
]  # fmt: skip
Secrets = Annotated[Path | None, flag(INPUT, "JSON file with credentials, for layers and for a bucket.")]
Folder = Annotated[Path, flag(OUTPUT, "Folder of what is made.", "--out")]
Count = Annotated[
    int | None,
    flag(OUTPUT, "How many; that of the recipe where this is a data set's. Of a data set that is there, and has fewer, "
                 "those are kept."),
]  # fmt: skip
ValCount = Annotated[
    int | None, flag(OUTPUT, "How many, the last of the whole, go to val_data.hdf5; a tenth by default, at most 100.")
]
Seed = Annotated[int | None, flag(RUN, "Seed of the data set; 0 by default.")]
Workers = Annotated[int | None, flag(RUN, "Worker processes; one a core by default.")]
DryRun = Annotated[bool, flag(RUN, "Print the plan and stop.")]
Overwrite = Annotated[bool, flag(RUN, "Remove the data set that is there, whatever it is, and begin anew; asks first.")]
Yes = Annotated[bool, flag(RUN, "Agree to --overwrite.")]
PresetName = Annotated[
    Preset | None,
    flag(RECIPE_FIELDS, "Recipe by name, see voxmint recipe show NAME; fields of --recipe and flags go over it.",
         "--preset"),
]  # fmt: skip
RecipePath = Annotated[
    Path | None,
    flag(RECIPE_FIELDS, "YAML file with recipe fields; or another data set's recipe.yaml, whose seed, count and inputs "
                        "then count, too. Flags go over it, which is told.", "--recipe"),
]  # fmt: skip


def agreed(out: str | Path, *, overwrite: bool, yes: bool) -> bool:
    """Return whether what is in a directory is to give way: asked for, and agreed to with ``--yes`` or on a terminal.

    Raises
    ------
    CycloptsError
        There is nobody to agree to it.
    VoxmintError
        Somebody did not.
    """
    from voxmint.datasets.manifest import RECIPE
    from voxmint.errors import VoxmintError
    from voxmint.stores.place import Place

    if not overwrite or yes:
        return overwrite
    splits = [] if "://" in str(out) else list(Path(out).glob(f"*/{RECIPE}"))
    if not splits and not Place(out).exists(RECIPE):
        return True
    if not sys.stdin.isatty():
        raise CycloptsError(msg=f"--overwrite removes the data set in {out}: agree to that with --yes")
    if input(f"Remove the data set in {out}, and begin anew? [y/N] ").strip().lower() not in ("y", "yes"):
        raise VoxmintError("nothing was removed, and nothing made", where=out)
    return True


def say(result: Any, *, dry_run: bool = False) -> None:
    """Print what a run did, or would do."""
    print(result.plan)
    if dry_run:
        print("dry run: nothing was written")
    elif result.made or result.rejected:
        print(f"made      {result.made:,} in {result.seconds:.1f} s")
        if result.rejected:
            print(f"rejected  {result.rejected:,}, with the reasons in rejected.csv")
    elif result.complete:
        print("complete already: nothing to do")
