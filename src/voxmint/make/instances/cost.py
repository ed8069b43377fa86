"""What a run reads: chunks, requests, bytes, time and money, worked out before it begins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from voxmint.errors import LayerError, RecipeError
from voxmint.instances.sampler import InstanceSampler
from voxmint.sample import JSON
from voxmint.volumes.box import Box
from voxmint.volumes.layer import Layer
from voxmint.volumes.opening import open_layer

COUNTED = 20_000
"""Rows up to which chunks are counted one by one; of more, so many are looked at."""
_LOOKED_AT = 4_000
_READ = 32
"""Chunks of each layer that are read to know bytes and time of one."""


@dataclass(frozen=True)
class Prices:
    """What a place asks for what is read from it, in any currency.

    Attributes
    ----------
    per_gb : float
        For 10**9 bytes.
    per_million_requests : float
        For a million requests.
    """

    per_gb: float = 0.0
    per_million_requests: float = 0.0

    def __post_init__(self) -> None:
        for flag, price in (("--price-per-gb", self.per_gb), ("--price-per-million-requests",
                                                              self.per_million_requests)):  # fmt: skip
            if not (isfinite(price) and price >= 0):
                raise RecipeError("impossible price", where=flag, expected="0 or more", got=price)


FREE = Prices()


def cost_of(samplers: Sequence[InstanceSampler], prices: Prices = FREE) -> JSON:
    """Return what all samples of some samplers need to be read once.

    Chunks are counted exactly for up to `COUNTED` rows. Of more rows some are looked at, and each chunk that one
    touches counts as the share that this row has in it, so that it counts once over all rows that touch it. Some of
    the chunks are read, which tells the bytes as they are stored, and the time.

    Returns
    -------
    dict
        ``instances``; ``chunks`` (distinct) and ``bytes`` (unpacked); ``counted`` ("exactly" or "by sampling");
        ``requests`` and ``stored_bytes``; ``seconds`` at the rate measured now, and that rate, ``chunks_per_second``;
        ``sampled_chunks`` and ``unread_chunks``, of those that were tried; ``price``, where there are prices.
    """
    rows = sum(len(sampler.rows) for sampler in samplers)
    total: dict[str, float] = dict.fromkeys(("chunks", "bytes", "requests", "stored_bytes", "seconds"), 0.0)
    sampled = unread = 0
    exactly = all(len(sampler.rows) <= COUNTED for sampler in samplers)
    for sampler in samplers:
        reads = sampler.reads() if exactly else {name: _estimated(sampler, name) for name in ("source", "target")}
        for name, needed in reads.items():
            one = _measured(getattr(sampler, name), _some_chunks(sampler, name))
            sampled, unread = sampled + one["read"], unread + one["unread"]
            total["chunks"] += needed["chunks"]
            total["bytes"] += needed["bytes"]
            total["requests"] += needed["chunks"] * one["requests"]
            total["stored_bytes"] += needed["bytes"] * one["ratio"]
            total["seconds"] += needed["chunks"] * one["seconds"]
    found: JSON = {"instances": rows, **{name: round(value) for name, value in total.items() if name != "seconds"}}
    found |= {"counted": "exactly" if exactly else "by sampling", "seconds": round(total["seconds"], 1),
              "chunks_per_second": round(total["chunks"] / total["seconds"], 1) if total["seconds"] else None,
              "sampled_chunks": sampled, "unread_chunks": unread}  # fmt: skip
    if prices != FREE:
        price = found["stored_bytes"] / 1e9 * prices.per_gb + found["requests"] / 1e6 * prices.per_million_requests
        found["price"] = round(price, 2)
    return found


def told(cost: JSON) -> str:
    """Return a cost as lines of text."""
    about = "" if cost["counted"] == "exactly" else "about "
    each = ", one request each" if cost["requests"] == cost["chunks"] else ""
    lines = [
        f"instances {cost['instances']:,}",
        f"chunks    {about}{cost['chunks']:,} distinct{each}",
        f"requests  about {cost['requests']:,}",
        f"to read   about {_bytes(cost['stored_bytes'])} as stored ({cost['sampled_chunks']} chunks sampled), "
        f"{_bytes(cost['bytes'])} unpacked at most",
    ]
    if cost["chunks_per_second"]:
        lines.append(f"time      about {_time(cost['seconds'])} to read, at the measured {cost['chunks_per_second']:,} "
                     "chunks a second")  # fmt: skip
    if cost["unread_chunks"]:
        lines.append(f"unread    {cost['unread_chunks']} of the sampled chunks could not be read")
    if "price" in cost:
        lines.append(f"price     about {cost['price']:,.2f} at the prices given")
    return "\n".join(lines)


def _spread(number: int, most: int) -> list[int]:
    return np.unique(np.linspace(0, number - 1, min(number, most)).astype(np.int64)).tolist() if number else []


def _boxes(sampler: InstanceSampler, name: str, most: int) -> list[Box]:
    """Return what is read of a layer for some rows; these are in the order they were drawn, thus anywhere."""
    some = sampler.rows.take(np.array(_spread(len(sampler.rows), most), np.int64))
    frames = (sampler.cutter.frame(centre) for centre in some.centre_nm.tolist())
    return [box for frame in frames if not (box := getattr(frame, name)).empty]


def _some_chunks(sampler: InstanceSampler, name: str) -> list[Box]:
    layer: Layer = getattr(sampler, name)
    chunks = [layer.chunks_of(box) for box in _boxes(sampler, name, _READ)]
    return list(dict.fromkeys(some[number % len(some)] for number, some in enumerate(chunks) if some))


def _estimated(sampler: InstanceSampler, name: str) -> dict[str, float]:
    """Return the chunks that all rows touch, and their bytes, by looking at some rows."""
    from scipy.spatial import cKDTree

    layer: Layer = getattr(sampler, name)
    boxes = _boxes(sampler, name, _LOOKED_AT)
    if not boxes:
        return {"chunks": 0, "bytes": 0}
    size = np.array(layer.voxel_size_nm)
    # a row touches a chunk if its centre is nearer to the chunk's than half of both, on each axis
    reach = (np.median([box.shape for box in boxes], axis=0) + np.array(layer.chunk_shape)) / 2 * size
    tree = cKDTree(sampler.rows.column("centre_nm") / reach)
    touched = [chunk for box in boxes for chunk in layer.chunks_of(box)]
    shape, first = np.array(layer.chunk_shape), np.array(layer.bounds.start)
    starts = np.array([chunk.start for chunk in touched]).reshape(-1, 3)
    middle = first + (starts - first) // shape * shape + shape / 2
    rows = tree.query_ball_point(middle * size / reach, 1.0, p=np.inf, return_length=True)
    shares = 1 / np.maximum(rows, 1) * (len(sampler.rows) / min(len(sampler.rows), _LOOKED_AT))
    voxels = np.array([chunk.voxels for chunk in touched])
    return {"chunks": float(shares.sum()), "bytes": float((shares * voxels).sum()) * layer.dtype.itemsize}


def _measured(known: Any, chunks: Sequence[Box]) -> dict[str, Any]:
    """Read some chunks; return requests and seconds of one, and stored bytes as a share of the unpacked."""
    layer = _opened_anew(known)  # else what was looked at before would come from memory
    before, began = layer.traffic(), time.monotonic()
    read = unread = size = 0
    for number, outcome in layer.read_many(chunks):
        if isinstance(outcome, LayerError):
            unread += 1
        else:
            read, size = read + 1, size + chunks[number].voxels * layer.dtype.itemsize
    seconds, after = time.monotonic() - began, layer.traffic()
    if layer is not known:
        layer.close()
    requests, stored = (read, size) if after is None else (after[0] - before[0], after[1] - before[1])
    if not read or not stored:  # kept from before, or none could be read
        return {"read": read, "unread": unread, "requests": 1.0, "ratio": 1.0, "seconds": 0.0}
    return {"read": read, "unread": unread, "requests": max(1.0, requests / (read + unread)), "ratio": stored / size,
            "seconds": seconds / read}  # fmt: skip


def _opened_anew(layer: Any) -> Any:
    try:
        spec = layer.spec()
    except LayerError:  # an array in memory
        return layer
    return open_layer(**{**spec, "shared": None})


def _bytes(number: float) -> str:
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= scale:
            return f"{number / scale:,.1f} {unit}"
    return f"{number / 1e6:,.3f} MB"


def _time(seconds: float) -> str:
    for unit, scale in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 2 * scale:
            return f"{seconds / scale:,.1f} {unit}"
    return f"{seconds:,.1f} s"
