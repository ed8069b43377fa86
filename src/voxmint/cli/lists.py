"""Several numbers given to one flag: `160,192,96` and `160 192 96` are the same."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import get_args, get_origin

from voxmint.recipe import Recipe

_ANY = 1 << 20
_AS_TEXT = {
    "--crop": 3,
    "--crop-nm": 3,
    "--table-voxel-size": 3,
    **{f"--{layer}-{name}": 3 for layer in ("source", "target") for name in ("voxel-size", "scale-nm", "offset")},
    "--box-nm": 6,
    "--ids": _ANY,
}
"""Flags of `voxmint instances` that are read with their commas, and how many numbers they have at most."""


def apart(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command with what is given to flags for several numbers written in one way.

    >>> apart(["pairs", "make", "--shape", "160,192,96", "--foreground.noise-spacing", "4", "8"])[2:]
    ['--shape', '160', '192', '96', '--foreground.noise-spacing', '4', '--foreground.noise-spacing', '8']
    >>> apart(["instances", "make", "--crop", "64", "64", "16", "--choice.context-vx", "8,8,1"])[2:]
    ['--crop', '64,64,16', '--choice.context-vx', '8', '8', '1']
    """
    command = arguments[0] if arguments else ""
    flags, joined = dict(_flags_of(command)), _AS_TEXT if command == "instances" else {}
    found: list[str] = []
    rest = deque(arguments)
    while rest:
        argument = rest.popleft()
        flag, equals, value = argument.partition("=")
        if flag not in flags or not (equals or (value := rest.popleft() if rest else "")):
            found.append(argument)
            continue
        numbers = re.split(r"\s*,\s*|\s+", value.strip())
        most = joined.get(flag, _ANY if flags[flag] else 1) if len(numbers) == 1 else 1
        while len(numbers) < most and rest and _is_number(rest[0]):
            numbers.append(rest.popleft())
        if flag in joined:
            found += [flag, ",".join(numbers)]
        elif flags[flag]:
            found += [word for number in numbers for word in (flag, number)]
        elif len(numbers) == 1:
            found += [argument] if equals else [argument, value]
        else:
            found += [flag, *numbers]
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _flags_of(command: str) -> Iterator[tuple[str, bool]]:
    """Yield the flags of a command that take several numbers, and whether any number of them."""
    if command == "pairs":
        from voxmint.pairs.recipe import PairRecipe, ViewRecipe

        yield from _flags("--", PairRecipe)
        yield from _flags("--", ViewRecipe)
    elif command == "instances":
        from voxmint.instances.recipe import InstanceRecipe

        yield from _flags("--", InstanceRecipe)
        yield from dict.fromkeys(_AS_TEXT, True).items()


def _flags(prefix: str, recipe: type[Recipe]) -> Iterator[tuple[str, bool]]:
    for name, field in recipe.model_fields.items():
        flag = prefix + name.replace("_", "-")
        if isinstance(field.annotation, type) and issubclass(field.annotation, Recipe):
            yield from _flags(f"{flag}.", field.annotation)
            continue
        for kind in (field.annotation, *get_args(field.annotation)):
            if get_origin(kind) is tuple:
                yield flag, ... in get_args(kind)
