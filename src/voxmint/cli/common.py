"""What commands share: flags of recipe fields, and what a run says."""

from __future__ import annotations

from typing import Any

from cyclopts import Parameter

FLAGS = Parameter(name="*", negative=())
"""Every field of a recipe is a flag."""


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
