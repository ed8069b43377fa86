"""A layer: a volume somewhere, with its place in nm, that is read box by box."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import ChunkError, LayerError
from voxmint.retry import PATIENCE_S
from voxmint.sample import JSON
from voxmint.volumes.box import Box, Lengths, Voxels

Reader = Literal["auto", "tensorstore", "cloudvolume", "array"]
"""Who reads a layer; ``array`` is for plain files."""
CACHE_BYTES = 256 << 20
"""Decoded chunks that one layer keeps in one process, unless told otherwise."""
CONCURRENCY = 64
"""Chunks of one layer that are fetched at a time."""
ATTEMPTS = 6
"""How often a chunk is asked for before it counts as unreadable; with the pauses between, about 8 s."""


@dataclass(frozen=True)
class Cutout:
    """What was read of a box. Both arrays are read-only: they may be views of what others read, too.

    Attributes
    ----------
    array : (x, y, z) ndarray
        The layer's dtype; 0 beyond the layer's bounds.
    valid : (x, y, z) bool ndarray
        Which voxels lie within the layer's bounds.
    reads : mapping of str to str
        Name (`Box.name`) of each chunk that voxels are of, and the digest of the whole chunk as it was read,
        ``absent`` for one that a sparse layer lacks.
    """

    array: NDArray[Any]
    valid: NDArray[np.bool_]
    reads: Mapping[str, str] = field(default_factory=dict)


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

    def identity(self) -> JSON:
        """Return JSON by which a recipe names the layer, and `open_identity` finds it again, on any machine.

        Without secrets: url, format, reader, dataset (inside the file), mip, axes (as given), voxel_size_nm, bounds,
        dtype, and metadata, the SHA-256 of what the layer's own metadata say of voxels and place.
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
    patience: float = PATIENCE_S
    scale_nm: Lengths | None = None

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
        for name in ("voxel_size_nm", "scale_nm"):
            if (lengths := getattr(self, name)) is not None:
                values[name] = [float(n) for n in lengths]
        if self.offset is not None:
            values["offset"] = list(self.offset)
        return values
