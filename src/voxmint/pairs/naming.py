"""Names of label ensembles and their views, as published."""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import lru_cache
from math import gcd
from pathlib import Path

from voxmint.errors import InputError
from voxmint.pairs.draws import ensemble_kind
from voxmint.randomness import Stream
from voxmint.sample import JSON

_ALPHABET = string.ascii_uppercase + string.digits
_LENGTH = 7
_TOTAL = len(_ALPHABET) ** _LENGTH
SUFFIXES = (".nii.gz", ".nii")
VIEW_NAMES = ("view1", "view2")


def ensemble_name(seed: int, index: int, parameters: JSON) -> str:
    """Return ``<kind>_shapes<n>_<suffix>`` of ensemble ``index``, without a file ending."""
    return f"{ensemble_kind(parameters)}_shapes{len(parameters['templates'])}_{suffix(seed, index)}"


def suffix(seed: int, index: int) -> str:
    """Return seven characters of A-Z0-9 that look random and never repeat within a seed.

    The index is sent through a permutation of all 36**7 suffixes, ``a * index + b`` modulo their number with ``a``
    coprime to it: random suffixes would collide within the published 120,000 with a chance of several per cent.
    """
    factor, shift = _permutation(seed)
    number = (factor * index + shift) % _TOTAL
    letters = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[digit])
    return "".join(letters)


def file_key(path: Path) -> str:
    """Return a NIfTI file's name without its ending."""
    return next(path.name.removesuffix(s) for s in SUFFIXES if path.name.endswith(s))


def indices_by_name(files: Sequence[Path]) -> dict[str, int]:
    """Return the place of each label volume by its name; raise `InputError` if two have one name: so would views."""
    found: dict[str, int] = {}
    for index, file in enumerate(files):
        first = found.setdefault(file_key(file), index)
        if first != index:
            raise InputError("two label volumes have the same name, so would their views", where=file,
                             got=str(files[first]), remedy="rename one of them")  # fmt: skip
    return found


@lru_cache(maxsize=8)
def _permutation(seed: int) -> tuple[int, int]:
    stream = Stream(seed, "ensemble names")
    while gcd(factor := stream.integer(_TOTAL // 4, _TOTAL), _TOTAL) != 1:
        pass
    return factor, stream.integer(0, _TOTAL)
