"""Chunks over HTTP: the bytes fetched here, within bounds, and decoded by TensorStore out of its memory store.

TensorStore's own client of HTTP keeps whatever a server sends, and unpacks it to whatever that becomes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.retry import FetchError
from voxmint.sample import JSON
from voxmint.volumes.box import Box
from voxmint.volumes.readers.chunk_files import MOST_PER_BYTE, SLACK
from voxmint.volumes.readers.codecs.packings import check_unpacks
from voxmint.volumes.readers.shards import Shards
from voxmint.volumes.readers.web import Web
from voxmint.volumes.scale_keys import check_key

FOLDER = "layer/"
"""Of the layer in the memory store."""
_METADATA = {
    "precomputed": ("info",),
    "zarr": (".zarray", ".zattrs"),
    "zarr3": ("zarr.json",),
    "n5": ("attributes.json",),
}
_OPTIONAL = (".zattrs",)
_DECODERS = 4  # threads: what they do takes no time of Python's


def copy_metadata(get: Callable[[str], bytes], memory: Any, format_: str, mip: int) -> JSON | None:
    """Copy the metadata of a layer into a memory store; return the sharding of its scale, which the copy lacks.

    Raises
    ------
    FetchError
        They are missing, forbidden, or no metadata.
    """
    sharding = None
    for name in _METADATA[format_]:
        try:
            data = get(name)
        except FetchError as error:
            if error.cause != "unreadable" and name in _OPTIONAL:
                continue  # a bucket that may not be listed calls what is absent forbidden
            raise
        if format_ == "precomputed":
            data, sharding = _without_sharding(data, mip)
        memory.write(f"{FOLDER}{name}", data).result()
    return sharding


def _without_sharding(info: bytes, mip: int) -> tuple[bytes, JSON | None]:
    try:
        values = json.loads(info)
        scale = values["scales"][mip]
        check_key(scale["key"])
        sharding = scale.pop("sharding", None)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return info, None  # TensorStore tells what is wrong with it
    return json.dumps(values).encode(), sharding


class WebChunks:
    """Fetches and decodes the chunks of one array.

    Parameters
    ----------
    web : Web
        The folder of the layer.
    memory : tensorstore.KvStore
        Memory store that holds the layer's metadata below `FOLDER`.
    opened, store : tensorstore.TensorStore
        The array as it was opened from there, and with axes (x, y, z) counted from 0.
    order : three int
        Which stored axis is x, y and z.
    sharding : dict, optional
        Of a precomputed layer.
    """

    def __init__(
        self, web: Web, memory: Any, opened: Any, store: Any, order: Sequence[int], sharding: JSON | None
    ) -> None:
        self._web, self._memory, self._store, self._order = web, memory, store, order
        self.traffic = web.traffic
        self._dtype = np.dtype(store.dtype.numpy_dtype)
        spec = opened.spec().to_json()
        self._spec = spec.get("scale_metadata") or spec["metadata"]
        self._rank, self._shape = opened.rank, tuple(int(n) for n in store.chunk_layout.read_chunk.shape)
        self._raw = self._spec.get("encoding") == "raw"
        self.most = MOST_PER_BYTE * prod(self._shape) * self._dtype.itemsize + SLACK
        self._name = _names(spec["driver"], self._spec)
        self._offset = tuple(int(n) for n in self._spec.get("voxel_offset", (0, 0, 0)))
        self._shards = None
        if sharding:
            grid = [-(-int(n) // c) for n, c in zip(self._spec["size"], self._shape, strict=True)]
            self._shards = Shards(web.below(self._spec["key"]), sharding, grid)
        self._threads = ThreadPoolExecutor(_DECODERS, thread_name_prefix="voxmint-decode")

    def begin(self, window: Box) -> Future[NDArray[Any]] | None:
        """Start reading a chunk, its voxels counted from 0; None where a thread must wait."""
        if self._shards is not None:
            return None
        begun: Future[NDArray[Any]] = Future()
        name = self._name_of(window)
        self._web.start(name, self.most).add_done_callback(partial(self._arrived, begun, window, name))
        return begun

    def read(self, window: Box) -> NDArray[Any]:
        """Return a chunk, axes (x, y, z), its voxels counted from 0; raise `FetchError` when that fails."""
        name = self._name_of(window)
        if self._shards is not None:
            place = [a // n for a, n in zip(window.start, self._shape, strict=True)]
            return self._decoded(self._shards.get(place, self.most), window, name)
        return self._decoded(self._web.get(name, self.most), window, name)

    def close(self) -> None:
        """Drop the threads."""
        self._threads.shutdown(wait=False)

    def _arrived(self, begun: Future[NDArray[Any]], window: Box, name: str, fetched: Future[bytes]) -> None:
        if self._raw:  # nothing to decode: another thread would cost more than it takes off this one
            self._conclude(begun, window, name, fetched)
            return
        try:
            self._threads.submit(self._conclude, begun, window, name, fetched)
        except RuntimeError as error:  # the layer was closed
            begun.set_exception(error)

    def _conclude(self, begun: Future[NDArray[Any]], window: Box, name: str, fetched: Future[bytes]) -> None:
        try:
            array = self._decoded(fetched.result(), window, name)
        except BaseException as error:  # the future's owner gets it
            begun.set_exception(error)
        else:
            begun.set_result(array)

    def _name_of(self, window: Box) -> str:
        """Return the name of the object that holds a chunk."""
        place = [0] * self._rank
        for axis, start, n in zip(self._order, window.start, self._shape, strict=True):
            place[axis] = start // n
        return self._name(window.shift(self._offset), place)

    def _decoded(self, data: bytes, window: Box, name: str) -> NDArray[Any]:
        if self._raw:
            expected = window.voxels * self._dtype.itemsize
            if len(data) != expected:
                raise FetchError("unreadable", f"{name} holds {len(data)} bytes of voxels, not {expected}")
            return np.frombuffer(data, self._dtype.newbyteorder("<")).reshape(window.shape, order="F")
        check_unpacks(data, self._spec, self.most, name)
        key = f"{FOLDER}{name}"
        self._memory.write(key, data).result()
        try:
            return np.asarray(self._store[window.slices()].read(order="F").result())
        except Exception as error:  # TensorStore raises ValueError and others
            detail = str(error)
        finally:
            with suppress(Exception):
                self._memory.write(key, None).result()
        raise FetchError("unreadable", detail)


def _names(driver: str, spec: JSON) -> Callable[[Box, Sequence[int]], str]:
    """Return how objects are named, by their absolute voxels and by their place in the grid (axes as stored)."""
    if driver == "neuroglancer_precomputed":
        key = spec["key"]
        return lambda box, _: (
            f"{key}/" + "_".join(f"{a}-{b}" for a, b in zip(box.start, box.stop, strict=True))
        )  # fmt: skip
    before, between = "", "/"
    if driver == "zarr":
        between = spec.get("dimension_separator", ".")
    elif driver == "zarr3":
        encoding = spec.get("chunk_key_encoding", {})
        new = encoding.get("name", "default") == "default"
        between = encoding.get("configuration", {}).get("separator", "/" if new else ".")
        before = f"c{between}" if new else ""
    return lambda _, place: before + between.join(map(str, place))
