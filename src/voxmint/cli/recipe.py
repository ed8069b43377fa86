"""`voxmint recipe`: look at recipes, compare them, and what they may say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cyclopts import App

from voxmint.errors import InputError
from voxmint.instances.recipe import InstanceRecipe
from voxmint.pairs.presets import PRESETS, preset_fields
from voxmint.pairs.recipe import EnsembleRecipe, PairRecipe, ViewRecipe
from voxmint.recipe import Recipe, parse_yaml, read_yaml, write_yaml

app = App(name="recipe", help="Recipes: all fields of one, the difference of two, and what they may say.")

_FILE = "recipe.yaml"
_KINDS: dict[str, type[Recipe]] = {
    "pairs": PairRecipe,
    "pairs.ensembles": EnsembleRecipe,
    "pairs.views": ViewRecipe,
    "instances": InstanceRecipe,
}
"""By the generator that a data set's recipe names; fields alone are of the first that has all of them."""


@app.command
def show(recipe: str, /) -> None:
    """Print a whole recipe as YAML, with all defaults. It can be given to --recipe.

    Parameters
    ----------
    recipe
        The name of a preset (published, anisotropic, microscopy), a YAML file with recipe fields, or a data set: its
        folder, its recipe.yaml, or gs:// or s3:// address.
    """
    print(write_yaml(_Shown.of(recipe).values), end="")


@app.command
def diff(a: str, b: str, /) -> int:
    """Print the fields in which two recipes differ. The exit status is 1 if there are any, and 0 if not.

    Of two data sets all is compared, but where inputs lie; else the recipe's fields alone.

    Parameters
    ----------
    a, b
        As for `recipe show`.
    """
    one, other = _Shown.of(a), _Shown.of(b)
    whole = one.of_data_set and other.of_data_set
    sides = [dict(_flat(shown.values if whole else shown.fields)) for shown in (one, other)]
    different = [name for name in {**sides[0], **sides[1]} if sides[0].get(name, ...) != sides[1].get(name, ...)]
    for name in different:
        print(f"{name}: {' -> '.join(json.dumps(side[name]) if name in side else 'absent' for side in sides)}")
    return 1 if different else 0


@app.command
def schema(kind: Literal["pairs", "instances"], /) -> None:
    """Print the JSON schema of recipe fields, for editors and checks.

    Parameters
    ----------
    kind
        What the recipe makes.
    """
    print(json.dumps(_KINDS[kind].schema_of_fields(), indent=2))


@dataclass(frozen=True)
class _Shown:
    """A recipe with all defaults: its fields, and what `recipe show` prints."""

    values: dict[str, Any]
    fields: dict[str, Any]
    of_data_set: bool = False

    @classmethod
    def of(cls, name: str) -> _Shown:
        """Read what a name stands for."""
        if name in PRESETS:
            fields = PairRecipe.from_dict(preset_fields(name)).model_dump(mode="json")
            return cls(fields, fields)
        values, where = _read(name)
        generator = values.get("generator")
        if generator is None:
            kinds = [kind for kind in _KINDS.values() if values.keys() <= kind.model_fields.keys()]
            fields = (kinds or [PairRecipe])[0].from_dict(values, where=where).model_dump(mode="json")
            return cls(fields, fields)
        fields = values.get("recipe", {})
        if generator in _KINDS and isinstance(fields, dict):
            fields = _KINDS[generator].from_dict(fields, where=where).model_dump(mode="json")
            values = values | {"recipe": fields}
        return cls(values, fields, of_data_set=True)


def _read(name: str) -> tuple[dict[str, Any], str]:
    if "://" in name:
        from voxmint.stores.place import Place

        place, file = (name.rpartition("/")[0], _FILE) if name.endswith(f"/{_FILE}") else (name, _FILE)
        return parse_yaml(Place(place).read(file), f"{place}/{file}"), f"{place}/{file}"
    path = Path(name)
    path = path / _FILE if path.is_dir() else path
    if not path.exists():
        raise InputError("no such recipe", where=path,
                         expected=f"a preset ({', '.join(PRESETS)}), a YAML file, or the folder of a data set",
                         remedy="correct the name")  # fmt: skip
    return read_yaml(path), str(path)


def _flat(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value with the names above it; not where an input lies, which its fingerprint makes no matter."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{name}.")
        elif not (above and name == "address"):
            yield above + name, value
