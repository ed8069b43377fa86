"""Chunk files of a precomputed layer in a folder: CloudVolume packs them and adds ``.gz`` to their names.

TensorStore knows the plain names only and would call every chunk of such a folder missing. So the file is read and
unpacked here. Raw voxels need no decoding; any other encoding is laid, under its plain name, into TensorStore's memory
store, from which TensorStore decodes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import InputError
from voxmint.nifti.gunzip import gunzipped
from voxmint.retry import FetchError
from voxmint.volumes.box import Box
from voxmint.volumes.readers.web import Traffic

_OTHER_PACKINGS = (".br", ".zstd", ".xz", ".bz2")
SLACK = 1 << 20  # bytes; with the factor below more than the worst encoding of the worst voxels needs
MOST_PER_BYTE = 4


class ChunkFiles:
    """Decodes the chunk files of one unsharded scale, plain or gzip.

    Which of both a chunk is, is found by opening: first the plain name, as all readers do, then the other. A failed
    open costs some microseconds; to decide once by a look at the folder was rejected, since where a chunk lies under
    both names (a layer written twice), the order of a folder would decide which voxels are read.

    Parameters
    ----------
    tensorstore : module
        TensorStore.
    context : tensorstore.Context
        Of the layer.
    folder : Path
        Of the layer.
    store : tensorstore.TensorStore
        The scale as opened: axes (x, y, z, channel), absolute voxels.
    """

    def __init__(self, tensorstore: Any, context: Any, folder: Path, store: Any) -> None:
        spec = store.spec().to_json()
        scale = spec["scale_metadata"]
        self._folder = folder / scale["key"]
        self._key = self._folder.resolve().name
        self._dtype = np.dtype(store.dtype.numpy_dtype)
        self.traffic = Traffic()
        self._raw = scale["encoding"] == "raw"
        self._most = MOST_PER_BYTE * prod(scale["chunk_size"]) * self._dtype.itemsize + SLACK
        self._memory = tensorstore.KvStore.open({"driver": "memory"}, context=context).result()
        opened = {name: spec[name] for name in ("driver", "dtype", "multiscale_metadata", "fill_missing_data_reads")}
        opened |= {"kvstore": {"driver": "memory"}, "scale_metadata": {**scale, "key": self._key}}
        opened["recheck_cached_data"] = True
        self._store = tensorstore.open(opened, context=context, create=True).result()[..., 0]

    def read(self, chunk: Box, wait: Callable[[Callable[[], Any]], Any]) -> NDArray[Any]:
        """Return a chunk, axes (x, y, z).

        Parameters
        ----------
        chunk : Box
            Its voxels.
        wait : callable
            Starts what TensorStore is to do, waits for it, and explains its errors.

        Raises
        ------
        FetchError
            There is no such file, it may not be read, or it is damaged.
        """
        name = chunk.name
        data = read_chunk_file(self._folder / name, self._most, self.traffic)
        if self._raw:
            return self._voxels(data, chunk, name)
        key = f"{self._key}/{name}"
        self._memory.write(key, data).result()
        try:
            return np.asarray(wait(lambda: self._store[chunk.slices()].read(order="F")))
        finally:
            self._memory.write(key, None).result()

    def _voxels(self, data: bytes, chunk: Box, name: str) -> NDArray[Any]:
        expected = chunk.voxels * self._dtype.itemsize
        if len(data) != expected:
            raise FetchError("unreadable", f"{self._folder / name} holds {len(data)} bytes of voxels, not {expected}")
        return np.frombuffer(data, self._dtype.newbyteorder("<")).reshape(chunk.shape, order="F")


def read_chunk_file(path: Path, most: int, traffic: Traffic | None = None) -> bytes:
    """Return the bytes of a chunk, from the file of its name or from the gzip file beside it.

    Parameters
    ----------
    path : Path
        Without ``.gz``.
    most : int
        Bytes that it may hold, unpacked.
    traffic : Traffic, optional
        Counts the file and its bytes.

    Raises
    ------
    FetchError
        Missing: there is neither. Forbidden: one may not be read. Unreadable: it is cut or damaged, to its checksum,
        holds more, or is packed in a way that only CloudVolume unpacks.
    """
    try:
        data = _read(path, most)
        packed = _read(Path(f"{path}.gz"), most) if data is None else None
        if traffic is not None and (stored := data if packed is None else packed) is not None:
            traffic.requests, traffic.bytes = traffic.requests + 1, traffic.bytes + len(stored)
        if data is not None:
            return data
    except PermissionError as error:
        failure = FetchError("forbidden", str(error))
    except OSError as error:
        failure = FetchError("unreadable", str(error))
    else:
        if packed is not None:
            return _unpack(packed, Path(f"{path}.gz"), most)
        other = next((suffix for suffix in _OTHER_PACKINGS if Path(f"{path}{suffix}").exists()), None)
        if other is None:
            raise FetchError("missing", f"there is neither {path} nor {path.name}.gz")
        detail = f"{path}{other} is packed in a way that TensorStore cannot unpack: choose the reader cloudvolume"
        failure = FetchError("unreadable", detail)
    raise failure


def _read(path: Path, most: int) -> bytes | None:
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size > most:
                raise FetchError("unreadable", f"{path} has {size} bytes, more than the {most} that its chunk can have")
            return file.readall()
    except FileNotFoundError:
        return None


def _unpack(packed: bytes, path: Path, most: int) -> bytes:
    if not packed.startswith(b"\x1f\x8b"):
        raise FetchError("unreadable", f"{path} is no gzip file")
    try:
        with gunzipped(BytesIO(packed), path) as stream:
            data = stream.read(most + 1)  # to the end, so that the checksum is checked
    except InputError as error:
        raise FetchError("unreadable", f"{path}: {error.what}") from error
    if len(data) > most:
        raise FetchError("unreadable", f"{path} unpacks to more than the {most} bytes that its chunk can have")
    return data
