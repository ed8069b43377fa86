"""Layers read through CloudVolume: all that TensorStore reads, and ``graphene://`` and ``mem://``.

Over HTTP its file layer reads 403 as it reads 404, waits without end and keeps whatever comes, so objects are fetched
here and CloudVolume decodes them. ``fill_missing`` makes zeros of what is absent, and is never used.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import Cause, LayerError, MissingExtraError
from voxmint.retry import FetchError, open_patiently
from voxmint.sample import JSON
from voxmint.stores.secrets import Secrets, saved_secrets, scrub
from voxmint.volumes.address import Address
from voxmint.volumes.box import Box
from voxmint.volumes.chunks import ChunkedLayer
from voxmint.volumes.geometry import Geometry, offset_of, voxel_size_of
from voxmint.volumes.identity import Description, info_metadata
from voxmint.volumes.layer import Opening
from voxmint.volumes.readers.chunk_files import MOST_PER_BYTE, SLACK
from voxmint.volumes.readers.cloudpath import (
    below_the_graph,
    cloudpath,
    https_of,
    is_anonymous,
    prepare,
    timestamp_of,
    with_user,
)
from voxmint.volumes.readers.codecs.apart import TRUSTED, check_codec, decoder
from voxmint.volumes.readers.codecs.stored_chunks import check_compressed_segmentation, check_raw
from voxmint.volumes.readers.graphene import Bodies
from voxmint.volumes.readers.scales import precomputed_scale
from voxmint.volumes.readers.shards import Shards
from voxmint.volumes.readers.time_limit import in_time
from voxmint.volumes.readers.web import METADATA_BYTES, Traffic, Web
from voxmint.volumes.scale_keys import check_key

_NEEDED = ("type", "data_type", "num_channels", "scales")
_BLOCK = (8, 8, 8)  # of compressed_segmentation, where the metadata name none
_MOST_READS = 32  # each read of CloudVolume starts threads of its own
_CAUSES: dict[int | None, Cause] = {404: "missing", 401: "forbidden", 403: "forbidden"}
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class CloudVolumeLayer(ChunkedLayer):
    """A layer read through CloudVolume; see `voxmint.volumes.opening.open_layer`."""

    def __init__(self, opening: Opening, address: Address) -> None:
        try:
            import cloudvolume
        except ImportError:
            raise MissingExtraError.for_package("cloud-volume", "cloud") from None
        opening = replace(opening, concurrency=min(opening.concurrency, _MOST_READS))
        self._secrets = Secrets.load(opening.secrets) if opening.secrets else None
        self._bodies: Bodies | None = None
        self._web: Web | None = None
        self._traffic = Traffic()
        path, anonymous = cloudpath(address), self._secrets is None and is_anonymous(address.scheme, address.bucket)
        options: JSON = {"secrets": self._secrets.values if self._secrets else None, "use_https": anonymous}
        options["provenance"] = {}  # else it is asked for
        url, moment = address.url, timestamp_of(address) if address.format == "graphene" else None
        if moment is not None:
            options |= {"timestamp": moment}
            url += f"?timestamp={moment}"
        read_from = (https_of(path) if anonymous else path).removeprefix("precomputed://")
        if moment is None and read_from.startswith("http"):
            login = self._secrets or saved_secrets("http", "")
            self._web = Web(with_user(read_from, address), address.query, login, opening.concurrency)
        prepare(address, read_from)

        def connect() -> Any:
            if moment is None:
                options["info"] = self._info(read_from, anonymous)
                options["mip"] = precomputed_scale(options["info"], opening, address.url)
                self._check_scale(options["info"], options["mip"])
            try:
                volume = cloudvolume.CloudVolume(path, bounded=True, fill_missing=False, progress=False, parallel=1,
                                                 cache=False, lru_bytes=0, **options)  # fmt: skip
                if moment is not None:
                    volume.mip = precomputed_scale(volume.meta.info, opening, address.url)
                return volume
            except LayerError:
                raise
            except Exception as error:  # of any client below
                cause, detail = self._explain(error)
            raise FetchError(cause, detail)

        self._volume = open_patiently(lambda: in_time(connect), opening.attempts, address.url, opening.patience)
        opening = replace(opening, mip=int(self._volume.mip), scale_nm=None)
        if moment is not None:
            self._bodies = Bodies(self._volume.meta, moment)
            root = below_the_graph(self._volume)
            if root.startswith("http"):
                self._web = Web(root, "", saved_secrets("http", ""), opening.concurrency)
            prepare(address, root)
        scale = self._volume.scale
        check_key(scale["key"], address.url)
        self._encoding = str(self._volume.meta.encoding(opening.mip))
        check_codec(self._encoding, address.url)
        shape = [int(n) for n in self._volume.chunk_size]
        self._most = MOST_PER_BYTE * prod(shape) * np.dtype(self._volume.dtype).itemsize + SLACK
        self._shards: Shards | None = None
        if self._web is not None and scale.get("sharding"):
            grid = [-(-int(n) // c) for n, c in zip(self._volume.shape[:3], shape, strict=True)]
            self._shards = Shards(self._web.below(scale["key"]), scale["sharding"], grid)
        metadata = info_metadata(self._volume.meta.info, opening.mip, url)
        description = Description(address.format, "cloudvolume", metadata)
        super().__init__(opening, url, _place(self._volume, opening, address), description)

    def fetch(self, chunk: Box) -> NDArray[Any]:
        """Read one chunk."""
        array = self._decoded(chunk) if self._web is not None else in_time(partial(self._decoded, chunk))
        if self._bodies is not None:
            array = self._bodies.of(array)
        return array[..., 0]

    def traffic(self) -> tuple[int, int]:
        """Return requests and bytes until now."""
        counted = self._traffic if self._web is None else self._web.traffic
        return counted.requests, counted.bytes

    def _info(self, path: str, anonymous: bool) -> JSON:
        """Return the metadata, of which CloudVolume needs no more: what else they name would be looked up, too."""
        if self._web is not None:
            data = self._web.get("info", METADATA_BYTES)
        else:
            data = self._object(path, "info", anonymous)
        try:
            values = json.loads(data)
            return {name: values[name] for name in _NEEDED}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            detail = f"info: {type(error).__name__}: {str(error)[:200]}"
        raise FetchError("unreadable", detail)

    @staticmethod
    def _check_scale(info: JSON, mip: int) -> None:
        try:
            check_key(info["scales"][mip]["key"])
        except (KeyError, IndexError, TypeError) as error:
            detail = f"info: {type(error).__name__}: {str(error)[:200]}"
        else:
            return
        raise FetchError("unreadable", detail)

    def _object(self, path: str, name: str, anonymous: bool) -> bytes:
        from cloudfiles import CloudFiles

        try:
            files = CloudFiles(path, secrets=self._secrets.values if self._secrets else None, use_https=anonymous,
                               progress=False)  # fmt: skip
            data = files.get(name)
        except Exception as error:  # of any client below
            cause, detail = self._explain(error)
        else:
            if data is not None:
                return bytes(data)
            cause, detail = "missing", f"there is no {name}"
        raise FetchError(cause, detail)

    def _decoded(self, chunk: Box) -> NDArray[Any]:
        """Get the bytes of a chunk and decode them, once they are known to be what the decoder takes them for.

        CloudVolume's own decoder reads beyond what it is given and calls an empty object an absent one.
        """
        try:
            return self._decode(self._data(chunk), chunk)
        except FetchError:
            raise
        except Exception as error:  # of any client and decoder below
            cause, detail = self._explain(error)
        raise FetchError(cause, detail)

    def _data(self, chunk: Box) -> Any:
        name = "_".join(f"{a}-{b}" for a, b in zip(chunk.start, chunk.stop, strict=True))
        if self._shards is not None:
            first = (int(n) for n in self._volume.voxel_offset)
            sides = zip(chunk.start, first, self.chunk_shape, strict=True)
            return self._shards.get([(a - o) // n for a, o, n in sides], self._most)
        if self._web is not None:
            return self._web.get(f"{self._volume.scale['key']}/{name}", self._most)
        from cloudvolume import Bbox

        box = Bbox(chunk.start, chunk.stop, dtype=np.int64)
        # of the image: the volume's own, of a graphene layer, decodes them first
        (data,) = self._volume.image.download_files(box, self._opening.mip).values()
        if data is None:
            raise FetchError("missing", f"there is no {self._volume.key}/{name}")
        self._traffic.requests, self._traffic.bytes = self._traffic.requests + 1, self._traffic.bytes + len(data)
        return data

    def _decode(self, data: Any, chunk: Box) -> NDArray[Any]:
        from cloudvolume import chunks

        if isinstance(data, np.ndarray):  # ``mem://`` keeps arrays
            return data
        meta, mip, dtype = self._volume.meta, self._opening.mip, self.dtype
        encoding, block = self._encoding, meta.compressed_segmentation_block_size(mip) or _BLOCK
        if not data:
            raise FetchError("unreadable", "the object is empty")
        if encoding == "raw":
            check_raw(data, chunk.shape, dtype)
        elif encoding == "compressed_segmentation":
            check_compressed_segmentation(data, chunk.shape, dtype, block)
        if encoding not in TRUSTED:
            return decoder().decode(bytes(data), encoding, chunk.shape, dtype)[..., np.newaxis]
        shape = (*chunk.shape, 1)
        return np.asarray(chunks.decode(data, encoding, shape=shape, dtype=dtype, block_size=block))

    def _explain(self, error: Exception) -> tuple[Cause, str]:
        from cloudvolume.exceptions import EmptyVolumeException, InfoUnavailableError

        text = _COLOURS.sub("", f"{type(error).__name__}: {error}")
        text = self._secrets.scrub(text) if self._secrets else scrub(text)
        status = _status(error)
        if isinstance(error, EmptyVolumeException | InfoUnavailableError | FileNotFoundError) and status is None:
            status = 404  # all clients but HTTP's, which is not used, tell a refusal by an error of its own
        return _CAUSES.get(status, "unreadable"), text


def _place(volume: Any, opening: Opening, address: Address) -> Geometry:
    if volume.num_channels != 1:
        raise LayerError("the layer has several channels", where=address.url, expected=1, got=int(volume.num_channels),
                         remedy="choose a layer with one")  # fmt: skip
    carried = [float(n) for n in volume.meta.scale(opening.mip)["resolution"]]
    start = [int(n) for n in volume.voxel_offset]
    first = offset_of(opening, (start[0], start[1], start[2]), address.url)
    chunk = [int(n) for n in volume.chunk_size]
    return Geometry(
        voxel_size_of(opening, carried, address.url),
        Box.at(first, [int(n) for n in volume.shape[:3]]),
        (chunk[0], chunk[1], chunk[2]),
        first,
        np.dtype(volume.dtype),
    )


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that an error of requests, google-cloud or botocore carries."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(response, "status_code", None) or getattr(error, "code", None)
    return status if isinstance(status, int) else 403 if isinstance(error, PermissionError) else None
