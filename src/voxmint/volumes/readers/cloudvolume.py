"""Layers read through CloudVolume: all that TensorStore reads, and ``graphene://`` and ``mem://``.

Over HTTP its file layer reads 403 as it reads 404, waits without end and keeps whatever comes, so objects are fetched
here and CloudVolume decodes them. ``fill_missing`` makes zeros of what is absent, and is never used.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, cast

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
from voxmint.volumes.readers.graphene import Bodies
from voxmint.volumes.readers.shards import Shards
from voxmint.volumes.readers.stored_chunks import check_compressed_segmentation, check_raw
from voxmint.volumes.readers.time_limit import in_time
from voxmint.volumes.readers.web import METADATA_BYTES, Web
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
        path, anonymous = _cloudpath(address), self._secrets is None and _is_anonymous(address.scheme, address.bucket)
        options: JSON = {"secrets": self._secrets.values if self._secrets else None, "use_https": anonymous}
        options["provenance"] = {}  # else it is asked for
        url, moment = address.url, _timestamp(address) if address.format == "graphene" else None
        if moment is not None:
            options |= {"timestamp": moment}
            url += f"?timestamp={moment}"
        read_from = (_https(path) if anonymous else path).removeprefix("precomputed://")
        if moment is None and read_from.startswith("http"):
            login = self._secrets or saved_secrets("http", "")
            self._web = Web(_with_user(read_from, address), address.query, login, opening.concurrency)
        _prepare(address, read_from)

        def connect() -> Any:
            if moment is None:
                options["info"] = self._info(read_from, anonymous, opening.mip)
            try:
                return cloudvolume.CloudVolume(path, mip=opening.mip, bounded=True, fill_missing=False, progress=False,
                                               parallel=1, cache=False, lru_bytes=0, **options)  # fmt: skip
            except Exception as error:  # of any client below
                cause, detail = self._explain(error)
            raise FetchError(cause, detail)

        self._volume = open_patiently(lambda: in_time(connect), opening.attempts, address.url, opening.patience)
        if moment is not None:
            self._bodies = Bodies(self._volume.meta, moment)
            root = _below_the_graph(self._volume)
            if root.startswith("http"):
                self._web = Web(root, "", saved_secrets("http", ""), opening.concurrency)
            _prepare(address, root)
        scale = self._volume.scale
        check_key(scale["key"], address.url)
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

    def _info(self, path: str, anonymous: bool, mip: int) -> JSON:
        """Return the metadata, of which CloudVolume needs no more: what else they name would be looked up, too."""
        if self._web is not None:
            data = self._web.get("info", METADATA_BYTES)
        else:
            data = self._object(path, "info", anonymous)
        try:
            values = json.loads(data)
            check_key(values["scales"][mip]["key"])
            return {name: values[name] for name in _NEEDED}
        except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
            detail = f"info: {type(error).__name__}: {str(error)[:200]}"
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
        return data

    def _decode(self, data: Any, chunk: Box) -> NDArray[Any]:
        from cloudvolume import chunks

        if isinstance(data, np.ndarray):  # ``mem://`` keeps arrays
            return data
        meta, mip, dtype = self._volume.meta, self._opening.mip, self.dtype
        encoding, block = meta.encoding(mip), meta.compressed_segmentation_block_size(mip) or _BLOCK
        if not data:
            raise FetchError("unreadable", "the object is empty")
        if encoding == "raw":
            check_raw(data, chunk.shape, dtype)
        elif encoding == "compressed_segmentation":
            check_compressed_segmentation(data, chunk.shape, dtype, block)
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


class _OurPolicy:
    """Lets cloud-files ask once for what layers read: the pauses between its seven times add up to minutes."""

    def __init__(self, usual: Any) -> None:
        self.usual = usual
        self.paths: set[Any] = set()

    def __call__(self, state: Any) -> bool:
        return getattr(state.args[0], "_path", None) in self.paths or bool(self.usual(state))


def _prepare(address: Address, path: str) -> None:
    """Adjust what cloud-files decides for a whole process, without change for other users of it."""
    if not path.startswith(("gs://", "s3://")):
        return
    if address.scheme == "s3" and os.environ.get("AWS_ACCESS_KEY_ID"):
        os.environ.setdefault("AWS_SESSION_TOKEN", "")  # cloud-files fails without it; empty means none
    from cloudfiles import interfaces, paths

    for interface in (interfaces.GoogleCloudStorageInterface, interfaces.S3Interface):
        retry = getattr(interface.get_file, "retry", None)
        if retry is None:
            continue  # a version without it: its own patience is bounded, too
        if not isinstance(retry.stop, _OurPolicy):
            retry.stop = _OurPolicy(retry.stop)
        retry.stop.paths.add(paths.extract(path))


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


def _cloudpath(address: Address) -> str:
    prefix = {"zarr": "zarr2", "precomputed": "precomputed"}.get(address.format, address.format)
    return f"{prefix}://{address.scheme}://{address.place}"


def _with_user(url: str, address: Address) -> str:
    """Return a URL with the user and password of the address, which CloudVolume does not get to see."""
    return f"{address.private_url.partition('@')[0]}@{url.partition('://')[2]}" if address.user else url


def _https(path: str) -> str:
    from cloudvolume.paths import to_https_protocol

    return cast(str, to_https_protocol(path))


def _is_anonymous(scheme: str, bucket: str) -> bool:
    """Tell whether there are no credentials for a bucket: public ones are then read over HTTPS, which needs none."""
    if scheme not in ("gs", "s3") or saved_secrets(scheme, bucket):
        return False
    names: tuple[str, ...]
    if scheme == "s3":
        names, files = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ENDPOINT_URL"), (".aws/credentials",)
    else:
        names = ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST")
        files = (".config/gcloud/application_default_credentials.json",)
    return not any(os.environ.get(n) for n in names) and not any((Path.home() / f).is_file() for f in files)


def _below_the_graph(volume: Any) -> str:
    """Return where the supervoxels of a graphene layer lie, and have them read as any layer of such a place is.

    CloudVolume would show the token of the graph to the bucket below it, too.
    """
    volume.config.secrets = None
    scheme, _, place = str(volume.meta.cloudpath).removeprefix("precomputed://").partition("://")
    volume.meta.use_https = _is_anonymous(scheme, place.partition("/")[0])
    return str(volume.meta.cloudpath).removeprefix("precomputed://").rstrip("/")


def _timestamp(address: Address) -> int:
    """Return the moment of a proofread segmentation; without one, two workers would see two segmentations."""
    text = address.option("timestamp")
    if text is None or not text.isdigit():
        raise LayerError("a graphene layer changes as it is proofread", where=address.url, expected="a moment to read",
                         got=text, remedy="add ?timestamp=SECONDS (since 1970) to its address")  # fmt: skip
    return int(text)
