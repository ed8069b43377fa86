"""Layers read through CloudVolume: all that TensorStore reads, and ``graphene://`` and ``mem://``.

Over HTTP its file layer reads 403 as it reads 404, and ``fill_missing`` makes zeros of both; so it is never used here,
and a chunk that CloudVolume calls empty is asked for once more to learn its status.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
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
from voxmint.volumes.readers.graphene import Bodies
from voxmint.volumes.readers.stored_chunks import check_compressed_segmentation, check_raw

_TIMEOUT_S = 60.0
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
        path, anonymous = _cloudpath(address), self._secrets is None and _is_anonymous(address.scheme, address.bucket)
        options: JSON = {"secrets": self._secrets.values if self._secrets else None, "use_https": anonymous}
        options["provenance"] = {}  # else it is asked for
        url, moment = address.url, _timestamp(address) if address.format == "graphene" else None
        if moment is not None:
            options |= {"timestamp": moment}
            url += f"?timestamp={moment}"
        read_from = (_https(path) if anonymous else path).removeprefix("precomputed://")
        self._root = read_from.rstrip("/")
        _prepare(address, read_from)

        def connect() -> Any:
            try:
                return cloudvolume.CloudVolume(path, mip=opening.mip, bounded=True, fill_missing=False, progress=False,
                                               parallel=1, cache=False, lru_bytes=0, **options)  # fmt: skip
            except Exception as error:  # of any client below
                cause, detail = self._explain(error)
            raise FetchError(cause, detail)

        self._volume = open_patiently(connect, opening.attempts, address.url)
        if moment is not None:
            self._bodies = Bodies(self._volume.meta, moment)
            self._root = _below_the_graph(self._volume)
            _prepare(address, self._root)
        metadata = info_metadata(self._volume.meta.info, opening.mip, url)
        description = Description(address.format, "cloudvolume", metadata)
        super().__init__(opening, url, _place(self._volume, opening, address), description)

    def fetch(self, chunk: Box) -> NDArray[Any]:
        """Read one chunk."""
        try:
            array = self._decoded(chunk) if self._is_precomputed else np.asarray(self._volume[chunk.slices()])
            if self._bodies is not None:
                array = self._bodies.of(array)
        except FetchError:
            raise
        except Exception as error:  # of any client below
            cause, detail = self._explain(error, chunk)
        else:
            return array[..., 0]
        raise FetchError(cause, detail)

    @property
    def _is_precomputed(self) -> bool:
        """Whether objects are those of a precomputed layer; supervoxels are."""
        return self._volume.meta.path.format in ("precomputed", "graphene")

    def _decoded(self, chunk: Box) -> NDArray[Any]:
        """Get the bytes of a chunk and decode them, once they are known to be what the decoder takes them for.

        CloudVolume's own decoder reads beyond what it is given and calls an empty object an absent one.
        """
        from cloudvolume import Bbox, chunks
        from cloudvolume.exceptions import EmptyVolumeException

        box = Bbox(chunk.start, chunk.stop, dtype=np.int64)
        # of the image: the volume's own, of a graphene layer, decodes them first
        (data,) = self._volume.image.download_files(box, self._opening.mip).values()
        if data is None:
            raise EmptyVolumeException(self._object_of(chunk))
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

    def _explain(self, error: Exception, chunk: Box | None = None) -> tuple[Cause, str]:
        from cloudvolume.exceptions import EmptyVolumeException, InfoUnavailableError

        text = _COLOURS.sub("", f"{type(error).__name__}: {error}")
        text = self._secrets.scrub(text) if self._secrets else scrub(text)
        status = _status(error)
        if isinstance(error, EmptyVolumeException | InfoUnavailableError | FileNotFoundError) and status is None:
            status = self._probe(self._object_of(chunk) if chunk else "info")
            text += f" [status {status}]" if status else " [status unknown]"
        return _CAUSES.get(status, "unreadable"), text

    def _object_of(self, chunk: Box) -> str | None:
        """Return the name of the object that holds a chunk; None where it is not known."""
        if not self._is_precomputed:
            return None
        name = _shard_of(self._volume, chunk) or chunk.name
        return f"{self._volume.key}/{name}"

    def _probe(self, name: str | None) -> int | None:
        """Return the HTTP status of what the client calls empty; None when it cannot be learnt.

        All clients but HTTP's tell a refusal by an error of its own.
        """
        if not self._root.startswith("http"):
            return 404
        if name is None:
            return None
        import requests

        user = (None if self._bodies else self._secrets) or saved_secrets("http", "")
        login = (str(user.values.get("user", "")), str(user.values.get("password", ""))) if user else None
        try:
            with requests.get(f"{self._root}/{name}", stream=True, timeout=_TIMEOUT_S, auth=login) as answer:
                status = int(answer.status_code)
        except requests.RequestException:
            return None
        if status == 200:  # a shard that is there but lacks the chunk; any other object is asked for again
            return 404 if name.endswith(".shard") else None
        return status


class _OurPolicy:
    """Lets cloud-files ask once for what layers read: the pauses between its seven times add up to minutes."""

    def __init__(self, usual: Any) -> None:
        self.usual = usual
        self.paths: set[Any] = set()

    def __call__(self, state: Any) -> bool:
        return getattr(state.args[0], "_path", None) in self.paths or bool(self.usual(state))


def _prepare(address: Address, path: str) -> None:
    """Adjust what cloud-files decides for a whole process, without change for other users of it."""
    if address.scheme == "s3" and os.environ.get("AWS_ACCESS_KEY_ID"):
        os.environ.setdefault("AWS_SESSION_TOKEN", "")  # cloud-files fails without it; empty means none
    from cloudfiles import interfaces, paths
    from requests.adapters import HTTPAdapter

    class PatientAdapter(HTTPAdapter):
        def send(self, *args: Any, **options: Any) -> Any:
            options["timeout"] = options.get("timeout") or _TIMEOUT_S  # requests hands it over by name
            return super().send(*args, **options)

    # its connections have no time limit, so a server that never answers would hang a run
    if type(interfaces.HttpInterface.adaptor) is HTTPAdapter:
        interfaces.HttpInterface.adaptor = PatientAdapter(pool_maxsize=_MOST_READS)
    for interface in (interfaces.HttpInterface, interfaces.GoogleCloudStorageInterface, interfaces.S3Interface):
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


def _shard_of(volume: Any, chunk: Box) -> str | None:
    """Return the name of the file that holds a chunk of a sharded layer, None for an unsharded one."""
    sharding = volume.scale.get("sharding")
    if not sharding:
        return None
    from cloudvolume.datasource.precomputed.common import compressed_morton_code
    from cloudvolume.datasource.precomputed.sharding import ShardingSpecification

    size, offset = np.asarray(volume.chunk_size), np.asarray(volume.voxel_offset)
    grid = -(-np.asarray(volume.shape[:3]) // size)
    code = compressed_morton_code([(np.asarray(chunk.start) - offset) // size], grid.astype(np.uint32))
    location = ShardingSpecification.from_dict(sharding).compute_shard_location(np.uint64(code[0]))
    return f"{location.shard_number}.shard"


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that an error of requests, google-cloud or botocore carries."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(response, "status_code", None) or getattr(error, "code", None)
    return status if isinstance(status, int) else 403 if isinstance(error, PermissionError) else None


def _cloudpath(address: Address) -> str:
    query = f"?{address.query}" if address.query and address.format != "graphene" else ""
    if query:
        raise LayerError("CloudVolume cannot read an address with a query", where=address.url,
                         remedy="choose the reader tensorstore")  # fmt: skip
    prefix = {"zarr": "zarr2", "precomputed": "precomputed"}.get(address.format, address.format)
    return f"{prefix}://{address.scheme}://{address.place}"


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
