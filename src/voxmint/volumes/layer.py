"""A layer: a volume somewhere, with its place in nm, that is read box by box; and opening one from its address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import VoxmintError
from voxmint.sample import JSON
from voxmint.volumes.box import Box, Lengths, Voxels

Reader = Literal["auto", "tensorstore", "cloudvolume", "array"]
"""Who reads a layer; ``array`` is for plain files."""
Cause = Literal["missing", "forbidden", "unreadable"]
"""Absent (404), refused (401, 403), or anything else after bounded retries: damaged, cut, no answer."""
CACHE_BYTES = 256 << 20
"""Decoded chunks that one layer keeps in one process, unless told otherwise."""
CONCURRENCY = 64
"""Chunks of one layer that are fetched at a time."""
ATTEMPTS = 6
"""How often a chunk is asked for before it counts as unreadable; with the pauses between, about 8 s."""

_LOCAL_ATTEMPTS = 2  # a damaged local file does not mend itself; a network file system may hiccup


class LayerError(VoxmintError, OSError):
    """A layer cannot be opened, or is none: missing, forbidden, unreadable, or without a voxel size."""


class ChunkError(LayerError):
    """A chunk of a layer is missing, forbidden or unreadable; no voxels were made up for it.

    Attributes
    ----------
    box : Box
        The chunk.
    cause : Cause
        Which of the three.
    """

    box: Box
    cause: Cause


@dataclass(frozen=True)
class Cutout:
    """What was read of a box. Both arrays are read-only: they may be views of what others read, too.

    Attributes
    ----------
    array : (x, y, z) ndarray
        The layer's dtype; 0 beyond the layer's bounds.
    valid : (x, y, z) bool ndarray
        Which voxels lie within the layer's bounds.
    """

    array: NDArray[Any]
    valid: NDArray[np.bool_]


@runtime_checkable
class Layer(Protocol):
    """A volume somewhere. Axes are (x, y, z); all voxel indices are absolute, the layer's offset included.

    Safe to use from many threads; never across a fork. Another process opens its own from `spec`.
    """

    @property
    def url(self) -> str:
        """Where it lies, without secrets: to be shown and recorded."""
        ...

    @property
    def voxel_size_nm(self) -> tuple[float, float, float]:
        """Size of a voxel in nm."""
        ...

    @property
    def bounds(self) -> Box:
        """All voxels there are."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel, in native byte order."""
        ...

    @property
    def chunk_shape(self) -> Voxels:
        """Voxels that are fetched together."""
        ...

    def chunks_of(self, box: Box) -> list[Box]:
        """Return the chunks that a read of ``box`` fetches, clipped to the bounds: to count and to sort by locality."""
        ...

    def read(self, box: Box) -> Cutout:
        """Read a box; what lies beyond the bounds is 0 and not valid.

        Raises
        ------
        ChunkError
            A chunk is missing (unless the layer is sparse), forbidden or unreadable.
        """
        ...

    def submit(self, box: Box) -> Future[Cutout]:
        """Start reading a box and return at once; the future raises what `read` raises."""
        ...

    def read_many(
        self, boxes: Iterable[Box], concurrency: int = CONCURRENCY
    ) -> Iterator[tuple[int, Cutout | ChunkError]]:
        """Read many boxes with about ``concurrency`` chunks in flight.

        Yields (position in ``boxes``, result) as they come. A box whose chunk fails yields the error; the others go on.
        """
        ...

    def spec(self) -> JSON:
        """Return JSON from which `layer_from_spec` opens the layer in another process.

        It names the secrets file, never its content; but ``source`` is as the user wrote it: record ``url`` instead.
        """
        ...

    def close(self) -> None:
        """Drop the cache and the threads."""
        ...


@dataclass(frozen=True, repr=False)
class Opening:
    """What a layer is opened with: the arguments of `open_layer`."""

    source: str | NDArray[Any]
    reader: Reader = "auto"
    secrets: str | None = None
    mip: int = 0
    voxel_size_nm: Lengths | None = None
    offset: Voxels | None = None
    axes: str | None = None
    sparse: bool = False
    dataset: str | None = None
    cache_bytes: int = CACHE_BYTES
    concurrency: int = CONCURRENCY
    attempts: int = ATTEMPTS
    shared: str | None = None

    def to_json(self) -> JSON:
        """Return the arguments as JSON.

        Raises
        ------
        LayerError
            The layer is an array in memory, which another process cannot open.
        """
        if not isinstance(self.source, str):
            raise LayerError("an array in memory cannot be opened by another process",
                             remedy="save it as .npy and open that, or run with one worker")  # fmt: skip
        values = asdict(self)
        if self.voxel_size_nm is not None:
            values["voxel_size_nm"] = [float(n) for n in self.voxel_size_nm]
        if self.offset is not None:
            values["offset"] = list(self.offset)
        return values


