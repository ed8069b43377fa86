"""Layers and table of `voxmint instances`, from flags or from a YAML file of the same names."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import CycloptsError, Parameter

from voxmint.cli.common import INPUT
from voxmint.errors import RecipeError
from voxmint.retry import PATIENCE_S, checked_patience

_NEEDED = ("source", "target", "table")
_LAYER = ("dataset", "voxel_size", "mip", "scale_nm", "offset", "axes")
_BOTH = ("cache_bytes", "concurrency", "attempts")
_WHOLE = ("source_mip", "target_mip", *_BOTH)


@Parameter(name="*", group=INPUT)
@dataclass(frozen=True)
class Common:
    """What `make` and `check` both need.

    Parameters
    ----------
    source
        Image layer: file://, gs://, s3://, http(s)://, or a path (precomputed, zarr, OME-Zarr, N5, HDF5, NIfTI, npy,
        TIFF or PNG, a folder of TIFF or PNG slices).
    target
        Segmentation layer, likewise.
    table
        Materialization table: CSV (comma, semicolon or tab), Parquet or Feather; a file, folder or glob; a folder or
        address of Neuroglancer annotations; or cave://DATASTACK/TABLE?version=N.
    inputs
        YAML file with these flags by their names (source, table_voxel_size, column: {centre: [x, y, z]}, ...); flags
        go over it.
    table_voxel_size
        Size in nm of one unit of the table's coordinates, as x,y,z. Never guessed; annotations and CAVE carry it.
    columns
        Preset of column names (default).
    column
        One column by hand, ROLE=COLUMN or ROLE=X,Y,Z, such as centre=cx,cy,cz or target_id=cleft; repeat it for others.
        Roles: centre, pre, post, id, pre_neuron_id, post_neuron_id, target_id. ROLE= leaves a role out.
    axes
        Order of the three numbers of a point (xyz).
    reader
        What reads the layers (auto).
    secrets
        JSON file with credentials, for layers, table and output, instead of those in ~/.cloudvolume/secrets.
    source_dataset
        Dataset of the source layer within an HDF5 file or zarr group.
    target_dataset
        Dataset of the target layer within an HDF5 file or zarr group.
    source_voxel_size
        Voxel size of the source layer in nm, as x,y,z, where it carries none.
    target_voxel_size
        Voxel size of the target layer in nm, as x,y,z, where it carries none.
    source_mip
        Scale of the source layer, if it has several; 0 is the finest.
    target_mip
        Scale of the target layer, if it has several; 0 is the finest.
    source_scale_nm
        The scale of the source layer by its voxel size in nm, as x,y,z, instead.
    target_scale_nm
        The scale of the target layer by its voxel size in nm, as x,y,z, instead.
    source_offset
        Index of the first voxel of the source layer, as x,y,z, where it carries none.
    target_offset
        Index of the first voxel of the target layer, as x,y,z, where it carries none.
    source_axes
        Order of the axes of the source layer as stored, such as zyx, for arrays that do not say.
    target_axes
        Order of the axes of the target layer as stored, such as zyx, for arrays that do not say.
    cache_bytes
        Decoded chunks of a layer that a process keeps.
    concurrency
        Chunks of a layer fetched at a time.
    attempts
        How often a chunk is asked for before it counts as unreadable.
    patience
        Seconds after which a chunk, or a layer's metadata, count as unreadable, all attempts and pauses together (90).
    """

    source: str | None = None
    target: str | None = None
    table: str | None = None
    inputs: Path | None = None
    table_voxel_size: str | None = None
    columns: Literal["default", "h01", "cave", "flywire", "neuprint", "neuroglancer"] | None = None
    column: Annotated[list[str] | None, Parameter(negative=())] = None
    axes: Literal["xyz", "xzy", "yxz", "yzx", "zxy", "zyx"] | None = None
    reader: Literal["auto", "tensorstore", "cloudvolume"] | None = None
    secrets: Path | None = None
    source_dataset: str | None = None
    target_dataset: str | None = None
    source_voxel_size: str | None = None
    target_voxel_size: str | None = None
    source_mip: int | None = None
    target_mip: int | None = None
    source_scale_nm: str | None = None
    target_scale_nm: str | None = None
    source_offset: str | None = None
    target_offset: str | None = None
    source_axes: str | None = None
    target_axes: str | None = None
    cache_bytes: int | None = None
    concurrency: int | None = None
    attempts: int | None = None
    patience: float | None = None

    def read(self) -> Any:
        """Return layers and table as the library takes them.

        Raises
        ------
        RecipeError
            A flag or a field of the file is none, or has no value of its kind.
        """
        from voxmint.instances.table.columns import ColumnMap
        from voxmint.make.instances.inputs import Inputs, crop_of

        given = self if self.inputs is None else _over(self, self.inputs)
        for name in _NEEDED:
            if not getattr(given, name):
                raise CycloptsError(msg=f"--{name} is needed, or --inputs with a file that names it")
        options: dict[str, dict[str, Any]] = {
            layer: {name: getattr(given, name) for name in _BOTH} for layer in ("source", "target")
        }
        for layer, of in options.items():
            values = {name: getattr(given, f"{layer}_{name}") for name in _LAYER}
            for name in ("voxel_size", "scale_nm", "offset"):
                if values[name] is not None:
                    values[name] = crop_of(values[name], _flag(f"{layer}_{name}"))
            if values["offset"] is not None and any(n != int(n) for n in values["offset"]):
                raise RecipeError("voxels are whole", where=_flag(f"{layer}_offset"), got=values["offset"],
                                  remedy="give it in voxels, not in nm")  # fmt: skip
            values["voxel_size_nm"] = values.pop("voxel_size")
            of.update(values)
        options = {layer: {k: v for k, v in of.items() if v is not None} for layer, of in options.items()}
        size = given.table_voxel_size
        columns: dict[str, Any] = {"preset": given.columns or "default", "axes": given.axes or "xyz"}
        columns |= {"voxel_size_nm": None if size is None else crop_of(size, "--table-voxel-size")}
        named = ColumnMap.from_dict(columns | _columns(given.column or []), where="--column, --columns, --axes")
        patience = checked_patience(PATIENCE_S if given.patience is None else given.patience)
        return Inputs(str(given.source), str(given.target), str(given.table), named, given.reader or "auto",
                      given.secrets, options, patience=patience)  # fmt: skip


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _columns(texts: list[str]) -> dict[str, list[str]]:
    """Read ROLE=COLUMN or ROLE=X,Y,Z; a column's name with a comma stands in quotes."""
    from voxmint.instances.table.columns import NUMBERS, POINTS

    found: dict[str, list[str]] = {}
    for text in texts:
        role, equals, names = text.partition("=")
        if not equals or role not in (*POINTS, *NUMBERS) or role in found:
            raise RecipeError("not a column" if role not in found else "a role is named twice", where="--column",
                              expected="ROLE=COLUMN or ROLE=X,Y,Z; roles: " + ", ".join((*POINTS, *NUMBERS)), got=text,
                              remedy="for example --column centre=cx,cy,cz --column target_id=cleft")  # fmt: skip
        found[role] = next(csv.reader([names], skipinitialspace=True), []) if names else []
    return found


