"""Layers read through TensorStore: precomputed (raw, jpeg, compressed_segmentation, sharded), zarr v2 and v3, N5.

TensorStore fills an absent chunk with zeros unless told not to; here it is told not to, so that absent (404),
forbidden (403) and unreadable are three different errors. It must not be used across a fork.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import Cause, LayerError, MissingExtraError
from voxmint.retry import FetchError, open_patiently, seconds_left
from voxmint.sample import JSON
from voxmint.stores.secrets import scrub
from voxmint.volumes.address import Address
from voxmint.volumes.box import Box, Lengths, Voxels
from voxmint.volumes.chunks import ChunkedLayer
from voxmint.volumes.geometry import Geometry, axes_order, carried_by, offset_of, unit_in_nm, voxel_size_of
from voxmint.volumes.identity import Description, described, info_metadata
from voxmint.volumes.layer import Opening
from voxmint.volumes.readers.chunk_files import ChunkFiles
from voxmint.volumes.readers.kvstore import context_of, kvstore_of, secrets_for
from voxmint.volumes.readers.scales import Documents, Scale, find_scale, inner_address
from voxmint.volumes.readers.time_limit import ATTEMPT_S, TimeLimit
from voxmint.volumes.readers.web import METADATA_BYTES, Web
from voxmint.volumes.readers.web_chunks import FOLDER, WebChunks, copy_metadata
from voxmint.volumes.scale_keys import check_key

_DRIVERS = {"precomputed": "neuroglancer_precomputed", "zarr": "zarr", "zarr3": "zarr3", "n5": "n5"}
_INDEX_BYTES = 32 << 20  # for the indices of shards; decoded chunks are kept by the layer itself
# a NOT_FOUND alone is not enough: an answer without its headers is called so, too
_CAUSES: tuple[tuple[re.Pattern[str], Cause], ...] = (
    (re.compile(r"NOT_FOUND: .*(is missing|does not exist)", re.DOTALL), "missing"),
    (re.compile(r"PERMISSION_DENIED|UNAUTHENTICATED"), "forbidden"),
)
_SPEC = re.compile(r"\s*\[tensorstore_spec='.*?'\](?=\s|$)", re.DOTALL)


class TensorStoreLayer(ChunkedLayer):
    """A layer read through TensorStore; see `voxmint.volumes.opening.open_layer`."""

    def __init__(self, opening: Opening, address: Address) -> None:
        try:
            import tensorstore
        except ImportError:
            raise MissingExtraError.for_package("tensorstore", "cloud") from None
        self._tensorstore = tensorstore
        self._secrets = secrets_for(opening, address)
        self._private = [text for text in (address.query, address.user) if text]
        self._web: WebChunks | None = None
        opened = open_patiently(partial(self._open, opening, address), opening.attempts, address.url, opening.patience)
        store, scale, attributes, metadata, memory, web, sharding, context = opened
        opening = replace(opening, mip=scale.mip, scale_nm=None)
        self._store, geometry, order = _place(store, scale, attributes, opening, address)
        if web is not None:
            self._web = WebChunks(web, memory, store, self._store, order, sharding)
        local = address.format == "precomputed" and address.scheme == "file" and not _is_sharded(store)
        self._files = ChunkFiles(tensorstore, context, address.path, store) if local else None
        seconds = min(ATTEMPT_S, opening.patience)
        self._limit = TimeLimit(seconds, ("unreadable", f"no answer within {seconds:.3g} s"))
        background = store.fill_value
        description = Description(scale.format, "tensorstore", metadata)
        background = 0 if background is None else background
        super().__init__(opening, address.url, geometry, description, background=background)

    def _open(self, opening: Opening, address: Address) -> tuple[Any, Scale, JSON, JSON, Any, Web | None, Any, Any]:
        """Return the array, what metadata say of it, and of a layer over HTTP how its chunks are fetched."""
        tensorstore = self._tensorstore
        context = tensorstore.Context(context_of(opening, address, self._secrets, 0))
        memory = web = sharding = None
        if address.scheme in ("http", "https"):
            web = Web(address.private_url, address.query, self._secrets, opening.concurrency, patience=opening.patience)
            documents = Documents(partial(web.get, most=METADATA_BYTES))
        else:
            files = tensorstore.KvStore.open(kvstore_of(address, self._secrets), context=context).result()
            documents = Documents(partial(self._file, files))
        scale = find_scale(documents, opening, address)
        documents, address = documents.below(scale.path), inner_address(address, scale)
        spec = {"driver": _DRIVERS[scale.format], "kvstore": kvstore_of(address, self._secrets),
                "fill_missing_data_reads": False, "recheck_cached_data": True}  # fmt: skip
        if scale.format == "precomputed":
            spec["scale_index"] = scale.mip
        kvstore = spec["kvstore"]
        if web is not None:
            web = web.below(scale.path) if scale.path else web
            memory = tensorstore.KvStore.open({"driver": "memory"}, context=context).result()
            sharding = copy_metadata(documents.bytes, memory, scale.format, scale.mip)
            spec["kvstore"] = {"driver": "memory", "path": FOLDER}
        store = self._wait(partial(tensorstore.open, spec, context=context, read=True, open=True))
        if _is_sharded(store):
            # only shards get a cache, for their indices; for chunks it would remember that one was absent. Shards of
            # zarr v3 are left to TensorStore, whose client of HTTP has no bound but that of time
            context = tensorstore.Context(context_of(opening, address, self._secrets, _INDEX_BYTES))
            spec, web = {**spec, "kvstore": kvstore, "recheck_cached_data": "open"}, None
            store = self._wait(partial(tensorstore.open, spec, context=context, read=True, open=True))
        if scale.format == "precomputed":
            attributes, metadata = JSON(), info_metadata(documents.json("info"), scale.mip, address.url)
            check_key(store.spec().to_json()["scale_metadata"]["key"], address.url)
        else:
            attributes, metadata = described(documents.json, scale.format)
        return store, scale, attributes, {**metadata, **scale.metadata}, memory, web, sharding, context

    def begin(self, chunk: Box) -> Future[NDArray[Any]] | None:
        """Start reading one chunk; TensorStore's own threads do the rest."""
        if self._files is not None:
            return None
        if self._web is not None:
            return self._web.begin(self._window(chunk))
        begun: Future[NDArray[Any]] = Future()
        reading = self._reading(chunk)
        self._limit.watch(begun)
        reading.add_done_callback(partial(self._deliver, begun))
        return begun

    def _deliver(self, begun: Future[NDArray[Any]], reading: Any) -> None:
        with suppress(InvalidStateError):  # given up meanwhile
            try:
                begun.set_result(np.asarray(reading.result()))
            except InvalidStateError:
                raise
            except Exception as error:  # TensorStore raises ValueError and others; the status stands in the text
                begun.set_exception(FetchError(*self._explain(error)))

    def fetch(self, chunk: Box) -> NDArray[Any]:
        """Read one chunk."""
        if self._files is not None:
            return self._files.read(chunk, self._wait)
        if self._web is not None:
            return self._web.read(self._window(chunk))
        return np.asarray(self._wait(partial(self._reading, chunk)))

    def traffic(self) -> tuple[int, int]:
        """Return requests and bytes until now; where TensorStore reads itself, those of the whole process."""
        for counted in (self._web, self._files):
            if counted is not None:
                return counted.traffic.requests, counted.traffic.bytes
        told = self._tensorstore.experimental_collect_matching_metrics("/tensorstore/kvstore/")
        sums = {"read": 0, "bytes_read": 0}
        for metric in told:
            name = metric["name"].rpartition("/")[2]
            if name in sums and "/memory/" not in metric["name"]:
                sums[name] += sum(int(one.get("value", 0)) for one in metric["values"])
        return sums["read"], sums["bytes_read"]

    def close(self) -> None:
        """Drop the cache and the threads."""
        super().close()
        self._limit.close()
        if self._web is not None:
            self._web.close()

    def _reading(self, chunk: Box) -> Any:
        return self._store[self._window(chunk).slices()].read(order="F")

    def _window(self, chunk: Box) -> Box:
        """Return a chunk's voxels counted from the layer's first."""
        x, y, z = self.bounds.start
        return chunk.shift((-x, -y, -z))

    def _explain(self, error: Exception) -> tuple[Cause, str]:
        text = _SPEC.sub("", str(error))
        for secret in self._private:  # what `scrub` would not know
            text = text.replace(secret, "***")
        cause: Cause = next((cause for status, cause in _CAUSES if status.match(text)), "unreadable")
        return cause, self._secrets.scrub(text) if self._secrets else scrub(text)

    def _wait(self, start: Callable[[], Any]) -> Any:
        try:
            return start().result(timeout=(seconds := seconds_left(ATTEMPT_S)))
        except TimeoutError:
            failure = FetchError("unreadable", f"no answer within {seconds:.3g} s")
        except Exception as error:  # TensorStore raises ValueError and others; the status stands in the text
            failure = FetchError(*self._explain(error))
        raise failure

    def _file(self, files: Any, name: str) -> bytes:
        found = self._wait(partial(files.read, name))
        if found.state != "value":
            raise FetchError("missing", f"there is no {name}")
        return bytes(found.value)


