"""Neuroglancer's precomputed annotations as a table, from a folder, a bucket or over HTTP, sharded or not.

Columns: ``id``; ``x, y, z``, the point, or the middle of a line, box or ellipsoid; ``pre_pt_x`` ... ``post_pt_z``, the
first and second end of a line; the properties by their names; and relationships that are asked for by name. Rows are in
the order of their ids, so that it does not matter how they are stored. All are held in memory, some 100 bytes each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import InputError, LayerError
from voxmint.instances.table.fetched import ANNOTATIONS, Fetched
from voxmint.retry import FetchError, patiently
from voxmint.sample import JSON
from voxmint.volumes.geometry import unit_in_nm
from voxmint.volumes.readers.objects import Objects
from voxmint.volumes.scale_keys import check_key

_TYPES = {"uint32": "<u4", "int32": "<i4", "float32": "<f4", "uint16": "<u2", "int16": "<i2", "uint8": "|u1",
          "int8": "|i1", "rgb": "|V3", "rgba": "|V4"}  # fmt: skip
_ONE_BYTE = ("uint8", "int8", "rgb", "rgba")
_ENDS = {"POINT": 1, "LINE": 2, "AXIS_ALIGNED_BOUNDING_BOX": 2, "ELLIPSOID": 2}
_MOST_BYTES = 256 << 20
_MOST_CELLS = 1 << 22
_ATTEMPTS = 6
_TOGETHER = 64
_ROWS = 1 << 18


def fetch_annotations(source: str, wanted: Iterable[str], secrets: str | Path | None, patience: float) -> Fetched:
    """Read all annotations; see `voxmint.instances.table.sources.fetched`."""
    try:
        objects = Objects.at(source, secrets, patience)
        return _Annotations(objects, patience).fetched(set(wanted))
    except FetchError as error:
        raise InputError(f"annotations are {error.cause}", where=source.split("?")[0], got=error.detail,
                         remedy="check the address and the credentials, or get the folder again") from None  # fmt: skip
    except LayerError as error:
        raise InputError(error.what, where=error.where, expected=error.expected, got=error.got,
                         remedy=error.remedy) from None  # fmt: skip


def _width(kind: str) -> int:
    return 1 if kind in _ONE_BYTE else np.dtype(_TYPES[kind]).itemsize


class _Annotations:
    """An ``info`` file of annotations, and what it describes."""

    def __init__(self, objects: Objects, patience: float) -> None:
        self._objects, self._patience, self.where = objects, patience, objects.url
        try:
            info = json.loads(self._get("info", required=True) or b"")
        except (ValueError, RecursionError) as error:
            raise self._wrong(f"its info is no JSON: {str(error)[:200]}") from None
        if not isinstance(info, dict) or info.get("@type") != ANNOTATIONS:
            raise self._wrong("no annotations here", expected=f"an info of @type {ANNOTATIONS}")
        self._info: JSON = info
        try:
            self._read_info()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise self._wrong(f"its info cannot be used: {type(error).__name__}: {str(error)[:200]}") from None

    def _read_info(self) -> None:
        info = self._info
        dimensions = {str(name).lower(): (float(n), str(unit)) for name, (n, unit) in info["dimensions"].items()}
        self._order = [list(dimensions).index(name) for name in "xyz"]
        units = [unit_in_nm(dimensions[name][1]) for name in "xyz"]
        sizes = [dimensions[name][0] * unit for name, unit in zip("xyz", units, strict=True) if unit is not None]
        # 16 digits of a length in m would make 4e-9 m other than 4 nm
        known = len(sizes) == 3 and all(isfinite(n) and n > 0 for n in sizes)
        self.voxel_size_nm = (float(f"{sizes[0]:.12g}"), float(f"{sizes[1]:.12g}"), float(f"{sizes[2]:.12g}")
                              ) if known else None  # fmt: skip
        self.kind = str(info["annotation_type"]).upper()
        if self.kind not in _ENDS:
            raise ValueError(f"annotations of type {self.kind[:40]}, where {', '.join(_ENDS)} are read")
        self._rank = len(dimensions)
        properties = [(str(one["id"]), str(one["type"])) for one in info.get("properties", ())]
        stored = sorted(properties, key=lambda one: -_width(one[1]))  # by width, else as listed
        fields: list[Any] = [("geometry", "<f4", (_ENDS[self.kind], self._rank))]
        fields += [(f"p{properties.index(one)}", _TYPES[one[1]]) for one in stored]
        if padding := -sum(np.dtype(kind).itemsize for _, kind, *_ in fields[1:]) % 4:
            fields.append(("padding", "V", padding))
        self.dtype = np.dtype(fields)
        self._properties = [(f"p{n}", name) for n, (name, kind) in enumerate(properties) if not kind.startswith("rgb")]
        self._related = {str(one["id"]): one for one in info.get("relationships", ())}

    def fetched(self, wanted: set[str]) -> Fetched:
        """Read all."""
        import pyarrow as pa

        spatial = self._info.get("spatial") or ()
        parts = [part for level in spatial for part in self._lists(level, self._cells(level))] or (
            [] if spatial else [part for part in self._single(self._info["by_id"])]
        )
        ids = np.concatenate([part[0] for part in parts]) if parts else np.zeros(0, np.uint64)
        records = np.concatenate([part[1] for part in parts]) if parts else np.zeros(0, self.dtype)
        parts.clear()
        ids, records = self._once(ids, records)
        found = Fetched(self.where, "neuroglancer", self.voxel_size_nm)
        related = {name: self._of_relationship(name, ids) for name in self._related if name in wanted}
        for start in range(0, max(1, len(ids)), _ROWS):
            some = slice(start, start + _ROWS)
            columns = self._columns(ids[some], records[some])
            columns |= {name: numbers[some] for name, numbers in related.items()}
            found.write(pa.table(columns))
        found.about = {"annotations": self.where, "type": self.kind, "rows": len(ids)}
        return found

    def _columns(self, ids: NDArray[np.uint64], records: NDArray[Any]) -> dict[str, NDArray[Any]]:
        columns: dict[str, NDArray[Any]] = {"id": ids.astype(np.int64)}
        ends = records["geometry"].astype(np.float64)[:, :, self._order]
        middle = ends[:, 0] if self.kind in ("POINT", "ELLIPSOID") else ends.mean(axis=1)
        columns |= {name: middle[:, axis] for axis, name in enumerate("xyz")}
        if self.kind == "LINE":
            for end, role in enumerate(("pre", "post")):
                columns |= {f"{role}_pt_{name}": ends[:, end, axis] for axis, name in enumerate("xyz")}
        for field, name in self._properties:
            columns.setdefault(name, records[field])
        return columns

    def _once(self, ids: NDArray[np.uint64], records: NDArray[Any]) -> tuple[NDArray[np.uint64], NDArray[Any]]:
        """Return each annotation once, by id: what reaches into several cells is listed in each."""
        if ids.size and int(ids.max()) >= 1 << 63:
            raise self._wrong("ids beyond 63 bits", got=int(ids.max()))
        order = np.argsort(ids, kind="stable")
        ids, records = ids[order], records[order]
        again = np.flatnonzero(ids[1:] == ids[:-1])
        same = records[again].tobytes() == records[again + 1].tobytes()
        if not same:
            raise self._wrong("two annotations share an id", got=int(ids[again[0]]))
        keep = np.concatenate([np.ones(min(1, len(ids)), bool), ids[1:] != ids[:-1]])
        return ids[keep], records[keep]

    def _cells(self, level: JSON) -> list[str] | None:
        """Return the names of a level's cells, None where the place lists what is there."""
        grid = [int(n) for n in level["grid_shape"]]
        if len(grid) != self._rank or min(grid) < 1:
            raise self._wrong("a grid of cells that is none", got=grid)
        if level.get("sharding") or self._objects.lists:
            return None
        if prod(grid) > _MOST_CELLS:
            raise self._wrong("more cells than can be asked for", expected=f"at most {_MOST_CELLS:,}", got=prod(grid))
        return ["_".join(map(str, place)) for place in np.ndindex(*grid)]

    def _lists(self, index: JSON, names: list[str] | None) -> Iterator[tuple[NDArray[np.uint64], NDArray[Any]]]:
        """Yield ids and records of each list of annotations."""
        for _, data in self._all(index, names, "_0123456789"):
            yield self._decoded(data)

    def _single(self, index: JSON) -> Iterator[tuple[NDArray[np.uint64], NDArray[Any]]]:
        """Yield each annotation of the index by id; what is related stands behind it."""
        for key, data in self._all(index, None):
            if len(data) < self.dtype.itemsize:
                raise self._wrong(f"annotation {key} is cut", got=f"{len(data)} bytes")
            yield np.array([key], np.uint64), np.frombuffer(data, self.dtype, 1)

    def _decoded(self, data: bytes) -> tuple[NDArray[np.uint64], NDArray[Any]]:
        count = int.from_bytes(data[:8], "little")
        if len(data) < 8 or len(data) != 8 + count * (self.dtype.itemsize + 8):
            raise self._wrong("a list of annotations is cut or damaged", got=f"{len(data)} bytes for {count:,}")
        records = np.frombuffer(data, self.dtype, count, 8)
        return np.frombuffer(data, "<u8", count, 8 + count * self.dtype.itemsize), records

    def _of_relationship(self, name: str, ids: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the first of the segments that each annotation is related to, by their numbers; 0 for none."""
        found = np.zeros(len(ids), np.int64)
        segments = [(key, self._decoded(data)[0]) for key, data in self._all(self._related[name], None)]
        for key, inside in sorted(segments, reverse=True, key=lambda one: int(one[0])):
            places = np.searchsorted(ids, inside)
            right = (places < len(ids)) & (ids[np.minimum(places, len(ids) - 1)] == inside)
            if int(key) < 1 << 63:
                found[places[right]] = int(key)
        return found

    def _all(self, index: JSON, names: list[str] | None, signs: str = "0123456789") -> Iterator[tuple[Any, bytes]]:
        """Yield name (a number, where it is one) and content of each object of an index."""
        check_key(index["key"], self.where)
        objects, sharded = self._objects.below(str(index["key"])), index.get("sharding")
        if sharded:
            objects = objects.sharded(sharded)
        elif names is None and not objects.lists:
            raise self._wrong("objects cannot be listed over HTTP", expected="a spatial index",
                              remedy="copy the folder, or name it in a bucket")  # fmt: skip
        listed: list[Any] = list(names) if names is not None else objects.names()
        if not sharded:  # what else lies there is not of the index
            listed = [name for name in listed if not set(name) - set(signs)]
        for start in range(0, len(listed), _TOGETHER):
            some = listed[start : start + _TOGETHER]
            found = self._patiently(partial(objects.many, some, _MOST_BYTES))
            for name, data in zip(some, found, strict=True):
                if data is not None:
                    yield (int.from_bytes(name, "big") if sharded else int(name) if name.isdecimal() else name), data

    def _get(self, name: str, *, required: bool) -> bytes | None:
        (data,) = self._patiently(partial(self._objects.many, [name], 1 << 20))
        if data is None and required:
            raise FetchError("missing", f"there is no {name}")
        return data

    def _patiently(self, action: Callable[[], list[bytes | None]]) -> list[bytes | None]:
        return patiently(action, _ATTEMPTS, self._patience)

    def _wrong(self, what: str, **about: Any) -> InputError:
        about.setdefault("remedy", "get the folder again, or ask who wrote it")
        return InputError(what, where=self.where, **about)