def _over(flags: Common, path: Path) -> Common:
    """Return the fields of a YAML file with the flags that were given over them."""
    from voxmint.recipe import read_yaml

    known = {field.name for field in fields(Common)} - {"inputs"}
    given: dict[str, Any] = {}
    for name, value in read_yaml(path).items():
        field = name.replace("-", "_")
        if field not in known:
            raise RecipeError("unknown input", where=f"{path}: {name}", expected=", ".join(sorted(known)),
                              remedy="remove it or correct its spelling; fields of the recipe belong to --recipe",
                              )  # fmt: skip
        given[field] = _value(field, value, f"{path}: {name}")
    mine = {name: getattr(flags, name) for name in known if getattr(flags, name) is not None}
    return replace(Common(), **(given | mine))


def _value(field: str, value: Any, where: str) -> Any:
    """Return a value of YAML as the flag of its name has it."""
    if value is None:
        return None
    if field == "column":
        named = value.items() if isinstance(value, Mapping) else None
        if named is None:
            raise RecipeError("not a mapping of roles to columns", where=where, got=value,
                              remedy="for example {centre: [cx, cy, cz], target_id: cleft}")  # fmt: skip
        return [f"{role}={_joined(names)}" for role, names in named]
    number = not isinstance(value, bool) and isinstance(value, int | float)
    if field in _WHOLE or field == "patience":
        if not number or (field in _WHOLE and value != int(value)):
            raise RecipeError("not a number" if not number else "not a whole number", where=where, got=value)
        return int(value) if field in _WHOLE else float(value)
    if isinstance(value, Mapping) or (isinstance(value, list) and any(isinstance(n, list | Mapping) for n in value)):
        raise RecipeError("not a value of this input", where=where, got=value)
    if field == "secrets":
        return Path(str(value))
    return _joined(value)


def _joined(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    return ",".join(f'"{one}"' if "," in str(one) else str(one) for one in value)
