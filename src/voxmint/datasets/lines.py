"""JSON lines that carry their own checksum, so that a cut or changed line is told from a whole one."""

from __future__ import annotations

import hashlib
import json
from typing import Any, cast

from pydantic_core import from_json

from voxmint.sample import JSON

_HEAD_LENGTH = 20
_TAIL = b"]\n"


def compact(values: Any) -> str:
    """Return ``values`` as JSON on one line."""
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def seal(values: JSON) -> bytes:
    """Return the line ``["<16 hexadecimal digits of BLAKE2b>",{...values...}]``."""
    text = compact(values).encode()
    return _head(text) + text + _TAIL


def unseal(line: bytes) -> JSON | None:
    """Return what `seal` was given, None if the line is cut or changed."""
    text = line[_HEAD_LENGTH : -len(_TAIL)]
    return cast(JSON, parse(text)) if line == _head(text) + text + _TAIL else None


def parse(text: bytes) -> Any:
    """Return what JSON says, as `json.loads` does but in a fifth of the time; a `ValueError` if it is none."""
    return from_json(text, cache_strings="keys")


def _head(text: bytes) -> bytes:
    return f'["{hashlib.blake2b(text, digest_size=8).hexdigest()}",'.encode()
