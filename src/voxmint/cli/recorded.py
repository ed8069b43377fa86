"""A recipe given as a file: plain fields, or the ``recipe.yaml`` of a data set, all of which then counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from cyclopts import CycloptsError

from voxmint.errors import RecipeError
from voxmint.generators import addresses_from, as_meant
from voxmint.pairs.presets import over, preset_fields
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
    preset : str, optional
        What ``--preset`` names; the file's fields go over it.

    Raises
    ------
    RecipeError
        The file is unreadable, or the recipe of a data set of another kind, or of a data set beside a preset.
    """

    def __init__(self, path: Path | None, generator: str, preset: str | None = None) -> None:
        self.path, self.preset, values = path, preset, {} if path is None else read_yaml(path)
        is_whole = "generator" in values and isinstance(values.get("recipe"), dict)
        if is_whole and values["generator"] != generator:
            raise RecipeError("the recipe of another kind of data set", where=path, expected=f"generator: {generator}",
                              got=values["generator"],
                              remedy="use the command that made it, or give --recipe a file of recipe fields alone",
                              )  # fmt: skip
        if is_whole and preset is not None:
            raise RecipeError("the recipe of a data set and a preset contradict each other", where=path,
                              got=f"--recipe and --preset {preset}",
                              remedy="give one of them, or a --recipe of some fields alone")  # fmt: skip
        self.about: dict[str, Any] = addresses_from(values, path.absolute().parent) if is_whole and path else {}
        self._fields: dict[str, Any] = as_meant(values)["recipe"] if is_whole else values

    def fields(self, cls: type[RecipeType], flags: RecipeType | None) -> RecipeType:
        """Return the preset, or the defaults, with the fields of the file over it, and the flags given over both."""
        given = {} if flags is None else flags.model_dump(mode="json", exclude_unset=True)
        if self.about:
            before = cls.from_dict(self._fields, where=self.path).model_dump(mode="json")
            after = over(before, given)
            size = before.get("side") or before.get("shape")
            for name, value in given.items():
                if value is not None and before[name] != after[name]:
                    self._tell(
                        f"--{name.replace('_', '-')}", value, size if name in ("side", "shape") else before[name]
                    )
        base = {} if self.preset is None else preset_fields(self.preset, cls)
        return cls.from_dict(over(over(base, self._fields), given), where=self.path)

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
