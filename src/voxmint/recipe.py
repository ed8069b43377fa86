"""The base of all recipes: frozen, validated parameters with YAML in and out, a content hash and a JSON schema."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from voxmint.errors import RecipeError


class Recipe(BaseModel):
    """Validated parameters that, with an input's fingerprint and a seed, define every sample of a data set."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
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
        """Return all fields as JSON-able values."""
        return self.model_dump(mode="json")

    def content_hash(self) -> str:
        """Return a SHA-256 (hex) of all fields; equal recipes have equal hashes."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping from a file.

    Raises
    ------
    RecipeError
        The file cannot be read, is not YAML, or is not a mapping.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise RecipeError(f"cannot read the recipe: {error}", where=path) from error
    return parse_yaml(data, path)


def parse_yaml(data: bytes, where: str | Path) -> dict[str, Any]:
    """Read a YAML mapping with the safe loader; ``where`` names its place in errors, which are those of `read_yaml`."""
    try:
        values = yaml.safe_load(data.decode("utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"cannot read the recipe: {error}", where=where) from error
    if not isinstance(values, dict):
        raise RecipeError("not a recipe", where=where, expected="a YAML mapping of fields", got=type(values).__name__)
    return values


def write_yaml(values: dict[str, Any]) -> str:
    """Return ``values`` as YAML text, in their own order."""
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)
    return text


def _as_recipe_error(error: ValidationError, cls: type[BaseModel]) -> RecipeError:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or cls.__name__
    others = error.error_count() - 1
    more = f" (and {others} more)" if others else ""
    if first["type"] == "extra_forbidden":
        known = ", ".join(cls.model_fields)
        return RecipeError(
            f"unknown recipe field{more}",
            where=field,
            expected=f"one of: {known}",
            got=field,
            remedy="remove the field or correct its spelling",
        )
    return RecipeError(f"{first['msg']}{more}", where=field, got=repr(first.get("input")), remedy="correct this field")
