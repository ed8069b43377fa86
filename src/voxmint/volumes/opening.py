"""Open a layer by its address, with the reader that suits it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import LayerError
from voxmint.retry import PATIENCE_S, checked_patience, open_patiently
from voxmint.sample import JSON
from voxmint.stores.network import check_route
from voxmint.stores.secrets import Secrets
from voxmint.volumes.address import PLAIN, parse_address
from voxmint.volumes.box import Lengths
from voxmint.volumes.geometry import GivenPlaceError
from voxmint.volumes.identity import differences
from voxmint.volumes.layer import ATTEMPTS, CACHE_BYTES, CONCURRENCY, Layer, Opening, Reader

_LOCAL_ATTEMPTS = 2  # a damaged local file does not mend itself; a network file system may hiccup


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
    patience: float = PATIENCE_S,
    scale_nm: Lengths | None = None,
) -> Layer:
    """Open a layer by its address.

    Parameters
    ----------
    source : str, Path or ndarray
        A URL (``gs://``, ``s3://``, ``http(s)://``, ``file://``, ``graphene://``, ``mem://``; ``precomputed://``,
        ``zarr://``, ``zarr3://`` and ``n5://`` may stand before it), a path to a precomputed, zarr, OME-Zarr or N5
        folder, an HDF5, NIfTI, ``.npy``, TIFF or PNG file, a folder of TIFF or of PNG slices, or an array.
    reader : {"auto", "tensorstore", "cloudvolume", "array"}
        ``auto`` takes TensorStore for all it can read, else CloudVolume, as the layer's metadata demand (``encoding``);
        plain files have one reader each. What was taken is what `Layer.identity` and `Layer.spec` name.
    secrets : path, optional
        JSON file of credentials, instead of those in ``~/.cloudvolume/secrets`` and of the environment.
    mip : int
        Scale of a precomputed layer or an OME-Zarr group, 0 the finest.
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
    patience : float
        Seconds after which the metadata or a chunk count as unreadable, all attempts and pauses together.
    scale_nm : three lengths, optional
        The scale by its voxel size (x, y, z), instead of ``mip``.

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
        checked_patience(patience),
        None if scale_nm is None else tuple(scale_nm),
    )
    if isinstance(opening.source, np.ndarray):
        from voxmint.volumes.readers.plain.arrays import open_memory

        return open_memory(opening, opening.source)
    address = parse_address(opening.source, None if _dataset_is_inside(opening.source) else dataset)
    if address.scheme in ("file", "mem"):
        opening = replace(opening, attempts=min(opening.attempts, _LOCAL_ATTEMPTS), shared=None)
    if address.format in PLAIN:
        from voxmint.volumes.readers.plain.arrays import open_array

        _allow(reader, address.url, "auto", "array")
        return open_array(opening, address)
    if secrets is not None:
        Secrets.load(secrets)  # a broken file is named before the network is asked for anything
    open_patiently(lambda: check_route(address.scheme, address.bucket), 1, address.url, opening.patience)
    readers = _readers(address.scheme, address.format)
    _allow(reader, address.url, "auto", *readers)
    if (readers[0] if reader == "auto" else reader) == "tensorstore":
        from voxmint.volumes.readers.scales import OnlyCloudVolumeError
        from voxmint.volumes.readers.tensorstore import TensorStoreLayer

        try:
            return TensorStoreLayer(replace(opening, reader="tensorstore"), address)
        except OnlyCloudVolumeError:
            if reader != "auto":
                raise
    from voxmint.volumes.readers.cloudvolume import CloudVolumeLayer

    return CloudVolumeLayer(replace(opening, reader="cloudvolume"), address)


def layer_from_spec(spec: JSON, identity: JSON | None = None) -> Layer:
    """Open the layer that `Layer.spec` describes; raise `LayerError` if it is not the one that an identity names."""
    layer = open_layer(**spec)
    if identity is not None:
        check_identity(identity, layer)
    return layer


def open_identity(
    identity: JSON,
    *,
    source: str | Path | None = None,
    secrets: str | Path | None = None,
    shared: str | Path | None = None,
    sparse: bool = False,
    **options: int,
) -> Layer:
    """Open the layer that an identity names, on this or another machine, and see that it is the same.

    Parameters
    ----------
    identity : dict
        What `Layer.identity` returned. Fields it lacks, as those of version 0.1 do, are guessed and not compared.
    source : str or path, optional
        Where the layer lies now, where that is elsewhere, or its address with a query, which identities lack.
    secrets, shared, sparse
        As for `open_layer`.
    **options
        ``cache_bytes``, ``concurrency`` and ``attempts`` of `open_layer`.

    Raises
    ------
    LayerError
        As for `open_layer`; or what lies there is another layer by now: the error names each field that differs.
    """
    recorded = {field: value for field, value in identity.items() if field != "url" or source is None}
    where = _source_of(identity) if source is None else str(source)
    given: dict[str, Any] = {**options, "voxel_size_nm": identity.get("voxel_size_nm")}
    given["offset"] = identity["bounds"][0] if "bounds" in identity else None
    while True:
        try:
            layer = open_layer(where, reader=identity.get("reader", "auto"), mip=identity.get("mip", 0),
                               axes=identity.get("axes"), dataset=identity.get("dataset"), secrets=secrets,
                               shared=shared, sparse=sparse, **given)  # fmt: skip
            break
        except GivenPlaceError as error:  # what it carries now is compared below
            del given[error.argument]
    check_identity(recorded, layer)
    return layer


def check_identity(recorded: JSON, layer: Layer) -> None:
    """Close a layer and raise `LayerError` that names each field in which it differs from an identity, if one does."""
    found = [one for one in differences(recorded, layer.identity()) if one[0] != "reader"]  # all read the same
    if found:
        layer.close()
        raise LayerError("the layer is not the one that was recorded: it differs in " + ", ".join(f for f, *_ in found),
                         where=layer.url, expected=", ".join(f"{field} {there}" for field, there, _ in found),
                         got=", ".join(f"{field} {now}" for field, _, now in found),
                         remedy="put the layer back, or start anew with the layer that is there now")  # fmt: skip


def _source_of(identity: JSON) -> str:
    """Return the address to open: the url with the format before it, where nothing else tells that."""
    url, fmt = str(identity["url"]), identity.get("format")
    if fmt == "memory" or "://" not in url:
        raise LayerError("an array in memory cannot be opened again", where=url,
                         remedy="save it as .npy and open that")  # fmt: skip
    if fmt is None:  # version 0.1: of all urls, only those of proofread segmentations kept a query
        fmt = "graphene" if "?timestamp=" in url else None
    return url if fmt is None or fmt in PLAIN else f"{fmt}://{url}"


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
                         remedy="leave the reader at auto").about("reader")  # fmt: skip


def _dataset_is_inside(source: str) -> bool:
    """Tell whether the dataset lies inside a file, rather than in a folder below the address."""
    return source.lower().endswith((".h5", ".hdf5", ".hdf"))
