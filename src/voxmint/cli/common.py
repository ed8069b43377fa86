"""What commands share: recipes from a file with flags over it, and what a run says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from cyclopts import Parameter

from voxmint.recipe import Recipe, read_yaml

FLAGS = Parameter(name="*", negative=())
"""Every field of a recipe is a flag."""

RecipeType = TypeVar("RecipeType", bound=Recipe)


def combined_recipe(cls: type[RecipeType], file: Path | None, flags: RecipeType | None) -> RecipeType:
    """Return the recipe of ``file``, or the default one, with the flags that were given over it.

    A ``recipe.yaml`` that a run wrote serves as well: then its part ``recipe`` counts.
    """
    values = read_yaml(file) if file is not None else {}
    if "generator" in values and isinstance(values.get("recipe"), dict):
        values = values["recipe"]
    given = {} if flags is None else flags.model_dump(mode="json", exclude_unset=True)
    return cls.from_dict(_over(values, given), where=file)


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


def _over(values: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for name, value in given.items():
        below = merged.get(name)
        merged[name] = _over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
