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
Preset = Literal["default", "h01", "cave", "flywire", "neuprint", "neuroglancer"]

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
    # annotation folders, whose columns are named so here; properties and relationships have names of their own
    "neuroglancer": {
        **_SPLIT,
        "id": (("id",),),
        "pre_neuron_id": (("pre_neuron_id",), ("pre_segment",)),
        "post_neuron_id": (("post_neuron_id",), ("post_segment",)),
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

    voxel_size_nm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    """Size (x, y, z) in nm of one unit of the table's coordinates; (1, 1, 1) when they are in nm. Never guessed, so
    that only for tables that carry it (annotation folders, CAVE) it may be left out."""
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

    def named(self) -> set[str]:
        """Return all columns that are named."""
        return {name for role in (*POINTS, *NUMBERS) for name in getattr(self, role) or ()}

    def settled(self, where: str, carried: tuple[float, float, float] | None, preset: Preset | None) -> ColumnMap:
        """Return these with the unit, and names instead of the default ones, that a table carries.

        Raises
        ------
        InputError
            It carries none and none is given, or another than the given one.
        """
        given = self.voxel_size_nm
        change: dict[str, object] = {}
        if given is None and carried is None:
            raise InputError("the unit of the table's coordinates is not known", where=where,
                             expected="its size x,y,z in nm; 1,1,1 when they are in nm",
                             remedy="give it (--table-voxel-size, voxel_size_nm); it is never guessed")  # fmt: skip
        if given is not None and carried is not None and any(
            abs(a - b) > 1e-6 * b for a, b in zip(given, carried, strict=True)
        ):  # fmt: skip
            raise InputError("the unit given is not the table's own", where=where, expected=carried, got=given,
                             remedy="leave it out (--table-voxel-size), or correct it")  # fmt: skip
        if given is None:
            change["voxel_size_nm"] = carried
        if self.preset == "default" and preset is not None:
            change["preset"] = preset
        return self.from_dict({**self.to_dict(), **change})


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
            + f"choose another preset ({', '.join(PRESETS)}) or name the columns, for example centre: [x, y, z] "
            "(--column centre=x,y,z)",
        )
    return found


def _check_named(role: str, names: Names, have: list[str], where: str) -> None:
    allowed = (0, 1, 3) if role in POINTS else (0, 1)
    if len(names) not in allowed:
        raise InputError(
            f"{role} is given as {len(names)} columns",
            where=where,
            expected=f"{' or '.join(map(str, allowed))}",
            got=", ".join(names),
            remedy=f"name one column or three (--column {role}=...)",
        )
    missing = [name for name in names if name not in have]
    if missing:
        raise InputError(
            f"no column {', '.join(missing)} (for {role})",
            where=where,
            expected=", ".join(names),
            got=_listing(have),
            remedy=_suggestion(missing, have) + f"correct {role} in the column map (--column {role}=...)",
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
