"""A recipe given as a file: plain fields, or the ``recipe.yaml`` of a data set, all of which then counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from cyclopts import CycloptsError

from voxmint.errors import RecipeError
from voxmint.generators import addresses_from, as_meant
from voxmint.recipe import Recipe, read_yaml

RecipeType = TypeVar("RecipeType", bound=Recipe)
_Value = TypeVar("_Value")


class RecipeFile:
    """What ``--recipe`` names; flags go over it, and what they change of a data set's recipe is told.

    Parameters
    ----------
    path : Path, optional
        The file; without one nothing is recorded.
    generator : str
        What the command makes.

    Raises
    ------
    RecipeError
        The file is unreadable, or the recipe of a data set of another kind.
    """

    def __init__(self, path: Path | None, generator: str) -> None:
        self.path, values = path, {} if path is None else read_yaml(path)
        is_whole = "generator" in values and isinstance(values.get("recipe"), dict)
        if is_whole and values["generator"] != generator:
            raise RecipeError("the recipe of another kind of data set", where=path, expected=f"generator: {generator}",
                              got=values["generator"],
                              remedy="use the command that made it, or give --recipe a file of recipe fields alone",
                              )  # fmt: skip
        self.about: dict[str, Any] = addresses_from(values, path.absolute().parent) if is_whole and path else {}
        self._fields: dict[str, Any] = as_meant(values)["recipe"] if is_whole else values

    def fields(self, cls: type[RecipeType], flags: RecipeType | None) -> RecipeType:
        """Return the recipe of the file, or the default one, with the flags that were given over it."""
        given = {} if flags is None else flags.model_dump(mode="json", exclude_unset=True)
        for name, value in given.items():
            if self.about and name in self._fields and self._fields[name] != _over(self._fields, given)[name]:
                self._tell(f"--{name.replace('_', '-')}", value, self._fields[name])
        return cls.from_dict(_over(self._fields, given), where=self.path)

    def choose(self, flag: str, given: _Value | None, field: str, otherwise: _Value | None = None) -> _Value:
        """Return what a flag says, else what the recipe records as ``field`` (inner ones behind a dot).

        Raises
        ------
        CycloptsError
            Neither says anything, and there is no value for that.
        """
        recorded: Any = self.about
        for part in field.split("."):
            recorded = recorded.get(part) if isinstance(recorded, dict) else None
        if given is not None:
            if recorded is not None and recorded != given:
                self._tell(flag, given, recorded)
            return given
        chosen = otherwise if recorded is None else recorded
        if chosen is None:
            raise CycloptsError(msg=f"{flag} is needed, or the recipe.yaml of a data set as --recipe")
        return chosen

    def _tell(self, flag: str, given: object, recorded: object) -> None:
        print(f"{flag:9} {given}, where {self.path} has {recorded}")


def _over(values: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for name, value in given.items():
        below = merged.get(name)
        merged[name] = _over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
