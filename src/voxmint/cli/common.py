"""What commands share: flags of recipe fields, and what a run says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from cyclopts import CycloptsError, Parameter

FLAGS = Parameter(name="*", negative=())
"""Every field of a recipe is a flag."""


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