def open_layer(
    source: str | Path | NDArray[Any],
    *,
    reader: Reader = "auto",
    secrets: str | Path | None = None,
    mip: int = 0,
    voxel_size_nm: Lengths | None = None,
    offset: Sequence[int] | None = None,
    axes: str | None = None,
    sparse: bool = False,
    dataset: str | None = None,
    cache_bytes: int = CACHE_BYTES,
    concurrency: int = CONCURRENCY,
    attempts: int = ATTEMPTS,
    shared: str | Path | None = None,
) -> Layer:
    """Open a layer by its address.

    Parameters
    ----------
    source : str, Path or ndarray
        A URL (``gs://``, ``s3://``, ``http(s)://``, ``file://``, ``graphene://``, ``mem://``; ``precomputed://``,
        ``zarr://``, ``zarr3://`` and ``n5://`` may stand before it), a path to a precomputed, zarr or N5 folder, an
        HDF5, NIfTI, ``.npy`` or TIFF file, a folder of TIFF files, or an array.
    reader : {"auto", "tensorstore", "cloudvolume", "array"}
        ``auto`` takes TensorStore for all it can read, else CloudVolume; plain files have one reader each.
    secrets : path, optional
        JSON file of credentials, instead of those in ``~/.cloudvolume/secrets`` and of the environment.
    mip : int
        Scale, 0 the finest.
    voxel_size_nm : three lengths, optional
        Voxel size (x, y, z), for layers that carry none. Refused when the layer carries another.
    offset : three int, optional
        Absolute index (x, y, z) of the first voxel, for layers that carry none. Refused when the layer carries another.
    axes : {"xyz", "zyx", ...}, optional
        Order of the axes as stored. Known for precomputed, N5 and NIfTI (xyz) and where the file names them; else
        ``zyx`` for files (zarr, HDF5, TIFF, npy) and ``xyz`` for an array in memory.
    sparse : bool
        Declares that absent chunks are background. Forbidden and unreadable ones stay errors.
    dataset : str, optional
        Name of the dataset in an HDF5 file, or of the array in a zarr or N5 group.
    cache_bytes : int
        Decoded chunks to keep in this process.
    concurrency : int
        Chunks fetched at a time.
    attempts : int
        How often a chunk is asked for, with growing pauses, before it counts as unreadable.
    shared : path, optional
        Folder of this layer in which processes that run at the same time leave chunks for each other; see
        `voxmint.volumes.shared_chunks`. Not used for local layers.

    Returns
    -------
    Layer
        Opened: its metadata is read, its voxels are not.

    Raises
    ------
    LayerError
        There is none, it is forbidden or unreadable, or it has no voxel size and none was given.
    MissingExtraError
        The reader's package is not installed.
    """
    from voxmint.volumes.address import PLAIN, parse_address

    opening = Opening(
        source if isinstance(source, np.ndarray) else str(source),
        reader,
        None if secrets is None else str(secrets),
        int(mip),
        None if voxel_size_nm is None else tuple(voxel_size_nm),
        None if offset is None else (int(offset[0]), int(offset[1]), int(offset[2])),
        axes,
        sparse,
        dataset,
        int(cache_bytes),
        int(concurrency),
        int(attempts),
        None if shared is None else str(shared),
    )
    if isinstance(opening.source, np.ndarray):
        from voxmint.volumes.array_layer import open_memory

        return open_memory(opening, opening.source)
    address = parse_address(opening.source, None if _dataset_is_inside(opening.source) else dataset)
    if address.scheme in ("file", "mem"):
        opening = replace(opening, attempts=min(opening.attempts, _LOCAL_ATTEMPTS), shared=None)
    if address.format in PLAIN:
        from voxmint.volumes.array_layer import open_array

        _allow(reader, address.url, "auto", "array")
        return open_array(opening, address)
    readers = _readers(address.scheme, address.format)
    _allow(reader, address.url, "auto", *readers)
    if (readers[0] if reader == "auto" else reader) == "cloudvolume":
        from voxmint.volumes.cloudvolume_layer import CloudVolumeLayer

        return CloudVolumeLayer(opening, address)
    from voxmint.volumes.tensorstore_layer import TensorStoreLayer

    return TensorStoreLayer(opening, address)


def layer_from_spec(spec: JSON) -> Layer:
    """Open the layer that `Layer.spec` describes."""
    return open_layer(**spec)


def _readers(scheme: str, fmt: str) -> tuple[Reader, ...]:
    """Return who reads a format, the one that ``auto`` takes first.

    CloudVolume is not asked for zarr and N5: where the file has no voxel size it makes one up, and it needs metadata
    of several scales.
    """
    if scheme == "mem" or fmt == "graphene":
        return ("cloudvolume",)
    return ("tensorstore", "cloudvolume") if fmt == "precomputed" else ("tensorstore",)


def _allow(reader: Reader, where: str, *readers: Reader) -> None:
    if reader not in readers:
        raise LayerError("this reader cannot read this layer", where=where, expected=" or ".join(readers), got=reader,
                         remedy="leave the reader at auto")  # fmt: skip


def _dataset_is_inside(source: str) -> bool:
    """Tell whether the dataset lies inside a file, rather than in a folder below the address."""
    return source.lower().endswith((".h5", ".hdf5", ".hdf"))
