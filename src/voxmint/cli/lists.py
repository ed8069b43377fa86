"""Several numbers given to one flag: `160,192,96` and `160 192 96` are the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args, get_origin

from voxmint.recipe import Recipe


def apart(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command with what is given to a recipe's flags for several numbers taken apart.

    >>> apart(["pairs", "make", "--shape", "160,192,96", "--foreground.noise-spacing=4,8"])[2:]
    ['--shape', '160', '192', '96', '--foreground.noise-spacing', '4', '--foreground.noise-spacing', '8']
    """
    flags = dict(_flags_of(arguments[0])) if arguments else {}
    found: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        flag, equals, value = argument.partition("=")
        if flag not in flags or not (equals or (value := next(rest, ""))):
            found.append(argument)
            continue
        numbers = [number.strip() for number in value.split(",")]
        if len(numbers) == 1:
            found += [argument] if equals else [argument, value]
        elif flags[flag]:
            found += [word for number in numbers for word in (flag, number)]
        else:
            found += [flag, *numbers]
    return found


def _flags_of(command: str) -> Iterator[tuple[str, bool]]:
    """Yield the flags of a command's recipes that take several numbers, and whether any number of them.

    Not of instances, whose command reads what has commas itself.
    """
    if command == "pairs":
        from voxmint.pairs.recipe import PairRecipe, ViewRecipe

        yield from _flags("--", PairRecipe)
        yield from _flags("--", ViewRecipe)


def _flags(prefix: str, recipe: type[Recipe]) -> Iterator[tuple[str, bool]]:
    for name, field in recipe.model_fields.items():
        flag = prefix + name.replace("_", "-")
        if isinstance(field.annotation, type) and issubclass(field.annotation, Recipe):
            yield from _flags(f"{flag}.", field.annotation)
            continue
        for kind in (field.annotation, *get_args(field.annotation)):
            if get_origin(kind) is tuple:
                yield flag, ... in get_args(kind)
