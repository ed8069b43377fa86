"""Which column of a table means what: named presets for the tables of this field, and single columns named by hand."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from voxmint.errors import InputError
from voxmint.recipe import Recipe

Names = tuple[str, ...]
"""One column (holding a triple or a number) or three (x, y, z)."""
Preset = Literal["default", "h01", "cave", "flywire", "neuprint"]

POINTS = ("centre", "pre", "post")
"""Roles that are points."""
NUMBERS = ("id", "pre_neuron_id", "post_neuron_id", "target_id")
"""Roles that are whole numbers."""


def _axes(pattern: str) -> Names:
    return (pattern.format("x"), pattern.format("y"), pattern.format("z"))


_SPLIT = {"centre": (_axes("{}"),), "pre": (_axes("pre_pt_{}"),), "post": (_axes("post_pt_{}"),)}
_CAVE: dict[str, tuple[Names, ...]] = {
    "centre": (("ctr_pt_position",), _axes("ctr_pt_position_{}"), _axes("ctr_pt_{}")),
    "pre": (("pre_pt_position",), _axes("pre_pt_position_{}"), _axes("pre_pt_{}")),
    "post": (("post_pt_position",), _axes("post_pt_position_{}"), _axes("post_pt_{}")),
    "id": (("id",),),
    "pre_neuron_id": (("pre_pt_root_id",),),
    "post_neuron_id": (("post_pt_root_id",),),
}

PRESETS: dict[str, dict[str, tuple[Names, ...]]] = {
    "default": {**_SPLIT, "pre_neuron_id": (("pre_neuron_id",),), "post_neuron_id": (("post_neuron_id",),)},
    # flat CSV, or the nested records of the C3 export (JSON lines, Parquet)
    "h01": {
        "centre": (*_SPLIT["centre"], ("location",)),
        "pre": (*_SPLIT["pre"], ("pre_synaptic_site.centroid",)),
        "post": (*_SPLIT["post"], ("post_synaptic_partner.centroid",)),
        "pre_neuron_id": (("pre_neuron_id",), ("pre_synaptic_site.neuron_id",)),
        "post_neuron_id": (("post_neuron_id",), ("post_synaptic_partner.neuron_id",)),
    },
    "cave": _CAVE,
    # the released tables use CAVE's names, other exports short ones
    "flywire": {
        "centre": (*_CAVE["centre"], _axes("ctr_{}"), _axes("{}")),
        "pre": (*_CAVE["pre"], _axes("pre_{}")),
        "post": (*_CAVE["post"], _axes("post_{}")),
        "id": (("id",),),
        "pre_neuron_id": (("pre_pt_root_id",), ("pre_root_id",), ("pre",)),
        "post_neuron_id": (("post_pt_root_id",), ("post_root_id",), ("post",)),
    },
    "neuprint": {
        "centre": (("location",), _axes("{}")),
        "pre": (_axes("{}_pre"), ("location_pre",)),
        "post": (_axes("{}_post"), ("location_post",)),
        "pre_neuron_id": (("bodyId_pre",), ("bodyId",)),
        "post_neuron_id": (("bodyId_post",),),
    },
}
"""Of each preset and role the names it may go by; the first whose columns all exist is taken."""

Columns = Annotated[tuple[str, ...], Field(min_length=0, max_length=3)] | None


class ColumnMap(Recipe):
    """Columns of a table and the unit of its coordinates.

    A role left out is taken from the preset where the table has it. One that is named must exist; an empty list
    (``[]``) says that the table's column of that role is not to be used.
    """

    voxel_size_nm: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    """Size (x, y, z) in nm of one unit of the table's coordinates; (1, 1, 1) when they are in nm. Never guessed."""
    preset: Preset = "default"
    """Names to look for."""
    axes: Literal["xyz", "xzy", "yxz", "yzx", "zxy", "zyx"] = "xyz"
    """Order of the three numbers of a point (columns, list or text); objects with named x, y, z need none."""
    centre: Columns = None
    """The instance's centre: one column with a triple, or three."""
    pre: Columns = None
    """Its presynaptic point."""
    post: Columns = None
    """Its postsynaptic point."""
    id: Columns = None
    """Whole number that names the instance; without one, rows are numbered from 0 over all parts."""
    pre_neuron_id: Columns = None
    """Neuron before the synapse; 0 or less means none."""
    post_neuron_id: Columns = None
    """Neuron behind the synapse; 0 or less means none."""
    target_id: Columns = None
    """Id of the instance in the target segmentation; 0 or less means none."""


def resolve(columns: ColumnMap, available: Iterable[str], where: str) -> dict[str, Names]:
    """Return the column names of each role that the table has.

    Parameters
    ----------
    columns : ColumnMap
        What is asked for.
    available : iterable of str
        What the table has, nested fields as ``outer.inner``.
    where : str
        The file, for errors.

    Raises
    ------
    InputError
        A named column is missing, or there are neither centres nor both pre and post points.
    """
    have = list(available)
    found: dict[str, Names] = {}
    for role in (*POINTS, *NUMBERS):
        named: Names | None = getattr(columns, role)
        if named is not None:
            _check_named(role, named, have, where)
            candidates: tuple[Names, ...] = (named,) if named else ()
        else:
            candidates = PRESETS[columns.preset].get(role, ())
        for names in candidates:
            if set(names) <= set(have):
                found[role] = names
                break
    if "centre" not in found and not {"pre", "post"} <= set(found):
        wanted = PRESETS[columns.preset]["centre"]
        raise InputError(
            "no columns with the instances' centres, nor with both pre and post points",
            where=where,
            expected=" or ".join(", ".join(names) for names in wanted) + f" (preset {columns.preset})",
            got=_listing(have),
            remedy=_suggestion([name for names in wanted for name in names], have)
            + f"choose another preset ({', '.join(PRESETS)}) or name the columns, for example centre: [x, y, z]",
        )
    return found


def _check_named(role: str, names: Names, have: list[str], where: str) -> None:
    allowed = (0, 1, 3) if role in POINTS else (0, 1)
    if len(names) not in allowed:
        raise InputError(
            f"{role} is given as {len(names)} columns",
            where=where,
            expected=f"{' or '.join(map(str, allowed))}",
            got=names,
        )
    missing = [name for name in names if name not in have]
    if missing:
        raise InputError(
            f"no column {', '.join(missing)} (for {role})",
            where=where,
            expected=", ".join(names),
            got=_listing(have),
            remedy=_suggestion(missing, have) + f"correct {role} in the column map",
        )


def missing_column(name: str, have: list[str], where: str) -> InputError:
    """Build the error for a column that does not exist, with those that do and the nearest of them."""
    remedy = _suggestion([name], have) + "name one of these columns"
    return InputError(f"no column {name}", where=where, expected=name, got=_listing(have), remedy=remedy)


def _listing(have: list[str]) -> str:
    shown = ", ".join(name or "(a column without a name)" for name in have[:40])
    return f"the columns {shown}" + (f" and {len(have) - 40} more" if len(have) > 40 else "")


def _suggestion(missing: list[str], have: list[str]) -> str:
    lower = {name.lower(): name for name in have}
    near = [lower[hit] for name in missing for hit in difflib.get_close_matches(name.lower(), lower, n=2, cutoff=0.6)]
    return f"did you mean {', '.join(dict.fromkeys(near))}? Else " if near else ""
