"""The base of all recipes: frozen, validated parameters with YAML in and out, a content hash and a JSON schema."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from voxmint.errors import RecipeError
from voxmint.files import reading

# a data set's own recipe.yaml is a few KB, with tens of values, some of them two levels deep
_MAX_BYTES, _MAX_VALUES, _MAX_DEPTH, _MAX_LENGTH = 1 << 18, 10_000, 32, 4096
_SHOWN = 200
# only looks at what there is, several times as fast as the plain one; what is little is built by `yaml.safe_load`
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Recipe(BaseModel):
    """Validated parameters that, with an input's fingerprint and a seed, define every sample of a data set."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    later: ClassVar[frozenset[str]] = frozenset()
    """Fields that came after the first version: not recorded while they have their defaults, which change nothing, so
    that recipes from before keep their hash."""

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _as_recipe_error(error, type(self)) from None

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, where: str | Path | None = None) -> Self:
        """Build from plain values; ``where`` names their origin in errors."""
        try:
            return cls(**values)
        except RecipeError as error:
            error.where = where if error.where is None else f"{where}: {error.where}" if where else error.where
            raise

    @classmethod
    def from_yaml(cls, path: Path) -> Self:
        """Read a YAML file of fields (safe loader: no code from data)."""
        return cls.from_dict(read_yaml(path), where=path)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON-able values, but for those of `later` that have their defaults."""
        values = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Recipe):
                values[name] = value.to_dict()
            elif name in self.later and value == field.default:
                del values[name]
        return values

    @classmethod
    def meanings(cls) -> dict[str, str]:
        """Return what each field that the class itself declares means: the docstring below it, in one line."""
        import ast  # takes a while, as does reading the source: not before it is asked for
        import inspect

        body = next(node for node in ast.parse(inspect.getsource(cls)).body if isinstance(node, ast.ClassDef)).body
        found = {}
        for node, after in pairwise(body):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(after, ast.Expr):
                found[node.target.id] = " ".join(ast.literal_eval(after.value).split())
        return {name: meaning for name, meaning in found.items() if name in cls.model_fields}

    @classmethod
    def schema_of_fields(cls) -> dict[str, Any]:
        """Return the JSON schema of recipes of this class, each field with its meaning, default and limits."""
        schema, kinds = cls.model_json_schema(), {kind.__name__: kind for kind in _recipes_within(cls)}
        for name, about in {**schema.get("$defs", {}), cls.__name__: schema}.items():
            for kind in reversed(kinds[name].__mro__) if name in kinds else ():
                for field, meaning in kind.meanings().items() if issubclass(kind, Recipe) else ():
                    about["properties"][field]["description"] = meaning
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}

    def content_hash(self) -> str:
        """Return a SHA-256 (hex) of all fields; equal recipes have equal hashes."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def _recipes_within(cls: type[Recipe]) -> Iterator[type[Recipe]]:
    """Yield a class and those of the recipes in its fields, at any depth."""
    yield cls
    for field in cls.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Recipe):
            yield from _recipes_within(field.annotation)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping with the safe loader, from a file that is not trusted.

    Raises
    ------
    RecipeError
        The file cannot be read, is no regular file, is too large, is not YAML, is nested too deeply, becomes too long
        when its aliases are followed, or is not a mapping of names.
    """
    path = Path(path)
    with reading(path, RecipeError, "a YAML file") as file:
        data = file.read(_MAX_BYTES + 1)
    return parse_yaml(data, path)


def parse_yaml(data: bytes, path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping that lies at ``path``, anywhere; errors are those of `read_yaml`."""
    if len(data) > _MAX_BYTES:
        raise RecipeError("too large for a recipe", where=path, expected=f"at most {_MAX_BYTES:,} bytes",
                          got=f"{len(data):,}", remedy="give the recipe: a few lines of YAML")  # fmt: skip
    try:
        text = data.decode()
        _check_events(text, path)
        values = yaml.safe_load(text)
    except RecipeError:
        raise
    except Exception as error:  # what a scalar with a tag of its own makes the constructors raise has many types
        raise RecipeError(f"cannot read the recipe: {error}", where=path, remedy="correct the YAML") from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        got = f"{type(values).__name__} {values!r}"
        raise RecipeError("not a recipe", where=path, expected="a YAML mapping of fields",
                          got=got if len(got) < _SHOWN else f"{got[:_SHOWN]}...")  # fmt: skip
    return values


def _check_events(text: str, path: str | Path) -> None:
    """Refuse, before anything is built, what would take much time, memory or depth to build."""
    sizes: dict[str | None, int] = {}  # of what has an anchor, when all aliases in it are followed
    inside: list[tuple[str | None, int]] = []  # of what is open: its anchor, and the size at its start
    total, fault = 0, None
    events: Iterable[Any] = yaml.parse(text, _PARSER)
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = inside.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.AliasEvent):
            total += sizes.get(event.anchor, 1)
            fault = fault or (f"*{event.anchor} lies within itself" if event.anchor in dict(inside) else None)
        elif isinstance(event, yaml.CollectionStartEvent):
            inside.append((event.anchor, total))
            total += 1
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            sizes[event.anchor] = 1  # also for None, which no alias names
            if len(event.value) > _MAX_LENGTH:
                fault = f"a value has {len(event.value)} characters, more than {_MAX_LENGTH}"
        if len(inside) > _MAX_DEPTH:
            fault = f"it is nested more than {_MAX_DEPTH} deep"
        elif total > _MAX_VALUES:
            fault = f"it holds more than {_MAX_VALUES:,} values"
        if fault:
            raise RecipeError(f"cannot read the recipe: {fault}", where=f"{path}, line {event.start_mark.line + 1}",
                              remedy="give a recipe: it is a few lines of YAML")  # fmt: skip


def write_yaml(values: dict[str, Any]) -> str:
    """Return ``values`` as YAML text, in their own order."""
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)
    return text


def _as_recipe_error(error: ValidationError, cls: type[BaseModel]) -> RecipeError:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or cls.__name__
    others = error.error_count() - 1
    more = f" (and {others} more)" if others else ""
    inner = first.get("ctx", {}).get("error")
    if isinstance(inner, RecipeError):  # of a recipe within this one: the place is all that it lacks
        within = "" if inner.where in (None, type(inner).__name__) else f".{inner.where}"
        return RecipeError(f"{inner.what}{more}", where=f"{field}{within}", expected=inner.expected, got=inner.got,
                           remedy=inner.remedy)  # fmt: skip
    if first["type"] == "extra_forbidden":
        known = ", ".join(cls.model_fields)
        return RecipeError(
            f"unknown recipe field{more}",
            where=field,
            expected=f"one of: {known}",
            got=field,
            remedy="remove the field or correct its spelling",
        )
    return RecipeError(
        f"{first['msg'].removeprefix('Value error, ')}{more}",
        where=field,
        got=repr(first.get("input")),
        remedy="correct this field",
    )