def _place(
    store: Any, scale: Scale, attributes: dict[str, Any], opening: Opening, address: Address
) -> tuple[Any, Geometry, Sequence[int]]:
    """Return the store with axes (x, y, z) counted from 0, its grid, and which stored axis is x, y and z."""
    url, labels = address.url, [str(label).lower() for label in store.domain.labels]
    if scale.format == "precomputed":
        axes = "xyzc"
    elif scale.axes is not None:
        axes = scale.axes
    elif all(len(label) == 1 for label in labels):
        axes = "".join(labels)  # the file names them
    else:
        axes = opening.axes or ("xyz" if scale.format == "n5" else "zyx")
    if opening.axes and scale.format != "precomputed" and axes != opening.axes.lower():
        raise LayerError("the axes given are not the layer's own", where=url, expected=axes, got=opening.axes,
                         remedy="leave them out, or correct them").about("axes")  # fmt: skip
    order = axes_order(axes, store.shape, url)
    size = scale.size_nm or _units(store, order)
    offset: tuple[int, ...] | None = scale.offset
    if scale.format == "precomputed":
        offset = tuple(int(store.domain[axis].inclusive_min) for axis in order)
    elif size is None:
        size, offset = carried_by(attributes, order)
    for axis in reversed(range(store.rank)):
        if axis not in order:
            store = store[(slice(None),) * axis + (store.domain[axis].inclusive_min,)]
    rank = sorted(order)
    store = store.transpose([rank.index(axis) for axis in order])
    chunk_shape = tuple(int(n) for n in store.chunk_layout.read_chunk.shape)
    start = tuple(int(n) for n in store.domain.inclusive_min)
    first = offset_of(opening, _triple(offset) if offset is not None else None, url)
    grid = [int(o) - s + f for o, s, f in zip(store.chunk_layout.grid_origin, start, first, strict=True)]
    geometry = Geometry(
        voxel_size_of(opening, size, url),
        Box.at(first, store.shape),
        _triple(chunk_shape),
        _triple(grid),
        np.dtype(store.dtype.numpy_dtype),
    )
    return store.translate_to[(0, 0, 0)], geometry, order


def _units(store: Any, order: tuple[int, int, int]) -> Lengths | None:
    units = [store.dimension_units[axis] for axis in order]
    factors = [None if unit is None else unit_in_nm(unit.base_unit) for unit in units]
    known = [unit.multiplier * factor for unit, factor in zip(units, factors, strict=True) if factor is not None]
    return known if len(known) == 3 else None


def _triple(values: Any) -> Voxels:
    x, y, z = (int(n) for n in values)
    return (x, y, z)


def _is_sharded(store: Any) -> bool:
    if tuple(store.chunk_layout.read_chunk.shape) != tuple(store.chunk_layout.write_chunk.shape):
        return True
    return bool(store.spec().to_json().get("scale_metadata", {}).get("sharding"))
