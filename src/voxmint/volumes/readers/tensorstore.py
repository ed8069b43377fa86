"""Layers read through TensorStore: precomputed (raw, jpeg, compressed_segmentation, sharded), zarr v2 and v3, N5.

TensorStore fills an absent chunk with zeros unless told not to; here it is told not to, so that absent (404),
forbidden (403) and unreadable are three different errors. It must not be used across a fork.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import Cause, LayerError, MissingExtraError
from voxmint.retry import FetchError, open_patiently, seconds_left
from voxmint.sample import JSON
from voxmint.stores.secrets import Secrets, saved_secrets, scrub
from voxmint.volumes.address import Address
from voxmint.volumes.box import Box, Lengths, Voxels
from voxmint.volumes.chunks import ChunkedLayer
from voxmint.volumes.geometry import Geometry, axes_order, carried_by, offset_of, unit_in_nm, voxel_size_of
from voxmint.volumes.identity import Description, described, info_metadata
from voxmint.volumes.layer import Opening
from voxmint.volumes.readers.chunk_files import ChunkFiles
from voxmint.volumes.readers.time_limit import ATTEMPT_S, TimeLimit
from voxmint.volumes.readers.web import Web
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
        self._secrets = _secrets_for(opening, address)
        self._private = [text for text in (address.query, address.user) if text]
        if opening.mip and address.format != "precomputed":
            raise LayerError("this format has no mip levels", where=address.url, got=f"mip {opening.mip}",
                             remedy="name the array of that scale as the dataset")  # fmt: skip
        self._web: WebChunks | None = None
        opened = open_patiently(partial(self._open, opening, address), opening.attempts, address.url, opening.patience)
        store, attributes, metadata, memory, web, sharding, context = opened
        if address.format == "precomputed":
            check_key(store.spec().to_json()["scale_metadata"]["key"], address.url)
        self._store, geometry, order = _place(store, attributes, opening, address)
        if web is not None:
            self._web = WebChunks(web, memory, store, self._store, order, sharding)
        local = address.format == "precomputed" and address.scheme == "file" and not _is_sharded(store)
        self._files = ChunkFiles(tensorstore, context, address.path, store) if local else None
        seconds = min(ATTEMPT_S, opening.patience)
        self._limit = TimeLimit(seconds, ("unreadable", f"no answer within {seconds:.3g} s"))
        background = store.fill_value
        description = Description(address.format, "tensorstore", metadata)
        background = 0 if background is None else background
        super().__init__(opening, address.url, geometry, description, background=background)

    def _open(self, opening: Opening, address: Address) -> tuple[Any, JSON, JSON, Any, Web | None, Any, Any]:
        """Return the array, its attributes and metadata, and of a layer over HTTP how its chunks are fetched."""
        tensorstore, kvstore = self._tensorstore, _kvstore(address, self._secrets)
        spec = {"driver": _DRIVERS[address.format], "kvstore": kvstore, "fill_missing_data_reads": False}
        if address.format == "precomputed":
            spec["scale_index"] = opening.mip
        memory = web = sharding = None
        for cache_bytes, recheck in ((0, True), (_INDEX_BYTES, "open")):
            spec["recheck_cached_data"] = recheck
            context = tensorstore.Context(_context(opening, address, self._secrets, cache_bytes))
            if address.scheme in ("http", "https") and cache_bytes == 0:
                web = Web(
                    address.private_url, address.query, self._secrets, opening.concurrency, patience=opening.patience
                )
                memory = tensorstore.KvStore.open({"driver": "memory"}, context=context).result()
                sharding = copy_metadata(web, memory, address.format, opening.mip)
                spec["kvstore"] = {"driver": "memory", "path": FOLDER}
            store = self._wait(partial(tensorstore.open, spec, context=context, read=True, open=True))
            # only shards get a cache, for their indices; for chunks it would remember that one was absent
            if not _is_sharded(store):
                break
            # shards of zarr v3 are left to TensorStore, whose client of HTTP has no bound but that of time
            spec["kvstore"], web = kvstore, None
        read = partial(self._document, self._tensorstore.KvStore.open(spec["kvstore"], context=context).result())
        if address.format == "precomputed":
            attributes, metadata = JSON(), info_metadata(read("info"), opening.mip, address.url)
        else:
            attributes, metadata = described(read, address.format)
        return store, attributes, metadata, memory, web, sharding, context

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

    def _document(self, store: Any, name: str) -> JSON:
        """Read a JSON file of the layer; empty if there is none."""
        found = self._wait(partial(store.read, name))
        if found.state != "value":
            return {}
        try:
            values = json.loads(found.value)
        except ValueError:
            return {}  # damaged attributes carry nothing: the user is asked for the voxel size
        return values if isinstance(values, dict) else {}


def _place(
    store: Any, attributes: dict[str, Any], opening: Opening, address: Address
) -> tuple[Any, Geometry, Sequence[int]]:
    """Return the store with axes (x, y, z) counted from 0, its grid, and which stored axis is x, y and z."""
    url, labels = address.url, [str(label).lower() for label in store.domain.labels]
    if address.format == "precomputed":
        axes = "xyzc"
    elif all(len(label) == 1 for label in labels):
        axes = "".join(labels)  # the file names them
    else:
        axes = opening.axes or ("xyz" if address.format == "n5" else "zyx")
    if opening.axes and address.format != "precomputed" and axes != opening.axes.lower():
        raise LayerError("the axes given are not the layer's own", where=url, expected=axes, got=opening.axes,
                         remedy="leave them out, or correct them")  # fmt: skip
    order = axes_order(axes, store.shape, url)
    size, offset = _units(store, order), None
    if address.format == "precomputed":
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
    first = offset_of(opening, _triple(offset) if offset else None, url)
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


def _kvstore(address: Address, secrets: Secrets | None) -> dict[str, Any]:
    place = address.place.rstrip("/") + "/"
    if address.scheme == "file":
        return {"driver": "file", "path": place}
    if address.scheme in ("http", "https"):
        query = f"?{address.query}" if address.query else ""
        store: dict[str, Any] = {"driver": "http", "base_url": f"{address.private_url}/{query}"}
        if secrets and {"user", "password"} <= set(secrets.values):
            pair = f"{secrets.values['user']}:{secrets.values['password']}".encode()
            store["headers"] = ["Authorization: Basic " + base64.b64encode(pair).decode()]
        return store
    bucket, _, path = place.partition("/")
    if address.scheme == "gs":
        return {"driver": "gcs", "bucket": bucket, "path": path}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    store = {"driver": "s3", "bucket": bucket, "path": path}
    if endpoint:
        store |= {"endpoint": endpoint, "aws_region": os.environ.get("AWS_DEFAULT_REGION", "us-east-1")}
    return store


def _context(opening: Opening, address: Address, secrets: Secrets | None, cache_bytes: int) -> dict[str, Any]:
    # one policy of retries for all readers: TensorStore's own, up to 32 of them with pauses of 32 s, is switched off
    retries = {"max_retries": 1, "initial_delay": "10ms", "max_delay": "10ms"}
    limit = {"limit": opening.concurrency}
    context: dict[str, Any] = {"cache_pool": {"total_bytes_limit": cache_bytes}, "file_io_concurrency": limit}
    kind = {"gs": "gcs", "s3": "s3"}.get(address.scheme, "http")
    context |= {f"{kind}_request_concurrency": limit, f"{kind}_request_retries": retries}
    if address.scheme == "s3":
        known = secrets or any(os.environ.get(name) for name in _AWS_VARIABLES) or (
            Path.home() / ".aws" / "credentials").is_file()  # fmt: skip
        kind = "environment" if os.environ.get("AWS_ACCESS_KEY_ID") else "default" if known else "anonymous"
        context["aws_credentials"] = {"type": kind}
    return context


_AWS_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SHARED_CREDENTIALS_FILE",
                  "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")  # fmt: skip


def _secrets_for(opening: Opening, address: Address) -> Secrets | None:
    """Return the credentials and hand them to TensorStore, which takes those of buckets from the environment only."""
    if address.scheme == "file":
        return None
    secrets = Secrets.load(opening.secrets) if opening.secrets else saved_secrets(address.scheme, address.bucket)
    if secrets is None:
        return None
    wanted: dict[str, str] = {}
    if address.scheme == "gs":
        wanted = {"GOOGLE_APPLICATION_CREDENTIALS": str(secrets.path)}
    elif address.scheme == "s3":
        wanted = {name: str(value) for name, value in secrets.values.items() if name.startswith("AWS_") and value}
    for name, value in wanted.items():
        if opening.secrets is None and os.environ.get(name):
            continue  # what the environment says goes before a folder nobody named
        if os.environ.setdefault(name, value) != value:
            raise LayerError("TensorStore knows one set of credentials a process, and another is in use",
                             where=address.url, got=f"{name} is already set to another value",
                             remedy="choose the reader cloudvolume for this layer")  # fmt: skip
    return secrets


def _is_sharded(store: Any) -> bool:
    if tuple(store.chunk_layout.read_chunk.shape) != tuple(store.chunk_layout.write_chunk.shape):
        return True
    return bool(store.spec().to_json().get("scale_metadata", {}).get("sharding"))
