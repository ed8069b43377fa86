"""Records the calls that commands and scripts make in place of doing them, as flat names with plain values."""

from __future__ import annotations

import importlib
import inspect
from contextlib import nullcontext
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

Flat = dict[str, Any]
"""``function.parameter.field`` and so on, to a plain value."""

_TABLE = {"rows": 1, "drawn": 1, "dropped": {}}
_DEMAND = {"instances": 1, "chunks": 1, "bytes": 1, "requests": 1, "stored_bytes": 1, "counted": "exactly",
           "sampled_chunks": 1, "chunks_per_second": 1.0, "seconds": 1.0, "unread_chunks": 0}  # fmt: skip
RESULT = SimpleNamespace(plan="a plan", made=1, rejected=0, seconds=1.0, complete=True, ok=True, found="", where="")
RESULT.found = SimpleNamespace(ok=True)
ANSWERS: dict[str, Any] = {
    "prepare_instances": SimpleNamespace(report={"table": _TABLE}, demand=lambda prices: _DEMAND),
    "make_instances": {"": RESULT},
    "shared_chunks": nullcontext(Path("shared")),
    "check_instances": {"chunks": {}},
    "make_phantom": {},
    "merge_tree": {"merged": ["a part"]},
}
"""What recorded functions return, but for a `RESULT`."""


class Recorder:
    """Stands in for functions, each given as ``module:name``, and notes what they are called with.

    Attributes
    ----------
    given, defaults : dict
        What each parameter was given or left at, and what it is by default (of functions, models and dataclasses).
    """

    def __init__(self, patch: pytest.MonkeyPatch, *functions: str) -> None:
        self.given: Flat = {}
        self.defaults: Flat = {}
        for function in functions:
            module, _, path = function.partition(":")
            owner, name = importlib.import_module(module), path
            while "." in name:
                first, _, name = name.partition(".")
                owner = getattr(owner, first)
            stand_in = self._stand_in(name, inspect.signature(getattr(owner, name)))
            patch.setattr(owner, name, staticmethod(stand_in) if inspect.isclass(owner) else stand_in)

    def _stand_in(self, name: str, signature: inspect.Signature) -> Any:
        def stand_in(*arguments: Any, **named: Any) -> Any:
            bound = signature.bind(*arguments, **named)
            bound.apply_defaults()
            for parameter, value in bound.arguments.items():
                place = f"{name}.{parameter}"
                assert place not in self.given, f"{name} is called twice"
                self.given |= flat(value, place)
                default = signature.parameters[parameter].default
                self.defaults |= defaults_of(value, place)
                if default is not inspect.Parameter.empty:
                    self.defaults |= flat(default, place)
            return ANSWERS.get(name, RESULT)

        return stand_in


def flat(value: Any, place: str) -> Flat:
    """Return the leaves of models, dataclasses and dicts by name; paths as text, other objects by their class."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    elif is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, dict):
        return {name: leaf for key, part in value.items() for name, leaf in flat(part, f"{place}.{key}").items()}
    return {place: plain(value)}


def plain(value: Any) -> Any:
    """Return a value that compares by what it says."""
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, Path):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else type(value).__name__


def defaults_of(value: Any, place: str) -> Flat:
    """Return the defaults of the fields of a model or dataclass, and of those within."""
    found: Flat = {}
    if isinstance(value, BaseModel):
        optional = {k: f.get_default(call_default_factory=True) for k, f in type(value).model_fields.items()
                    if not f.is_required()}  # fmt: skip
    elif is_dataclass(value):
        optional = {field.name: field.default for field in fields(value) if field.default is not MISSING}
    else:
        return found
    for name in type(value).model_fields if isinstance(value, BaseModel) else [field.name for field in fields(value)]:
        found |= defaults_of(getattr(value, name), f"{place}.{name}")
        if name in optional:
            found |= flat(optional[name], f"{place}.{name}")
    return found
